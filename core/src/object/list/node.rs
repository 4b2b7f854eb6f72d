//! The nodes of a list's tree: their format, how to read them, and how to descend.
//!
//! Invariants
//! 1. Items of a leaf lie in the slots `[start, start + n)`; `start` is kept in the high bits of the word
//!    that refers to the leaf and `n` beside that word, so reading an item touches no byte of the leaf but
//!    the item.
//! 2. A count, a number of children, a height or a start that was read is checked against the node's capacity
//!    before it is used as an index. Descending takes at most `MAX_HEIGHT` steps, whatever the bytes are.
//!
//! A leaf. The root leaf of a short list is a segment of any size; others are of `NODE` bytes.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 1 | `LEAF_TAG` |
//! | 1 | 7 | 0 |
//! | 8 | 8 * capacity | slots of items (words) |
//!
//! An inner node, of `NODE` bytes.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 1 | `INNER_TAG` |
//! | 1 | 1 | height: 1 if the children are leaves |
//! | 2 | 2 | n: number of children |
//! | 4 | 12 | 0 |
//! | 16 | 8 * `INNER_CAP` | counts: items under each child |
//! | 2024 | 8 * `INNER_CAP` | child words: address (48 bits), start slot of a leaf (16 bits) |

use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::header;
use crate::page::access::{Pages, PagesMut};
use smallvec::SmallVec;

/// Bytes of an inner node and of a leaf below one.
pub(super) const NODE: usize = heap::MAX_SEGMENT;
/// First byte of a leaf.
pub(super) const LEAF_TAG: u8 = b'L';
/// First byte of an inner node.
pub(super) const INNER_TAG: u8 = b'N';
/// Offset of a leaf's slots.
pub(super) const SLOTS: usize = 8;
/// Slots of a full-sized leaf.
pub(super) const LEAF_CAP: usize = (NODE - SLOTS) / 8;
/// Offset of an inner node's counts.
pub(super) const COUNTS: usize = 16;
/// Children of a full inner node.
pub(super) const INNER_CAP: usize = (NODE - COUNTS) / 16;
/// Offset of an inner node's child words.
pub(super) const CHILDREN: usize = COUNTS + 8 * INNER_CAP;
/// The most inner levels. A valid tree of 2^48 items has at most 7.
pub(super) const MAX_HEIGHT: usize = 8;

/// Return the u64 at `at` in a node's bytes.
#[inline]
pub(super) fn le(bytes: &[u8], at: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(b)
}

/// Return the address in a child word.
#[inline]
pub(super) fn child_addr(word: u64) -> Addr {
    Addr(word & Addr::MAX)
}

/// Return the start slot in a child word.
#[inline]
pub(super) fn child_start(word: u64) -> usize {
    (word >> 48) as usize
}

/// Return the child word of a node.
#[inline]
pub(super) fn child_word(addr: Addr, start: usize) -> u64 {
    addr.0 | (start as u64) << 48
}

/// Return the first word of an inner node.
#[inline]
pub(super) fn inner_head(height: usize, n: usize) -> u64 {
    u64::from(INNER_TAG) | (height as u64) << 8 | (n as u64) << 16
}

/// The fields of a list's header, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    /// The container's header.
    pub(super) h: Addr,
    /// Number of items.
    pub(super) len: u64,
    /// The root node; null only if the list is empty.
    pub(super) body: Addr,
    /// Inner levels above the leaves.
    pub(super) height: usize,
    /// Start slot of the root leaf, if the height is 0.
    pub(super) start: usize,
}

impl Root {
    /// Read the header at `h`.
    #[inline]
    pub(super) fn read<P: Pages>(p: &P, h: Addr) -> Result<Root> {
        let b = p.bytes(h, header::SIZE)?;
        let form = u16::from_le_bytes([b[header::FORM as usize], b[header::FORM as usize + 1]]);
        let (height, start) = (usize::from(form & 15), usize::from(form >> 4));
        let body = Addr(le(b, header::BODY as usize));
        let len = le(b, header::CLASS_OR_LEN as usize);
        let sound = if height == 0 {
            len <= LEAF_CAP as u64
                && start + len as usize <= LEAF_CAP
                && (!body.is_null() || (len == 0 && start == 0))
        } else {
            height <= MAX_HEIGHT && start == 0 && len > 0 && !body.is_null()
        };
        if !sound || body.0 > Addr::MAX {
            return Err(Error::corrupt("a list header that cannot be", h));
        }
        Ok(Root {
            h,
            len,
            body,
            height,
            start,
        })
    }

    /// Return the root as a child word.
    pub(super) fn word(&self) -> u64 {
        child_word(self.body, self.start)
    }

    /// Write the fields that changed: the root's child word, the height, the length.
    pub(super) fn update<W: PagesMut>(&self, w: &mut W, word: u64, height: usize, len: u64) -> Result<()> {
        let start = if height == 0 { child_start(word) } else { 0 };
        if child_addr(word) != self.body {
            w.set_u64(self.h + header::BODY, child_addr(word).0)?;
        }
        if (height, start) != (self.height, self.start) {
            let form = (start as u16) << 4 | height as u16;
            w.set_bytes(self.h + header::FORM, &form.to_le_bytes())?;
        }
        if len != self.len {
            w.set_u64(self.h + header::CLASS_OR_LEN, len)?;
        }
        Ok(())
    }
}

/// Items of a leaf, and a position among them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    /// The leaf.
    pub(super) addr: Addr,
    /// Its first slot in use.
    pub(super) start: usize,
    /// Its number of items.
    pub(super) n: usize,
    /// The position: `n` at most.
    pub(super) off: usize,
}

impl Leaf {
    /// Return a leaf from its child word and count, and check both.
    #[inline]
    pub(super) fn of(word: u64, count: u64, off: u64) -> Result<Leaf> {
        let (addr, start) = (child_addr(word), child_start(word));
        if start >= LEAF_CAP || count > (LEAF_CAP - start) as u64 || off > count {
            return Err(Error::corrupt("a list leaf with more items than fit", addr));
        }
        Ok(Leaf {
            addr,
            start,
            n: count as usize,
            off: off as usize,
        })
    }

    /// Return the address of a slot.
    #[inline]
    pub(super) fn slot(&self, slot: usize) -> Addr {
        self.addr + (SLOTS + 8 * slot) as u64
    }

    /// Return the bytes of the items `[from, to)`.
    #[inline]
    pub(super) fn items<'p, P: Pages>(&self, p: &'p P, from: usize, to: usize) -> Result<&'p [u8]> {
        p.bytes(self.slot(self.start + from), 8 * (to - from))
    }

    /// Check, before a change, that this is a leaf.
    #[inline]
    pub(super) fn verify<P: Pages>(&self, p: &P) -> Result<()> {
        if p.u8_at(self.addr)? == LEAF_TAG {
            Ok(())
        } else {
            Err(Error::corrupt("no list leaf where one is referred to", self.addr))
        }
    }
}

/// A checked inner node.
#[derive(Clone, Copy)]
pub(super) struct Inner<'p> {
    bytes: &'p [u8],
    /// Number of children, at least 1.
    pub(super) n: usize,
}

impl<'p> Inner<'p> {
    /// Read the inner node at `addr`, which must be of this height.
    #[inline]
    pub(super) fn read<P: Pages>(p: &'p P, addr: Addr, height: usize) -> Result<Inner<'p>> {
        let bytes = p.bytes(addr, NODE)?;
        let n = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        if bytes[0] != INNER_TAG || usize::from(bytes[1]) != height || n == 0 || n > INNER_CAP {
            return Err(Error::corrupt(
                "no inner node of a list where one is referred to",
                addr,
            ));
        }
        Ok(Inner { bytes, n })
    }

    /// Return the number of items under child `i`.
    #[inline]
    pub(super) fn count(&self, i: usize) -> u64 {
        le(self.bytes, COUNTS + 8 * i)
    }

    /// Return the word of child `i`.
    #[inline]
    pub(super) fn child_word(&self, i: usize) -> u64 {
        le(self.bytes, CHILDREN + 8 * i)
    }

    /// Return the child that holds item `i` of this node, and the item's position below that child. None if
    /// the node has fewer items.
    #[inline]
    pub(super) fn find(&self, mut i: u64) -> Option<(usize, u64)> {
        // Sum in blocks first, so that the compiler generates vector code. Sums of a damaged node may wrap;
        // the search then finds a wrong child or none, and the result is checked anyway.
        const BLOCK: usize = 16;
        for (b, block) in self.bytes[COUNTS..COUNTS + 8 * self.n]
            .chunks(8 * BLOCK)
            .enumerate()
        {
            let sum = block
                .chunks_exact(8)
                .fold(0u64, |sum, c| sum.wrapping_add(le(c, 0)));
            if i < sum {
                for (k, c) in block.chunks_exact(8).enumerate() {
                    let count = le(c, 0);
                    if i < count {
                        return Some((b * BLOCK + k, i));
                    }
                    i -= count;
                }
                return None;
            }
            i -= sum;
        }
        None
    }
}

/// One step of a descent: child `idx` of an inner node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The inner node.
    pub(super) node: Addr,
    /// Its number of children.
    pub(super) n: usize,
    /// The child taken.
    pub(super) idx: usize,
    /// Items under that child.
    pub(super) count: u64,
    /// The child's word.
    pub(super) word: u64,
}

/// A path from the root to a position in a leaf.
#[derive(Debug)]
pub(super) struct Path {
    /// The inner nodes, from the root down.
    pub(super) steps: SmallVec<[Step; 4]>,
    /// The leaf and the position in it.
    pub(super) leaf: Leaf,
}

impl Path {
    /// Return the path to item `i`; to behind the last item if `i` is the length.
    pub(super) fn to<P: Pages>(p: &P, root: &Root, i: u64) -> Result<Path> {
        let mut steps = SmallVec::new();
        let leaf = descend(p, root, i, |step| steps.push(step))?;
        Ok(Path { steps, leaf })
    }

    /// Return whether nothing lies to the left of the path down to the child of `steps[k]`.
    pub(super) fn first(&self, k: usize) -> bool {
        self.steps[..k].iter().all(|s| s.idx == 0)
    }

    /// Return whether nothing lies to the right of the path down to the child of `steps[k]`.
    pub(super) fn last(&self, k: usize) -> bool {
        self.steps[..k].iter().all(|s| s.idx + 1 == s.n)
    }
}

/// Descend to item `i` (`i == root.len`: behind the last item), calling `visit` for each step.
#[inline]
pub(super) fn descend<P: Pages>(p: &P, root: &Root, i: u64, mut visit: impl FnMut(Step)) -> Result<Leaf> {
    let (mut word, mut count, mut off) = (root.word(), root.len, i);
    let end = i == root.len;
    for height in (1..=root.height).rev() {
        let node = child_addr(word);
        let inner = Inner::read(p, node, height)?;
        let (idx, rest) = if end {
            (inner.n - 1, inner.count(inner.n - 1))
        } else {
            found(inner.find(off), node)?
        };
        (word, count, off) = (inner.child_word(idx), inner.count(idx), rest);
        visit(Step {
            node,
            n: inner.n,
            idx,
            count,
            word,
        });
    }
    Leaf::of(word, count, off)
}

#[inline]
fn found(place: Option<(usize, u64)>, node: Addr) -> Result<(usize, u64)> {
    place.ok_or_else(|| Error::corrupt("an inner node of a list with too few items", node))
}

/// An inner node's content in ordinary memory, with room for one extra child.
pub(super) struct Children {
    /// Number of children.
    pub(super) n: usize,
    counts: [u64; INNER_CAP + 1],
    words: [u64; INNER_CAP + 1],
}

impl Children {
    /// Return a node without children.
    pub(super) fn new() -> Children {
        Children {
            n: 0,
            counts: [0; INNER_CAP + 1],
            words: [0; INNER_CAP + 1],
        }
    }

    /// Return the children of a node that was read before: in a damaged file a leaf may overlap an inner
    /// node, so changing one may have changed the other.
    pub(super) fn reread<P: Pages>(p: &P, addr: Addr, height: usize, n: usize) -> Result<Children> {
        let children = Children::read(p, addr, height)?;
        if children.n != n {
            return Err(Error::corrupt(
                "an inner node of a list that overlaps a leaf",
                addr,
            ));
        }
        Ok(children)
    }

    /// Return the children of the node at `addr`.
    pub(super) fn read<P: Pages>(p: &P, addr: Addr, height: usize) -> Result<Children> {
        let inner = Inner::read(p, addr, height)?;
        let mut children = Children::new();
        for i in 0..inner.n {
            children.push(inner.child_word(i), inner.count(i));
        }
        Ok(children)
    }

    /// Add a child at the end.
    pub(super) fn push(&mut self, word: u64, count: u64) {
        (self.words[self.n], self.counts[self.n]) = (word, count);
        self.n += 1;
    }

    /// Child `i`: word and count.
    pub(super) fn get(&self, i: usize) -> (u64, u64) {
        (self.words[i], self.counts[i])
    }

    /// Replace child `i`.
    pub(super) fn set(&mut self, i: usize, word: u64, count: u64) {
        (self.words[i], self.counts[i]) = (word, count);
    }

    /// Insert a child before `i`.
    pub(super) fn insert(&mut self, i: usize, word: u64, count: u64) {
        self.words.copy_within(i..self.n, i + 1);
        self.counts.copy_within(i..self.n, i + 1);
        self.n += 1;
        self.set(i, word, count);
    }

    /// Remove child `i`.
    pub(super) fn remove(&mut self, i: usize) {
        self.words.copy_within(i + 1..self.n, i);
        self.counts.copy_within(i + 1..self.n, i);
        self.n -= 1;
    }

    /// Remove and return the children from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Children {
        let mut right = Children::new();
        for i in at..self.n {
            right.push(self.words[i], self.counts[i]);
        }
        self.n = at;
        right
    }

    /// Return the number of items under all children.
    pub(super) fn total(&self, node: Addr) -> Result<u64> {
        self.counts[..self.n]
            .iter()
            .try_fold(0u64, |sum, &c| sum.checked_add(c))
            .ok_or_else(|| Error::corrupt("an inner node of a list with impossible counts", node))
    }

    /// Write the children from `from` on, and the head, over an existing node.
    pub(super) fn store<W: PagesMut>(&self, w: &mut W, node: Addr, height: usize, from: usize) -> Result<()> {
        debug_assert!(self.n <= INNER_CAP);
        if from < self.n {
            let mut buf = [0; 8 * INNER_CAP];
            for (at, values) in [(COUNTS, &self.counts), (CHILDREN, &self.words)] {
                let bytes = &mut buf[..8 * (self.n - from)];
                pack(&values[from..self.n], bytes);
                w.set_bytes(node + (at + 8 * from) as u64, bytes)?;
            }
        }
        let head = inner_head(height, self.n);
        if w.u64_at(node)? != head {
            w.set_u64(node, head)?;
        }
        Ok(())
    }

    /// Create a node with these children.
    pub(super) fn create<W: PagesMut>(&self, w: &mut W, height: usize) -> Result<Addr> {
        debug_assert!(self.n <= INNER_CAP);
        let node = heap::alloc(w, NODE)?;
        let bytes = w.init(node, NODE)?;
        bytes.fill(0);
        bytes[..8].copy_from_slice(&inner_head(height, self.n).to_le_bytes());
        pack(&self.counts[..self.n], &mut bytes[COUNTS..]);
        pack(&self.words[..self.n], &mut bytes[CHILDREN..]);
        Ok(node)
    }
}

fn pack(values: &[u64], bytes: &mut [u8]) {
    for (b, v) in bytes.chunks_exact_mut(8).zip(values) {
        b.copy_from_slice(&v.to_le_bytes());
    }
}
