//! Changing a large value in place: an operation changes the pieces it touches, whatever the value's length.
//!
//! Invariants:
//! 1. Every change gives the blob a new id. So a reader that reads it piece by piece, in several sections,
//!    never returns a mix of two contents: the next section returns `Error::Gone`.
//! 2. Pieces that are reachable are changed with undo-logged stores; new ones are filled before they become
//!    reachable. The length is set last.
//! 3. The last piece of a level may fill only a part of its segment, whose spare room takes what is appended.
//! 4. The caller keeps a value longer than a single segment (`scalar::SHORT_MAX`), and checks text.

use super::{Cursor, FAN, ID, LEAF, LEN, MAX_HEIGHT, Root, TOP, fill, height_of, kind_bytes};
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::value::{Large, LargeKind};
use crate::page::access::{Pages, PagesMut};

/// Give the blob this kind, which has the same bytes as the old one.
pub fn set_kind<W: PagesMut>(w: &mut W, addr: Addr, kind: LargeKind) -> Result<()> {
    if Root::read(w, addr)?.large.kind != kind {
        w.set_bytes(addr, &kind_bytes(kind))?;
        renew(w, addr)?;
    }
    Ok(())
}

/// Give the blob a new id.
fn renew<W: PagesMut>(w: &mut W, addr: Addr) -> Result<()> {
    let id = w.next_id()?;
    w.set_u64(addr + ID, id.0)
}

/// Replace the content from `offset` on by as many bytes. The end is within the value.
pub fn overwrite<W: PagesMut>(w: &mut W, addr: Addr, offset: u64, bytes: &[u8]) -> Result<()> {
    let root = Root::read(w, addr)?;
    let fits = offset
        .checked_add(bytes.len() as u64)
        .is_some_and(|end| end <= root.large.len);
    if !fits {
        return Err(Error::invalid("a range beyond the end of a value"));
    }
    if bytes.is_empty() {
        return Ok(());
    }
    let mut cursor = Cursor::new(&root);
    let (mut index, mut skip) = (offset / LEAF as u64, (offset % LEAF as u64) as usize);
    let mut rest = bytes;
    while !rest.is_empty() {
        let leaf = cursor.at(w, 0, index)?;
        let (here, others) = rest.split_at(rest.len().min(LEAF - skip));
        w.set_bytes(leaf + skip as u64, here)?;
        rest = others;
        (index, skip) = (index + 1, 0);
    }
    renew(w, addr)
}

/// Append bytes. The cost depends on their number, and not on the length of the value.
pub fn append<W: PagesMut>(w: &mut W, addr: Addr, bytes: &[u8]) -> Result<()> {
    let root = Root::read(w, addr)?;
    if bytes.is_empty() {
        return Ok(());
    }
    let len = root.large.len + bytes.len() as u64;
    if height_of(super::leaves_of(len)).is_none() {
        return Err(Error::invalid("a value beyond the 48-bit address space"));
    }
    let mut tree = Tree {
        w,
        addr,
        top: root.top,
        height: root.height,
    };
    let used = root.leaf_len(root.leaves - 1);
    let (here, rest) = bytes.split_at(bytes.len().min(LEAF - used));
    tree.extend(0, root.leaves - 1, used, here)?;
    for (index, piece) in (root.leaves..).zip(rest.chunks(LEAF)) {
        let leaf = fill(tree.w, piece)?;
        tree.push(0, index, leaf)?;
    }
    w.set_u64(addr + LEN, len)?;
    renew(w, addr)
}

/// Cut the value off after `len` bytes, which is more than 0 and at most its length. The number of segments
/// that become free is about the number of bytes cut off / `LEAF`.
pub fn truncate<W: PagesMut>(w: &mut W, addr: Addr, len: u64) -> Result<()> {
    let root = Root::read(w, addr)?;
    if len == 0 || len > root.large.len {
        return Err(Error::invalid("a length that is not within the value"));
    }
    if len == root.large.len {
        return Ok(());
    }
    let keep = super::leaves_of(len);
    super::free_pieces(w, addr, &root, keep)?;
    w.set_u64(addr + LEN, len)?;
    renew(w, addr)
}

/// Return the content from `offset` on, of at most `len` bytes.
pub fn part<P: Pages>(p: &P, large: &Large, offset: u64, len: u64) -> Result<Vec<u8>> {
    let n = len.min(large.len.saturating_sub(offset));
    let mut out = vec![0; usize::try_from(n).unwrap_or(usize::MAX)];
    super::large_read(p, large, offset, &mut out)?;
    Ok(out)
}

/// The tree of a blob to which pieces are being added.
struct Tree<'w, W> {
    w: &'w mut W,
    addr: Addr,
    top: Addr,
    height: usize,
}

impl<W: PagesMut> Tree<'_, W> {
    /// Return the address of a piece.
    fn at(&self, level: usize, index: u64) -> Result<Addr> {
        let mut piece = self.top;
        for l in (level..self.height).rev() {
            let slot = index / FAN.pow((l - level) as u32) % FAN;
            piece = Addr(self.w.u64_at(piece + slot * 8)?);
        }
        Ok(piece)
    }

    /// Make the parent of a piece refer to this address.
    fn refer(&mut self, level: usize, index: u64, piece: Addr) -> Result<()> {
        if level == self.height {
            self.top = piece;
            return self.w.set_u64(self.addr + TOP, piece.0);
        }
        let parent = self.at(level + 1, index / FAN)?;
        self.w.set_u64(parent + index % FAN * 8, piece.0)
    }

    /// Append bytes to the last piece of a level, in which `used` bytes are used. If its segment has no room
    /// for them, move it to a larger one.
    fn extend(&mut self, level: usize, index: u64, used: usize, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let old = self.at(level, index)?;
        if heap::size_of(self.w, old)? >= used + bytes.len() {
            return self.w.set_bytes(old + used as u64, bytes);
        }
        let content = [self.w.bytes(old, used)?, bytes].concat();
        let new = fill(self.w, &content)?;
        heap::free(self.w, old)?;
        self.refer(level, index, new)
    }

    /// Add a piece to a level, after all others.
    fn push(&mut self, level: usize, index: u64, piece: Addr) -> Result<()> {
        if level == self.height {
            // The tree has one piece at this level: it gets a level more.
            if self.height == MAX_HEIGHT {
                return Err(Error::invalid("a value beyond the 48-bit address space"));
            }
            let children = [self.top.0.to_le_bytes(), piece.0.to_le_bytes()].concat();
            let top = fill(self.w, &children)?;
            self.height += 1;
            self.top = top;
            return self.w.set_u64(self.addr + TOP, top.0);
        }
        let child = piece.0.to_le_bytes();
        let (parent, slot) = (index / FAN, index % FAN);
        if slot == 0 {
            let node = fill(self.w, &child)?;
            return self.push(level + 1, parent, node);
        }
        self.extend(level + 1, parent, slot as usize * 8, &child)
    }
}

/// Return the number of segments that a blob of this length has, for tests.
#[cfg(test)]
pub(super) fn segments_of(len: u64) -> usize {
    let leaves = super::leaves_of(len);
    let height = height_of(leaves).unwrap_or(0);
    1 + (0..=height)
        .map(|level| super::pieces_of(leaves, level) as usize)
        .sum::<usize>()
}
