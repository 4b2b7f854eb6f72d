//! The hash index of a large dict: extendible hashing with a directory of several levels. It maps hashes to
//! places in the log; the caller compares keys.
//!
//! Invariants:
//! 1. A pointer at index i of a node of g bits stands for the hashes whose next g bits are i. A pointer with
//!    depth l depends only on the first l of them: the 2^(g-l) pointers that share these are equal. A node's
//!    pointers consume at most 8 bits; the next node continues after l bits.
//! 2. A bucket holds the slots of its hashes, found by linear probing without gaps, at most `SPLIT` of them.
//!    A fuller one is split, one bit at a time; each split touches two buckets and one node. If `MAX_DEPTH`
//!    bits do not separate the hashes, the bucket gets overflow buckets.
//! 3. Empty buckets are freed (a null pointer stays, with its depth). Two null or nearly empty halves are
//!    merged, and a node with a single pointer is replaced by it.
//!
//! Pointer (0 address: no bucket):
//!
//! | BITS | FIELD |
//! | --- | --- |
//! | 0..47 | address of a bucket or node |
//! | 48..51 | depth l |
//! | 52..55 | nodes: bits g, 1 to 8; buckets: 0 |
//!
//! Node: 2^g pointers. `bucket` has the format of buckets.

use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::dict::entry::put;
use crate::object::dict::entry::word_in;
use crate::object::dict::large::bucket;
use crate::object::dict::large::bucket::BUCKET;
use crate::object::dict::large::bucket::HEADER;
use crate::object::dict::large::bucket::SLOTS;
use crate::object::dict::large::bucket::fill;
use crate::object::dict::large::bucket::home;
use crate::object::dict::large::bucket::put_slot;
use crate::object::dict::large::bucket::slot_in;
use crate::object::dict::large::bucket::slots;
use crate::object::dict::large::bucket::wrap;
use crate::object::dict::large::leaf::LogPosition;
use crate::object::dict::large::record::DictRecord;
use crate::page::access::{Pages, PagesMut};
/// A bucket with this many slots in use is split.
const SPLIT: u64 = 220;
/// Two halves are merged when they hold at most this many slots, if one of them was shrinking through a
/// multiple of 8 below `SHRINK`.
const MERGED: u64 = 110;
const SHRINK: u64 = 64;
/// Bits of the hash the directory may consume.
const MAX_DEPTH: u32 = 48;
pub(in crate::object::dict) const MAX_BITS: u32 = 8;
/// More levels than any directory has.
const MAX_LEVELS: usize = 64;
/// More overflow buckets than memory for equal hashes would allow.
const MAX_CHAIN: usize = 1 << 16;
const ADDR: u64 = Addr::MAX;

/// A pointer of the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::object::dict) struct Ptr(pub(in crate::object::dict) u64);

impl Ptr {
    fn new(at: Addr, depth: u32, bits: u32) -> Ptr {
        Ptr(at.0 & ADDR | u64::from(depth) << 48 | u64::from(bits) << 52)
    }
    #[inline]
    pub(in crate::object::dict) fn addr(self) -> Addr {
        Addr(self.0 & ADDR)
    }
    #[inline]
    pub(in crate::object::dict) fn depth(self) -> u32 {
        (self.0 >> 48 & 15) as u32
    }
    #[inline]
    pub(in crate::object::dict) fn bits(self) -> u32 {
        (self.0 >> 52 & 15) as u32
    }
    fn with_depth(self, depth: u32) -> Ptr {
        Ptr::new(self.addr(), depth, self.bits())
    }
}

/// The place of a pointer: at an index of a node of some bits, or (null node) in the record.
#[derive(Clone, Copy)]
struct Slot {
    node: Addr,
    bits: u32,
    index: u64,
}

/// The path to a bucket (or to a null pointer).
struct BucketPath {
    /// The pointer to the bucket, and where it is stored.
    ptr: Ptr,
    slot: Slot,
    /// The pointer to the node that contains it, and where that is stored.
    node: Ptr,
    node_slot: Slot,
    /// Hash bits consumed before the node.
    consumed: u32,
}

/// A slot of a bucket that was found.
#[derive(Clone, Copy, Debug)]
pub(in crate::object::dict) struct FoundSlot {
    bucket: Addr,
    /// The bucket whose overflow bucket this is (null: none).
    before: Addr,
    slot: usize,
    /// The place of the entry.
    pub(in crate::object::dict) loc: LogPosition,
}

#[inline]
fn path_to<P: Pages>(p: &P, rec: &DictRecord, hash: u64) -> Result<BucketPath> {
    let root = Slot {
        node: Addr::NULL,
        bits: 0,
        index: 0,
    };
    let ptr = Ptr(rec.index);
    let mut path = BucketPath {
        ptr,
        slot: root,
        node: ptr,
        node_slot: root,
        consumed: 0,
    };
    for _ in 0..MAX_LEVELS {
        let bits = path.ptr.bits();
        if bits == 0 {
            if path.ptr.depth() > path.slot.bits {
                return Err(Error::corrupt(
                    "a dict directory with an impossible depth",
                    rec.at,
                ));
            }
            return Ok(path);
        }
        path.consumed += path.ptr.depth();
        if bits > MAX_BITS
            || path.consumed >= 64
            || path.ptr.depth() > path.slot.bits
            || path.ptr.addr().is_null()
        {
            return Err(Error::corrupt("a dict directory with an impossible node", rec.at));
        }
        (path.node, path.node_slot) = (path.ptr, path.slot);
        let index = (hash << path.consumed) >> (64 - bits);
        path.slot = Slot {
            node: path.ptr.addr(),
            bits,
            index,
        };
        path.ptr = Ptr(p.u64_at(path.ptr.addr() + index * 8)?);
    }
    Err(Error::corrupt("a dict directory that does not end", rec.at))
}

/// Return the place with this hash for which `is` holds.
#[inline]
pub(in crate::object::dict) fn find<P: Pages>(
    p: &P,
    rec: &DictRecord,
    hash: u64,
    mut is: impl FnMut(LogPosition) -> Result<bool>,
) -> Result<Option<FoundSlot>> {
    let mut bucket = path_to(p, rec, hash)?.ptr.addr();
    let mut before = Addr::NULL;
    let mut seen = Addr::NULL;
    for step in 1..MAX_CHAIN {
        if bucket.is_null() {
            return Ok(None);
        }
        let b = p.bytes(bucket, BUCKET)?;
        let mut i = home(hash);
        for _ in 0..SLOTS {
            let (h, bits) = slot_in(b, i);
            if bits == 0 {
                break;
            }
            if h == hash && is(LogPosition::from_bits(bits))? {
                return Ok(Some(FoundSlot {
                    bucket,
                    before,
                    slot: i,
                    loc: LogPosition::from_bits(bits),
                }));
            }
            i = wrap(i);
        }
        before = bucket;
        bucket = Addr(word_in(b, 8));
        // A chain with a cycle meets the bucket of some power of two again.
        if bucket == seen && !seen.is_null() {
            break;
        }
        if step.is_power_of_two() {
            seen = before;
        }
    }
    Err(Error::corrupt(
        "a dict bucket whose overflow does not end",
        bucket,
    ))
}

/// Store a pointer over all indices that share its depth.
fn store<W: PagesMut>(w: &mut W, rec: &mut DictRecord, slot: Slot, ptr: Ptr) -> Result<()> {
    if slot.node.is_null() {
        return rec.set_index(w, ptr.0);
    }
    let n = 1u64 << slot.bits.saturating_sub(ptr.depth());
    let first = slot.node + (slot.index & !(n - 1)) * 8;
    if n == 1 {
        return w.set_u64(first, ptr.0);
    }
    let mut b = [0; 8 << MAX_BITS];
    for i in 0..n as usize {
        put(&mut b, i * 8, ptr.0);
    }
    w.set_bytes(first, &b[..n as usize * 8])
}

/// Add a slot, even if the hash exists already.
pub(in crate::object::dict) fn insert<W: PagesMut>(
    w: &mut W,
    rec: &mut DictRecord,
    hash: u64,
    loc: LogPosition,
) -> Result<()> {
    // Each round splits by one bit or makes room for the split.
    for _ in 0..4 * MAX_DEPTH {
        let path = path_to(w, rec, hash)?;
        let at = path.ptr.addr();
        if at.is_null() {
            let bucket = bucket::create(w, &[(hash, loc.bits())], Addr::NULL)?;
            return store(w, rec, path.slot, Ptr::new(bucket, path.ptr.depth(), 0));
        }
        let used = w.u64_at(at)?;
        if used < SPLIT {
            return put_slot(w, at, used, hash, loc);
        }
        if path.consumed + path.ptr.depth() >= MAX_DEPTH {
            return overflow(w, at, hash, loc);
        }
        if path.ptr.depth() < path.slot.bits {
            split(w, rec, &path)?;
        } else if path.slot.bits != 0 && path.slot.bits < MAX_BITS {
            double(w, rec, &path)?;
        } else {
            let node = heap::alloc(w, 16)?;
            let b = w.init(node, 16)?;
            put(b, 0, path.ptr.with_depth(0).0);
            put(b, 8, path.ptr.with_depth(0).0);
            store(w, rec, path.slot, Ptr::new(node, path.ptr.depth(), 1))?;
        }
    }
    Err(Error::corrupt("a dict bucket that cannot be split", rec.at))
}

/// Add a slot to the overflow of a bucket: to the first overflow bucket, or a new one before it.
fn overflow<W: PagesMut>(w: &mut W, at: Addr, hash: u64, loc: LogPosition) -> Result<()> {
    let next = Addr(w.u64_at(at + 8)?);
    if !next.is_null() {
        let used = w.u64_at(next)?;
        if used < SPLIT {
            return put_slot(w, next, used, hash, loc);
        }
    }
    let new = bucket::create(w, &[(hash, loc.bits())], next)?;
    w.set_u64(at + 8, new.0)
}

/// Split a bucket by the next bit; its node has room for the two pointers.
fn split<W: PagesMut>(w: &mut W, rec: &mut DictRecord, path: &BucketPath) -> Result<()> {
    let depth = path.ptr.depth() + 1;
    let bit = 63 - (path.consumed + depth - 1);
    let at = path.ptr.addr();
    let (ones, zeros): (Vec<_>, Vec<_>) = slots(w, at)?.into_iter().partition(|s| s.0 >> bit & 1 != 0);
    let half = 1u64 << (path.slot.bits - depth);
    let low = Slot {
        index: path.slot.index & !half,
        ..path.slot
    };
    let high = Slot {
        index: path.slot.index | half,
        ..path.slot
    };
    let (zero_at, one_at) = if ones.is_empty() {
        (at, Addr::NULL)
    } else if zeros.is_empty() {
        (Addr::NULL, at)
    } else {
        let one_at = bucket::create(w, &ones, Addr::NULL)?;
        let mut b = [0; BUCKET];
        fill(&mut b, &zeros, Addr::NULL);
        w.set_bytes(at, &b)?;
        (at, one_at)
    };
    store(w, rec, low, Ptr::new(zero_at, depth, 0))?;
    store(w, rec, high, Ptr::new(one_at, depth, 0))
}

/// Give the node one more bit.
fn double<W: PagesMut>(w: &mut W, rec: &mut DictRecord, path: &BucketPath) -> Result<()> {
    let (old, bits) = (path.slot.node, path.slot.bits);
    let size = 8usize << bits;
    let mut b = [0; 8 << MAX_BITS];
    {
        let from = w.bytes(old, size)?;
        for i in 0..size / 8 {
            let ptr = word_in(from, i * 8);
            put(&mut b, i * 16, ptr);
            put(&mut b, i * 16 + 8, ptr);
        }
    }
    let node = heap::alloc(w, size * 2)?;
    w.init(node, size * 2)?.copy_from_slice(&b[..size * 2]);
    heap::free(w, old)?;
    store(
        w,
        rec,
        path.node_slot,
        Ptr::new(node, path.node.depth(), bits + 1),
    )
}

/// Update the place of an entry that moved.
pub(in crate::object::dict) fn relocate<W: PagesMut>(
    w: &mut W,
    rec: &DictRecord,
    hash: u64,
    old: LogPosition,
    new: LogPosition,
) -> Result<()> {
    match find(w, rec, hash, |loc| Ok(loc == old))? {
        Some(spot) => w.set_u64(spot.bucket + (HEADER + spot.slot * 16 + 8) as u64, new.bits()),
        None => Err(Error::corrupt(
            "a dict entry that its index does not have",
            old.addr(),
        )),
    }
}

/// Remove a slot just found.
pub(in crate::object::dict) fn remove<W: PagesMut>(
    w: &mut W,
    rec: &mut DictRecord,
    spot: FoundSlot,
    hash: u64,
) -> Result<()> {
    let (used, next) = {
        let b = w.bytes(spot.bucket, HEADER)?;
        (word_in(b, 0), Addr(word_in(b, 8)))
    };
    let Some(left) = used.checked_sub(1) else {
        return Err(Error::corrupt(
            "a dict bucket that counts its slots wrong",
            spot.bucket,
        ));
    };
    if left == 0 && !spot.before.is_null() {
        w.set_u64(spot.before + 8, next.0)?;
        return heap::free(w, spot.bucket);
    }
    if left == 0 {
        let path = path_to(w, rec, hash)?;
        if path.ptr.addr() != spot.bucket {
            return Err(Error::corrupt("a dict bucket that moved", spot.bucket));
        }
        store(w, rec, path.slot, Ptr::new(next, path.ptr.depth(), 0))?;
        heap::free(w, spot.bucket)?;
        return if next.is_null() {
            merge(w, rec, hash)
        } else {
            Ok(())
        };
    }
    bucket::close_gap(w, spot.bucket, spot.slot)?;
    w.set_u64(spot.bucket, left)?;
    if left <= SHRINK && left % 8 == 0 && next.is_null() && spot.before.is_null() {
        merge(w, rec, hash)?;
    }
    Ok(())
}

/// Return the number of slots in use under a pointer that a merge may take; None for nodes and chains.
fn mergeable<P: Pages>(p: &P, ptr: Ptr) -> Result<Option<u64>> {
    if ptr.bits() != 0 {
        return Ok(None);
    }
    if ptr.addr().is_null() {
        return Ok(Some(0));
    }
    let b = p.bytes(ptr.addr(), HEADER)?;
    Ok((word_in(b, 8) == 0).then(|| word_in(b, 0)))
}

/// Merge the bucket of a hash with its other half, as long as both are small (invariant 3).
fn merge<W: PagesMut>(w: &mut W, rec: &mut DictRecord, hash: u64) -> Result<()> {
    for _ in 0..2 * MAX_LEVELS {
        let path = path_to(w, rec, hash)?;
        if path.slot.node.is_null() {
            return Ok(());
        }
        let depth = path.ptr.depth();
        if depth == 0 {
            // The node has a single pointer, which replaces it.
            store(w, rec, path.node_slot, path.ptr.with_depth(path.node.depth()))?;
            heap::free(w, path.slot.node)?;
            continue;
        }
        let other_slot = Slot {
            index: path.slot.index ^ 1 << (path.slot.bits - depth),
            ..path.slot
        };
        let other = Ptr(w.u64_at(other_slot.node + other_slot.index * 8)?);
        if other.depth() != depth {
            return Ok(());
        }
        let (Some(here), Some(there)) = (mergeable(w, path.ptr)?, mergeable(w, other)?) else {
            return Ok(());
        };
        if here.saturating_add(there) > MERGED {
            return Ok(());
        }
        let kept = match (path.ptr.addr().is_null(), other.addr().is_null()) {
            (true, _) => other.addr(),
            (_, true) => path.ptr.addr(),
            _ => {
                let mut all = slots(w, other.addr())?;
                all.extend(slots(w, path.ptr.addr())?);
                if all.len() as u64 != here + there {
                    return Err(Error::corrupt(
                        "a dict bucket that counts its slots wrong",
                        other.addr(),
                    ));
                }
                let mut b = [0; BUCKET];
                fill(&mut b, &all, Addr::NULL);
                w.set_bytes(other.addr(), &b)?;
                heap::free(w, path.ptr.addr())?;
                other.addr()
            }
        };
        store(w, rec, path.slot, Ptr::new(kept, depth - 1, 0))?;
    }
    Err(Error::corrupt("a dict directory that does not end", rec.at))
}
