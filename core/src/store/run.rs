//! Run closures in sections: wait, retry, commit.

use super::{Actor, Error, Reader, Result, Store, Wait, Writer};
use crate::object::graph;
use crate::page::Reason;
use crate::store::space::debt::{Before, Owed};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The result of running a closure in a read section.
pub(super) enum Attempt<R> {
    Done(Result<R>),
    /// An open transaction has changed the data.
    Busy,
    /// A writer did not wait for the section's end.
    Revoked,
}

/// Read attempts before a reader blocks writers with the latch.
const MAX_ATTEMPTS: u32 = 4;
/// How long the reader waits for the latch.
const LATCH: Duration = Duration::from_millis(50);

impl Store {
    /// Run `f` in a read section. `f` may run again (a transaction or a writer was in the way), and the data
    /// it sees may be torn if it takes long: it must only copy data out, and start over each time. `f` must
    /// not block, must not call the store, and must return soon. Waits for a writer's section as `wait` says,
    /// and for 20 ms at most. Beside a writer that takes longer, and beside a transaction that has changed
    /// the data, it reads the last committed state.
    ///
    /// # Errors
    /// Those of `f`; `Error::Timeout`, `Error::WouldBlock`, `Error::Interrupted` of the wait.
    #[inline]
    pub fn read<R>(&self, wait: &mut Wait<'_>, mut f: impl FnMut(&Reader<'_>) -> Result<R>) -> Result<R> {
        if self.inner.view.is_some() {
            return self.read_frozen(wait, f);
        }
        let section = self.pager().read(wait)?;
        match self.attempt(section, &mut f)? {
            Attempt::Done(done) => done.map_err(|e| self.pager().with_kept_checkpoint(e)),
            failed => self.read_again(wait, matches!(failed, Attempt::Busy), f),
        }
    }

    /// Run `f` in a section, and end the section.
    #[inline(always)]
    pub(super) fn attempt<R>(
        &self,
        section: Reader<'_>,
        f: &mut impl FnMut(&Reader<'_>) -> Result<R>,
    ) -> Result<Attempt<R>> {
        let done = f(&section);
        let (whole, holds) = (section.is_whole(), section.holds());
        if holds && done.is_ok() {
            section.keep_pins();
        }
        drop(section);
        if !whole {
            self.pager().whole()?;
        }
        Ok(match done {
            // The result may come from torn bytes, whatever it is.
            _ if !holds => Attempt::Revoked,
            Err(Error::Busy(_)) => Attempt::Busy,
            // The checkpoint was replaced. The next attempt reads the newest one.
            Err(Error::Stale) => Attempt::Revoked,
            done => Attempt::Done(done),
        })
    }

    /// Read again after the first attempt failed. If a transaction has changed the data (`busy`), read its
    /// earlier state; otherwise the section was revoked.
    #[cold]
    fn read_again<R>(
        &self,
        wait: &mut Wait<'_>,
        mut busy: bool,
        mut f: impl FnMut(&Reader<'_>) -> Result<R>,
    ) -> Result<R> {
        let pager = self.pager();
        let begun = Instant::now();
        for attempt in 1.. {
            // A reader that is repeatedly too slow for the writers blocks new ones.
            let latch = (attempt >= MAX_ATTEMPTS)
                .then(|| pager.hold_latch(LATCH))
                .flatten();
            let done = pager.read(wait).and_then(|mut section| {
                if busy {
                    section.show_committed()?;
                }
                self.attempt(section, &mut f)
            });
            drop(latch);
            match done {
                Ok(Attempt::Done(done)) => return done,
                Ok(Attempt::Busy) => busy = true,
                Ok(Attempt::Revoked) | Err(Error::Busy(_)) => {}
                Err(e) => return Err(e),
            }
            if wait.interrupted.as_mut().is_some_and(|ask| ask()) {
                return Err(Error::Interrupted);
            }
            let bound = wait.timeout.unwrap_or(pager.bound());
            if attempt > MAX_ATTEMPTS && begun.elapsed() >= bound {
                break;
            }
        }
        match wait.timeout {
            Some(Duration::ZERO) => Err(Error::WouldBlock {
                what: "writers that change the store",
            }),
            _ => Err(Error::timeout(
                "a moment to read the store in",
                Duration::ZERO,
                "writers that change it all the time",
            )),
        }
    }

    /// Run `f` in a write section and commit, or roll back to the state before the call on an error. In a
    /// transaction of this thread the change is part of it. `f` may run again (a lock was in the way).
    ///
    /// # Errors
    /// Those of `f`; `Error::Timeout` naming the holder of a lock or of the latch, `Error::Deadlock`,
    /// `Error::WouldBlock` if `wait` forbids waiting; inside a transaction `Error::Conflict`, after which it
    /// is rolled back; `Error::NoSpace`, `Error::Poisoned`. After any of these the change was not made; after
    /// `Error::DurabilityUnknown` it was.
    #[inline]
    pub fn write<R>(
        &self,
        actor: Actor,
        wait: &mut Wait<'_>,
        f: impl FnMut(&mut Writer<'_>) -> Result<R>,
    ) -> Result<R> {
        let done = self.write_without_wait(actor, wait, f)?;
        if self.must_await_durability() {
            self.await_durability(&mut Wait::default())?;
        }
        Ok(done)
    }

    /// Write as `write` does, without waiting until the change survives a power cut: the caller checks
    /// `must_await_durability` next. An error means that nothing was changed.
    ///
    /// # Errors
    /// Those of `write`, except `Error::DurabilityUnknown`.
    #[doc(hidden)]
    #[inline]
    pub fn write_without_wait<R>(
        &self,
        actor: Actor,
        wait: &mut Wait<'_>,
        mut f: impl FnMut(&mut Writer<'_>) -> Result<R>,
    ) -> Result<R> {
        self.expect_live()?;
        let mut reserved = false;
        let mut made_room = false;
        let mut owed = None;
        let mut sent_back = 0;
        loop {
            let insists = sent_back >= MAX_ATTEMPTS;
            let failed = match self.write_once(actor, wait, &mut f, &mut owed, insists) {
                Ok(done) => {
                    if reserved {
                        self.release_reservations(actor);
                    }
                    if let Some(owed) = owed {
                        self.repay(owed);
                    }
                    self.after_change();
                    return Ok(done);
                }
                Err(e) => e,
            };
            let failed = match failed {
                Error::Locked(_) => match self.wait_for_lock(actor, wait) {
                    Ok(()) => {
                        reserved = true;
                        continue;
                    }
                    Err(e) => e,
                },
                Error::Leased => match self.pager().await_leases_outside(wait) {
                    Ok(()) => {
                        sent_back += 1;
                        continue;
                    }
                    Err(e) => e,
                },
                // Pages of old checkpoints may fill the disk: two checkpoints free them.
                Error::NoSpace { .. } if !made_room && !self.in_transaction() => {
                    made_room = true;
                    self.free_waiting();
                    if self.sync_forcing().is_ok() {
                        continue;
                    }
                    failed
                }
                // Earlier changes have filled the dirty list: a checkpoint empties it.
                Error::TransactionTooLarge { .. }
                    if !made_room && !self.in_transaction() && self.pager().lists_are_crowded() =>
                {
                    made_room = true;
                    if self.sync().is_ok() {
                        continue;
                    }
                    failed
                }
                e => e,
            };
            if reserved {
                self.release_reservations(actor);
            }
            if matches!(failed, Error::NoSpace { .. }) && self.in_transaction() {
                self.pager().expel_views();
                self.inner.debt.starve();
            }
            if let Error::TransactionTooLarge { what } = failed
                && self.in_transaction()
            {
                self.pager().abort(Reason {
                    why: format!("it was too large ({what})"),
                    again: false,
                })?;
            }
            return Err(self.pager().with_kept_checkpoint(failed));
        }
    }

    #[inline]
    fn write_once<R>(
        &self,
        actor: Actor,
        wait: &mut Wait<'_>,
        f: &mut impl FnMut(&mut Writer<'_>) -> Result<R>,
        owed: &mut Option<Owed>,
        insists: bool,
    ) -> Result<R> {
        let mut entered = self.pager().write(wait);
        // The section stays where it was made: it is large, and a move right after it was written stalls.
        let section = match entered {
            Ok(ref mut section) => section,
            Err(e) => return Err(e),
        };
        section.act_as(actor);
        if insists {
            section.insist();
        }
        let before = match section.in_transaction() {
            true => None,
            false => Some(Before::of(section)?),
        };
        let done = match f(section) {
            Ok(done) => done,
            Err(e) => {
                section.whole()?;
                self.pager().check_open()?;
                return Err(e);
            }
        };
        if let Some(before) = before {
            if self.inner.has_unpinned.load(Ordering::Relaxed) {
                self.free_unpinned(section)?;
            }
            if section.has_frees() || graph::has_pending_work(section)? {
                *owed = self.finish(section, before)?;
            }
        }
        section.whole()?;
        self.pager().check_open()?;
        section.complete();
        Ok(done)
    }

    /// Free the containers that only this process's pins kept.
    #[cold]
    pub(super) fn free_unpinned(&self, w: &mut Writer<'_>) -> Result<()> {
        let mut list = self.inner.unpinned.lock().unwrap_or_else(PoisonError::into_inner);
        if list.is_empty() {
            return Ok(());
        }
        let some = std::mem::take(&mut *list);
        self.inner.has_unpinned.store(false, Ordering::Relaxed);
        drop(list);
        // If the operation fails after this, the collector finds them.
        some.into_iter().try_for_each(|obj| graph::unpinned(w, obj))
    }

    /// Do the work that follows a completed change, outside its section. The change is complete even if this
    /// work fails: the next sync reports the error.
    #[inline]
    pub(super) fn after_change(&self) {
        if self.pager().wants_help() && !self.in_transaction() {
            self.pager().request_help();
        }
    }

    /// Return whether `await_durability` has work to do for the last change. In a transaction, its commit waits.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub fn must_await_durability(&self) -> bool {
        (self.pager().wants_commit() || self.has_asked_for_room()) && !self.in_transaction()
    }

    /// Wait until this thread's completed changes survive a power cut, if this process requires that
    /// (`Durability::Commit`). This includes changes whose earlier wait ended early. After a large change, first
    /// wait until checkpoints hold few older versions of what it replaced, so that the file keeps its bound.
    ///
    /// # Errors
    /// `Error::DurabilityUnknown`: the changes are complete, and must not be repeated.
    #[doc(hidden)]
    #[cold]
    pub fn await_durability(&self, wait: &mut Wait<'_>) -> Result<()> {
        self.pager().outside_sections()?;
        self.wait_for_room(wait);
        if !self.pager().wants_commit() {
            return Ok(());
        }
        self.pager().await_change(wait)
    }

    /// Free unneeded pages: those under freed logical pages, and those that only older checkpoints reach.
    pub(super) fn sync_forcing(&self) -> Result<()> {
        self.pager().expel_views();
        self.pager().rebuild_free_map()?;
        self.sync()?;
        self.pager().release_free_pages()?;
        self.pager().checkpoint_always()?;
        self.pager().checkpoint_always()?;
        self.pager().free_dropped()
    }

    /// Release the physical pages under free logical ones, as a change does on a full disk. For tests that
    /// kill the process during it.
    #[cfg(feature = "testing")]
    pub fn release_free_pages(&self) -> Result<()> {
        self.pager().outside_sections()?;
        self.pager().release_free_pages()
    }
}
