//! The wait-for graph: where a new request belongs in its queue, and whether it closes a cycle.
//!
//! An owner reaches another if one of its requests waits for that owner: for a hold of it, or behind an
//! earlier conflicting request of it, or for another owner that reaches it. A request for an entry waits for
//! holds on the container and on the entry from the start, so a cycle is detected when it closes and not when
//! the first half is granted.
//!
//! Invariants:
//! 1. The set is computed backward from the requester. No owner reaches a requester that holds nothing and
//!    waits for nothing else, so the common case needs no walk.
//! 2. An earlier request of an owner that already reaches the requester does not block the requester.
//! 3. Queue order alone never deadlocks a new request: if only queued requests block it and all their owners
//!    reach it, it is granted.

use crate::error::Result;
use crate::lock::Holder;
use crate::lock::memory::layout::{CAP, KIND_CONTAINER, OWNER, STATE_MASK, STATE_WAITING, WAITER};
use crate::lock::memory::op::{Hold, Link, Lockable, Op, OwnerRec, Waiter};
use crate::lock::rules::conflict::Want;
use smallvec::SmallVec;

/// A set of requests and owners: those that reach one owner, or those that one request reaches.
pub(in crate::lock) struct Reach {
    waiters: [u64; CAP[WAITER] / 64],
    owners: [u64; CAP[OWNER] / 64],
}

fn mark(set: &mut [u64], link: u32) -> bool {
    let number = link.wrapping_sub(1) as usize;
    match set.get_mut(number / 64) {
        Some(word) => {
            let fresh = *word & (1 << (number % 64)) == 0;
            *word |= 1 << (number % 64);
            fresh
        }
        None => false,
    }
}

fn marked(set: &[u64], link: u32) -> bool {
    let number = link.wrapping_sub(1) as usize;
    set.get(number / 64)
        .is_some_and(|word| word & (1 << (number % 64)) != 0)
}

impl Reach {
    pub(in crate::lock) fn empty() -> Reach {
        Reach {
            waiters: [0; CAP[WAITER] / 64],
            owners: [0; CAP[OWNER] / 64],
        }
    }

    /// Add an owner. Return false if the set contains it already, or if it is invalid.
    pub(in crate::lock) fn add_owner(&mut self, link: u32) -> bool {
        mark(&mut self.owners, link)
    }

    /// Add a request. Return false if the set contains it already, or if it is invalid.
    pub(in crate::lock) fn add_waiter(&mut self, link: u32) -> bool {
        mark(&mut self.waiters, link)
    }
}

/// Whether a request can be granted.
pub(in crate::lock) enum Verdict {
    /// Nothing blocks it.
    Free,
    /// Blocked by `by`. The request's place is before `before` (or last, if that is none).
    Blocked { by: Blocker, before: Waiter },
}

/// The cause of a block.
#[derive(Clone, Copy)]
pub(in crate::lock) enum Blocker {
    /// A holder.
    Hold(Hold),
    /// A request that came earlier.
    Waiter(Waiter),
}

impl Op<'_, '_> {
    pub(in crate::lock) fn describe(&self, blocker: Blocker) -> Result<Holder> {
        match blocker {
            Blocker::Hold(h) => self.describe_blocker(h),
            Blocker::Waiter(w) => self.describe_waiter(w),
        }
    }

    /// Return whether owner `o`, whose hold on container `c` is `h`, blocks a request.
    fn owner_blocks(&self, o: OwnerRec, h: Hold, c: Lockable, want: &Want) -> Result<bool> {
        if self.hold_blocks(h, want.on_container(), want)? {
            return Ok(true);
        }
        let entry = if want.key.is_some() {
            self.find(self.get(c, 1)?, want.key)?
        } else {
            Lockable::NONE
        };
        let h = if entry.is_none() {
            Hold::NONE
        } else {
            self.find_hold(entry, o)?
        };
        Ok(!h.is_none() && self.hold_blocks(h, want.on_entry(), want)?)
    }

    /// Return all owners and requests that wait for `target`.
    pub(in crate::lock) fn reach(&self, target: OwnerRec) -> Result<Reach> {
        let mut reach = Reach::empty();
        if target.is_none() {
            return Ok(reach);
        }
        let mut todo: SmallVec<[OwnerRec; 16]> = SmallVec::new();
        mark(&mut reach.owners, target.0);
        todo.push(target);
        while let Some(o) = todo.pop() {
            let mut reached = |w: Waiter, owner: OwnerRec, reach: &mut Reach| {
                mark(&mut reach.waiters, w.0);
                if mark(&mut reach.owners, owner.0) {
                    todo.push(owner);
                }
            };
            // Add the requests that want what this owner holds. A hold on an entry implies one on its
            // container, and few of many locked entries have waiters, so iterate by container and waiter.
            let mut h: Hold = Link(self.lo(o, 3)?);
            while !h.is_none() {
                let c: Lockable = Link(self.hi(h, 0)?);
                let mut w = if self.hi(c, 3)? == KIND_CONTAINER {
                    self.first_waiter(c)?
                } else {
                    Waiter::NONE
                };
                while !w.is_none() {
                    if !marked(&reach.waiters, w.0) {
                        let want = self.want(w)?;
                        if self.owner_blocks(o, h, c, &want)? {
                            reached(w, want.owner, &mut reach);
                        }
                    }
                    w = self.next_waiter(w)?;
                }
                h = Link(self.lo(h, 1)?);
            }
            // Add the requests behind its requests in a queue.
            let mut q: Waiter = Link(self.hi(o, 3)?);
            while !q.is_none() {
                if self.get(q, 3)? & STATE_MASK == STATE_WAITING {
                    let ahead = self.want(q)?;
                    let mut w = self.next_waiter(q)?;
                    while !w.is_none() {
                        if !marked(&reach.waiters, w.0) {
                            let want = self.want(w)?;
                            if want.clashes_with(&ahead) {
                                reached(w, want.owner, &mut reach);
                            }
                        }
                        w = self.next_waiter(w)?;
                    }
                }
                q = Link(self.lo(q, 6)?);
            }
        }
        Ok(reach)
    }

    /// Return whether a request can be granted now, and otherwise what blocks it.
    pub(in crate::lock) fn judge(&self, c: Lockable, want: &Want) -> Result<Verdict> {
        let hold = self.blocking_hold(c, want, |_| Ok(true))?;
        let mut reach: Option<Reach> = None;
        let mut ahead = Waiter::NONE;
        let mut before = Waiter::NONE;
        let mut w = self.first_waiter(c)?;
        while !w.is_none() {
            if want.clashes_with(&self.want(w)?) {
                let reach = match &mut reach {
                    Some(reach) => reach,
                    None => reach.insert(self.reach(want.owner)?),
                };
                if marked(&reach.waiters, w.0) {
                    before = w;
                    break;
                }
                if ahead.is_none() {
                    ahead = w;
                }
            }
            w = self.next_waiter(w)?;
        }
        let by = if !hold.is_none() {
            Blocker::Hold(hold)
        } else if !ahead.is_none() {
            Blocker::Waiter(ahead)
        } else {
            return Ok(Verdict::Free);
        };
        Ok(Verdict::Blocked { by, before })
    }

    /// Return the holder that closes a cycle, if the queued request `w` waits for an owner that waits for its
    /// owner.
    pub(in crate::lock) fn find_cycle(&self, w: Waiter) -> Result<Option<Holder>> {
        let (c, want) = (Link(self.lo(w, 1)?), self.want(w)?);
        let reach = self.reach(want.owner)?;
        let hold = self.blocking_hold(c, &want, |h| Ok(marked(&reach.owners, self.lo(h, 2)?)))?;
        if !hold.is_none() {
            return self.describe_blocker(hold).map(Some);
        }
        let mut other = self.first_waiter(c)?;
        while !other.is_none() && other != w {
            if marked(&reach.waiters, other.0) && want.clashes_with(&self.want(other)?) {
                return self.describe_waiter(other).map(Some);
            }
            other = self.next_waiter(other)?;
        }
        Ok(None)
    }
}
