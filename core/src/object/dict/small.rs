//! The small dict body: one segment with a tag of one byte and an entry of two words for each key, in
//! insertion order.
//!
//! Invariants:
//! 1. Entries `0..used` have been written; a removed one has the key `Word::REMOVED` and tag 0. `live` of
//!    them are not removed, and an empty body is freed.
//! 2. The numbering of a dense body has no gaps: entry i has sequence number `next - used + i`. A sparse
//!    body, made if compaction left gaps, stores the number with the entry.
//! 3. Sequence numbers ascend with the position and are below `next`.
//!
//! With n = capacity (from `header::FORM`) and t = n rounded up to 8:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | next: the sequence number of the next entry |
//! | 8 | 2 | used |
//! | 10 | 2 | live |
//! | 12 | 4 | 0 |
//! | 16 | t | tags: the hash's top byte, 0 taken as 1; 0 for none |
//! | 16 + t | 16 n | dense: key word, value word |
//! | 16 + t | 24 n | sparse: key word, value word, sequence number |

use super::entry::{DictEntry, put, word_in};
use super::head::{FORM_LARGE, Found, Head, Place};
use super::shape::{MAX_DENSE, MAX_SPARSE, Shape, TAGS};
use crate::error::{Error, Result};
use crate::heap::{self};
use crate::ids::Addr;
use crate::object::dict::large::body as large;
use crate::object::key;
use crate::object::word::Word;
use crate::page::access::{Pages, PagesMut};
/// Room for the first entries.
const FIRST: usize = 3;

/// A checked small body.
struct View<'a> {
    at: Addr,
    shape: Shape,
    b: &'a [u8],
    next: u64,
    used: usize,
    live: usize,
}

#[inline]
fn view<P: Pages>(p: &P, at: Addr, shape: Shape) -> Result<View<'_>> {
    let b = p.bytes(at, shape.size())?;
    let counts = word_in(b, 8);
    let v = View {
        at,
        shape,
        b,
        next: word_in(b, 0),
        used: (counts & 0xffff) as usize,
        live: (counts >> 16 & 0xffff) as usize,
    };
    if v.used > shape.cap || v.live > v.used || v.next <= v.used as u64 || v.next == u64::MAX {
        return Err(Error::corrupt("a dict body with impossible counts", at));
    }
    Ok(v)
}

impl View<'_> {
    #[inline]
    fn key(&self, i: usize) -> Word {
        Word(word_in(self.b, self.shape.entry(i)))
    }

    #[inline]
    fn value(&self, i: usize) -> Word {
        Word(word_in(self.b, self.shape.entry(i) + 8))
    }

    #[inline]
    fn seq(&self, i: usize) -> u64 {
        if self.shape.sparse {
            word_in(self.b, self.shape.entry(i) + 16)
        } else {
            self.next - self.used as u64 + i as u64
        }
    }

    #[inline]
    fn entry_at(&self, i: usize) -> Addr {
        self.at + self.shape.entry(i) as u64
    }

    fn ent(&self, i: usize) -> DictEntry {
        DictEntry {
            seq: self.seq(i),
            key: self.key(i),
            value: self.value(i),
        }
    }

    fn found(&self, i: usize) -> Found {
        Found {
            key: self.key(i),
            value: self.value(i),
            value_at: self.entry_at(i) + 8,
            place: Place::Small(i),
        }
    }

    /// Return the first position whose sequence number is at least `seq`.
    fn position(&self, seq: u64) -> usize {
        if !self.shape.sparse {
            return seq.saturating_sub(self.seq(0)).min(self.used as u64) as usize;
        }
        let (mut low, mut high) = (0, self.used);
        while low < high {
            let mid = (low + high) / 2;
            if self.seq(mid) < seq {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        low
    }
}

/// Return the tag of a hash.
#[inline]
pub(in crate::object) fn tag(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

/// Call `f` with the positions below `used` that may have this tag, until it returns a value. Compares eight
/// tags at a time: the borrow of the subtraction also reports a tag that follows a match and differs from it in
/// the lowest bit only. So `f` compares the entry itself.
#[inline]
pub(in crate::object) fn scan_tags<T>(
    tags: &[u8],
    used: usize,
    tag: u8,
    mut f: impl FnMut(usize) -> Result<Option<T>>,
) -> Result<Option<T>> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let pattern = LOW * u64::from(tag);
    for base in (0..used).step_by(8) {
        let x = word_in(tags, base) ^ pattern;
        let mut hits = x.wrapping_sub(LOW) & !x & HIGH;
        while hits != 0 {
            let i = base + hits.trailing_zeros() as usize / 8;
            if i < used
                && let Some(t) = f(i)?
            {
                return Ok(Some(t));
            }
            hits &= hits - 1;
        }
    }
    Ok(None)
}

/// Return the entry with this hash for whose key and value `is` holds.
#[inline]
pub(super) fn find<P: Pages>(
    p: &P,
    at: Addr,
    shape: Shape,
    hash: u64,
    mut is: impl FnMut(Word, Word) -> Result<bool>,
) -> Result<Option<Found>> {
    let v = view(p, at, shape)?;
    scan_tags(&v.b[TAGS..], v.used, tag(hash), |i| {
        let key = v.key(i);
        Ok((!key.is_empty() && is(key, v.value(i))?).then(|| v.found(i)))
    })
}

/// Return the entry with this sequence number.
pub(super) fn at_seq<P: Pages>(p: &P, at: Addr, shape: Shape, seq: u64) -> Result<Option<Found>> {
    let v = view(p, at, shape)?;
    let i = v.position(seq);
    Ok((i < v.used && v.seq(i) == seq && !v.key(i).is_empty()).then(|| v.found(i)))
}

/// Return the entry after a sequence number.
pub(super) fn next<P: Pages>(p: &P, at: Addr, shape: Shape, after: u64) -> Result<Option<DictEntry>> {
    let v = view(p, at, shape)?;
    let Some(from) = after.checked_add(1) else {
        return Ok(None);
    };
    // Numbers that do not ascend (a damaged file) must not make a walk endless.
    Ok((v.position(from)..v.used)
        .map(|i| v.ent(i))
        .find(|e| !e.key.is_empty() && e.seq > after))
}

/// Return the entry before a sequence number.
pub(super) fn prev<P: Pages>(p: &P, at: Addr, shape: Shape, before: u64) -> Result<Option<DictEntry>> {
    let v = view(p, at, shape)?;
    Ok((0..v.position(before))
        .rev()
        .map(|i| v.ent(i))
        .find(|e| !e.key.is_empty() && e.seq < before))
}

/// Return the number of entries.
pub(super) fn len<P: Pages>(p: &P, at: Addr, shape: Shape) -> Result<u64> {
    Ok(view(p, at, shape)?.live as u64)
}

/// Return the entries, in order.
pub(super) fn entries<P: Pages>(p: &P, at: Addr, shape: Shape) -> Result<Vec<DictEntry>> {
    let v = view(p, at, shape)?;
    Ok((0..v.used)
        .map(|i| v.ent(i))
        .filter(|e| !e.key.is_empty())
        .collect())
}

/// Return the keys and values of all non-empty places, whatever the counts are; for salvage.
pub(super) fn all_places<P: Pages>(p: &P, at: Addr, shape: Shape) -> Result<Vec<(Word, Word)>> {
    let b = p.bytes(at, shape.size())?;
    let words = |i| {
        (
            Word(word_in(b, shape.entry(i))),
            Word(word_in(b, shape.entry(i) + 8)),
        )
    };
    Ok((0..shape.cap)
        .map(words)
        .filter(|(key, _)| !key.is_empty())
        .collect())
}

/// Return the counts, for `verify`: (next, used, live), and the tags.
pub(super) fn parts<P: Pages>(p: &P, at: Addr, shape: Shape) -> Result<(u64, usize, usize, &[u8])> {
    let v = view(p, at, shape)?;
    Ok((v.next, v.used, v.live, &v.b[TAGS..TAGS + v.used]))
}

/// Free the segment.
pub(super) fn free<W: PagesMut>(w: &mut W, at: Addr) -> Result<()> {
    heap::free(w, at)
}

/// Create the body of an empty dict for its first entry. Return the number of entries.
pub(super) fn create<W: PagesMut>(
    w: &mut W,
    head: &mut Head,
    key: Word,
    hash: u64,
    value: Word,
) -> Result<u64> {
    let seq = head.first_seq();
    let (form, body) = build_tagged(w, &[(DictEntry { seq, key, value }, tag(hash))], seq + 1, FIRST)?;
    head.set_body(w, form, body)?;
    Ok(1)
}

/// Append an entry. Return the number of entries.
pub(super) fn insert<W: PagesMut>(
    w: &mut W,
    head: &mut Head,
    shape: Shape,
    key: Word,
    hash: u64,
    value: Word,
) -> Result<u64> {
    let v = view(w, head.body, shape)?;
    let (at, next, used, live) = (v.at, v.next, v.used, v.live);
    if used == shape.cap {
        return grow(
            w,
            head,
            shape,
            DictEntry {
                seq: next,
                key,
                value,
            },
            hash,
        );
    }
    let mut entry = [0; 24];
    put(&mut entry, 0, key.0);
    put(&mut entry, 8, value.0);
    put(&mut entry, 16, next);
    w.set_bytes(at + shape.entry(used) as u64, &entry[..shape.stride()])?;
    w.set_bytes(at + (TAGS + used) as u64, &[tag(hash)])?;
    set_counts(w, at, next + 1, used + 1, live + 1)?;
    Ok(live as u64 + 1)
}

fn set_counts<W: PagesMut>(w: &mut W, at: Addr, next: u64, used: usize, live: usize) -> Result<()> {
    let mut b = [0; 16];
    put(&mut b, 0, next);
    put(&mut b, 8, used as u64 | (live as u64) << 16);
    w.set_bytes(at, &b)
}

/// Append an entry to a full body: create a bigger one, a compacted one, or a large body.
#[cold]
fn grow<W: PagesMut>(w: &mut W, head: &mut Head, shape: Shape, new: DictEntry, hash: u64) -> Result<u64> {
    let old = head.body;
    let mut entries = tagged_entries(w, old, shape)?;
    entries.push((new, tag(hash)));
    let next = new
        .seq
        .checked_add(1)
        .ok_or_else(|| Error::corrupt("a dict that used up its numbers", old))?;
    let max = if is_dense(&entries, next) {
        MAX_DENSE
    } else {
        MAX_SPARSE
    };
    let (form, body) = if entries.len() + entries.len() / 8 > max {
        // Compaction would leave so little room that the next one would follow at once.
        let mut hashed = Vec::with_capacity(entries.len());
        for &(e, _) in &entries {
            hashed.push((e, key::hash_word(w, e.key)?));
        }
        (FORM_LARGE, large::build(w, &hashed, next)?)
    } else {
        let room = (entries.len() + entries.len() / 2).clamp(entries.len(), max);
        build_tagged(w, &entries, next, room)?
    };
    heap::free(w, old)?;
    head.set_body(w, form, body)?;
    Ok(entries.len() as u64)
}

fn tagged_entries<P: Pages>(p: &P, at: Addr, shape: Shape) -> Result<Vec<(DictEntry, u8)>> {
    let v = view(p, at, shape)?;
    let mut out = Vec::with_capacity(v.live + 1);
    for i in 0..v.used {
        let e = v.ent(i);
        if !e.key.is_empty() {
            out.push((e, v.b[TAGS + i]));
        }
    }
    if out.len() != v.live {
        return Err(Error::corrupt("a dict body that counts its entries wrong", at));
    }
    Ok(out)
}

/// Return whether the entries are numbered without a gap up to `next`.
fn is_dense(entries: &[(DictEntry, u8)], next: u64) -> bool {
    entries
        .first()
        .is_none_or(|(e, _)| e.seq.checked_add(entries.len() as u64) == Some(next))
}

/// Create a body that holds these entries, with room for `room`. Return its form and address.
pub(super) fn build<W: PagesMut>(
    w: &mut W,
    entries: &[DictEntry],
    next: u64,
    room: usize,
) -> Result<(u16, Addr)> {
    let mut tagged = Vec::with_capacity(entries.len());
    for &e in entries {
        tagged.push((e, tag(key::hash_word(w, e.key)?)));
    }
    build_tagged(w, &tagged, next, room)
}

fn build_tagged<W: PagesMut>(
    w: &mut W,
    entries: &[(DictEntry, u8)],
    next: u64,
    room: usize,
) -> Result<(u16, Addr)> {
    let sparse = !is_dense(entries, next);
    let max = if sparse { MAX_SPARSE } else { MAX_DENSE };
    if entries.len() > max {
        return Err(Error::invalid("too many entries for a small dict body"));
    }
    let wanted = Shape {
        cap: room.clamp(1, max),
        sparse,
    };
    let at = heap::alloc(w, wanted.size())?;
    let shape = Shape::fitting(sparse, heap::size_of(w, at)?);
    let b = w.init(at, shape.size())?;
    b.fill(0);
    put(b, 0, next);
    put(b, 8, entries.len() as u64 | (entries.len() as u64) << 16);
    for (i, (e, tag)) in entries.iter().enumerate() {
        b[TAGS + i] = *tag;
        let entry = shape.entry(i);
        put(b, entry, e.key.0);
        put(b, entry + 8, e.value.0);
        if sparse {
            put(b, entry + 16, e.seq);
        }
    }
    Ok((shape.form(), at))
}

/// Remove entry `i`, and free the body with the last one. Return the number of entries left.
pub(super) fn remove<W: PagesMut>(w: &mut W, head: &mut Head, shape: Shape, i: usize) -> Result<u64> {
    let v = view(w, head.body, shape)?;
    let (at, next, used) = (v.at, v.next, v.used);
    let Some(live) = v.live.checked_sub(1) else {
        return Err(Error::corrupt("a dict body that counts its entries wrong", at));
    };
    if live == 0 {
        head.set_body(w, head.form_when_empty(next), Addr::NULL)?;
        heap::free(w, at)?;
        return Ok(0);
    }
    let mut gone = [0; 16];
    put(&mut gone, 0, Word::REMOVED.0);
    w.set_bytes(at + shape.entry(i) as u64, &gone)?;
    w.set_bytes(at + (TAGS + i) as u64, &[0])?;
    set_counts(w, at, next, used, live)?;
    if shape.cap >= 24 && live <= shape.cap / 8 {
        let entries = tagged_entries(w, at, shape)?;
        let (form, body) = build_tagged(w, &entries, next, live + live / 2)?;
        heap::free(w, at)?;
        head.set_body(w, form, body)?;
    }
    Ok(live as u64)
}

/// Convert a large body that has few entries left to a small one. `next`: the sequence number of the next
/// entry.
pub(super) fn from_large<W: PagesMut>(w: &mut W, head: &mut Head, live: u64, next: u64) -> Result<()> {
    let at = head.body;
    let entries = large::entries(w, at, large::SHRINK_TO_SMALL as usize)?;
    if entries.len() as u64 != live {
        return Err(Error::corrupt("a dict that counts its entries wrong", at));
    }
    large::free(w, at)?;
    let (form, body) = if entries.is_empty() {
        (head.form_when_empty(next), Addr::NULL)
    } else {
        build(w, &entries, next, entries.len() + entries.len() / 2)?
    };
    head.set_body(w, form, body)
}
