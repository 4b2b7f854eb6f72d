//! Walk the hash index of a large dict, completely and for salvage. See `index` for its format.

use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::object::dict::large::bucket::BUCKET;
use crate::object::dict::large::bucket::slots;
use crate::object::dict::large::index::MAX_BITS;
use crate::object::dict::large::index::Ptr;
use crate::object::dict::large::leaf::LogPosition;
use crate::object::dict::large::record::DictRecord;
use crate::object::pieces::Fresh;
use crate::page::access::Pages;

/// A part of the index, as passed to the callback of `visit`.
pub(in crate::object::dict) enum Part {
    /// A node and its size.
    Node(Addr, usize),
    /// A bucket, its size, its slot count, its slots, and the hash bits that all of them share: (number of
    /// bits, bits at the top).
    Bucket(Addr, usize, u64, Vec<(u64, LogPosition)>, (u32, u64)),
}

/// Call the callback with every segment of the index, parents first. Returns an error after `limit`.
pub(in crate::object::dict) fn visit<P: Pages>(
    p: &P,
    rec: &DictRecord,
    limit: u64,
    f: &mut dyn FnMut(Part) -> Result<()>,
) -> Result<()> {
    let mut left = limit;
    visit_under(p, Ptr(rec.index), (0, 0), &mut left, f)
}

fn visit_under<P: Pages>(
    p: &P,
    ptr: Ptr,
    (shared, prefix): (u32, u64),
    left: &mut u64,
    f: &mut dyn FnMut(Part) -> Result<()>,
) -> Result<()> {
    let at = ptr.addr();
    let mut count = || {
        *left = left
            .checked_sub(1)
            .ok_or_else(|| Error::corrupt("a dict index with too many parts", at))?;
        Ok::<(), Error>(())
    };
    if ptr.bits() == 0 {
        let mut bucket = at;
        while !bucket.is_null() {
            count()?;
            let (used, next) = (p.u64_at(bucket)?, Addr(p.u64_at(bucket + 8)?));
            let slots = slots(p, bucket)?
                .into_iter()
                .map(|(h, bits)| (h, LogPosition::from_bits(bits)))
                .collect();
            f(Part::Bucket(bucket, BUCKET, used, slots, (shared, prefix)))?;
            bucket = next;
        }
        return Ok(());
    }
    count()?;
    let bits = ptr.bits();
    if bits > MAX_BITS || at.is_null() || shared > 56 {
        return Err(Error::corrupt("a dict directory with an impossible node", at));
    }
    f(Part::Node(at, 8 << bits))?;
    let mut i = 0;
    while i < 1u64 << bits {
        let child = Ptr(p.u64_at(at + i * 8)?);
        let n = 1u64 << bits.saturating_sub(child.depth());
        if child.depth() > bits || i & (n - 1) != 0 {
            return Err(Error::corrupt("a dict directory with an impossible depth", at));
        }
        for same in i..i + n {
            if p.u64_at(at + same * 8)? != child.0 {
                return Err(Error::corrupt("a dict directory that contradicts itself", at));
            }
        }
        let top = prefix | i << (64 - bits) >> shared;
        visit_under(p, child, (shared + child.depth(), top), left, f)?;
        i += n;
    }
    Ok(())
}

/// A callback for the slots of an index: a hash and its place.
pub(in crate::object::dict) type EachSlot<'a> = &'a mut dyn FnMut(Fresh<'_>, u64, LogPosition) -> Result<()>;

/// Call `f` with the slots of the buckets that can be reached; for salvage. See `object::salvage`.
pub(in crate::object::dict) fn each_slot<P: Pages>(
    p: &P,
    rec: &DictRecord,
    fresh: Fresh<'_>,
    f: EachSlot<'_>,
) -> Result<()> {
    each_slot_under(p, Ptr(rec.index), 0, fresh, f)
}

/// Every level takes at least one bit of the hash, which bounds the depth.
fn each_slot_under<P: Pages>(p: &P, ptr: Ptr, shared: u32, fresh: Fresh<'_>, f: EachSlot<'_>) -> Result<()> {
    let (mut at, bits) = (ptr.addr(), ptr.bits());
    if bits == 0 {
        while !at.is_null() && fresh(at) {
            let (Ok(slots), Ok(next)) = (slots(p, at), p.u64_at(at + 8)) else {
                return Ok(());
            };
            for (hash, bits) in slots {
                f(fresh, hash, LogPosition::from_bits(bits))?;
            }
            at = Addr(next);
        }
        return Ok(());
    }
    if bits > MAX_BITS || at.is_null() || shared > 56 || !fresh(at) {
        return Ok(());
    }
    let mut last = Ptr(0);
    for i in 0..1u64 << bits {
        let child = match p.u64_at(at + i * 8) {
            Ok(child) => Ptr(child),
            Err(_) => return Ok(()),
        };
        // Neighbours are equal if a child's depth is less than the node's.
        if child != last && !child.addr().is_null() {
            each_slot_under(p, child, shared + child.depth().max(1), fresh, f)?;
        }
        last = child;
    }
    Ok(())
}
