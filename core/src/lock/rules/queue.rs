//! The queue of a container and the records of its waiters, inside one mutation.
//!
//! Invariants:
//! 1. A waiting request is in the queue of its container and on the list of its owner; a granted one only on
//!    the list, until its waiter has seen the grant.
//! 2. `WAITING` counts the waiting requests.

use crate::error::{Error, Result};
use crate::lock::memory::layout::{
    CAP, FLAG_CHANGE, FLAG_EXCLUSIVE, FLAG_KEY, FLAG_MOUNT, FLAG_WAS_EXCLUSIVE, FLAG_WAS_SHARED, HOLD,
    LOCKABLE, POOL_NAME, POOL_USED, POOLS, S, STATE_FREE, STATE_GRANTED, STATE_MASK, STATE_WAITING, WAITING,
    X, hi, lo, pack,
};
use crate::lock::memory::op::{Link, Lockable, Op, OwnerRec, Waiter};
use crate::lock::rules::conflict::{Want, mode_of};

impl Op<'_, '_> {
    pub(in crate::lock) fn first_waiter(&self, c: Lockable) -> Result<Waiter> {
        Ok(Link(self.lo(c, 4)?))
    }

    pub(in crate::lock) fn next_waiter(&self, w: Waiter) -> Result<Waiter> {
        Ok(Link(self.hi(w, 0)?))
    }

    /// Queue a request before another waiter, or at the end (`before` is none).
    pub(in crate::lock) fn push(
        &mut self,
        c: Lockable,
        want: &Want,
        before: Waiter,
        since: u64,
    ) -> Result<Waiter> {
        let flags = STATE_WAITING
            | if want.exclusive { FLAG_EXCLUSIVE } else { 0 }
            | if want.key.is_some() { FLAG_KEY } else { 0 }
            | if want.change { FLAG_CHANGE } else { 0 }
            | if want.mount { FLAG_MOUNT } else { 0 };
        let queue = self.get(c, 4)?;
        let (next, previous) = if before.is_none() {
            (0, hi(queue))
        } else {
            (before.0, self.lo(before, 0)?)
        };
        let mine = self.hi(want.owner, 3)?;
        let w: Waiter = self.alloc([
            pack(previous, next),
            pack(c.0, want.owner.0),
            want.key.unwrap_or(0),
            flags,
            since,
            0,
            pack(mine, 0),
            0,
        ])?;
        let first = if previous == 0 { w.0 } else { lo(queue) };
        let last = if next == 0 { w.0 } else { hi(queue) };
        self.set(c, 4, pack(first, last))?;
        if previous != 0 {
            self.set_hi(Waiter::from(previous), 0, w.0)?;
        }
        if next != 0 {
            self.set_lo(Waiter::from(next), 0, w.0)?;
        }
        self.set_hi(want.owner, 3, w.0)?;
        if mine != 0 {
            self.set_hi(Waiter::from(mine), 6, w.0)?;
        }
        let waiting = self.load(WAITING)?;
        self.put(WAITING, waiting + 1)?;
        Ok(w)
    }

    /// Remove a waiter from its queue.
    fn unqueue(&mut self, w: Waiter) -> Result<()> {
        let c: Lockable = Link(self.lo(w, 1)?);
        let (links, queue) = (self.get(w, 0)?, self.get(c, 4)?);
        let (previous, next) = (lo(links), hi(links));
        let first = if previous == 0 { next } else { lo(queue) };
        let last = if next == 0 { previous } else { hi(queue) };
        self.set(c, 4, pack(first, last))?;
        if previous != 0 {
            self.set_hi(Waiter::from(previous), 0, next)?;
        }
        if next != 0 {
            self.set_lo(Waiter::from(next), 0, previous)?;
        }
        let waiting = self.load(WAITING)?;
        self.put(WAITING, waiting.saturating_sub(1))
    }

    /// Grant a waiter its request. Its record stays until the waiter has seen the grant.
    pub(in crate::lock) fn grant(&mut self, w: Waiter) -> Result<()> {
        let (c, want): (Lockable, Want) = (Link(self.lo(w, 1)?), self.want(w)?);
        self.unqueue(w)?;
        // The lockable may be freed and reused before the waiter sees the grant: keep its id.
        self.set(w, 4, self.get(c, 1)?)?;
        let before = mode_of(self.take(c, &want, want.mount && !want.change)?);
        let was = match before {
            S => FLAG_WAS_SHARED,
            X => FLAG_WAS_EXCLUSIVE,
            _ => 0,
        };
        let flags = self.get(w, 3)? & !STATE_MASK;
        self.set(w, 3, flags | was | STATE_GRANTED)
    }

    /// Free a waiter's record, after removing it from its queue if it still waits.
    pub(in crate::lock) fn free_waiter(&mut self, w: Waiter) -> Result<()> {
        let (c, o): (Lockable, OwnerRec) = (Link(self.lo(w, 1)?), Link(self.hi(w, 1)?));
        let flags = self.get(w, 3)?;
        let mine = self.get(w, 6)?;
        let waiting = flags & STATE_MASK == STATE_WAITING;
        if waiting {
            self.unqueue(w)?;
        }
        match hi(mine) {
            0 => self.set_hi(o, 3, lo(mine))?,
            previous => self.set_lo(Waiter::from(previous), 6, lo(mine))?,
        }
        if lo(mine) != 0 {
            self.set_hi(Waiter::from(lo(mine)), 6, hi(mine))?;
        }
        self.set(w, 3, flags & !STATE_MASK | STATE_FREE)?;
        self.free(w)?;
        if waiting {
            self.mark_pending(c)?;
            self.free_lockable_if_unused(c)?;
        }
        self.free_owner_if_unused(o)
    }

    /// Refuse a waiter if the pools might not have room for its grant.
    pub(in crate::lock) fn room_for_waiters(&self) -> Result<()> {
        let waiting = self.load(WAITING)?;
        for (pool, each) in [(LOCKABLE, 1), (HOLD, 2)] {
            let used = self.load(POOLS + 4 * pool + POOL_USED)?;
            if used.saturating_add(waiting.saturating_mul(each)) > CAP[pool] as u64 {
                return Err(Error::TooMany {
                    what: POOL_NAME[pool],
                    limit: CAP[pool],
                });
            }
        }
        Ok(())
    }
}
