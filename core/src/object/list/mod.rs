//! The body of a list: a counted B+tree of words. An item is read, replaced, inserted or removed anywhere in
//! O(log n), and no operation moves more than a few KiB.
//!
//! The functions move words. The caller is responsible for reference counts, for freeing what a removed word
//! refers to, for the list's mtime and for locks. `h` is the container's header; this module owns its body
//! form, body address and length.
//!
//! Invariants (`check` verifies them):
//! 1. The body form is the height (low 4 bits) and, at height 0, the root leaf's start slot (the other 12).
//!    At height 0 the root is null, or a leaf in a segment that grows with the list (the small form);
//!    otherwise it is an inner node with at least two children. All leaves lie at the same depth.
//! 2. The count beside a child is the number of items under it, at least 1. The header's length is the sum.
//! 3. Every node but the first and the last of its level is at least 40% full. The exception makes appending
//!    leave full leaves, and a queue cost O(1) an item: at its ends a tree splits without moving items, and a
//!    node there stays until it is empty or fits in its neighbour.
//! 4. `Word::EMPTY` is not a valid item.
//!
//! Memory allocated in an operation is filled without undo; existing nodes are changed by logged stores. An
//! insert or removal shifts the shorter side of one leaf by one logged store, and touches one word a level.
//! After an error the caller must roll back.
//!
//! `node` has the formats and the descent, `grow` insertion, `shrink` removal.

mod check;
mod grow;
mod node;
mod salvage;
mod shrink;
#[cfg(test)]
mod tests;

pub use check::{check, segments};
pub use grow::{extend, insert};
pub use salvage::salvage;
pub use shrink::{drain, remove, remove_range};

use super::word::Word;
use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::object::header;
use crate::page::access::{Pages, PagesMut};
use crate::page::superblock;
use node::{Leaf, Root, descend, le};

/// Return the number of items.
#[inline]
pub fn len<P: Pages>(p: &P, h: Addr) -> Result<u64> {
    p.u64_at(h + header::CLASS_OR_LEN)
}

/// Return the item at an index; None for an index beyond the end.
#[inline]
pub fn get<P: Pages>(p: &P, h: Addr, i: u64) -> Result<Option<Word>> {
    match slot(p, h, i)? {
        Some((_, at)) => Ok(Some(Word(p.u64_at(at)?))),
        None => Ok(None),
    }
}

/// Return the address of an item's word; None for an index beyond the end.
#[inline]
pub fn place<P: Pages>(p: &P, h: Addr, i: u64) -> Result<Option<Addr>> {
    let Some((leaf, at)) = slot(p, h, i)? else {
        return Ok(None);
    };
    leaf.verify(p)?;
    Ok(Some(at))
}

#[inline]
fn slot<P: Pages>(p: &P, h: Addr, i: u64) -> Result<Option<(Leaf, Addr)>> {
    let root = Root::read(p, h)?;
    if i >= root.len {
        return Ok(None);
    }
    let leaf = item(p, &root, i)?;
    let at = leaf.slot(leaf.start + leaf.off);
    Ok(Some((leaf, at)))
}

/// Replace the item at an index by one logged store. Return the old one.
pub fn set<W: PagesMut>(w: &mut W, h: Addr, i: u64, word: Word) -> Result<Word> {
    let root = Root::read(w, h)?;
    if i >= root.len {
        return Err(out_of_range(i, root.len));
    }
    let leaf = item(w, &root, i)?;
    leaf.verify(w)?;
    let slot = leaf.slot(leaf.start + leaf.off);
    let old = w.u64_at(slot)?;
    w.set_value(slot, word.0)?;
    Ok(Word(old))
}

/// Append up to `max` items from index `start` to `out`, leaf by leaf.
pub fn scan<P: Pages>(p: &P, h: Addr, start: u64, max: usize, out: &mut Vec<Word>) -> Result<()> {
    let root = Root::read(p, h)?;
    // A damaged tree whose nodes are shared could count more items than the store has bytes; a caller that
    // scans to the end would not finish.
    if root.height > 0 && root.len / node::LEAF_CAP as u64 > p.u64_at(superblock::NEXT_PAGE)? {
        return Err(Error::corrupt("a list with more items than fit the store", h));
    }
    let (mut at, mut left) = (start, max);
    while at < root.len && left > 0 {
        let leaf = item(p, &root, at)?;
        let n = (leaf.n - leaf.off).min(left);
        let bytes = leaf.items(p, leaf.off, leaf.off + n)?;
        out.extend(bytes.chunks_exact(8).map(|b| Word(le(b, 0))));
        at += n as u64;
        left -= n;
    }
    Ok(())
}

/// Return an index at which the list refers to the container `child`: near `hint` first, then with growing
/// distance in both directions, until about `max_scan` items (at least one leaf) were examined.
pub fn find_child<P: Pages>(p: &P, h: Addr, child: Addr, hint: u64, max_scan: u64) -> Result<Option<u64>> {
    let root = Root::read(p, h)?;
    if root.len == 0 {
        return Ok(None);
    }
    let wanted = Word::container(child).0;
    let hint = hint.min(root.len - 1);
    // In the first leaf, return the nearest match.
    let leaf = item(p, &root, hint)?;
    let bytes = leaf.items(p, 0, leaf.n)?;
    if le(bytes, 8 * leaf.off) == wanted {
        return Ok(Some(hint));
    }
    let (mut lo, mut hi) = span(&leaf, hint, root.len)?;
    let near = matches(bytes, wanted).min_by_key(|&i| i.abs_diff(leaf.off));
    if let Some(i) = near {
        return Ok(Some(lo + i as u64));
    }
    let mut right = true;
    while hi - lo < max_scan && (lo > 0 || hi < root.len) {
        right = if lo == 0 { true } else { !right && hi < root.len };
        let at = if right { hi } else { lo - 1 };
        let leaf = item(p, &root, at)?;
        let (from, to) = span(&leaf, at, root.len)?;
        let bytes = leaf.items(p, 0, leaf.n)?;
        let found = if right {
            matches(bytes, wanted).next()
        } else {
            matches(bytes, wanted).last()
        };
        if let Some(i) = found {
            return Ok(Some(from + i as u64));
        }
        (lo, hi) = (lo.min(from), hi.max(to));
    }
    Ok(None)
}

/// Return the positions of a word among a leaf's items.
fn matches(bytes: &[u8], wanted: u64) -> impl Iterator<Item = usize> + '_ {
    bytes
        .chunks_exact(8)
        .enumerate()
        .filter(move |(_, b)| le(b, 0) == wanted)
        .map(|(i, _)| i)
}

/// Return the indices `[from, to)` of the leaf that holds item `i`.
fn span(leaf: &Leaf, i: u64, len: u64) -> Result<(u64, u64)> {
    match i.checked_sub(leaf.off as u64) {
        Some(from) if from + leaf.n as u64 <= len => Ok((from, from + leaf.n as u64)),
        _ => Err(Error::corrupt(
            "a list leaf that is not where it should be",
            leaf.addr,
        )),
    }
}

/// Return the leaf of an existing item.
#[inline]
fn item<P: Pages>(p: &P, root: &Root, i: u64) -> Result<Leaf> {
    let leaf = descend(p, root, i, |_| ())?;
    if leaf.off >= leaf.n {
        return Err(Error::corrupt("a list leaf with too few items", leaf.addr));
    }
    Ok(leaf)
}

#[cold]
fn out_of_range(i: u64, len: u64) -> Error {
    Error::Index {
        index: i64::try_from(i).unwrap_or(i64::MAX),
        len,
    }
}
