//! Large scalars: a str, bytes or int that does not fit one segment, as a tree of page-sized pieces. So no
//! operation needs contiguous memory, and any offset is found by arithmetic.
//!
//! Invariants:
//! 1. All leaves but the last hold `LEAF` bytes; all nodes but the last of their level hold `FAN` addresses.
//!    So piece n of level l is child n % `FAN` of piece n / `FAN` of level l + 1, and the height follows from
//!    the length.
//! 2. Every full piece fills a page of its own, so a length that needs more leaves than the store has pages
//!    is damage; the height is at most `MAX_HEIGHT`. So every walk ends, also in a tree whose nodes share
//!    children. Results that a walk collects have a bound of their own.
//! 3. The id is never reused and becomes 0 when the blob is freed: a caller that holds a `Large` across
//!    sections detects that it is gone.
//!
//! The root segment; the pieces have no headers:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 1 | kind: 0x11 str, 0x12 bytes, 0x13 int, 0x14 int below zero (little-endian magnitude), 0x15 link, 0x16
//! typed value |
//! | 1 | 1 | flags: `NO_NEWLINE` (str only), `TEXT` (typed values only) |
//! | 2 | 1 | length of the type's name (typed values only; else 0) |
//! | 3 | 5 | 0 |
//! | 8 | 8 | length in bytes |
//! | 16 | 8 | id |
//! | 24 | 8 | top: address of the topmost node, or of the only leaf |
//! | 32 | 8 | `LINK`: link of a list of blobs that are freed in steps; else 0 |
//! | 40 | n | the name of the type of a typed value |

pub mod edit;

use super::value::{LINK_MAX, Large, LargeKind};
use super::word::{NO_NEWLINE, TEXT};
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::{Addr, ObjectId};
use crate::page::access::{Pages, PagesMut};
use crate::page::superblock as sb;

/// Bytes of the root segment, without the name of a type.
pub const ROOT_SIZE: usize = 40;
/// Offset in the root of a word for the owner's use while the blob waits to be freed.
pub const LINK: u64 = 32;
/// Bytes of a full leaf.
pub const LEAF: usize = heap::MAX_SEGMENT;

const LEN: u64 = 8;
const ID: u64 = 16;
const TOP: u64 = 24;
/// Children of a full node.
const FAN: u64 = (heap::MAX_SEGMENT / 8) as u64;
const MAX_HEIGHT: usize = 4;
/// Leaves that one call of `free` frees: 4 GiB.
const FREE_MAX: u64 = 1 << 20;
/// Pieces written between two calls of `yield_to_readers`.
const YIELD_EVERY: u64 = 64;

/// Return whether the first byte of a scalar segment marks the root of a blob.
#[inline]
#[must_use]
pub fn is_root(kind: u8) -> bool {
    kind & 0xF0 == 0x10
}

fn kind_bytes(kind: LargeKind) -> [u8; 2] {
    match kind {
        LargeKind::Str { no_newline } => [0x11, if no_newline { NO_NEWLINE } else { 0 }],
        LargeKind::Bytes => [0x12, 0],
        LargeKind::Int { negative: false } => [0x13, 0],
        LargeKind::Int { negative: true } => [0x14, 0],
        LargeKind::Link => [0x15, 0],
        LargeKind::Typed { text } => [0x16, if text { TEXT } else { 0 }],
    }
}

fn leaves_of(len: u64) -> u64 {
    len.div_ceil(LEAF as u64).max(1)
}

/// Return the number of pieces in a level (0: leaves) of a tree with this many leaves.
fn pieces_of(leaves: u64, level: usize) -> u64 {
    leaves.div_ceil(FAN.pow(level as u32))
}

/// Return the level of the topmost piece; None beyond `MAX_HEIGHT`.
fn height_of(leaves: u64) -> Option<usize> {
    (0..=MAX_HEIGHT).find(|&h| leaves <= FAN.pow(h as u32))
}

/// A checked root.
#[derive(Clone, Copy)]
struct Root {
    large: Large,
    top: Addr,
    leaves: u64,
    height: usize,
    /// Length of the type's name behind the root.
    name_len: usize,
}

impl Root {
    fn read<P: Pages>(p: &P, addr: Addr) -> Result<Root> {
        let b = p.bytes(addr, ROOT_SIZE)?;
        let kind = match b[0] {
            0x11 => LargeKind::Str {
                no_newline: b[1] & NO_NEWLINE != 0,
            },
            0x12 => LargeKind::Bytes,
            0x13 => LargeKind::Int { negative: false },
            0x14 => LargeKind::Int { negative: true },
            0x15 => LargeKind::Link,
            0x16 => LargeKind::Typed {
                text: b[1] & TEXT != 0,
            },
            _ => return Err(Error::corrupt("a large value of unknown kind", addr)),
        };
        let len = p.u64_at(addr + LEN)?;
        if kind == LargeKind::Link && len > LINK_MAX as u64 {
            return Err(Error::corrupt("a link whose target is too long", addr));
        }
        let leaves = leaves_of(len);
        let height = height_of(leaves).filter(|_| leaves <= p.u64_at(sb::NEXT_PAGE).unwrap_or(0));
        let Some(height) = height else {
            return Err(Error::corrupt("a large value longer than the store", addr));
        };
        let name_len = match kind {
            LargeKind::Typed { .. } => usize::from(b[2]),
            _ => 0,
        };
        let large = Large {
            addr,
            id: p.u64_at(addr + ID)?,
            len,
            kind,
        };
        Ok(Root {
            large,
            top: Addr(p.u64_at(addr + TOP)?),
            leaves,
            height,
            name_len,
        })
    }

    /// Return the number of bytes in the leaf of this index.
    fn leaf_len(&self, index: u64) -> usize {
        (self.large.len - index * LEAF as u64).min(LEAF as u64) as usize
    }
}

/// Finds pieces, and keeps the path to the last one: neighbours cost one load.
struct Cursor {
    height: usize,
    /// For each level: the index of the last used piece (`u64::MAX`: none) and its address.
    path: [(u64, Addr); MAX_HEIGHT + 1],
}

impl Cursor {
    fn new(root: &Root) -> Cursor {
        let mut path = [(u64::MAX, Addr::NULL); MAX_HEIGHT + 1];
        path[root.height] = (0, root.top);
        Cursor {
            height: root.height,
            path,
        }
    }

    /// Return the address of a piece. `index` is below the number of pieces of the level.
    fn at<P: Pages>(&mut self, p: &P, level: usize, index: u64) -> Result<Addr> {
        let ancestor = |l: usize| index / FAN.pow((l - level) as u32);
        let mut l = level;
        while l < self.height && self.path[l].0 != ancestor(l) {
            l += 1;
        }
        while l > level {
            let parent = self.path[l].1;
            l -= 1;
            let slot = ancestor(l) % FAN;
            self.path[l] = (ancestor(l), Addr(p.u64_at(parent + slot * 8)?));
        }
        Ok(self.path[level].1)
    }
}

/// Store `bytes`. Return the address of the root. Yields to readers between pieces: call this before the
/// operation changes anything that readers can reach.
pub fn create<W: PagesMut>(w: &mut W, kind: LargeKind, bytes: &[u8]) -> Result<Addr> {
    create_named(w, kind, b"", bytes)
}

/// Like `create`, with the name of the type of a typed value: at most 255 bytes.
pub fn create_named<W: PagesMut>(w: &mut W, kind: LargeKind, name: &[u8], bytes: &[u8]) -> Result<Addr> {
    let Some(height) = height_of(leaves_of(bytes.len() as u64)) else {
        return Err(Error::invalid("a value beyond the 48-bit address space"));
    };
    let id = w.next_id()?;
    let mut pending: [Vec<u8>; MAX_HEIGHT] = Default::default();
    let mut top = Addr::NULL;
    let mut rest = bytes;
    for n in 1.. {
        let (piece, others) = rest.split_at(rest.len().min(LEAF));
        rest = others;
        let mut addr = fill(w, piece)?;
        // Go up the tree: write a node when it is full, or when no more content follows.
        for children in &mut pending[..height] {
            children.extend_from_slice(&addr.0.to_le_bytes());
            if children.len() < FAN as usize * 8 && !rest.is_empty() {
                addr = Addr::NULL;
                break;
            }
            addr = fill(w, children)?;
            children.clear();
        }
        top = addr;
        if rest.is_empty() {
            break;
        }
        if n % YIELD_EVERY == 0 {
            w.yield_to_readers()?;
        }
    }
    let root = heap::alloc(w, ROOT_SIZE + name.len())?;
    let b = w.init(root, ROOT_SIZE + name.len())?;
    b.fill(0);
    b[..2].copy_from_slice(&kind_bytes(kind));
    b[2] = name.len() as u8;
    b[ROOT_SIZE..].copy_from_slice(name);
    b[8..16].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    b[16..24].copy_from_slice(&id.0.to_le_bytes());
    b[24..32].copy_from_slice(&top.0.to_le_bytes());
    Ok(root)
}

/// Create a segment with this content.
fn fill<W: PagesMut>(w: &mut W, content: &[u8]) -> Result<Addr> {
    let addr = heap::alloc(w, content.len().max(1))?;
    w.init(addr, content.len())?.copy_from_slice(content);
    Ok(addr)
}

/// Return the handle of the blob whose root is at `addr`.
pub fn large<P: Pages>(p: &P, addr: Addr) -> Result<Large> {
    Ok(Root::read(p, addr)?.large)
}

/// Return the bytes of the name of a typed value's type, unchecked; empty for other kinds.
pub fn name<P: Pages>(p: &P, addr: Addr) -> Result<&[u8]> {
    let len = Root::read(p, addr)?.name_len;
    p.bytes(addr + ROOT_SIZE as u64, len)
}

/// Read from `offset` on. Return the number of bytes read, less than the length of `buf` only at the end.
/// Returns `Error::Gone` if the blob was freed since `large` was returned. A piece may begin or end inside a
/// character; the bytes of a str in a damaged store need not be text.
pub fn large_read<P: Pages>(p: &P, large: &Large, offset: u64, buf: &mut [u8]) -> Result<usize> {
    let gone = || Error::Gone(ObjectId(large.id));
    // A root that is no longer an allocated segment was freed: this is not damage.
    heap::size_of(p, large.addr).map_err(|_| gone())?;
    if large.id == 0 || p.bytes(large.addr + ID, 8).map_err(|_| gone())? != large.id.to_le_bytes() {
        return Err(gone());
    }
    let root = Root::read(p, large.addr)?;
    if root.large != *large {
        return Err(gone());
    }
    if offset >= large.len {
        return Ok(0);
    }
    let n = buf
        .len()
        .min(usize::try_from(large.len - offset).unwrap_or(usize::MAX));
    let mut cursor = Cursor::new(&root);
    let (mut index, mut skip) = (offset / LEAF as u64, (offset % LEAF as u64) as usize);
    let mut rest = &mut buf[..n];
    while !rest.is_empty() {
        let leaf = cursor.at(p, 0, index)?;
        let part = (root.leaf_len(index) - skip).min(rest.len());
        let (here, others) = rest.split_at_mut(part);
        here.copy_from_slice(p.bytes(leaf + skip as u64, part)?);
        rest = others;
        (index, skip) = (index + 1, 0);
    }
    Ok(n)
}

/// Call `f` with the content, piece by piece, until it returns false. Reads the whole value inside one
/// section, so only for values of moderate length.
pub fn for_each<P: Pages>(p: &P, addr: Addr, mut f: impl FnMut(&[u8]) -> bool) -> Result<()> {
    let root = Root::read(p, addr)?;
    let mut cursor = Cursor::new(&root);
    for index in 0..root.leaves {
        let leaf = cursor.at(p, 0, index)?;
        if !f(p.bytes(leaf, root.leaf_len(index))?) {
            break;
        }
    }
    Ok(())
}

/// Return whether the content equals these bytes (of any kind).
pub fn equals<P: Pages>(p: &P, addr: Addr, bytes: &[u8]) -> Result<bool> {
    if Root::read(p, addr)?.large.len != bytes.len() as u64 {
        return Ok(false);
    }
    let mut rest = bytes;
    let mut same = true;
    for_each(p, addr, |piece| {
        let (here, others) = rest.split_at(piece.len());
        rest = others;
        same = here == piece;
        same
    })?;
    Ok(same)
}

/// Call `f` with every segment of the blob and its bytes in use, from the root down, until it returns an
/// error. For the checker, which should return one for a segment seen before: in a damaged tree that bounds
/// the walk by the number of segments.
pub fn segments<P: Pages>(p: &P, addr: Addr, f: &mut dyn FnMut(Addr, usize) -> Result<()>) -> Result<()> {
    let root = Root::read(p, addr)?;
    f(addr, ROOT_SIZE + root.name_len)?;
    let mut cursor = Cursor::new(&root);
    for level in (0..=root.height).rev() {
        for index in 0..pieces_of(root.leaves, level) {
            let used = match level {
                0 => root.leaf_len(index),
                _ => (pieces_of(root.leaves, level - 1) - index * FAN).min(FAN) as usize * 8,
            };
            f(cursor.at(p, level, index)?, used)?;
        }
    }
    Ok(())
}

/// Free the whole blob, at commit. The number of segments freed is about length / `LEAF`. If that is too many
/// for one operation (beyond 4 GiB it is refused), see `free_some`.
pub fn free<W: PagesMut>(w: &mut W, addr: Addr) -> Result<()> {
    if Root::read(w, addr)?.leaves > FREE_MAX {
        return Err(Error::TransactionTooLarge {
            what: "freeing a large value at once",
        });
    }
    free_some(w, addr, u64::MAX).map(|_| ())
}

/// Free at most about `leaves` pieces, from the end, of a blob that no value refers to any more. Return true
/// if the blob is completely freed; otherwise call it again (in a later operation: the root stays, for
/// example on a list linked through `LINK`). After the first call, `large_read` reports the blob as gone.
pub fn free_some<W: PagesMut>(w: &mut W, addr: Addr, leaves: u64) -> Result<bool> {
    let root = Root::read(w, addr)?;
    let keep = root.leaves.saturating_sub(leaves.max(1));
    free_pieces(w, addr, &root, keep)?;
    w.set_u64(addr + ID, 0)?;
    if keep == 0 {
        heap::free(w, addr)?;
        return Ok(true);
    }
    w.set_u64(addr + LEN, keep * LEAF as u64)?;
    Ok(false)
}

/// Free all pieces but those above the first `keep` leaves.
fn free_pieces<W: PagesMut>(w: &mut W, addr: Addr, root: &Root, keep: u64) -> Result<()> {
    let mut cursor = Cursor::new(root);
    let kept_height = height_of(keep).unwrap_or(0);
    let kept_top = cursor.at(w, kept_height, 0)?;
    for level in 0..=root.height {
        let kept = if level > kept_height {
            0
        } else {
            pieces_of(keep, level)
        };
        for index in kept..pieces_of(root.leaves, level) {
            let piece = cursor.at(w, level, index)?;
            heap::free(w, piece)?;
        }
    }
    if keep != 0 && kept_height != root.height {
        w.set_u64(addr + TOP, kept_top.0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
