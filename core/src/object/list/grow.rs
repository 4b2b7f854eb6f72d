//! Insertion into a list: room in a leaf, splits, growth of the small form, bulk appends.
//!
//! If a leaf overflows at an end of the list, the item gets a leaf of its own and nothing moves; elsewhere
//! the leaf is halved. An end leaf that has free slots only on the other side is slid instead while at most
//! `SLIDE` of it is in use, so that sliding costs O(1) an item.

use super::node::{
    CHILDREN, COUNTS, Children, INNER_CAP, LEAF_CAP, LEAF_TAG, Leaf, MAX_HEIGHT, NODE, Path, Root, SLOTS,
    Step, child_word,
};
use super::out_of_range;
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::word::Word;
use crate::page::access::{Pages, PagesMut};

/// An end leaf is slid while at most this share of it is in use (eighths).
const SLIDE: usize = 7;

/// Insert an item before index `i`; at the end if `i` is the length.
pub fn insert<W: PagesMut>(w: &mut W, h: Addr, i: u64, word: Word) -> Result<()> {
    let root = Root::read(w, h)?;
    if i > root.len {
        return Err(out_of_range(i, root.len));
    }
    if root.body.is_null() {
        let body = new_leaf(w, SLOTS + 8, 0, &word.0.to_le_bytes())?;
        return root.update(w, child_word(body, 0), 0, 1);
    }
    let path = Path::to(w, &root, i)?;
    let leaf = path.leaf;
    leaf.verify(w)?;
    let cap = capacity(w, &root)?;
    let whole = path.steps.len();
    let at_end = leaf.off == leaf.n && path.last(whole);
    let at_front = leaf.off == 0 && path.first(whole) && !at_end;
    let (front_room, end_room) = (leaf.start, cap - leaf.start - leaf.n);
    let blocked = at_end && end_room == 0 || at_front && front_room == 0;
    if leaf.n < cap && !blocked {
        let start = shift_in(w, &leaf, end_room, word)?;
        return propagate_growth(w, &root, &path, Grown::leaf(leaf.addr, start, leaf.n + 1), 1);
    }
    if blocked && leaf.n <= cap * SLIDE / 8 {
        let start = start_with_room(cap, leaf.n + 1, at_front);
        let mut buf = [0; NODE];
        let bytes = with_inserted(w, &leaf, word, &mut buf)?;
        w.set_bytes(leaf.slot(start), bytes)?;
        return propagate_growth(w, &root, &path, Grown::leaf(leaf.addr, start, leaf.n + 1), 1);
    }
    if cap < LEAF_CAP {
        let size = grown_size(leaf.n, 1);
        let start = if at_front {
            start_with_room((size - SLOTS) / 8, leaf.n + 1, true)
        } else {
            0
        };
        let mut buf = [0; NODE];
        let bytes = with_inserted(w, &leaf, word, &mut buf)?;
        let body = new_leaf(w, size, start, bytes)?;
        heap::free(w, leaf.addr)?;
        return root.update(w, child_word(body, start), 0, root.len + 1);
    }
    let grown = if at_end || at_front {
        let start = if at_front { LEAF_CAP - 1 } else { 0 };
        let new = new_leaf(w, NODE, start, &word.0.to_le_bytes())?;
        Grown {
            count: leaf.n as u64,
            word: child_word(leaf.addr, leaf.start),
            sibling: Some(Sibling {
                before: at_front,
                word: child_word(new, start),
                count: 1,
            }),
        }
    } else {
        split_leaf(w, &leaf, word)?
    };
    propagate_growth(w, &root, &path, grown, 1)
}

/// Append many items. Fills the leaves.
pub fn extend<W: PagesMut>(w: &mut W, h: Addr, words: &[Word]) -> Result<()> {
    let mut rest = words;
    while !rest.is_empty() {
        let root = Root::read(w, h)?;
        let mut buf = [0; NODE];
        if root.body.is_null() {
            let n = rest.len().min(LEAF_CAP);
            let body = new_leaf(w, SLOTS + 8 * n, 0, pack(&rest[..n], &mut buf))?;
            root.update(w, child_word(body, 0), 0, n as u64)?;
            rest = &rest[n..];
            continue;
        }
        let path = Path::to(w, &root, root.len)?;
        let leaf = path.leaf;
        leaf.verify(w)?;
        let cap = capacity(w, &root)?;
        let room = cap - leaf.start - leaf.n;
        let fits = rest.len() <= room;
        if !fits && cap < LEAF_CAP {
            let n = rest.len().min(LEAF_CAP - leaf.n);
            let size = grown_size(leaf.n, n);
            let old = leaf.items(w, 0, leaf.n)?;
            buf[..old.len()].copy_from_slice(old);
            pack(&rest[..n], &mut buf[8 * leaf.n..]);
            let body = new_leaf(w, size, 0, &buf[..8 * (leaf.n + n)])?;
            heap::free(w, leaf.addr)?;
            root.update(w, child_word(body, 0), 0, root.len + n as u64)?;
            rest = &rest[n..];
        } else if !fits && leaf.start > 0 && leaf.n <= LEAF_CAP * SLIDE / 8 {
            let n = rest.len().min(LEAF_CAP - leaf.n);
            let old = leaf.items(w, 0, leaf.n)?;
            buf[..old.len()].copy_from_slice(old);
            pack(&rest[..n], &mut buf[8 * leaf.n..]);
            w.set_bytes(leaf.slot(0), &buf[..8 * (leaf.n + n)])?;
            propagate_growth(w, &root, &path, Grown::leaf(leaf.addr, 0, leaf.n + n), n as u64)?;
            rest = &rest[n..];
        } else if room > 0 {
            let n = rest.len().min(room);
            w.set_bytes(leaf.slot(leaf.start + leaf.n), pack(&rest[..n], &mut buf))?;
            propagate_growth(
                w,
                &root,
                &path,
                Grown::leaf(leaf.addr, leaf.start, leaf.n + n),
                n as u64,
            )?;
            rest = &rest[n..];
        } else {
            let n = rest.len().min(LEAF_CAP);
            let new = new_leaf(w, NODE, 0, pack(&rest[..n], &mut buf))?;
            let grown = Grown {
                count: leaf.n as u64,
                word: child_word(leaf.addr, leaf.start),
                sibling: Some(Sibling {
                    before: false,
                    word: child_word(new, 0),
                    count: n as u64,
                }),
            };
            propagate_growth(w, &root, &path, grown, n as u64)?;
            rest = &rest[n..];
        }
    }
    Ok(())
}

/// Return the number of slots in a leaf; for the root leaf of a list without other leaves, those of its segment.
pub(super) fn capacity<P: Pages>(p: &P, root: &Root) -> Result<usize> {
    if root.height > 0 {
        return Ok(LEAF_CAP);
    }
    let cap = (heap::size_of(p, root.body)? - SLOTS) / 8;
    // The header was checked only against the largest leaf.
    if root.start + root.len as usize > cap {
        return Err(Error::corrupt(
            "a list with more items than fit its segment",
            root.h,
        ));
    }
    Ok(cap)
}

/// Create a leaf with these items from slot `start` on.
pub(super) fn new_leaf<W: PagesMut>(w: &mut W, size: usize, start: usize, items: &[u8]) -> Result<Addr> {
    let addr = heap::alloc(w, size)?;
    let bytes = w.init(addr, size)?;
    bytes.fill(0);
    bytes[0] = LEAF_TAG;
    let from = SLOTS + 8 * start;
    bytes[from..from + items.len()].copy_from_slice(items);
    Ok(addr)
}

/// Return the segment size for a root leaf of `n` items that has to take `more`: at least half as much again.
fn grown_size(n: usize, more: usize) -> usize {
    SLOTS + 8 * (n + more).max(n + n / 2).min(LEAF_CAP)
}

/// Return the start slot for `n` items when an end of the list needs room: most of the room is on that end.
fn start_with_room(cap: usize, n: usize, front: bool) -> usize {
    let free = cap - n;
    if front { free - free / 4 } else { free / 4 }
}

fn pack<'b>(words: &[Word], buf: &'b mut [u8]) -> &'b [u8] {
    for (b, word) in buf.chunks_exact_mut(8).zip(words) {
        b.copy_from_slice(&word.0.to_le_bytes());
    }
    &buf[..8 * words.len()]
}

/// Return the leaf's items with `word` inserted at its position.
fn with_inserted<'b, P: Pages>(p: &P, leaf: &Leaf, word: Word, buf: &'b mut [u8; NODE]) -> Result<&'b [u8]> {
    let (old, at) = (leaf.items(p, 0, leaf.n)?, 8 * leaf.off);
    buf[..at].copy_from_slice(&old[..at]);
    buf[at..at + 8].copy_from_slice(&word.0.to_le_bytes());
    buf[at + 8..old.len() + 8].copy_from_slice(&old[at..]);
    Ok(&buf[..old.len() + 8])
}

/// Insert into a leaf that has a free slot, by moving the shorter movable side. Return the new start slot.
fn shift_in<W: PagesMut>(w: &mut W, leaf: &Leaf, end_room: usize, word: Word) -> Result<usize> {
    // A buffer only where items move: zeroing it takes longer than an append.
    let behind = leaf.n - leaf.off;
    if end_room > 0 && (leaf.start == 0 || behind <= leaf.off) {
        let slot = leaf.slot(leaf.start + leaf.off);
        if behind == 0 {
            w.set_u64(slot, word.0)?;
        } else {
            let mut buf = [0; NODE];
            buf[..8].copy_from_slice(&word.0.to_le_bytes());
            buf[8..8 + 8 * behind].copy_from_slice(leaf.items(w, leaf.off, leaf.n)?);
            w.set_bytes(slot, &buf[..8 + 8 * behind])?;
        }
        Ok(leaf.start)
    } else {
        let slot = leaf.slot(leaf.start - 1);
        if leaf.off == 0 {
            w.set_u64(slot, word.0)?;
        } else {
            let mut buf = [0; NODE];
            let at = 8 * leaf.off;
            buf[..at].copy_from_slice(leaf.items(w, 0, leaf.off)?);
            buf[at..at + 8].copy_from_slice(&word.0.to_le_bytes());
            w.set_bytes(slot, &buf[..at + 8])?;
        }
        Ok(leaf.start - 1)
    }
}

/// Split a full leaf in the middle and insert the item.
fn split_leaf<W: PagesMut>(w: &mut W, leaf: &Leaf, word: Word) -> Result<Grown> {
    let half = leaf.n / 2;
    let mut buf = [0; NODE];
    let right = Leaf {
        start: leaf.start + half,
        n: leaf.n - half,
        off: leaf.off.saturating_sub(half),
        ..*leaf
    };
    let (left_n, start, bytes) = if leaf.off > half {
        (half, leaf.start, with_inserted(w, &right, word, &mut buf)?)
    } else {
        let bytes = right.items(w, 0, right.n)?;
        buf[..bytes.len()].copy_from_slice(bytes);
        let left = Leaf { n: half, ..*leaf };
        let start = shift_in(w, &left, LEAF_CAP - leaf.start - half, word)?;
        (half + 1, start, &buf[..8 * right.n])
    };
    let new = new_leaf(w, NODE, 0, bytes)?;
    Ok(Grown {
        count: left_n as u64,
        word: child_word(leaf.addr, start),
        sibling: Some(Sibling {
            before: false,
            word: child_word(new, 0),
            count: (bytes.len() / 8) as u64,
        }),
    })
}

/// The result of a change in a child: its new count and word, and the node split from it.
struct Grown {
    count: u64,
    word: u64,
    sibling: Option<Sibling>,
}

struct Sibling {
    before: bool,
    word: u64,
    count: u64,
}

impl Grown {
    fn leaf(addr: Addr, start: usize, n: usize) -> Grown {
        Grown {
            count: n as u64,
            word: child_word(addr, start),
            sibling: None,
        }
    }
}

/// Propagate a change of the leaf at the end of `path` up to the header; `delta` items were added.
fn propagate_growth<W: PagesMut>(
    w: &mut W,
    root: &Root,
    path: &Path,
    mut child: Grown,
    delta: u64,
) -> Result<()> {
    let levels = path.steps.len();
    for k in (0..levels).rev() {
        let (step, height) = (path.steps[k], levels - k);
        let (count, word) = if k == 0 {
            (root.len, root.word())
        } else {
            (path.steps[k - 1].count, path.steps[k - 1].word)
        };
        let count = count
            .checked_add(delta)
            .ok_or_else(|| Error::corrupt("a list that is too long", step.node))?;
        let Some(sibling) = child.sibling.take() else {
            if child.count != step.count {
                w.set_u64(step.node + (COUNTS + 8 * step.idx) as u64, child.count)?;
            }
            if child.word != step.word {
                w.set_u64(step.node + (CHILDREN + 8 * step.idx) as u64, child.word)?;
            }
            child = Grown {
                count,
                word,
                sibling: None,
            };
            continue;
        };
        let mut children = Children::reread(w, step.node, height, step.n)?;
        children.set(step.idx, child.word, child.count);
        let at = if sibling.before { step.idx } else { step.idx + 1 };
        children.insert(at, sibling.word, sibling.count);
        child = if children.n <= INNER_CAP {
            children.store(w, step.node, height, step.idx)?;
            Grown {
                count,
                word,
                sibling: None,
            }
        } else {
            split_inner(
                w,
                &step,
                height,
                children,
                (at == 0 && path.first(k), path.last(k)),
                at,
                word,
            )?
        };
    }
    let len = root
        .len
        .checked_add(delta)
        .ok_or_else(|| Error::corrupt("a list that is too long", root.h))?;
    let Some(sibling) = child.sibling else {
        return root.update(w, child.word, levels, len);
    };
    if levels == MAX_HEIGHT {
        return Err(Error::corrupt("a list that is too deep", root.h));
    }
    let mut children = Children::new();
    children.push(child.word, child.count);
    children.insert(usize::from(!sibling.before), sibling.word, sibling.count);
    let top = children.create(w, levels + 1)?;
    root.update(w, child_word(top, 0), levels + 1, len)
}

/// Split an inner node whose children, `children`, are one too many after one was added at `at`.
fn split_inner<W: PagesMut>(
    w: &mut W,
    step: &Step,
    height: usize,
    mut children: Children,
    (first, last): (bool, bool),
    at: usize,
    word: u64,
) -> Result<Grown> {
    if first {
        // Split off the new child alone; the node keeps its children, of which the first may have changed.
        let rest = children.split_off(1);
        let (w0, c0) = rest.get(0);
        w.set_u64(step.node + COUNTS as u64, c0)?;
        w.set_u64(step.node + CHILDREN as u64, w0)?;
        let new = children.create(w, height)?;
        let sibling = Sibling {
            before: true,
            word: child_word(new, 0),
            count: children.total(step.node)?,
        };
        return Ok(Grown {
            count: rest.total(step.node)?,
            word,
            sibling: Some(sibling),
        });
    }
    let alone = last && at == children.n - 1;
    let right = children.split_off(if alone { at } else { children.n / 2 });
    children.store(w, step.node, height, step.idx.min(children.n))?;
    let new = right.create(w, height)?;
    let sibling = Sibling {
        before: false,
        word: child_word(new, 0),
        count: right.total(step.node)?,
    };
    Ok(Grown {
        count: children.total(step.node)?,
        word,
        sibling: Some(sibling),
    })
}
