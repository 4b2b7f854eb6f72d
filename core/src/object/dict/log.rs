//! The entry log of a large dict: the entries in insertion order, in leaves of consecutive sequence
//! numbers, under a radix tree by leaf number (sequence number / `SPAN`).
//!
//! Invariants:
//! 1. An entry lies in leaf number seq / `SPAN`. In a dense leaf its position is seq % `SPAN`; a
//!    sparse leaf holds up to `MAX_SPARSE` entries that are left of a leaf, in order, with their
//!    numbers.
//! 2. No leaf but the tail, the dense one that appends go to, is without entries, and no node is
//!    without children: what becomes empty is freed. So a walk never searches.
//! 3. A dense leaf other than the tail has more than `MAX_SPARSE` entries, a wide sparse one more
//!    than `MIN_SPARSE`: removal re-writes the leaf smaller when it gets there. Only then does an
//!    entry move; the index is told.
//!
//! Leaf:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | first sequence number: leaf number * `SPAN` |
//! | 8 | 2 | live: entries in it |
//! | 10 | 2 | capacity: `SPAN` (dense), `MAX_SPARSE` or `MIN_SPARSE` (sparse) |
//! | 12 | 4 | 0 |
//! | 16 | 16 n | dense: key word, value word; key 0: no entry |
//! | 16 | 24 n | sparse: key word, value word, sequence number; key 0: no entry |
//!
//! Node: `FAN` pointers of 8 bytes. A pointer is a 48-bit address, bit 48 set for a sparse leaf,
//! 0 for no child; the root pointer has the height (0: a leaf) in its top byte.

use super::index;
use super::large::Rec;
use super::{Ent, put, word_in};
use crate::error::{Error, Result};
use crate::heap::{self, MAX_SEGMENT};
use crate::ids::Addr;
use crate::object::key;
use crate::object::word::Word;
use crate::page::access::{Pages, PagesMut};

const HEADER: usize = 16;
/// Entries of a dense leaf, and sequence numbers of any leaf.
pub(super) const SPAN: u64 = 251;
/// Entries of a wide and of a narrow sparse leaf.
const MAX_SPARSE: usize = 32;
/// See `MAX_SPARSE`.
const MIN_SPARSE: usize = 4;
/// Children of a node.
const FAN: u64 = 126;
const NODE: usize = FAN as usize * 8;
/// Levels of nodes that 64-bit sequence numbers can need.
const MAX_HEIGHT: u32 = 9;
const ADDR: u64 = Addr::MAX;
const SPARSE: u64 = 1 << 48;

const _: () = assert!(HEADER + SPAN as usize * 16 <= MAX_SEGMENT);

/// Where an entry lies: what the index stores of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Loc(u64);

impl Loc {
    fn new(leaf: Addr, sparse: bool, pos: usize) -> Loc {
        let entry = leaf.0 + (HEADER + pos * stride(sparse)) as u64;
        Loc(entry & ADDR | (pos as u64) << 48 | u64::from(sparse) << 56)
    }

    /// From the form in which the index stores it.
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Loc {
        Loc(bits)
    }

    /// The form in which the index stores it: never 0.
    #[inline]
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// The entry's address: key word, value word.
    #[inline]
    pub(super) fn addr(self) -> Addr {
        Addr(self.0 & ADDR)
    }

    fn sparse(self) -> bool {
        self.0 >> 56 & 1 != 0
    }

    fn pos(self) -> usize {
        (self.0 >> 48 & 0xff) as usize
    }

    fn leaf(self) -> Addr {
        Addr(
            self.addr()
                .0
                .wrapping_sub((HEADER + self.pos() * stride(self.sparse())) as u64),
        )
    }
}

#[inline]
const fn stride(sparse: bool) -> usize {
    if sparse { 24 } else { 16 }
}

/// A leaf read and checked.
struct Leaf<'a> {
    at: Addr,
    b: &'a [u8],
    first: u64,
    live: usize,
    cap: usize,
    sparse: bool,
}

fn leaf<P: Pages>(p: &P, at: Addr, sparse: bool) -> Result<Leaf<'_>> {
    let counts = p.u64_at(at + 8)?;
    let (live, cap) = ((counts & 0xffff) as usize, (counts >> 16 & 0xffff) as usize);
    let fits = if sparse {
        cap == MAX_SPARSE || cap == MIN_SPARSE
    } else {
        cap == SPAN as usize
    };
    if !fits || live > cap {
        return Err(Error::corrupt("a dict leaf with impossible counts", at));
    }
    let b = p.bytes(at, HEADER + cap * stride(sparse))?;
    Ok(Leaf {
        at,
        b,
        first: word_in(b, 0),
        live,
        cap,
        sparse,
    })
}

impl Leaf<'_> {
    fn ent(&self, pos: usize) -> Option<Ent> {
        let at = HEADER + pos * stride(self.sparse);
        let key = Word(word_in(self.b, at));
        let seq = if self.sparse {
            word_in(self.b, at + 16)
        } else {
            self.first.wrapping_add(pos as u64)
        };
        (!key.is_empty()).then(|| Ent {
            seq,
            key,
            value: Word(word_in(self.b, at + 8)),
        })
    }

    /// The first entry after a sequence number.
    fn after(&self, seq: u64) -> Option<Ent> {
        let from = if self.sparse { 0 } else { skip(seq, self.first) };
        (from..self.cap).filter_map(|i| self.ent(i)).find(|e| e.seq > seq)
    }

    /// The last entry before a sequence number.
    fn before(&self, seq: u64) -> Option<Ent> {
        let to = if self.sparse {
            self.cap as u64
        } else {
            seq.saturating_sub(self.first).min(self.cap as u64)
        };
        (0..to as usize)
            .rev()
            .filter_map(|i| self.ent(i))
            .find(|e| e.seq < seq)
    }

    fn entries(&self) -> Vec<(Ent, Loc)> {
        (0..self.cap)
            .filter_map(|i| Some((self.ent(i)?, Loc::new(self.at, self.sparse, i))))
            .collect()
    }
}

/// The position in a dense leaf from which to look for entries after `seq`.
fn skip(seq: u64, first: u64) -> usize {
    if seq < first {
        0
    } else {
        (seq - first + 1).min(SPAN) as usize
    }
}

fn set_counts<W: PagesMut>(w: &mut W, at: Addr, live: usize, cap: usize) -> Result<()> {
    w.set_u64(at + 8, live as u64 | (cap as u64) << 16)
}

/// A new leaf with these entries: its pointer, and where each entry lies.
fn write_leaf<W: PagesMut>(w: &mut W, number: u64, entries: &[Ent], dense: bool) -> Result<(u64, Vec<Loc>)> {
    let sparse = !dense;
    let cap = match (dense, entries.len() <= MIN_SPARSE) {
        (true, _) => SPAN as usize,
        (false, true) => MIN_SPARSE,
        (false, false) => MAX_SPARSE,
    };
    let size = HEADER + cap * stride(sparse);
    let at = heap::alloc(w, size)?;
    let b = w.init(at, size)?;
    b.fill(0);
    let first = number * SPAN;
    put(b, 0, first);
    put(b, 8, entries.len() as u64 | (cap as u64) << 16);
    let mut locs = Vec::with_capacity(entries.len());
    for (i, e) in entries.iter().enumerate() {
        let pos = if dense {
            e.seq.wrapping_sub(first) as usize
        } else {
            i
        };
        if pos >= cap || e.seq / SPAN != number {
            return Err(Error::corrupt("a dict entry with an impossible number", at));
        }
        let entry = HEADER + pos * stride(sparse);
        put(b, entry, e.key.0);
        put(b, entry + 8, e.value.0);
        if sparse {
            put(b, entry + 16, e.seq);
        }
        locs.push(Loc::new(at, sparse, pos));
    }
    Ok((at.0 | if sparse { SPARSE } else { 0 }, locs))
}

/// Leaf numbers under a tree of this height.
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

/// The path to a leaf's pointer: where each pointer on it is stored, the root's first.
struct Path {
    at: [Addr; MAX_HEIGHT as usize + 1],
    len: usize,
    pointer: u64,
}

/// Finds the pointer of a leaf that is there.
fn path_to<P: Pages>(p: &P, rec: &Rec, number: u64) -> Result<Path> {
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

/// Stores the pointer of a leaf number that has none yet, with the nodes that lead there.
fn link<W: PagesMut>(w: &mut W, rec: &mut Rec, number: u64, pointer: u64) -> Result<()> {
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
        // The only leaf: a chain of nodes from the root to it.
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

/// Stores another pointer for a leaf.
fn relink<W: PagesMut>(w: &mut W, rec: &mut Rec, path: &Path, pointer: u64) -> Result<()> {
    if path.len == 1 {
        return rec.set_log(w, pointer);
    }
    w.set_u64(path.at[path.len - 1], pointer)
}

/// Takes a leaf's pointer away and frees the nodes this empties.
fn unlink<W: PagesMut>(w: &mut W, rec: &mut Rec, path: &Path) -> Result<()> {
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

/// Appends an entry with the next sequence number; where it lies.
pub(super) fn append<W: PagesMut>(w: &mut W, rec: &mut Rec, key: Word, value: Word) -> Result<Loc> {
    let seq = rec.next;
    let number = seq / SPAN;
    if !rec.tail.is_null() {
        let (first, live) = {
            let tail = leaf(w, rec.tail, false)?;
            (tail.first, tail.live)
        };
        if first == number * SPAN {
            if live as u64 >= SPAN {
                return Err(Error::corrupt(
                    "a dict leaf that counts its entries wrong",
                    rec.tail,
                ));
            }
            let loc = Loc::new(rec.tail, false, (seq - first) as usize);
            let mut b = [0; 16];
            put(&mut b, 0, key.0);
            put(&mut b, 8, value.0);
            w.set_bytes(loc.addr(), &b)?;
            set_counts(w, rec.tail, live + 1, SPAN as usize)?;
            return Ok(loc);
        }
        let old = rec.tail;
        rec.set_tail(w, Addr::NULL)?;
        tidy(w, rec, old, false)?;
    }
    let (pointer, locs) = write_leaf(w, number, &[Ent { seq, key, value }], true)?;
    link(w, rec, number, pointer)?;
    rec.set_tail(w, Addr(pointer & ADDR))?;
    Ok(locs[0])
}

/// Adds a leaf with entries of one leaf number, beyond all leaves there are; `tail` makes it the
/// one that appends go to. Where the entries lie.
pub(super) fn add_leaf<W: PagesMut>(
    w: &mut W,
    rec: &mut Rec,
    entries: &[Ent],
    tail: bool,
) -> Result<Vec<Loc>> {
    let number = entries.first().map_or(0, |e| e.seq / SPAN);
    let (pointer, locs) = write_leaf(w, number, entries, tail || entries.len() > MAX_SPARSE)?;
    link(w, rec, number, pointer)?;
    if tail {
        rec.set_tail(w, Addr(pointer & ADDR))?;
    }
    Ok(locs)
}

/// Removes the entry at `loc`, which the index has forgotten already.
pub(super) fn remove<W: PagesMut>(w: &mut W, rec: &mut Rec, loc: Loc) -> Result<()> {
    let at = loc.leaf();
    let (live, cap) = {
        let leaf = leaf(w, at, loc.sparse())?;
        if loc.pos() >= leaf.cap || leaf.ent(loc.pos()).is_none() || leaf.live == 0 {
            return Err(Error::corrupt("a dict entry that its leaf does not have", at));
        }
        (leaf.live - 1, leaf.cap)
    };
    w.set_bytes(loc.addr(), &[0; 16])?;
    set_counts(w, at, live, cap)?;
    let full_enough = live > MAX_SPARSE || loc.sparse() && live > MIN_SPARSE || live > 0 && cap == MIN_SPARSE;
    if full_enough || at == rec.tail {
        return Ok(());
    }
    tidy(w, rec, at, loc.sparse())
}

/// Frees a leaf that is empty, re-writes one that has become sparse (invariants 2 and 3).
fn tidy<W: PagesMut>(w: &mut W, rec: &mut Rec, at: Addr, sparse: bool) -> Result<()> {
    let (first, entries) = {
        let leaf = leaf(w, at, sparse)?;
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
    let plain: Vec<Ent> = entries.iter().map(|e| e.0).collect();
    let (pointer, locs) = write_leaf(w, first / SPAN, &plain, false)?;
    for ((e, old), new) in entries.iter().zip(&locs) {
        index::relocate(w, rec, key::hash_word(w, e.key)?, *old, *new)?;
    }
    relink(w, rec, &path, pointer)?;
    heap::free(w, at)
}

/// The first leaf with a number of at least `from` under a pointer whose leaves begin at `base`.
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
            // Only on the way to `from` can a node have nothing: elsewhere it would be empty.
            None if i != start => {
                return Err(Error::corrupt("an empty node in a dict log", Addr(child & ADDR)));
            }
            None => {}
        }
    }
    Ok(None)
}

/// The last leaf with a number of at most `to`.
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

/// The leaf of a number and pointer found in the tree.
fn numbered_leaf<P: Pages>(p: &P, number: u64, pointer: u64) -> Result<Leaf<'_>> {
    let leaf = leaf(p, Addr(pointer & ADDR), pointer & SPARSE != 0)?;
    if number.checked_mul(SPAN) != Some(leaf.first) {
        return Err(Error::corrupt("a dict leaf under the wrong number", leaf.at));
    }
    Ok(leaf)
}

/// The entry after a sequence number.
pub(super) fn next<P: Pages>(p: &P, rec: &Rec, after: u64) -> Result<Option<Ent>> {
    let height = height_of(rec.log, rec.at)?;
    let mut from = after.saturating_add(1) / SPAN;
    // The leaf of the cursor, the next one, and a tail that may be empty.
    for _ in 0..3 {
        if rec.log & ADDR == 0 || from >= reach(height) {
            return Ok(None);
        }
        let Some((number, pointer)) = seek(p, rec.log & (ADDR | SPARSE), height, from)? else {
            return Ok(None);
        };
        if let Some(e) = numbered_leaf(p, number, pointer)?.after(after) {
            return Ok(Some(e));
        }
        from = number + 1;
    }
    Err(Error::corrupt("empty leaves in a dict log", rec.at))
}

/// The entry before a sequence number.
pub(super) fn prev<P: Pages>(p: &P, rec: &Rec, before: u64) -> Result<Option<Ent>> {
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
        if let Some(e) = numbered_leaf(p, number, pointer)?.before(before) {
            return Ok(Some(e));
        }
        match number.checked_sub(1) {
            Some(n) => to = n,
            None => return Ok(None),
        }
    }
    Err(Error::corrupt("empty leaves in a dict log", rec.at))
}

/// What `visit` shows of the log.
pub(super) enum Part {
    /// A node and its size.
    Node(Addr, usize),
    /// A leaf, its size, what it counts, and its entries.
    Leaf(Addr, usize, usize, Vec<(Ent, Loc)>),
}

/// Shows every segment of the log in order, parents first. Ends with an error after `limit`.
pub(super) fn visit<P: Pages>(
    p: &P,
    rec: &Rec,
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
        let leaf = numbered_leaf(p, base, pointer)?;
        return f(Part::Leaf(
            at,
            HEADER + leaf.cap * stride(leaf.sparse),
            leaf.live,
            leaf.entries(),
        ));
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

/// The key and value words of an entry.
#[inline]
pub(super) fn words<P: Pages>(p: &P, loc: Loc) -> Result<(Word, Word)> {
    let b = p.bytes(loc.addr(), 16)?;
    Ok((Word(word_in(b, 0)), Word(word_in(b, 8))))
}
