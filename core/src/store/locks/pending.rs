//! Lock requests that do not block the thread, for tasks of an event loop.
//!
//! 1. A request that is not granted at once stands in the queue like that of a sleeping thread: it keeps its
//!    turn, and takes part in deadlock detection.
//! 2. Each poll of a request runs the checks that a sleeping thread runs, including deadlocks over several
//!    stores.
//! 3. Nothing here waits: if the latch is not free at once, the answer is "not yet".

use crate::lock::waiting::env::Env;
use crate::lock::waiting::wait::SLICE;
use crate::lock::{Cancelled, CrossStoreCheck, OwnerKind, Queued, Request, Table, Ticket, WaitState, Wakes};
use crate::store::locks::handles::{LockOwner, LockTarget};
use crate::store::locks::hooks::{finish_deferred, table, wake_all};
use crate::store::locks::names::describe;
use crate::store::{Actor, Error, LockMode, Result, Store, Wait};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A lock request that is not granted yet. Poll it with `lock_poll`, or cancel it with `lock_cancel`.
#[derive(Debug)]
pub struct Pending {
    request: Request,
    ticket: Ticket,
    /// The value of its signal when it was last checked at.
    seen: AtomicU32,
    begun: Instant,
    cross_store: Mutex<CrossStoreCheck>,
}

/// The result of a request that does not wait.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a queued request is moved once, and then waits"
)]
pub enum LockReply {
    /// The lock is held.
    Held,
    /// The request is in the queue.
    Queued(Pending),
    /// The latch was not free: request again later.
    Later,
}

fn is_later(e: &Error) -> bool {
    matches!(e, Error::WouldBlock { .. } | Error::Timeout { .. })
}

impl Pending {
    /// Return how long the request has waited.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Store {
    fn at_once<R>(&self, f: impl FnOnce(&Table<'_>, &mut Wakes) -> Result<R>) -> Result<Option<R>> {
        let (pager, mut wakes) = (self.pager(), Wakes::new());
        pager.outside_sections()?;
        let mut ran = false;
        let done = pager.with_latch(&mut Wait::never(), || {
            ran = true;
            pager.release_ended_threads()?;
            let table = table(pager)?;
            finish_deferred(pager, &table)?;
            f(&table, &mut wakes)
        });
        wake_all(pager, &wakes);
        match done {
            Err(e) if !ran && is_later(&e) => Ok(None),
            done => done.map(Some),
        }
    }

    /// Request a lock without waiting. See `lock`. The caller polls until `timeout` has passed, if one is
    /// given.
    ///
    /// # Errors
    /// As `lock`, except `Error::Timeout`.
    #[doc(hidden)]
    pub fn lock_later(
        &self,
        actor: Actor,
        target: LockTarget<'_>,
        mode: LockMode,
        timeout: Option<Duration>,
    ) -> Result<LockReply> {
        if self.in_transaction() || self.is_frozen() {
            // Requests do not wait inside a transaction.
            return self
                .lock(actor, target, mode, &mut Wait::never())
                .map(|_| LockReply::Held);
        }
        let request = Request::lock(self.owner(actor)?, self.target(&target), mode)?;
        let endless = timeout.is_none();
        Ok(
            match self.at_once(|table, wakes| table.enqueue(&request, wakes))? {
                None => LockReply::Later,
                Some(Queued::Granted) => LockReply::Held,
                Some(Queued::Waiting { ticket, seen }) => LockReply::Queued(Pending {
                    request,
                    ticket,
                    seen: AtomicU32::new(seen),
                    begun: Instant::now(),
                    cross_store: Mutex::new(CrossStoreCheck::new(&request, endless, false)),
                }),
                Some(Queued::Deadlock(holder)) => {
                    let e = Error::Deadlock {
                        what: request.target.to_string(),
                        holder: describe(self.pager(), &holder.owner),
                    };
                    return Err(self.with_name(e, &request.target, target.obj, target.key.as_ref()));
                }
            },
        )
    }

    /// Return whether the lock is held now. True consumes the request.
    ///
    /// # Errors
    /// `Error::NotLocked` if the owner was released; `Error::Deadlock`, and `Error::Timeout` if a request
    /// without a timeout has a bound (see `lock`): the request stays in its queue in both cases; those of the
    /// disk.
    #[doc(hidden)]
    pub fn lock_poll(&self, pending: &Pending) -> Result<bool> {
        let mut cross_store = pending.cross_store.lock().unwrap_or_else(PoisonError::into_inner);
        let due = if pending.begun.elapsed() < SLICE {
            None
        } else {
            cross_store.due(self)
        };
        let checked = self.at_once(|table, wakes| {
            let standing = table.wait_state(pending.ticket, wakes)?;
            let waits = due.is_some() && matches!(standing, WaitState::Waiting { .. });
            let awaited = if waits {
                table.awaited(pending.ticket)?
            } else {
                Vec::new()
            };
            Ok((standing, awaited))
        })?;
        match checked {
            Some((WaitState::Granted, _)) => Ok(true),
            Some((WaitState::Waiting { seen, blockers, .. }, awaited)) => {
                pending.seen.store(seen, Ordering::Relaxed);
                if let Some(due) = due {
                    cross_store.apply(self, due, &awaited)?;
                }
                for owner in blockers {
                    if self.pager().is_dead(owner.slot, owner.generation) {
                        let _ = self.pager().recover_if_dead(owner.slot);
                    }
                }
                Ok(false)
            }
            None => cross_store.check_latch_owner(self).map(|()| false),
        }
    }

    /// Sleep until the state of a request may have changed since the last poll, for `at_most` at most. Inside a section
    /// it returns at once.
    #[doc(hidden)]
    pub fn lock_sleep(&self, pending: &Pending, at_most: Duration) {
        if self.pager().outside_sections().is_err() {
            return;
        }
        self.sleep(
            pending.ticket.signal,
            pending.seen.load(Ordering::Relaxed),
            at_most,
        );
    }

    /// Return whether the state of a request may have changed since the last poll: one load.
    #[doc(hidden)]
    #[must_use]
    pub fn lock_is_stirred(&self, pending: &Pending) -> bool {
        self.unlatched(|table| table.is_signalled(pending.ticket, pending.seen.load(Ordering::Relaxed)))
    }

    /// Return the actors of this process's mount that a request waits for, directly or through owners of other
    /// processes. If the latch is not free, the list is empty: ask again later.
    ///
    /// # Errors
    /// Those of the disk.
    #[doc(hidden)]
    pub fn lock_behind(&self, pending: &Pending) -> Result<Vec<Actor>> {
        let awaited = self.at_once(|table, _| table.awaited(pending.ticket))?;
        let me = &pending.request.owner;
        Ok(awaited
            .unwrap_or_default()
            .into_iter()
            .filter(|owner| owner.same_process(me))
            .filter_map(|owner| match owner.kind {
                OwnerKind::Flock => Some(Actor::Flock(owner.id, owner.caller)),
                OwnerKind::Posix => Some(Actor::Posix(owner.id, owner.caller)),
                OwnerKind::Thread | OwnerKind::Command => None,
            })
            .collect())
    }

    /// Cancel a request. True means that it was granted before, and the lock is held.
    ///
    /// # Errors
    /// Those of the disk.
    #[doc(hidden)]
    pub fn lock_cancel(&self, pending: &Pending) -> Result<bool> {
        match self.at_once(|table, wakes| table.cancel(pending.ticket, wakes))? {
            Some(Cancelled::Granted) => Ok(true),
            Some(Cancelled::Withdrawn(_)) => Ok(false),
            None => {
                self.unlatched_abandon(pending.ticket);
                Ok(false)
            }
        }
    }

    fn unlatched_abandon(&self, ticket: Ticket) {
        if let Ok(table) = table(self.pager()) {
            table.abandon(ticket);
        }
    }

    /// Return how the target of a request is held, and by which owner, for messages.
    ///
    /// # Errors
    /// Those of the latch.
    #[doc(hidden)]
    pub fn lock_awaited(&self, pending: &Pending, mode: LockMode) -> Result<(&'static str, String)> {
        let holder =
            self.at_once(|table, _| table.test(&pending.request.owner, &pending.request.target, mode))?;
        Ok(match holder.flatten() {
            Some(holder) => (holder.held(), describe(self.pager(), &holder.owner)),
            None => ("held by", "a transaction".to_owned()),
        })
    }

    /// Release everything that a task holds or waits for. Never waits: false means that the caller must try
    /// again.
    ///
    /// # Errors
    /// Those of the disk.
    #[doc(hidden)]
    pub fn release_task(&self, owner: LockOwner) -> Result<bool> {
        self.at_once(|table, wakes| table.release_owner(&owner.0, wakes))
            .map(|done| done.is_some())
    }
}
