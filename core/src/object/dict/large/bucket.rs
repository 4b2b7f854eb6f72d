//! A bucket of the hash index: slots of hash and place, open addressing with linear probing.
//!
//! Invariants: there is no free slot between the home position of a slot and the slot, so removal closes
//! gaps; a bucket never gets full, so probing ends.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | slots in use |
//! | 8 | 8 | overflow bucket (0: none) |
//! | 16 | 16 `SLOTS` | slots: hash, place in the log (`leaf::LogPosition`; 0: free) |

use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::dict::entry::put;
use crate::object::dict::entry::word_in;
use crate::object::dict::large::leaf::LogPosition;
use crate::page::access::{Pages, PagesMut};

/// Bytes before the slots: the two words of the table above.
pub(in crate::object::dict) const HEADER: usize = 16;
/// Slots in a bucket.
pub(in crate::object::dict) const SLOTS: usize = 251;
/// Bytes of a bucket.
pub(in crate::object::dict) const BUCKET: usize = HEADER + SLOTS * 16;

const _: () = assert!(BUCKET <= heap::MAX_SEGMENT);

/// Return the position at which the probing of a hash begins.
#[inline]
pub(in crate::object::dict) fn home(hash: u64) -> usize {
    (((hash & 0xffff_ffff) * SLOTS as u64) >> 32) as usize
}

/// Return the hash and the place (0: free) of slot i.
#[inline]
pub(in crate::object::dict) fn slot_in(b: &[u8], i: usize) -> (u64, u64) {
    (word_in(b, HEADER + i * 16), word_in(b, HEADER + i * 16 + 8))
}

/// Return the position after i.
#[inline]
pub(in crate::object::dict) fn wrap(i: usize) -> usize {
    if i + 1 == SLOTS { 0 } else { i + 1 }
}

/// Create a bucket with these slots.
pub(in crate::object::dict) fn create<W: PagesMut>(
    w: &mut W,
    slots: &[(u64, u64)],
    next: Addr,
) -> Result<Addr> {
    let at = heap::alloc(w, BUCKET)?;
    fill(w.init(at, BUCKET)?, slots, next);
    Ok(at)
}

/// Write a whole bucket.
pub(in crate::object::dict) fn fill(b: &mut [u8], slots: &[(u64, u64)], next: Addr) {
    b.fill(0);
    put(b, 0, slots.len() as u64);
    put(b, 8, next.0);
    for &(hash, bits) in slots {
        let mut i = home(hash);
        while slot_in(b, i).1 != 0 {
            i = wrap(i);
        }
        put(b, HEADER + i * 16, hash);
        put(b, HEADER + i * 16 + 8, bits);
    }
}

/// Return the slots of a bucket.
pub(in crate::object::dict) fn slots<P: Pages>(p: &P, at: Addr) -> Result<Vec<(u64, u64)>> {
    let b = p.bytes(at, BUCKET)?;
    Ok((0..SLOTS).map(|i| slot_in(b, i)).filter(|s| s.1 != 0).collect())
}

/// Write a slot into a bucket with room.
pub(in crate::object::dict) fn put_slot<W: PagesMut>(
    w: &mut W,
    at: Addr,
    used: u64,
    hash: u64,
    loc: LogPosition,
) -> Result<()> {
    let free = {
        let b = w.bytes(at, BUCKET)?;
        let mut i = home(hash);
        let mut steps = 0;
        while slot_in(b, i).1 != 0 {
            i = wrap(i);
            steps += 1;
            if steps == SLOTS {
                return Err(Error::corrupt("a dict bucket that counts its slots wrong", at));
            }
        }
        i
    };
    let mut b = [0; 16];
    put(&mut b, 0, hash);
    put(&mut b, 8, loc.bits());
    w.set_bytes(at + (HEADER + free * 16) as u64, &b)?;
    w.set_u64(at, used + 1)
}

/// Free a slot and move later slots up, so that probing still finds them.
pub(in crate::object::dict) fn close_gap<W: PagesMut>(w: &mut W, at: Addr, slot: usize) -> Result<()> {
    let mut gap = slot;
    let mut i = wrap(gap);
    for _ in 0..SLOTS {
        let (hash, bits) = slot_in(w.bytes(at, BUCKET)?, i);
        if bits == 0 {
            break;
        }
        // The slot may move to the gap unless its probing begins behind the gap.
        let distance = |from: usize, to: usize| if to >= from { to - from } else { to + SLOTS - from };
        if distance(home(hash), i) >= distance(gap, i) {
            let mut b = [0; 16];
            put(&mut b, 0, hash);
            put(&mut b, 8, bits);
            w.set_bytes(at + (HEADER + gap * 16) as u64, &b)?;
            gap = i;
        }
        i = wrap(i);
    }
    w.set_bytes(at + (HEADER + gap * 16) as u64, &[0; 16])
}
