//! Verification of a dict body, for the checker and for tests: every invariant, every segment.
//!
//! To check that the log and the index of a large body have the same entries, it compares sums over both of a
//! hash of each entry's place, under a random key chosen each time. So the memory does not grow with the
//! body.

use super::body_len;
use super::entry::DictEntry;
use super::head::{Form, Head};
use super::shape;
use super::small;
use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::object::dict::large::index;
use crate::object::dict::large::index_walk;
use crate::object::dict::large::log;
use crate::object::dict::large::record;
use crate::object::dict::large::record::DictRecord;
use crate::object::key;
use crate::page::access::Pages;
use std::hash::{BuildHasher, RandomState};

/// Check the whole body of the container at `h`, whose kind allows a dict body, and call `segment` with every
/// segment of it (address and bytes in use; without the keys' scalars). `limit` bounds the work: no store has
/// more parts than it has 16-byte units.
pub fn verify<P: Pages>(
    p: &P,
    h: Addr,
    limit: u64,
    segment: &mut dyn FnMut(Addr, usize) -> Result<()>,
) -> Result<()> {
    let head = Head::read(p, h)?;
    let len = body_len(p, &head)?;
    if head.counted && head.len != len {
        return Err(Error::corrupt("a dict whose header counts its entries wrong", h));
    }
    match head.form()? {
        Form::Empty if !head.body.is_null() => Err(Error::corrupt("an empty dict with a body", h)),
        Form::Empty => Ok(()),
        Form::Small(shape) => verify_small(p, head.body, shape, segment),
        Form::Large => verify_large(p, head.body, limit, segment),
    }
}

fn verify_small<P: Pages>(
    p: &P,
    at: Addr,
    shape: shape::Shape,
    segment: &mut dyn FnMut(Addr, usize) -> Result<()>,
) -> Result<()> {
    segment(at, shape.size())?;
    let (next, used, live, tags) = small::parts(p, at, shape)?;
    let entries = small::entries(p, at, shape)?;
    if entries.len() != live || live == 0 || used > tags.len() {
        return Err(Error::corrupt("a dict body that counts its entries wrong", at));
    }
    check_ascending(&entries, next, at)?;
    let tags: Vec<u8> = tags.iter().copied().filter(|&t| t != 0).collect();
    for (i, e) in entries.iter().enumerate() {
        if tags.get(i) != Some(&small::tag(key::hash_word(p, e.key)?)) || tags.len() != live {
            return Err(Error::corrupt("a dict key with a wrong tag", at));
        }
        if e.value.is_empty() {
            return Err(Error::corrupt("a dict entry without a value", at));
        }
    }
    Ok(())
}

fn check_ascending(entries: &[DictEntry], next: u64, at: Addr) -> Result<()> {
    let mut last = 0;
    for e in entries {
        if e.seq <= last || e.seq >= next {
            return Err(Error::corrupt("a dict whose entries are out of order", at));
        }
        last = e.seq;
    }
    Ok(())
}

fn verify_large<P: Pages>(
    p: &P,
    at: Addr,
    limit: u64,
    segment: &mut dyn FnMut(Addr, usize) -> Result<()>,
) -> Result<()> {
    let rec = DictRecord::read(p, at)?;
    segment(at, record::SIZE)?;
    let sum = RandomState::new();
    let (mut in_log, mut in_index) = (Tally::default(), Tally::default());
    let mut last = 0;
    let mut tail_met = rec.tail.is_null();
    log::visit(p, &rec, limit, &mut |part| match part {
        log::Part::Node(at, size) => segment(at, size),
        log::Part::Leaf(at, size, live, here) => {
            if live != here.len() || live == 0 && at != rec.tail {
                return Err(Error::corrupt("a dict leaf that counts its entries wrong", at));
            }
            tail_met |= at == rec.tail;
            for (e, loc) in here {
                if e.value.is_empty() {
                    return Err(Error::corrupt("a dict entry without a value", loc.addr()));
                }
                if e.seq <= last || e.seq >= rec.next {
                    return Err(Error::corrupt("a dict whose entries are out of order", at));
                }
                last = e.seq;
                in_log.add(&sum, key::hash_word(p, e.key)?, loc.bits());
            }
            segment(at, size)
        }
    })?;
    if !tail_met {
        return Err(Error::corrupt("a dict log that does not have its tail", at));
    }
    if in_log.count != rec.live {
        return Err(Error::corrupt("a dict that counts its entries wrong", at));
    }
    index_walk::visit(p, &rec, limit, &mut |part| match part {
        index_walk::Part::Node(at, size) => segment(at, size),
        index_walk::Part::Bucket(at, size, used, slots, (shared, prefix)) => {
            if used != slots.len() as u64 || used == 0 {
                return Err(Error::corrupt("a dict bucket that counts its slots wrong", at));
            }
            for (hash, loc) in slots {
                if shared != 0 && (hash ^ prefix) >> (64 - shared) != 0 {
                    return Err(Error::corrupt("a hash in the wrong dict bucket", at));
                }
                if index::find(p, &rec, hash, |l| Ok(l == loc))?.is_none() {
                    return Err(Error::corrupt("a slot that probing does not find", at));
                }
                in_index.add(&sum, hash, loc.bits());
            }
            segment(at, size)
        }
    })?;
    if in_index.count < in_log.count {
        return Err(Error::corrupt("a dict entry that its index does not have", at));
    }
    if in_index != in_log {
        return Err(Error::corrupt("a dict index that points to a wrong entry", at));
    }
    Ok(())
}

/// A set of entries, independent of their order.
#[derive(Default, PartialEq, Eq)]
struct Tally {
    count: u64,
    sum: u64,
}

impl Tally {
    fn add(&mut self, sum: &RandomState, hash: u64, place: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(sum.hash_one((hash, place)));
    }
}
