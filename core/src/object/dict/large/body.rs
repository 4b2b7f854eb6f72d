//! The large dict body: a record that connects the entry log and the hash index.
//!
//! Invariants:
//! 1. Every entry of the log has exactly one slot in the index, under its key's hash, and every slot has an
//!    entry.
//! 2. A body that shrinks to `SHRINK_TO_SMALL` entries becomes a small one (`small::from_large`), so a large one
//!    is never empty, and the conversion is bounded work.
//!
//! Record:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | next: the sequence number of the next entry |
//! | 8 | 8 | live: number of entries |
//! | 16 | 8 | root pointer of the log (`log`) |
//! | 24 | 8 | root pointer of the index (`index`) |
//! | 32 | 8 | the log's tail leaf (0: none) |

use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::dict::entry::DictEntry;
use crate::object::dict::head::Found;
use crate::object::dict::head::Place;
use crate::object::dict::large::index;
use crate::object::dict::large::index::FoundSlot;
use crate::object::dict::large::index_walk;
use crate::object::dict::large::leaf;
use crate::object::dict::large::log;
use crate::object::dict::large::record::DictRecord;
use crate::object::dict::large::record::SIZE;
use crate::object::dict::shape::MAX_DENSE;
use crate::object::word::Word;
use crate::page::access::{Pages, PagesMut};
/// At this many entries a large body becomes small again.
pub(in crate::object::dict) const SHRINK_TO_SMALL: u64 = 64;

/// Return the sequence number of the next entry.
pub(in crate::object::dict) fn next_seq<P: Pages>(p: &P, at: Addr) -> Result<u64> {
    Ok(DictRecord::read(p, at)?.next)
}

/// Return the entry with this hash for whose key and value `is` holds.
#[inline]
pub(in crate::object::dict) fn find<P: Pages>(
    p: &P,
    at: Addr,
    hash: u64,
    mut is: impl FnMut(Word, Word) -> Result<bool>,
) -> Result<Option<Found>> {
    let rec = DictRecord::read(p, at)?;
    let mut words = (Word::EMPTY, Word::EMPTY);
    let spot = index::find(p, &rec, hash, |loc| {
        words = leaf::words(p, loc)?;
        if words.0.is_empty() {
            return Err(Error::corrupt("a dict index that points to no entry", loc.addr()));
        }
        if let Some(child) = words.1.as_container() {
            // The load proceeds while the keys are compared.
            p.prefetch(child);
        }
        is(words.0, words.1)
    })?;
    Ok(spot.map(|spot| Found {
        key: words.0,
        value: words.1,
        value_at: spot.loc.addr() + 8,
        place: Place::Large(spot),
    }))
}

/// Append an entry whose key does not exist. Return the number of entries.
pub(in crate::object::dict) fn insert<W: PagesMut>(
    w: &mut W,
    at: Addr,
    key: Word,
    hash: u64,
    value: Word,
) -> Result<u64> {
    let mut rec = DictRecord::read(w, at)?;
    let (Some(next), Some(live)) = (rec.next.checked_add(1), rec.live.checked_add(1)) else {
        return Err(Error::corrupt("a dict that used up its numbers", at));
    };
    let loc = log::append(w, &mut rec, key, value, index::relocate)?;
    index::insert(w, &mut rec, hash, loc)?;
    rec.set_counts(w, next, live)?;
    Ok(live)
}

/// Create a large body with these entries (ascending sequence numbers; at most a small body's worth), given
/// with their hashes.
pub(in crate::object::dict) fn build<W: PagesMut>(
    w: &mut W,
    entries: &[(DictEntry, u64)],
    next: u64,
) -> Result<Addr> {
    let at = heap::alloc(w, SIZE)?;
    w.init(at, SIZE)?.fill(0);
    let mut rec = DictRecord::read(w, at)?;
    let mut rest = entries;
    while let Some(&(first, _)) = rest.first() {
        let number = first.seq / leaf::SPAN;
        let n = rest
            .iter()
            .take_while(|(e, _)| e.seq / leaf::SPAN == number)
            .count();
        let (here, others) = rest.split_at(n);
        let plain: Vec<DictEntry> = here.iter().map(|(e, _)| *e).collect();
        let locs = log::add_leaf(w, &mut rec, &plain, number == next / leaf::SPAN)?;
        for ((_, hash), loc) in here.iter().zip(locs) {
            index::insert(w, &mut rec, *hash, loc)?;
        }
        rest = others;
    }
    rec.set_counts(w, next, entries.len() as u64)?;
    Ok(at)
}

/// Remove an entry that was found. Return the number of entries left, and the sequence number of the next
/// one.
pub(in crate::object::dict) fn remove<W: PagesMut>(
    w: &mut W,
    at: Addr,
    spot: FoundSlot,
    hash: u64,
) -> Result<(u64, u64)> {
    let mut rec = DictRecord::read(w, at)?;
    let Some(live) = rec.live.checked_sub(1) else {
        return Err(Error::corrupt("a dict that counts its entries wrong", at));
    };
    index::remove(w, &mut rec, spot, hash)?;
    log::remove(w, &mut rec, spot.loc, index::relocate)?;
    let next = rec.next;
    rec.set_counts(w, next, live)?;
    Ok((live, next))
}

/// Return the entry after a sequence number.
pub(in crate::object::dict) fn next<P: Pages>(p: &P, at: Addr, after: u64) -> Result<Option<DictEntry>> {
    log::next(p, &DictRecord::read(p, at)?, after)
}

/// Return the entry before a sequence number.
pub(in crate::object::dict) fn prev<P: Pages>(p: &P, at: Addr, before: u64) -> Result<Option<DictEntry>> {
    log::prev(p, &DictRecord::read(p, at)?, before)
}

/// Return the number of entries.
pub(in crate::object::dict) fn len<P: Pages>(p: &P, at: Addr) -> Result<u64> {
    Ok(DictRecord::read(p, at)?.live)
}

/// Return all entries, of which there are at most `max`.
pub(in crate::object::dict) fn entries<P: Pages>(p: &P, at: Addr, max: usize) -> Result<Vec<DictEntry>> {
    let rec = DictRecord::read(p, at)?;
    let mut entries = Vec::new();
    let mut cursor = 0;
    while let Some(e) = log::next(p, &rec, cursor)? {
        if entries.len() == max {
            return Err(Error::corrupt("a dict that counts its entries wrong", at));
        }
        cursor = e.seq;
        entries.push(e);
    }
    Ok(entries)
}

/// Free all segments of a body with few entries, but not the keys.
pub(in crate::object::dict) fn free<W: PagesMut>(w: &mut W, at: Addr) -> Result<()> {
    let rec = DictRecord::read(w, at)?;
    // Each entry needs at most a leaf and the nodes above it, a bucket and the nodes above it.
    let limit = 16 * (rec.live.min(MAX_DENSE as u64) + 1);
    let mut segments = vec![at];
    log::visit(w, &rec, limit, &mut |part| {
        match part {
            log::Part::Node(at, _) | log::Part::Leaf(at, ..) => segments.push(at),
        }
        Ok(())
    })?;
    index_walk::visit(w, &rec, limit, &mut |part| {
        match part {
            index_walk::Part::Node(at, _) | index_walk::Part::Bucket(at, ..) => segments.push(at),
        }
        Ok(())
    })?;
    for segment in segments {
        heap::free(w, segment)?;
    }
    Ok(())
}
