//! The entry log of a large dict: the entries in insertion order, in leaves of consecutive sequence numbers,
//! under a radix tree by leaf number (sequence number / `SPAN`).
//!
//! Invariants:
//! 1. An entry lies in leaf number seq / `SPAN`. In a dense leaf its position is seq % `SPAN`; a sparse leaf
//!    holds up to `MAX_SPARSE` remaining entries of a leaf, in order, with their numbers.
//! 2. No leaf is without entries, except the tail (the dense leaf that receives appends), and no node is
//!    without children: what becomes empty is freed. So a walk never searches.
//! 3. A dense leaf other than the tail has more than `MAX_SPARSE` entries, a wide sparse one more than
//!    `MIN_SPARSE`: a removal that reaches this limit rewrites the leaf smaller. An entry moves only then;
//!    the `Moved` callback lets the caller update the index.
//!
//! Node: `FAN` pointers of 8 bytes. A pointer is a 48-bit address, bit 48 set for a sparse leaf (`leaf` has
//! their format), 0 for no child; the root pointer has the height (0: a leaf) in its top byte.

use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::dict::entry::DictEntry;
use crate::object::dict::entry::put;
use crate::object::dict::entry::word_in;
use crate::object::dict::large::leaf;
use crate::object::dict::large::leaf::LogPosition;
use crate::object::dict::large::leaf::MAX_SPARSE;
use crate::object::dict::large::leaf::MIN_SPARSE;
use crate::object::dict::large::leaf::SPAN;
use crate::object::dict::large::leaf::SPARSE;
use crate::object::dict::large::record::DictRecord;
use crate::object::key;
use crate::object::pieces::{Fresh, Lost};
use crate::object::word::Word;
use crate::page::access::{Pages, PagesMut};

/// Children of a node.
const FAN: u64 = 126;
const NODE: usize = FAN as usize * 8;
/// The most levels of nodes that 64-bit sequence numbers need.
const MAX_HEIGHT: u32 = 9;
const ADDR: u64 = Addr::MAX;

/// Return the number of leaf numbers under a tree of this height.
fn reach(height: u32) -> u64 {
    FAN.saturating_pow(height)
}

fn height_of(root: u64, at: Addr) -> Result<u32> {
    let height = (root >> 56) as u32;
    if height > MAX_HEIGHT {
        return Err(Error::corrupt("a dict log that is too high", at));
    }
    Ok(height)
}

/// The path to a leaf's pointer: the address of each pointer on it, the root's first.
struct Path {
    at: [Addr; MAX_HEIGHT as usize + 1],
    len: usize,
    pointer: u64,
}

/// Find the pointer of an existing leaf.
fn path_to<P: Pages>(p: &P, rec: &DictRecord, number: u64) -> Result<Path> {
    let height = height_of(rec.log, rec.at)?;
    let mut path = Path {
        at: [Addr::NULL; MAX_HEIGHT as usize + 1],
        len: 1,
        pointer: rec.log,
    };
    path.at[0] = rec.log_at();
    for level in (0..height).rev() {
        let node = Addr(path.pointer & ADDR);
        let slot = node + number / reach(level) % FAN * 8;
        path.pointer = p.u64_at(slot)?;
        if path.pointer & ADDR == 0 {
            return Err(Error::corrupt("a dict leaf that its tree does not have", rec.at));
        }
        path.at[path.len] = slot;
        path.len += 1;
    }
    if number >= reach(height) {
        return Err(Error::corrupt("a dict leaf beyond its tree", rec.at));
    }
    Ok(path)
}

/// Store the pointer of a new leaf number, with the nodes that lead to it.
fn link<W: PagesMut>(w: &mut W, rec: &mut DictRecord, number: u64, pointer: u64) -> Result<()> {
    let mut height = height_of(rec.log, rec.at)?;
    let mut root = rec.log & (ADDR | SPARSE);
    if root == 0 {
        height = 0;
    }
    while number >= reach(height) {
        if root != 0 {
            root = new_node(w, 0, root)?;
        }
        height += 1;
    }
    if height == 0 || root == 0 {
        // It is the only leaf: create a chain of nodes from the root to it.
        let mut child = pointer;
        for level in 0..height {
            child = new_node(w, number / reach(level) % FAN, child)?;
        }
        return rec.set_log(w, child | u64::from(height) << 56);
    }
    let top = root | u64::from(height) << 56;
    if top != rec.log {
        rec.set_log(w, top)?;
    }
    let mut node = Addr(root & ADDR);
    for level in (0..height).rev() {
        let slot = node + number / reach(level) % FAN * 8;
        let child = w.u64_at(slot)?;
        if child != 0 && level > 0 {
            node = Addr(child & ADDR);
            continue;
        }
        if child != 0 {
            return Err(Error::corrupt("a dict leaf where a new one belongs", slot));
        }
        let mut child = pointer;
        for below in 0..level {
            child = new_node(w, number / reach(below) % FAN, child)?;
        }
        return w.set_u64(slot, child);
    }
    Err(Error::corrupt("a dict log without levels", rec.at))
}

fn new_node<W: PagesMut>(w: &mut W, index: u64, child: u64) -> Result<u64> {
    let at = heap::alloc(w, NODE)?;
    let b = w.init(at, NODE)?;
    b.fill(0);
    put(b, index as usize * 8, child);
    Ok(at.0)
}

/// Store another pointer for a leaf.
fn relink<W: PagesMut>(w: &mut W, rec: &mut DictRecord, path: &Path, pointer: u64) -> Result<()> {
    if path.len == 1 {
        return rec.set_log(w, pointer);
    }
    w.set_u64(path.at[path.len - 1], pointer)
}

/// Remove a leaf's pointer and free the nodes that become empty.
fn unlink<W: PagesMut>(w: &mut W, rec: &mut DictRecord, path: &Path) -> Result<()> {
    for i in (1..path.len).rev() {
        let slot = path.at[i];
        let node = if i == 1 {
            Addr(rec.log & ADDR)
        } else {
            Addr(w.u64_at(path.at[i - 1])? & ADDR)
        };
        let b = w.bytes(node, NODE)?;
        if (0..NODE)
            .step_by(8)
            .any(|o| node + o as u64 != slot && word_in(b, o) != 0)
        {
            return w.set_u64(slot, 0);
        }
        heap::free(w, node)?;
    }
    rec.set_log(w, 0)
}

/// A callback for each entry that moves: its hash, its old and its new place. The index must follow.
pub(in crate::object::dict) trait Moved<W>:
    Fn(&mut W, &DictRecord, u64, LogPosition, LogPosition) -> Result<()>
{
}

impl<W, F: Fn(&mut W, &DictRecord, u64, LogPosition, LogPosition) -> Result<()>> Moved<W> for F {}

/// Append an entry with the next sequence number. Return its place.
pub(in crate::object::dict) fn append<W: PagesMut>(
    w: &mut W,
    rec: &mut DictRecord,
    key: Word,
    value: Word,
    moved: impl Moved<W>,
) -> Result<LogPosition> {
    let seq = rec.next;
    let number = seq / SPAN;
    if !rec.tail.is_null() {
        let (first, live) = {
            let tail = leaf::read(w, rec.tail, false)?;
            (tail.first, tail.live)
        };
        if first == number * SPAN {
            if live as u64 >= SPAN {
                return Err(Error::corrupt(
                    "a dict leaf that counts its entries wrong",
                    rec.tail,
                ));
            }
            let loc = LogPosition::new(rec.tail, false, (seq - first) as usize);
            let mut b = [0; 16];
            put(&mut b, 0, key.0);
            put(&mut b, 8, value.0);
            w.set_bytes(loc.addr(), &b)?;
            leaf::set_counts(w, rec.tail, live + 1, SPAN as usize)?;
            return Ok(loc);
        }
        let old = rec.tail;
        rec.set_tail(w, Addr::NULL)?;
        compact_leaf(w, rec, old, false, moved)?;
    }
    let (pointer, locs) = leaf::write(w, number, &[DictEntry { seq, key, value }], true)?;
    link(w, rec, number, pointer)?;
    rec.set_tail(w, Addr(pointer & ADDR))?;
    Ok(locs[0])
}

/// Add a leaf with entries of one leaf number, beyond all existing leaves; `tail` makes it the one that
/// receives appends. Return the places of the entries.
pub(in crate::object::dict) fn add_leaf<W: PagesMut>(
    w: &mut W,
    rec: &mut DictRecord,
    entries: &[DictEntry],
    tail: bool,
) -> Result<Vec<LogPosition>> {
    let number = entries.first().map_or(0, |e| e.seq / SPAN);
    let (pointer, locs) = leaf::write(w, number, entries, tail || entries.len() > MAX_SPARSE)?;
    link(w, rec, number, pointer)?;
    if tail {
        rec.set_tail(w, Addr(pointer & ADDR))?;
    }
    Ok(locs)
}

/// Remove the entry at `loc`, which was removed from the index before.
pub(in crate::object::dict) fn remove<W: PagesMut>(
    w: &mut W,
    rec: &mut DictRecord,
    loc: LogPosition,
    moved: impl Moved<W>,
) -> Result<()> {
    let at = loc.leaf();
    let (live, cap) = {
        let leaf = leaf::read(w, at, loc.sparse())?;
        if loc.pos() >= leaf.cap || leaf.ent(loc.pos()).is_none() || leaf.live == 0 {
            return Err(Error::corrupt("a dict entry that its leaf does not have", at));
        }
        (leaf.live - 1, leaf.cap)
    };
    w.set_bytes(loc.addr(), &[0; 16])?;
    leaf::set_counts(w, at, live, cap)?;
    let full_enough = live > MAX_SPARSE || loc.sparse() && live > MIN_SPARSE || live > 0 && cap == MIN_SPARSE;
    if full_enough || at == rec.tail {
        return Ok(());
    }
    compact_leaf(w, rec, at, loc.sparse(), moved)
}

/// Free a leaf that is empty, and rewrite one that has become sparse (invariants 2 and 3).
fn compact_leaf<W: PagesMut>(
    w: &mut W,
    rec: &mut DictRecord,
    at: Addr,
    sparse: bool,
    moved: impl Moved<W>,
) -> Result<()> {
    let (first, entries) = {
        let leaf = leaf::read(w, at, sparse)?;
        if leaf.live > MAX_SPARSE {
            return Ok(());
        }
        (leaf.first, leaf.entries())
    };
    if entries.len() > MAX_SPARSE {
        return Err(Error::corrupt("a dict leaf that counts its entries wrong", at));
    }
    let path = path_to(w, rec, first / SPAN)?;
    if path.pointer & ADDR != at.0 {
        return Err(Error::corrupt("a dict leaf under the wrong number", at));
    }
    if entries.is_empty() {
        unlink(w, rec, &path)?;
        return heap::free(w, at);
    }
    let plain: Vec<DictEntry> = entries.iter().map(|e| e.0).collect();
    let (pointer, locs) = leaf::write(w, first / SPAN, &plain, false)?;
    for ((e, old), new) in entries.iter().zip(&locs) {
        moved(w, rec, key::hash_word(w, e.key)?, *old, *new)?;
    }
    relink(w, rec, &path, pointer)?;
    heap::free(w, at)
}

/// Return the first leaf with a number of at least `from` under a pointer whose leaves begin at `base`.
fn seek<P: Pages>(p: &P, pointer: u64, height: u32, from: u64) -> Result<Option<(u64, u64)>> {
    if height == 0 {
        return Ok(Some((0, pointer)));
    }
    let span = reach(height - 1);
    let b = p.bytes(Addr(pointer & ADDR), NODE)?;
    let start = from / span;
    for i in start..FAN {
        let child = word_in(b, i as usize * 8);
        if child == 0 {
            continue;
        }
        let below = if i == start { from % span } else { 0 };
        match seek(p, child, height - 1, below)? {
            Some((number, leaf)) => return Ok(Some((number.saturating_add(i.saturating_mul(span)), leaf))),
            // Only a node on the path to `from` can have no match: elsewhere it would be empty.
            None if i != start => {
                return Err(Error::corrupt("an empty node in a dict log", Addr(child & ADDR)));
            }
            None => {}
        }
    }
    Ok(None)
}

/// Return the last leaf with a number of at most `to`.
fn seek_back<P: Pages>(p: &P, pointer: u64, height: u32, to: u64) -> Result<Option<(u64, u64)>> {
    if height == 0 {
        return Ok(Some((0, pointer)));
    }
    let span = reach(height - 1);
    let b = p.bytes(Addr(pointer & ADDR), NODE)?;
    let start = (to / span).min(FAN - 1);
    for i in (0..=start).rev() {
        let child = word_in(b, i as usize * 8);
        if child == 0 {
            continue;
        }
        let below = if i == to / span { to % span } else { span - 1 };
        match seek_back(p, child, height - 1, below)? {
            Some((number, leaf)) => return Ok(Some((number.saturating_add(i.saturating_mul(span)), leaf))),
            None if i != start => {
                return Err(Error::corrupt("an empty node in a dict log", Addr(child & ADDR)));
            }
            None => {}
        }
    }
    Ok(None)
}

/// Return the entry after a sequence number.
pub(in crate::object::dict) fn next<P: Pages>(
    p: &P,
    rec: &DictRecord,
    after: u64,
) -> Result<Option<DictEntry>> {
    let height = height_of(rec.log, rec.at)?;
    let mut from = after.saturating_add(1) / SPAN;
    // At most three: the leaf of the cursor, the next one, and a tail that may be empty.
    for _ in 0..3 {
        if rec.log & ADDR == 0 || from >= reach(height) {
            return Ok(None);
        }
        let Some((number, pointer)) = seek(p, rec.log & (ADDR | SPARSE), height, from)? else {
            return Ok(None);
        };
        if let Some(e) = leaf::read_numbered(p, number, pointer)?.after(after) {
            return Ok(Some(e));
        }
        from = number + 1;
    }
    Err(Error::corrupt("empty leaves in a dict log", rec.at))
}

/// Return the entry before a sequence number.
pub(in crate::object::dict) fn prev<P: Pages>(
    p: &P,
    rec: &DictRecord,
    before: u64,
) -> Result<Option<DictEntry>> {
    let height = height_of(rec.log, rec.at)?;
    let mut to = before / SPAN;
    for _ in 0..3 {
        if rec.log & ADDR == 0 {
            return Ok(None);
        }
        let to_here = to.min(reach(height) - 1);
        let Some((number, pointer)) = seek_back(p, rec.log & (ADDR | SPARSE), height, to_here)? else {
            return Ok(None);
        };
        if let Some(e) = leaf::read_numbered(p, number, pointer)?.before(before) {
            return Ok(Some(e));
        }
        match number.checked_sub(1) {
            Some(n) => to = n,
            None => return Ok(None),
        }
    }
    Err(Error::corrupt("empty leaves in a dict log", rec.at))
}

/// A part of the log, as passed to the callback of `visit`.
pub(in crate::object::dict) enum Part {
    /// A node and its size.
    Node(Addr, usize),
    /// A leaf, its size, its entry count, and its entries.
    Leaf(Addr, usize, usize, Vec<(DictEntry, LogPosition)>),
}

/// Call the callback with every segment of the log in order, parents first. Returns an error after `limit`.
pub(in crate::object::dict) fn visit<P: Pages>(
    p: &P,
    rec: &DictRecord,
    limit: u64,
    f: &mut dyn FnMut(Part) -> Result<()>,
) -> Result<()> {
    let height = height_of(rec.log, rec.at)?;
    if rec.log & ADDR == 0 {
        return Ok(());
    }
    let mut left = limit;
    visit_under(p, rec.log & (ADDR | SPARSE), height, 0, &mut left, f)
}

fn visit_under<P: Pages>(
    p: &P,
    pointer: u64,
    height: u32,
    base: u64,
    left: &mut u64,
    f: &mut dyn FnMut(Part) -> Result<()>,
) -> Result<()> {
    let at = Addr(pointer & ADDR);
    *left = left
        .checked_sub(1)
        .ok_or_else(|| Error::corrupt("a dict log with too many parts", at))?;
    if height == 0 {
        let leaf = leaf::read_numbered(p, base, pointer)?;
        return f(Part::Leaf(at, leaf.size(), leaf.live, leaf.entries()));
    }
    f(Part::Node(at, NODE))?;
    let b = p.bytes(at, NODE)?;
    for i in 0..FAN {
        let child = word_in(b, i as usize * 8);
        if child != 0 {
            let base = base.saturating_add(i.saturating_mul(reach(height - 1)));
            visit_under(p, child, height - 1, base, left, f)?;
        }
    }
    Ok(())
}

/// A leaf's number and pointer, or the loss of the path to some leaves.
pub(in crate::object::dict) type Found = std::result::Result<(u64, u64), Lost>;

/// Call the callback with the leaves that can be reached, in order, and with the losses: for salvage. See
/// `object::salvage`.
pub(in crate::object::dict) fn each_leaf<P: Pages>(
    p: &P,
    rec: &DictRecord,
    fresh: Fresh<'_>,
    f: &mut dyn FnMut(Found) -> Result<()>,
) -> Result<()> {
    match height_of(rec.log, rec.at) {
        Err(e) => f(Err(Lost::of(&e, rec.at))),
        Ok(_) if rec.log & ADDR == 0 => Ok(()),
        Ok(height) => each_leaf_under(p, rec.log & (ADDR | SPARSE), height, 0, fresh, f),
    }
}

/// Do the work of `each_leaf` for one pointer. The depth is bounded by `MAX_HEIGHT`.
fn each_leaf_under<P: Pages>(
    p: &P,
    pointer: u64,
    height: u32,
    base: u64,
    fresh: Fresh<'_>,
    f: &mut dyn FnMut(Found) -> Result<()>,
) -> Result<()> {
    let at = Addr(pointer & ADDR);
    if !fresh(at) {
        return f(Err(Lost::twice(at)));
    }
    if height == 0 {
        return f(Ok((base, pointer)));
    }
    let b = match p.bytes(at, NODE) {
        Ok(b) => b,
        Err(e) => return f(Err(Lost::of(&e, at))),
    };
    for i in 0..FAN {
        let child = word_in(b, i as usize * 8);
        if child != 0 {
            let base = base.saturating_add(i.saturating_mul(reach(height - 1)));
            each_leaf_under(p, child, height - 1, base, fresh, f)?;
        }
    }
    Ok(())
}
