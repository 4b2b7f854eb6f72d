//! Removal from a list: shift in a leaf, merge and balance nodes, lower the tree.
//!
//! A node that falls below its minimum is merged with a neighbour under the same parent if both fit into 7/8
//! of a node; otherwise it takes items from it until both are equal. Either way many removals pass before the
//! next such step. The first and the last node of a level have no minimum. They are merged only if both fit
//! into half a node, so that a queue that is filled at one end and emptied at the other moves nothing.

use super::grow::{capacity, new_leaf};
use super::node::{
    CHILDREN, COUNTS, Children, INNER_CAP, Inner, LEAF_CAP, Leaf, NODE, Path, Root, SLOTS, Step, child_addr,
    child_word, le,
};
use super::out_of_range;
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::word::Word;
use crate::page::access::PagesMut;

/// Fewest items of a leaf that is not the first or last.
pub(super) const LEAF_MIN: usize = LEAF_CAP * 2 / 5;
/// Fewest children of an inner node that is not the first or last of its level.
pub(super) const INNER_MIN: usize = INNER_CAP * 2 / 5;
/// The most slots of the segment that an empty list keeps.
const KEEP: usize = 7;

/// Remove the item at an index and return it.
pub fn remove<W: PagesMut>(w: &mut W, h: Addr, i: u64) -> Result<Word> {
    let root = Root::read(w, h)?;
    if i >= root.len {
        return Err(out_of_range(i, root.len));
    }
    let path = path_to_item(w, &root, i)?;
    let word = Word(w.u64_at(path.leaf.slot(path.leaf.start + path.leaf.off))?);
    cut(w, &root, &path, 1)?;
    Ok(word)
}

/// Remove up to `max` of the items `[start, end)`, from `start` on, and append them to `out`. Return their
/// number. If it is less than requested, continue with `start` and an `end` reduced by that number.
pub fn remove_range<W: PagesMut>(
    w: &mut W,
    h: Addr,
    start: u64,
    end: u64,
    max: usize,
    out: &mut Vec<Word>,
) -> Result<u64> {
    let mut done = 0;
    let root = Root::read(w, h)?;
    let total = end.min(root.len).saturating_sub(start).min(max as u64);
    while done < total {
        let root = Root::read(w, h)?;
        if start >= root.len {
            return Err(Error::corrupt("a list whose length is wrong", h));
        }
        let path = path_to_item(w, &root, start)?;
        let leaf = path.leaf;
        let k = (total - done).min((leaf.n - leaf.off) as u64) as usize;
        collect(w, &leaf, leaf.off, leaf.off + k, out)?;
        cut(w, &root, &path, k)?;
        done += k as u64;
    }
    Ok(done)
}

/// Remove up to `max` items from the end and append them to `out`, leaf by leaf, each leaf's in order. Return
/// true if the list is empty and its body freed.
pub fn drain<W: PagesMut>(w: &mut W, h: Addr, max: usize, out: &mut Vec<Word>) -> Result<bool> {
    let mut left = max;
    loop {
        let root = Root::read(w, h)?;
        if root.len == 0 {
            if !root.body.is_null() {
                heap::free(w, root.body)?;
                root.update(w, 0, 0, 0)?;
            }
            return Ok(true);
        }
        if left == 0 {
            return Ok(false);
        }
        let mut path = Path::to(w, &root, root.len)?;
        let k = path.leaf.n.min(left);
        if k == 0 {
            return Err(Error::corrupt("an empty list leaf", path.leaf.addr));
        }
        path.leaf.off = path.leaf.n - k;
        collect(w, &path.leaf, path.leaf.off, path.leaf.n, out)?;
        cut(w, &root, &path, k)?;
        left -= k;
    }
}

/// Return the path to an existing item.
fn path_to_item<W: PagesMut>(w: &W, root: &Root, i: u64) -> Result<Path> {
    let path = Path::to(w, root, i)?;
    if path.leaf.off >= path.leaf.n {
        return Err(Error::corrupt("a list leaf with too few items", path.leaf.addr));
    }
    Ok(path)
}

fn collect<W: PagesMut>(w: &W, leaf: &Leaf, from: usize, to: usize, out: &mut Vec<Word>) -> Result<()> {
    out.extend(leaf.items(w, from, to)?.chunks_exact(8).map(|b| Word(le(b, 0))));
    Ok(())
}

/// The result of a removal in a child.
enum Shrunk {
    /// It now has this count and word, and `fill` items or children.
    Left { count: u64, word: u64, fill: usize },
    /// It is empty.
    Empty,
}

/// Remove the `k` items at the end of `path`, at least one.
fn cut<W: PagesMut>(w: &mut W, root: &Root, path: &Path, k: usize) -> Result<()> {
    let leaf = path.leaf;
    leaf.verify(w)?;
    let len = minus(root.len, k as u64, root.h)?;
    if root.height == 0 {
        return cut_root_leaf(w, root, &leaf, k);
    }
    let mut child = if leaf.n == k {
        Shrunk::Empty
    } else {
        let start = close_gap(w, &leaf, k)?;
        Shrunk::Left {
            count: (leaf.n - k) as u64,
            word: child_word(leaf.addr, start),
            fill: leaf.n - k,
        }
    };
    for level in (0..path.steps.len()).rev() {
        let (step, height) = (path.steps[level], path.steps.len() - level);
        let mut n = step.n;
        match child {
            Shrunk::Empty => {
                heap::free(w, child_addr(step.word))?;
                n -= 1;
                if n > 0 {
                    let mut children = Children::reread(w, step.node, height, step.n)?;
                    children.remove(step.idx);
                    children.store(w, step.node, height, step.idx)?;
                }
            }
            Shrunk::Left { count, word, fill } => {
                w.set_u64(step.node + (COUNTS + 8 * step.idx) as u64, count)?;
                if word != step.word {
                    w.set_u64(step.node + (CHILDREN + 8 * step.idx) as u64, word)?;
                }
                let min = if height == 1 { LEAF_MIN } else { INNER_MIN };
                if fill < min && n > 1 {
                    let end = path.first(level + 1) || path.last(level + 1);
                    if rebalance_child(w, &step, height, fill, end)? {
                        n -= 1;
                    }
                }
            }
        }
        let (count, word) = if level == 0 {
            (root.len, root.word())
        } else {
            (path.steps[level - 1].count, path.steps[level - 1].word)
        };
        child = if n == 0 {
            Shrunk::Empty
        } else {
            Shrunk::Left {
                count: minus(count, k as u64, step.node)?,
                word,
                fill: n,
            }
        };
    }
    match child {
        Shrunk::Empty if len == 0 => {
            heap::free(w, root.body)?;
            root.update(w, 0, 0, 0)
        }
        Shrunk::Empty => Err(Error::corrupt("a list whose length is wrong", root.h)),
        Shrunk::Left { word, fill, .. } => lower(w, root, word, fill, len),
    }
}

/// Remove root nodes with a single child, and write the header.
fn lower<W: PagesMut>(w: &mut W, root: &Root, mut word: u64, fill: usize, len: u64) -> Result<()> {
    let mut height = root.height;
    let mut n = fill;
    while height > 0 && n == 1 {
        let top = child_addr(word);
        word = Inner::read(w, top, height)?.child_word(0);
        heap::free(w, top)?;
        height -= 1;
        if height > 0 {
            n = Inner::read(w, child_addr(word), height)?.n;
        }
    }
    root.update(w, word, height, len)
}

/// Remove items from a leaf that keeps some. Return its new start slot.
fn close_gap<W: PagesMut>(w: &mut W, leaf: &Leaf, k: usize) -> Result<usize> {
    let (before, after) = (leaf.off, leaf.n - leaf.off - k);
    let (from, to, slot, start) = if before < after {
        (0, before, leaf.start + k, leaf.start + k)
    } else {
        (leaf.off + k, leaf.n, leaf.start + leaf.off, leaf.start)
    };
    if from < to {
        let mut buf = [0; NODE];
        let moved = &mut buf[..8 * (to - from)];
        moved.copy_from_slice(leaf.items(w, from, to)?);
        w.set_bytes(leaf.slot(slot), moved)?;
    }
    Ok(start)
}

/// Remove items from the root leaf, which then moves to a smaller segment if it is two thirds empty.
fn cut_root_leaf<W: PagesMut>(w: &mut W, root: &Root, leaf: &Leaf, k: usize) -> Result<()> {
    let cap = capacity(w, root)?;
    let n = leaf.n - k;
    if n == 0 && cap > KEEP {
        heap::free(w, root.body)?;
        return root.update(w, 0, 0, 0);
    }
    let start = if n == 0 { 0 } else { close_gap(w, leaf, k)? };
    let mut word = child_word(leaf.addr, start);
    if cap > KEEP && n * 3 <= cap {
        let rest = Leaf { start, n, ..*leaf };
        let mut buf = [0; NODE];
        let bytes = &mut buf[..8 * n];
        bytes.copy_from_slice(rest.items(w, 0, n)?);
        // Removal must work on a full disk: if the allocation fails, the larger segment stays.
        if let Some(body) = w.attempt(|w| new_leaf(w, SLOTS + 8 * (n + n / 2).max(3), 0, bytes))? {
            heap::free(w, leaf.addr)?;
            word = child_word(body, 0);
        }
    }
    root.update(w, word, 0, n as u64)
}

/// Merge the child of a step, which holds only `fill`, with a neighbour, or balance them. `end`: the child is
/// the first or last of its level. Return true if the node has one child less now.
fn rebalance_child<W: PagesMut>(
    w: &mut W,
    step: &Step,
    height: usize,
    fill: usize,
    end: bool,
) -> Result<bool> {
    let (node, idx) = (step.node, step.idx);
    let inner = Inner::read(w, node, height)?;
    let fill_of = |i: usize| -> Result<usize> {
        if height == 1 {
            Ok(Leaf::of(inner.child_word(i), inner.count(i), 0)?.n)
        } else {
            Ok(Inner::read(w, child_addr(inner.child_word(i)), height - 1)?.n)
        }
    };
    let before = if idx > 0 { Some(fill_of(idx - 1)?) } else { None };
    let behind = if idx + 1 < inner.n {
        Some(fill_of(idx + 1)?)
    } else {
        None
    };
    let (left, other) = match (before, behind) {
        (Some(a), Some(b)) if a <= b => (idx - 1, a),
        (_, Some(b)) => (idx, b),
        (Some(a), None) => (idx - 1, a),
        (None, None) => return Ok(false),
    };
    let (cap, total) = (if height == 1 { LEAF_CAP } else { INNER_CAP }, fill + other);
    if end && total > cap / 2 {
        return Ok(false);
    }
    let merge = total <= cap * 7 / 8;
    let mut children = Children::reread(w, node, height, step.n)?;
    let (a, b) = (children.get(left), children.get(left + 1));
    if merge {
        let (merged, gone) = if height == 1 {
            merge_leaves(w, a, b)?
        } else {
            merge_inner(w, a, b, height - 1)?
        };
        heap::free(w, gone)?;
        children.set(left, merged.0, merged.1);
        children.remove(left + 1);
    } else {
        let (a, b) = if height == 1 {
            balance_leaves(w, a, b)?
        } else {
            balance_inner(w, a, b, height - 1)?
        };
        children.set(left, a.0, a.1);
        children.set(left + 1, b.0, b.1);
    }
    children.store(w, node, height, left)?;
    Ok(merge)
}

/// A child: word and count.
type Child = (u64, u64);

/// Move the items of the smaller of two leaves into the larger. Return the larger, and the other.
fn merge_leaves<W: PagesMut>(w: &mut W, a: Child, b: Child) -> Result<(Child, Addr)> {
    let (left, right) = (Leaf::of(a.0, a.1, 0)?, Leaf::of(b.0, b.1, 0)?);
    let n = left.n + right.n;
    if n > LEAF_CAP {
        return Err(Error::corrupt("list leaves that overlap", left.addr));
    }
    let (keep, gone) = if left.n >= right.n {
        (append(w, &left, &right, right.n)?, right.addr)
    } else {
        (prepend(w, &right, &left, left.n)?, left.addr)
    };
    Ok(((keep, n as u64), gone))
}

/// Make two neighbouring leaves equally full.
fn balance_leaves<W: PagesMut>(w: &mut W, a: Child, b: Child) -> Result<(Child, Child)> {
    let (left, right) = (Leaf::of(a.0, a.1, 0)?, Leaf::of(b.0, b.1, 0)?);
    let half = (left.n + right.n) / 2;
    let (a, b) = if left.n < half {
        let k = half - left.n;
        (
            append(w, &left, &right, k)?,
            child_word(right.addr, right.start + k),
        )
    } else {
        (
            child_word(left.addr, left.start),
            prepend(w, &right, &left, left.n - half)?,
        )
    };
    Ok(((a, half as u64), (b, (left.n + right.n - half) as u64)))
}

/// Copy the first `k` items of `right` behind those of `left`. Return `left`'s new word.
fn append<W: PagesMut>(w: &mut W, left: &Leaf, right: &Leaf, k: usize) -> Result<u64> {
    left.verify(w)?;
    let mut buf = [0; NODE];
    let (old, new) = buf[..8 * (left.n + k)].split_at_mut(8 * left.n);
    new.copy_from_slice(right.items(w, 0, k)?);
    if left.start + left.n + k <= LEAF_CAP {
        w.set_bytes(left.slot(left.start + left.n), new)?;
        return Ok(child_word(left.addr, left.start));
    }
    old.copy_from_slice(left.items(w, 0, left.n)?);
    w.set_bytes(left.slot(0), &buf[..8 * (left.n + k)])?;
    Ok(child_word(left.addr, 0))
}

/// Copy the last `k` items of `left` before those of `right`. Return `right`'s new word.
fn prepend<W: PagesMut>(w: &mut W, right: &Leaf, left: &Leaf, k: usize) -> Result<u64> {
    right.verify(w)?;
    let mut buf = [0; NODE];
    let (new, old) = buf[..8 * (right.n + k)].split_at_mut(8 * k);
    new.copy_from_slice(left.items(w, left.n - k, left.n)?);
    if k <= right.start {
        w.set_bytes(right.slot(right.start - k), new)?;
        return Ok(child_word(right.addr, right.start - k));
    }
    old.copy_from_slice(right.items(w, 0, right.n)?);
    w.set_bytes(right.slot(0), &buf[..8 * (right.n + k)])?;
    Ok(child_word(right.addr, 0))
}

/// Move the children of an inner node to its left neighbour. Return the left one, and the other.
fn merge_inner<W: PagesMut>(w: &mut W, a: Child, b: Child, height: usize) -> Result<(Child, Addr)> {
    let (left, right) = (child_addr(a.0), child_addr(b.0));
    let mut children = Children::read(w, left, height)?;
    let (from, more) = (children.n, Children::read(w, right, height)?);
    if from + more.n > INNER_CAP {
        return Err(Error::corrupt("inner nodes of a list that overlap", left));
    }
    for i in 0..more.n {
        let (word, count) = more.get(i);
        children.push(word, count);
    }
    children.store(w, left, height, from)?;
    let total =
        a.1.checked_add(b.1)
            .ok_or_else(|| Error::corrupt("a list that is too long", left))?;
    Ok(((a.0, total), right))
}

/// Make two neighbouring inner nodes equally full.
fn balance_inner<W: PagesMut>(w: &mut W, a: Child, b: Child, height: usize) -> Result<(Child, Child)> {
    let (left, right) = (child_addr(a.0), child_addr(b.0));
    let (mut l, mut r) = (
        Children::read(w, left, height)?,
        Children::read(w, right, height)?,
    );
    let (was, half) = (l.n, (l.n + r.n) / 2);
    while l.n < half {
        let (word, count) = r.get(0);
        r.remove(0);
        l.push(word, count);
    }
    if l.n > half {
        let moved = l.split_off(half);
        for i in (0..moved.n).rev() {
            let (word, count) = moved.get(i);
            r.insert(0, word, count);
        }
    }
    l.store(w, left, height, was.min(half))?;
    r.store(w, right, height, 0)?;
    Ok(((a.0, l.total(left)?), (b.0, r.total(right)?)))
}

fn minus(count: u64, k: u64, at: Addr) -> Result<u64> {
    count
        .checked_sub(k)
        .ok_or_else(|| Error::corrupt("a list whose counts are wrong", at))
}
