//! The lock table: the operations of the lock manager, each one or more mutations (see `op`).
//!
//! Invariants:
//! 1. The caller holds the latch throughout, except for `may_concern`, `seems_blocked` and `abandon`.
//! 2. A mutation that makes a waiter grantable sets `PENDING` in the same mutation. The waiters are then
//!    granted one mutation each, and `PENDING` returns to 0 last. An operation that finds it set finishes the
//!    grants first.
//! 3. The signal of a waiter changes after its grant is committed, still under the latch.

use crate::error::{Error, Result};
use crate::ids::ObjectId;
use crate::lock::memory::layout::{
    ABANDONED, BASE, CAP, HOLD, POOL_USED, POOLS, RECORD, SIGNALS, STATE_FREE, STATE_GRANTED, STATE_MASK,
    WAITER, bucket, hi, lo,
};
use crate::lock::memory::op::{Hold, Link, Op, OwnerRec, Waiter};
use crate::lock::memory::words::{Words, corrupt};
use crate::lock::rules::conflict::{Tried, Want};
use crate::lock::rules::grant::HoldPart;
use crate::lock::rules::graph::Verdict;
use crate::lock::{
    Cancelled, Holder, LockMode, Mode, Owner, OwnerKind, Owners, Queued, Request, Target, Ticket, WaitState,
    Wakes,
};
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The lock table in its shared words. Creating one is free: it borrows the map.
#[derive(Debug)]
pub struct Table<'a> {
    memory: Words<'a>,
}

impl<'a> Deref for Table<'a> {
    type Target = Words<'a>;

    #[inline]
    fn deref(&self) -> &Words<'a> {
        &self.memory
    }
}

/// `Table::may_concern`, of the table's counters.
#[inline]
pub(crate) fn may_concern(counts: &[AtomicU32], id: ObjectId) -> bool {
    match counts.get(bucket(id.0, None)) {
        Some(count) => count.load(Ordering::Acquire) != 0,
        None => true,
    }
}

impl<'a> Table<'a> {
    /// Return a table in zeroed words, or in words that another process uses too.
    pub fn new(
        words: &'a [AtomicU64],
        signals: &'a [AtomicU32],
        counts: &'a [AtomicU32],
    ) -> Result<Table<'a>> {
        Words::new(words, signals, counts).map(|memory| Table { memory })
    }

    /// Return whether any lock can concern this container: one load. False is certain under the latch.
    #[inline]
    #[must_use]
    pub fn may_concern(&self, id: ObjectId) -> bool {
        may_concern(self.counts, id)
    }

    /// Return whether no lock, waiter or owner is left.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        (0..CAP.len()).all(|pool| self.load_word(POOLS + 4 * pool + POOL_USED) == 0)
            && self.thin_locks().next().is_none()
    }

    /// Acquire a lock if nothing blocks it; otherwise return the holder. (A mount's owner converts.)
    pub fn try_lock(&self, request: &Request, wakes: &mut Wakes) -> Result<Option<Holder>> {
        self.prepare(wakes)?;
        match self.try_thin(request)? {
            Tried::Granted => return Ok(None),
            Tried::Blocked(holder) => return Ok(Some(holder)),
            Tried::Undecided => self.inflate_for(request.target.id)?,
        }
        let blocker = self.mutate(|op| {
            let c = op.find(request.target.id.0, None)?;
            if !c.is_none() {
                let want = Want::of(request, op.find_owner(&request.owner)?);
                if let Verdict::Blocked { by, .. } = op.judge(c, &want)? {
                    return op.describe(by).map(Some);
                }
            }
            Self::give(op, request)?;
            Ok(None)
        })?;
        self.grant_pending(wakes)?;
        Ok(blocker)
    }

    /// Set the lock of a mount's owner to exactly this mode, or remove it. Return the holder that blocks it;
    /// then nothing has changed.
    pub fn set_lock(
        &self,
        owner: &Owner,
        target: &Target,
        mode: Option<LockMode>,
        wakes: &mut Wakes,
    ) -> Result<Option<Holder>> {
        match mode {
            Some(mode) => self.try_lock(&Request::lock(*owner, *target, mode)?, wakes),
            None => self.drop_from(owner, target, HoldPart::Lock, wakes).map(|_| None),
        }
    }

    /// Acquire a lock, or queue for it.
    pub fn enqueue(&self, request: &Request, wakes: &mut Wakes) -> Result<Queued> {
        self.prepare(wakes)?;
        if self.is_granted_thin(request)? {
            return Ok(Queued::Granted);
        }
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as u64);
        let queued = self.mutate(|op| {
            let c = op.container_or_new(request.target.id)?;
            let o = op.owner_or_new(&request.owner)?;
            let want = Want::of(request, o);
            let Verdict::Blocked { before, .. } = op.judge(c, &want)? else {
                op.take(c, &want, request.owner.kind.is_mount() && !request.change)?;
                return Ok(Queued::Granted);
            };
            let w = op.push(c, &want, before, since)?;
            op.room_for_waiters()?;
            if let Some(holder) = op.find_cycle(w)? {
                op.rollback()?;
                return Ok(Queued::Deadlock(holder));
            }
            let ticket = Ticket {
                signal: w.0 - 1,
                sequence: op.get(w, 5)?,
            };
            Ok(Queued::Waiting {
                ticket,
                seen: self.signal_of(w),
            })
        })?;
        self.grant_pending(wakes)?;
        Ok(queued)
    }

    /// Return whether the ticket's request was granted. True consumes the ticket.
    pub fn granted(&self, ticket: Ticket, wakes: &mut Wakes) -> Result<bool> {
        self.prepare(wakes)?;
        let w = self.waiter(ticket)?;
        if Op::new(self).get(w, 3)? & STATE_MASK != STATE_GRANTED {
            return Ok(false);
        }
        self.mutate(|op| op.free_waiter(w))?;
        Ok(true)
    }

    /// Return the state of a request, and the other processes that block it.
    pub fn wait_state(&self, ticket: Ticket, wakes: &mut Wakes) -> Result<WaitState> {
        if self.granted(ticket, wakes)? {
            return Ok(WaitState::Granted);
        }
        let (op, w) = (Op::new(self), self.waiter(ticket)?);
        let (c, want) = (Link(op.lo(w, 1)?), op.want(w)?);
        let me = op.owner(want.owner)?;
        let mut blockers = Owners::new();
        let mut sibling = false;
        let mut note = |owner: Owner| {
            sibling |= owner != me && owner.same_thread(&me);
            if !owner.same_process(&me) && !blockers.iter().any(|b| b.same_process(&owner)) {
                blockers.push(owner);
            }
        };
        op.blocking_hold(c, &want, |h| {
            note(op.owner(Link(op.lo(h, 2)?))?);
            Ok(false)
        })?;
        let mut ahead = op.first_waiter(c)?;
        while !ahead.is_none() && ahead != w {
            let other = op.want(ahead)?;
            if want.clashes_with(&other) {
                note(op.owner(other.owner)?);
            }
            ahead = op.next_waiter(ahead)?;
        }
        Ok(WaitState::Waiting {
            seen: self.signal_of(w),
            blockers,
            sibling,
        })
    }

    /// Cancel a request. If it was granted before, it stays granted.
    pub fn cancel(&self, ticket: Ticket, wakes: &mut Wakes) -> Result<Cancelled> {
        self.prepare(wakes)?;
        let w = self.waiter(ticket)?;
        let result = self.mutate(|op| {
            let result = if op.get(w, 3)? & STATE_MASK == STATE_GRANTED {
                Cancelled::Granted
            } else {
                let (c, want) = (Link(op.lo(w, 1)?), op.want(w)?);
                let hold = op.blocking_hold(c, &want, |_| Ok(true))?;
                let mut holder = if hold.is_none() {
                    None
                } else {
                    Some(op.describe_blocker(hold)?)
                };
                let mut ahead = op.first_waiter(c)?;
                while holder.is_none() && !ahead.is_none() && ahead != w {
                    if want.clashes_with(&op.want(ahead)?) {
                        holder = Some(op.describe_waiter(ahead)?);
                    }
                    ahead = op.next_waiter(ahead)?;
                }
                Cancelled::Withdrawn(holder)
            };
            op.free_waiter(w)?;
            Ok(result)
        })?;
        self.grant_pending(wakes)?;
        Ok(result)
    }

    /// Return whether the signal of a request differs from the value `seen`: one load, without the latch.
    #[inline]
    #[must_use]
    pub fn is_signalled(&self, ticket: Ticket, seen: u32) -> bool {
        let signal = self.signals.get(ticket.signal as usize);
        signal.is_none_or(|s| s.load(Ordering::Acquire) != seen)
    }

    /// Abandon a request without the latch, if the latch cannot be acquired in time. The next request that
    /// waits removes it, with its grant.
    pub fn abandon(&self, ticket: Ticket) {
        let at = BASE[WAITER] + ticket.signal as usize * RECORD + 7;
        if (ticket.signal as usize) < SIGNALS {
            // This store bypasses the undo log and is part of no mutation: only this waiter stores here.
            self.words[at].store(ticket.sequence, Ordering::Release);
            self.words[ABANDONED].store(1, Ordering::Release);
        }
    }

    /// Release one level of a lock (for a mount's owner: the lock).
    pub fn unlock(&self, owner: &Owner, target: &Target, wakes: &mut Wakes) -> Result<()> {
        self.unlock_level(owner, target, HoldPart::Level, wakes)
    }

    /// Release one level that was acquired in this mode (for a mount's owner: the lock).
    pub fn unlock_mode(
        &self,
        owner: &Owner,
        target: &Target,
        mode: LockMode,
        wakes: &mut Wakes,
    ) -> Result<()> {
        self.unlock_level(owner, target, HoldPart::LevelOf(mode), wakes)
    }

    fn unlock_level(&self, owner: &Owner, target: &Target, what: HoldPart, wakes: &mut Wakes) -> Result<()> {
        if self.drop_from(owner, target, what, wakes)? {
            return Ok(());
        }
        Err(Error::NotLocked {
            what: target.to_string(),
        })
    }

    /// Release every lock of an owner. Its waits and reservations stay.
    pub fn unlock_all(&self, owner: &Owner, wakes: &mut Wakes) -> Result<()> {
        self.finish_earlier(wakes)?;
        self.drop_all(owner, HoldPart::Lock, wakes)
    }

    /// Release one reservation, after the change that it was for. Return false if none existed.
    pub fn release_reservation(&self, owner: &Owner, target: &Target, wakes: &mut Wakes) -> Result<bool> {
        self.drop_from(owner, target, HoldPart::Reservation, wakes)
    }

    /// Release all reservations of an owner.
    pub fn release_reservations(&self, owner: &Owner, wakes: &mut Wakes) -> Result<()> {
        self.finish_earlier(wakes)?;
        self.drop_all(owner, HoldPart::Reservations, wakes)
    }

    /// Return the holder that blocks this owner's change of an entry, or of the whole container. Only useful
    /// if `may_concern` returns true.
    pub fn change_blocked(&self, owner: &Owner, id: ObjectId, key: Option<u64>) -> Result<Option<Holder>> {
        self.blocked(&Request::change(*owner, id, key))
    }

    /// Return the holder that blocks this owner's lock of the target. Considers holders only, not earlier
    /// waiters.
    pub fn test(&self, owner: &Owner, target: &Target, mode: LockMode) -> Result<Option<Holder>> {
        self.blocked(&Request::lock(*owner, *target, mode)?)
    }

    /// Return the mode in which an owner holds a target as a lock, by levels of its own.
    pub fn held(&self, owner: &Owner, target: &Target) -> Result<Option<Mode>> {
        self.check_complete()?;
        if let Some(held) = self.thin_held(owner, target)? {
            return Ok(held);
        }
        let op = Op::new(self);
        let (l, o) = (op.find(target.id.0, target.key)?, op.find_owner(owner)?);
        let h = if l.is_none() || o.is_none() {
            Hold::NONE
        } else {
            op.find_hold(l, o)?
        };
        if h.is_none() {
            return Ok(None);
        }
        let levels = op.get(h, 3)?;
        Ok(if hi(levels) != 0 {
            Some(Mode::X)
        } else if lo(levels) != 0 {
            Some(Mode::S)
        } else {
            None
        })
    }

    fn blocked(&self, request: &Request) -> Result<Option<Holder>> {
        self.check_complete()?;
        if let Some(blocker) = self.thin_blocker(request)? {
            return Ok(blocker);
        }
        let op = Op::new(self);
        let c = op.find(request.target.id.0, None)?;
        if c.is_none() {
            return Ok(None);
        }
        let want = Want::of(request, op.find_owner(&request.owner)?);
        let h = op.blocking_hold(c, &want, |_| Ok(true))?;
        if h.is_none() {
            Ok(None)
        } else {
            op.describe_blocker(h).map(Some)
        }
    }

    fn give(op: &mut Op<'_, '_>, request: &Request) -> Result<()> {
        let c = op.container_or_new(request.target.id)?;
        let o = op.owner_or_new(&request.owner)?;
        op.take(
            c,
            &Want::of(request, o),
            request.owner.kind.is_mount() && !request.change,
        )?;
        Ok(())
    }

    fn drop_from(&self, owner: &Owner, target: &Target, what: HoldPart, wakes: &mut Wakes) -> Result<bool> {
        self.finish_earlier(wakes)?;
        if let Some(done) = self.drop_thin(owner, target, what)? {
            return Ok(done);
        }
        let done = self.mutate(|op| {
            let l = op.find(target.id.0, target.key)?;
            let o = if l.is_none() {
                OwnerRec::NONE
            } else {
                op.find_owner(owner)?
            };
            let h = if o.is_none() {
                Hold::NONE
            } else {
                op.find_hold(l, o)?
            };
            if h.is_none() {
                Ok(false)
            } else {
                op.release(h, what)
            }
        })?;
        self.grant_pending(wakes)?;
        Ok(done)
    }

    /// Release a part of all of an owner's holds.
    pub(in crate::lock) fn drop_all(&self, owner: &Owner, what: HoldPart, wakes: &mut Wakes) -> Result<()> {
        if owner.kind == OwnerKind::Thread && matches!(what, HoldPart::Lock | HoldPart::All) {
            self.drop_thins(|o| o == owner)?;
        }
        self.drop_each(HOLD, wakes, |op| {
            let o = op.find_owner(owner)?;
            let mut h: Hold = if o.is_none() {
                Hold::NONE
            } else {
                Link(op.lo(o, 3)?)
            };
            while !h.is_none() {
                if op.release(h, what)? {
                    return Ok(false);
                }
                h = Link(op.lo(h, 1)?);
            }
            Ok(true)
        })
    }

    /// Withdraw all requests of an owner.
    pub(in crate::lock) fn drop_waits(&self, owner: &Owner, wakes: &mut Wakes) -> Result<()> {
        self.drop_each(WAITER, wakes, |op| {
            let o = op.find_owner(owner)?;
            let w: Waiter = if o.is_none() {
                Waiter::NONE
            } else {
                Link(op.hi(o, 3)?)
            };
            if w.is_none() {
                return Ok(true);
            }
            op.free_waiter(w)?;
            Ok(false)
        })
    }

    /// Remove records of a kind, one per mutation, until `step` returns that none is left.
    fn drop_each(
        &self,
        kind: usize,
        wakes: &mut Wakes,
        mut step: impl FnMut(&mut Op<'_, 'a>) -> Result<bool>,
    ) -> Result<()> {
        for _ in 0..=CAP[kind] {
            let done = self.mutate(&mut step)?;
            self.grant_pending(wakes)?;
            if done {
                return Ok(());
            }
        }
        Err(corrupt(
            "an owner without end in the lock table (close the store everywhere), word",
            kind,
        ))
    }

    pub(in crate::lock) fn waiter(&self, ticket: Ticket) -> Result<Waiter> {
        let (op, w) = (Op::new(self), Link(ticket.signal.saturating_add(1)));
        if op.get(w, 5)? != ticket.sequence || op.get(w, 3)? & STATE_MASK == STATE_FREE {
            return Err(Error::NotLocked {
                what: "what this request waited for (its owner was released)".into(),
            });
        }
        Ok(w)
    }
}
