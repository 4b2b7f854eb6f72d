//! Waits that may be part of a cycle over several stores: what this store's table knows of them, and when a
//! waiter checks. The list of such waits belongs to the process (`page::sync::deadlock`).
//!
//! 1. A wait enters the list after it has slept for a slice, and leaves it when it ends.
//! 2. A waiter checks again when a wait began in another store of the process since its last check: a cycle
//!    closes when its last member begins to wait.
//! 3. A cycle through another process is not detected. A wait without a timeout that leads to another
//!    process, of an owner that holds a lock in another store, ends after the store's own bound.

use crate::error::{Error, Result};
use crate::lock::memory::layout::{
    FLAG_CHANGE, FLAG_EXCLUSIVE, FLAG_KEY, FLAG_MOUNT, STATE_MASK, STATE_WAITING,
};
use crate::lock::memory::op::{Link, Lockable, Op, OwnerRec, Waiter};
use crate::lock::rules::conflict::Want;
use crate::lock::rules::graph::Reach;
use crate::lock::waiting::env::Env;
use crate::lock::{Owner, Request, Table, Ticket};
use crate::page::sync::deadlock::{self, Found, Look, Waiting};
use smallvec::SmallVec;
use std::time::{Duration, Instant};

/// How often a wait past the store's bound checks whether it may continue.
const AGAIN: Duration = Duration::from_millis(200);

/// The bits of a waiter that define its request.
const SHAPE: u64 = FLAG_EXCLUSIVE | FLAG_KEY | FLAG_CHANGE | FLAG_MOUNT;

impl Table<'_> {
    /// Return all owners that a queued request waits for, directly or through other waiters.
    pub fn awaited(&self, ticket: Ticket) -> Result<Vec<Owner>> {
        let op = Op::new(self);
        let first = self.waiter(ticket)?;
        let mut seen = Reach::empty();
        let mut owners = Vec::new();
        let mut todo: SmallVec<[Waiter; 16]> = SmallVec::new();
        todo.push(first);
        seen.add_waiter(first.0);
        seen.add_owner(op.want(first)?.owner.0);
        while let Some(w) = todo.pop() {
            let (c, want): (Lockable, _) = (Link(op.lo(w, 1)?), op.want(w)?);
            let shape = op.get(w, 3)? & SHAPE;
            let mut note = |o: OwnerRec, seen: &mut Reach| -> Result<()> {
                if seen.add_owner(o.0) {
                    owners.push(op.owner(o)?);
                    op.requests(o, |q| {
                        if seen.add_waiter(q.0) {
                            todo.push(q);
                        }
                        Ok(())
                    })?;
                }
                Ok(())
            };
            op.blocking_hold(c, &want, |h| {
                note(Link(op.lo(h, 2)?), &mut seen)?;
                Ok(false)
            })?;
            let mut ahead = op.first_waiter(c)?;
            while !ahead.is_none() && ahead != w {
                let other: Want = op.want(ahead)?;
                if want.clashes_with(&other) {
                    // An earlier waiter with the same request waits for a subset of the owners that this one
                    // waits for.
                    if want.exclusive && other.key == want.key && op.get(ahead, 3)? & SHAPE == shape {
                        seen.add_waiter(ahead.0);
                    }
                    note(other.owner, &mut seen)?;
                }
                ahead = op.next_waiter(ahead)?;
            }
        }
        Ok(owners)
    }

    /// Return whether an owner holds a lock.
    pub fn holds(&self, owner: &Owner) -> Result<bool> {
        let op = Op::new(self);
        let o = op.find_owner(owner)?;
        if !o.is_none() && op.lo(o, 3)? != 0 {
            return Ok(true);
        }
        for thin in self.thin_locks() {
            if thin?.owner == *owner {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Op<'_, '_> {
    /// Call `f` for each waiting request of an owner.
    fn requests(&self, o: OwnerRec, mut f: impl FnMut(Waiter) -> Result<()>) -> Result<()> {
        let mut q: Waiter = Link(self.hi(o, 3)?);
        while !q.is_none() {
            if self.get(q, 3)? & STATE_MASK == STATE_WAITING {
                f(q)?;
            }
            q = Link(self.lo(q, 6)?);
        }
        Ok(())
    }
}

/// The state of a wait with regard to other stores.
#[derive(Debug)]
pub(crate) struct CrossStoreCheck {
    request: Request,
    /// The caller gave no timeout.
    endless: bool,
    blocks: bool,
    /// When the wait began, and the time of the last check past the store's bound. The clock is first read at the end
    /// of the first slice, since most requests do not wait.
    begun: Option<Instant>,
    asked: Option<Instant>,
    waiting: Option<Waiting>,
}

/// A check that is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    time: u64,
    /// The wait has lasted as long as the store's bound.
    late: bool,
}

impl CrossStoreCheck {
    pub(crate) fn new(request: &Request, endless: bool, blocks: bool) -> CrossStoreCheck {
        CrossStoreCheck {
            request: *request,
            endless,
            blocks,
            begun: None,
            asked: None,
            waiting: None,
        }
    }

    /// After a sleep of a slice, return whether the blocking owners must be looked up now. Called without the
    /// latch.
    pub(crate) fn due(&mut self, env: &impl Env) -> Option<Due> {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        if self.waiting.is_none() {
            if !deadlock::several_stores() {
                return None;
            }
            self.waiting = env.enter(&self.request, self.blocks);
        }
        let waiting = self.waiting.as_ref()?;
        let late = self.endless
            && begun.elapsed() >= env.bound()
            && self.asked.is_none_or(|asked| asked.elapsed() >= AGAIN);
        if late {
            self.asked = Some(Instant::now());
            return Some(Due {
                time: waiting.now(),
                late,
            });
        }
        waiting.time_for_look().map(|time| Due { time, late })
    }

    /// Process the result of a check; an error ends the wait. Called without the latch.
    pub(crate) fn apply(&self, env: &impl Env, due: Due, awaited: &[Owner]) -> Result<()> {
        let Some(waiting) = &self.waiting else {
            return Ok(());
        };
        let me = &self.request.owner;
        let mut look = Look::default();
        for owner in awaited {
            if owner.same_process(me) {
                look.awaited.push((owner.id as u16 as u32, owner.id >> 16));
            } else {
                look.abroad = true;
            }
        }
        match waiting.search(due.time, look) {
            Found::Cycle(others) => Err(Error::Deadlock {
                what: env.name(&self.request),
                holder: deadlock::members(&others),
            }),
            Found::None { abroad: true } if due.late => match env.holds_elsewhere(me) {
                Some(elsewhere) => {
                    let first = awaited.iter().find(|o| !o.same_process(me)).or(awaited.first());
                    let holder = first.map_or_else(|| "a transaction".to_owned(), |o| env.describe(o));
                    Err(Error::timeout(
                        env.name(&self.request),
                        env.bound(),
                        format!(
                            "{holder}; this owner holds a lock or a transaction in {elsewhere}, so a deadlock \
                             over two stores is likely: release it and try again, lock stores in the same order \
                             everywhere, or give a timeout to wait longer"
                        ),
                    ))
                }
                None => Ok(()),
            },
            Found::None { .. } => Ok(()),
        }
    }

    /// Run a check while the latch is not available: its owner is the blocker.
    pub(crate) fn check_latch_owner(&mut self, env: &impl Env) -> Result<()> {
        let Some(due) = self.due(env) else {
            return Ok(());
        };
        let awaited = env.latch_owner();
        self.apply(env, due, awaited.as_slice())
    }
}
