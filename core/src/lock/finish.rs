//! The work around the table's operations: run a mutation, grant the waiters that it made room for, remove
//! abandoned requests, and recover.
//!
//! Invariants:
//! 1. Every operation that changes the table first finishes what an earlier operation left (`ready`).
//! 2. `PENDING` returns to 0 after the last grant. Each grant is one mutation, followed by its signal.
//! 3. `recover` may be killed and called again: it replays the undo log, marks the removal of abandoned requests and
//!    the deferred releases as due, grants, signals.

use crate::error::Result;
use crate::ids::ObjectId;
use crate::lock::memory::layout::{
    ABANDONED, CAP, DEFERRED, FLAG_WAS_EXCLUSIVE, FLAG_WAS_SHARED, PENDING, POOL_HIGH, POOLS, STATE_FREE,
    STATE_GRANTED, STATE_MASK, UNDO_LEN, WAITER, lo,
};
use crate::lock::memory::op::{Hold, Link, Lockable, Op, Waiter};
use crate::lock::rules::conflict::Want;
use crate::lock::rules::grant::HoldPart;
use crate::lock::{Table, Wakes};
use smallvec::SmallVec;
use std::sync::atomic::Ordering;

impl<'a> Table<'a> {
    /// Make the table consistent after its user died. Called when the latch was taken over from a dead owner
    /// (before `release_process`). May itself be killed and called again.
    pub fn recover(&self, wakes: &mut Wakes) -> Result<()> {
        self.replay()?;
        // The removal of abandoned requests may have been interrupted, and so may the signals of committed grants.
        self.store(ABANDONED, 1)?;
        self.store(DEFERRED, 1)?;
        self.finish_earlier(wakes)?;
        let op = Op::new(self);
        for w in self.waiters() {
            if op.get(w, 3)? & STATE_MASK == STATE_GRANTED {
                self.signal(w, wakes);
            }
        }
        Ok(())
    }

    /// Return the records of the waiters' pool that were ever used.
    pub(in crate::lock) fn waiters(&self) -> impl Iterator<Item = Waiter> + use<> {
        let high = self
            .load_word(POOLS + 4 * WAITER + POOL_HIGH)
            .min(CAP[WAITER] as u64) as u32;
        (1..=high).map(Link)
    }

    pub(in crate::lock) fn signal_of(&self, w: Waiter) -> u32 {
        self.signals
            .get(w.0.wrapping_sub(1) as usize)
            .map_or(0, |s| s.load(Ordering::Acquire))
    }

    pub(in crate::lock) fn signal(&self, w: Waiter, wakes: &mut Wakes) {
        let number = w.0.wrapping_sub(1);
        if let Some(signal) = self.signals.get(number as usize) {
            signal.fetch_add(1, Ordering::Release);
            wakes.push(number);
        }
    }

    /// Run a mutation: all of it, or nothing on an error.
    pub(in crate::lock) fn mutate<R>(&self, f: impl FnOnce(&mut Op<'_, 'a>) -> Result<R>) -> Result<R> {
        let mut op = Op::new(self);
        match f(&mut op) {
            Ok(result) => {
                op.commit()?;
                Ok(result)
            }
            Err(error) => {
                op.rollback()?;
                Err(error)
            }
        }
    }

    /// Finish what an earlier operation left undone.
    #[inline]
    pub(in crate::lock) fn finish_earlier(&self, wakes: &mut Wakes) -> Result<()> {
        if self.load_word(UNDO_LEN) != 0 {
            self.replay()?;
        }
        self.grant_pending(wakes)?;
        self.finish_deferred(wakes)
    }

    /// Return whether an earlier operation left nothing to finish.
    #[inline]
    pub(in crate::lock) fn is_complete(&self) -> bool {
        [UNDO_LEN, PENDING, ABANDONED, DEFERRED]
            .into_iter()
            .all(|word| self.load_word(word) == 0)
    }

    /// Return an error if a mutation is unfinished: a reader cannot repair it, and must not read half of it.
    pub(in crate::lock) fn check_complete(&self) -> Result<()> {
        if self.load_word(UNDO_LEN) != 0 {
            self.replay()
        } else {
            Ok(())
        }
    }

    /// Run `ready`, then remove the abandoned requests.
    #[inline]
    pub(in crate::lock) fn prepare(&self, wakes: &mut Wakes) -> Result<()> {
        self.finish_earlier(wakes)?;
        if self.load_word(ABANDONED) != 0 {
            self.remove_abandoned(wakes)
        } else {
            Ok(())
        }
    }

    #[cold]
    fn remove_abandoned(&self, wakes: &mut Wakes) -> Result<()> {
        self.count_down()?;
        self.words[ABANDONED].swap(0, Ordering::AcqRel);
        for w in self.waiters() {
            let op = Op::new(self);
            let flags = op.get(w, 3)?;
            if flags & STATE_MASK == STATE_FREE || op.get(w, 7)? != op.get(w, 5)? {
                continue;
            }
            if flags & STATE_MASK == STATE_GRANTED {
                self.inflate_for(ObjectId(op.get(w, 4)?))?;
            }
            self.mutate(|op| {
                if flags & STATE_MASK == STATE_GRANTED {
                    Self::undo_grant(op, w, flags)?;
                }
                op.free_waiter(w)
            })?;
            self.grant_pending(wakes)?;
        }
        Ok(())
    }

    /// Undo the grant of a waiter that had given up.
    fn undo_grant(op: &mut Op<'_, '_>, w: Waiter, flags: u64) -> Result<()> {
        let (id, mut want) = (op.get(w, 4)?, op.want(w)?);
        let l = op.find(id, want.key)?;
        let h = if l.is_none() {
            Hold::NONE
        } else {
            op.find_hold(l, want.owner)?
        };
        if h.is_none() {
            return Ok(());
        }
        if want.change {
            op.release(h, HoldPart::Reservation)?;
        } else if !want.mount {
            op.release(h, HoldPart::Level)?;
        } else if flags & FLAG_WAS_EXCLUSIVE == 0 && flags & FLAG_WAS_SHARED != 0 {
            want.exclusive = false;
            op.take(op.container(l)?, &want, true)?;
        } else if flags & FLAG_WAS_EXCLUSIVE == 0 {
            op.release(h, HoldPart::Lock)?;
        }
        Ok(())
    }

    /// Grant every waiter whose turn has come in the container that `PENDING` names.
    pub(in crate::lock) fn grant_pending(&self, wakes: &mut Wakes) -> Result<()> {
        let pending = self.load_word(PENDING);
        if pending == 0 {
            return Ok(());
        }
        let c: Lockable = Link(lo(pending));
        // A file's owner that waits for both modes may get the weaker one last: then others can be granted too.
        while self.grant_in_order(c, wakes)? {}
        self.store(PENDING, 0)
    }

    /// Grant the waiters of a container whose turn has come. Return whether a grant weakened its owner's lock, so that
    /// the waiters before it must be looked at again.
    fn grant_in_order(&self, c: Lockable, wakes: &mut Wakes) -> Result<bool> {
        let mut ahead: SmallVec<[Want; 8]> = SmallVec::new();
        let mut weakened = false;
        let mut w = Op::new(self).first_waiter(c)?;
        for _ in 0..CAP[WAITER] {
            if w.is_none() {
                break;
            }
            let op = Op::new(self);
            let (next, want) = (op.next_waiter(w)?, op.want(w)?);
            let free = op.blocking_hold(c, &want, |_| Ok(true))?.is_none();
            if free && !ahead.iter().any(|a| want.clashes_with(a)) {
                self.mutate(|op| op.grant(w))?;
                let was_exclusive = Op::new(self).get(w, 3)? & FLAG_WAS_EXCLUSIVE != 0;
                weakened |= was_exclusive && want.mount && !want.change && !want.exclusive;
                self.count_down()?;
                self.signal(w, wakes);
            } else {
                ahead.push(want);
            }
            w = next;
        }
        Ok(weakened)
    }
}
