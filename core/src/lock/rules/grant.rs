//! Grant and release: what an owner holds, inside one mutation.
//!
//! Invariants:
//! 1. A container's lockable exists while it has a hold or a waiter; an entry's while it has a hold.
//! 2. An owner with a hold on an entry has one on its container, whose word 4 counts the owner's entries by
//!    mode and word 5 (hi) their reservations. A hold whose words 3 to 5 are 0 is freed.
//! 3. An owner's record exists while it has a hold or a waiter.
//! 4. Every mutation that makes room for a waiter records its container in `PENDING`.

use crate::error::{Error, Result};
use crate::ids::ObjectId;
use crate::lock::memory::layout::{
    BUCKETS, KIND_CONTAINER, KIND_ENTRY, OWNER_BUCKETS, PENDING, S, X, bucket, hi, lo, owner_bucket, pack,
};
use crate::lock::memory::op::{Hold, Link, Lockable, Op, OwnerRec};
use crate::lock::memory::words::corrupt;
use crate::lock::rules::conflict::{Want, identity, mode_of};
use crate::lock::{LockMode, Owner};

/// The part of a hold to remove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::lock) enum HoldPart {
    /// One level of the lock, the strongest.
    Level,
    /// One level that was acquired in this mode. While an exclusive level is held, later levels count as
    /// exclusive. So a shared level is taken from the exclusive count only if no shared level is left, and
    /// the remaining lock is never weaker than what was granted for the remaining levels.
    LevelOf(LockMode),
    /// The lock with all its levels.
    Lock,
    /// One reservation.
    Reservation,
    /// All reservations.
    Reservations,
    /// Lock and reservations.
    All,
}

fn add(count: u32, what: &'static str) -> Result<u32> {
    count.checked_add(1).ok_or(Error::TooMany {
        what,
        limit: u32::MAX as usize,
    })
}

fn decremented(count: u32, hold: Hold) -> Result<u32> {
    count
        .checked_sub(1)
        .ok_or_else(|| corrupt("a count below 0 in the lock table, hold", hold.0 as usize))
}

/// Return the levels of a thread's lock after one more request is granted.
#[inline]
pub(in crate::lock) fn levels_after(levels: u64, more_exclusive: bool) -> Result<u64> {
    let (shared, exclusive) = (lo(levels), hi(levels));
    Ok(if exclusive == 0 && !more_exclusive {
        pack(add(shared, "levels of one lock")?, 0)
    } else {
        pack(shared, add(exclusive, "levels of one lock")?)
    })
}

/// Return the levels of a lock after a part of it is removed.
#[inline]
pub(in crate::lock) fn levels_before(levels: u64, what: HoldPart) -> u64 {
    let (shared, exclusive) = (lo(levels), hi(levels));
    match what {
        HoldPart::LevelOf(LockMode::Shared) if shared != 0 => pack(shared - 1, exclusive),
        HoldPart::Level | HoldPart::LevelOf(_) if exclusive != 0 => pack(shared, exclusive - 1),
        HoldPart::Level | HoldPart::LevelOf(_) => pack(shared.saturating_sub(1), 0),
        HoldPart::Lock | HoldPart::All => 0,
        HoldPart::Reservation | HoldPart::Reservations => levels,
    }
}

impl Op<'_, '_> {
    fn lockable_or_new(&mut self, id: u64, key: Option<u64>, parent: Lockable) -> Result<Lockable> {
        let found = self.find(id, key)?;
        if !found.is_none() {
            return Ok(found);
        }
        let at = BUCKETS + bucket(id, key);
        let first = lo(self.load(at)?);
        let kind = if key.is_some() { KIND_ENTRY } else { KIND_CONTAINER };
        let words = [
            pack(first, parent.0),
            id,
            key.unwrap_or(0),
            pack(0, kind),
            0,
            0,
            0,
            0,
        ];
        let l: Lockable = self.alloc(words)?;
        self.put(at, u64::from(l.0))?;
        if key.is_none() {
            self.count(bucket(id, None), true)?;
        }
        Ok(l)
    }

    pub(in crate::lock) fn container_or_new(&mut self, id: ObjectId) -> Result<Lockable> {
        self.lockable_or_new(id.0, None, Lockable::NONE)
    }

    /// Free a lockable that has no hold and no waiter.
    pub(in crate::lock) fn free_lockable_if_unused(&mut self, l: Lockable) -> Result<()> {
        if self.lo(l, 3)? != 0 || self.get(l, 4)? != 0 {
            return Ok(());
        }
        let target = self.target(l)?;
        let at = BUCKETS + bucket(target.id.0, target.key);
        let next = self.lo(l, 0)?;
        let mut before: Lockable = Link(lo(self.load(at)?));
        if before == l {
            self.put(at, u64::from(next))?;
        } else {
            loop {
                let after: Lockable = Link(self.lo(before, 0)?);
                if after == l {
                    break;
                }
                before = after;
            }
            self.set_lo(before, 0, next)?;
        }
        if target.key.is_none() {
            self.count(bucket(target.id.0, None), false)?;
        }
        self.free(l)
    }

    pub(in crate::lock) fn owner_or_new(&mut self, owner: &Owner) -> Result<OwnerRec> {
        let found = self.find_owner(owner)?;
        if !found.is_none() {
            if owner.caller != 0 {
                self.set_lo(found, 4, owner.caller)?;
            }
            return Ok(found);
        }
        let (kind, id) = identity(owner);
        let at = OWNER_BUCKETS + owner_bucket(kind, id);
        let first = lo(self.load(at)?);
        let o: OwnerRec = self.alloc([pack(first, 0), kind, id, 0, u64::from(owner.caller), 0, 0, 0])?;
        self.put(at, u64::from(o.0))?;
        Ok(o)
    }

    /// Free an owner that holds nothing and waits for nothing.
    pub(in crate::lock) fn free_owner_if_unused(&mut self, o: OwnerRec) -> Result<()> {
        if self.get(o, 3)? != 0 {
            return Ok(());
        }
        let at = OWNER_BUCKETS + owner_bucket(self.get(o, 1)?, self.get(o, 2)?);
        let next = self.lo(o, 0)?;
        let mut before: OwnerRec = Link(lo(self.load(at)?));
        if before == o {
            self.put(at, u64::from(next))?;
        } else {
            loop {
                let after: OwnerRec = Link(self.lo(before, 0)?);
                if after == o {
                    break;
                }
                before = after;
            }
            self.set_lo(before, 0, next)?;
        }
        self.free(o)
    }

    fn hold_or_new(&mut self, l: Lockable, o: OwnerRec, mount: bool) -> Result<Hold> {
        let found = self.find_hold(l, o)?;
        if !found.is_none() {
            return Ok(found);
        }
        let (first, mine) = (self.lo(l, 3)?, self.lo(o, 3)?);
        let words = [
            pack(first, l.0),
            pack(mine, 0),
            pack(o.0, u32::from(mount)),
            0,
            0,
            0,
            0,
            0,
        ];
        let h: Hold = self.alloc(words)?;
        self.set_lo(l, 3, h.0)?;
        self.set_lo(o, 3, h.0)?;
        if mine != 0 {
            self.set_hi(Hold::from(mine), 1, h.0)?;
        }
        Ok(h)
    }

    /// Free a hold that holds nothing, and its entry's lockable.
    fn free_hold_if_unused(&mut self, h: Hold) -> Result<()> {
        if self.get(h, 3)? != 0 || self.get(h, 4)? != 0 || self.get(h, 5)? != 0 {
            return Ok(());
        }
        let (list, mine) = (self.get(h, 0)?, self.get(h, 1)?);
        let (l, o): (Lockable, OwnerRec) = (Link(hi(list)), Link(self.lo(h, 2)?));
        let mut before: Hold = Link(self.lo(l, 3)?);
        if before == h {
            self.set_lo(l, 3, lo(list))?;
        } else {
            loop {
                let after: Hold = Link(self.lo(before, 0)?);
                if after == h {
                    break;
                }
                before = after;
            }
            self.set_lo(before, 0, lo(list))?;
        }
        match hi(mine) {
            0 => self.set_lo(o, 3, lo(mine))?,
            previous => self.set_lo(Hold::from(previous), 1, lo(mine))?,
        }
        if lo(mine) != 0 {
            self.set_hi(Hold::from(lo(mine)), 1, hi(mine))?;
        }
        self.free(h)?;
        if self.hi(l, 3)? == KIND_ENTRY {
            self.free_lockable_if_unused(l)
        } else {
            Ok(())
        }
    }

    /// Give an owner that has no hold on a container the lock with these levels.
    pub(in crate::lock) fn hold_levels(&mut self, c: Lockable, o: OwnerRec, levels: u64) -> Result<()> {
        let h = self.hold_or_new(c, o, false)?;
        self.set(h, 3, levels)
    }

    /// Grant an owner its request on container `c`; the caller has checked that nothing blocks it. With
    /// `convert`, the lock becomes exactly this mode. Return the levels that the owner held before.
    pub(in crate::lock) fn take(&mut self, c: Lockable, want: &Want, convert: bool) -> Result<u64> {
        let o = want.owner;
        let l = match want.key {
            None => c,
            Some(_) => self.lockable_or_new(self.get(c, 1)?, want.key, c)?,
        };
        let h = self.hold_or_new(l, o, want.mount)?;
        let levels = self.get(h, 3)?;
        if want.change {
            let count = add(self.lo(h, 5)?, "reservations of one object")?;
            self.set_lo(h, 5, count)?;
            if l != c {
                let hc = self.hold_or_new(c, o, want.mount)?;
                let count = add(self.hi(hc, 5)?, "reservations of one object")?;
                self.set_hi(hc, 5, count)?;
            }
            return Ok(levels);
        }
        let now = match (convert, want.exclusive) {
            (true, false) => pack(1, 0),
            (true, true) => pack(0, 1),
            (false, exclusive) => levels_after(levels, exclusive)?,
        };
        self.set_levels(h, c, now)?;
        if mode_of(now) < mode_of(levels) {
            self.mark_pending(c)?;
        }
        Ok(levels)
    }

    /// Set a hold's levels and, for an entry, the counts in its container's hold.
    fn set_levels(&mut self, h: Hold, c: Lockable, levels: u64) -> Result<()> {
        let (was, now) = (mode_of(self.get(h, 3)?), mode_of(levels));
        self.set(h, 3, levels)?;
        if Link(self.hi(h, 0)?) == c || was == now {
            return Ok(());
        }
        let (o, mount) = (Link(self.lo(h, 2)?), self.hi(h, 2)? != 0);
        let hc = self.hold_or_new(c, o, mount)?;
        let entries = self.get(hc, 4)?;
        let (mut shared, mut exclusive) = (lo(entries), hi(entries));
        match was {
            S => shared = decremented(shared, hc)?,
            X => exclusive = decremented(exclusive, hc)?,
            _ => {}
        }
        match now {
            S => shared = add(shared, "entries locked in one object")?,
            X => exclusive = add(exclusive, "entries locked in one object")?,
            _ => {}
        }
        self.set(hc, 4, pack(shared, exclusive))
    }

    /// Remove a part of a hold. Return false if the hold had no such part. Frees the hold, the lockables and
    /// the owner when nothing is left of them.
    pub(in crate::lock) fn release(&mut self, h: Hold, what: HoldPart) -> Result<bool> {
        let (l, o): (Lockable, OwnerRec) = (Link(self.hi(h, 0)?), Link(self.lo(h, 2)?));
        let c = self.container(l)?;
        let (levels, reserved) = (self.get(h, 3)?, self.lo(h, 5)?);
        let left = levels_before(levels, what);
        let kept = match what {
            HoldPart::Reservation => reserved.saturating_sub(1),
            HoldPart::Reservations | HoldPart::All => 0,
            HoldPart::Level | HoldPart::LevelOf(_) | HoldPart::Lock => reserved,
        };
        if left == levels && kept == reserved {
            return Ok(false);
        }
        self.set_levels(h, c, left)?;
        self.set_lo(h, 5, kept)?;
        if l != c {
            let hc = self.find_hold(c, o)?;
            let count = self.hi(hc, 5)?;
            let Some(count) = count.checked_sub(reserved - kept) else {
                return Err(corrupt("a count below 0 in the lock table, hold", hc.0 as usize));
            };
            self.set_hi(hc, 5, count)?;
            self.free_hold_if_unused(h)?;
            self.free_hold_if_unused(hc)?;
        } else {
            self.free_hold_if_unused(h)?;
        }
        self.mark_pending(c)?;
        self.free_lockable_if_unused(c)?;
        self.free_owner_if_unused(o)?;
        Ok(true)
    }

    /// Record that waiters of a container may have become grantable.
    pub(in crate::lock) fn mark_pending(&mut self, c: Lockable) -> Result<()> {
        if self.get(c, 4)? != 0 {
            self.put(PENDING, u64::from(c.0))
        } else {
            Ok(())
        }
    }
}
