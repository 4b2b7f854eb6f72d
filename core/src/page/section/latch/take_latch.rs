//! Taking the latch for an operation: as a part of this thread's transaction, at once, or after waiting for the latch's
//! owner.
//!
//! A wait for one store's latch may be part of a deadlock over several stores. It is entered in the process's list
//! (`sync::deadlock`), and this file finds the locks that its thread holds in other stores.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::pager::state::transaction::Turn;
use crate::page::sync::deadlock::{Found, Look, Names, Waiting, members, several_stores};
use crate::page::sync::latch::Owner;
use crate::page::sync::task;
use crate::page::sync::wait::{SLICE, Wait, WaitLoop};
use std::time::{Duration, Instant};

/// Return the error of an operation inside an open section of its thread.
#[cold]
pub(in crate::page) fn section_is_open() -> Error {
    Error::invalid("a section of this store is already open on this thread")
}

impl Pager {
    pub(in crate::page) fn recover_latch_if_owner_dead(&self, seen: Option<Owner>) -> Result<()> {
        if let Some(owner) = seen
            && self.latch().owner() == seen
        {
            self.check_latch_owner_alive(owner)?;
        }
        Ok(())
    }

    /// Take the latch for the slot. Return false in a transaction of this thread, which has the latch already.
    #[inline]
    pub(crate) fn take_latch(&self, slot: u32, wait: &mut Wait<'_>) -> Result<bool> {
        let latch = self.latch();
        if !latch.try_take(slot) {
            if latch.is_held_by(slot) {
                return self.join_transaction(slot).map(|()| false);
            }
            self.take_latch_slowly(slot, wait)?;
        }
        // A closing thread sets `closed` under the latch; the slot then no longer belongs to this thread.
        if self.is_closed() {
            latch.release_late(slot);
            return Err(Error::Closed);
        }
        Ok(true)
    }

    /// Take the latch to change the store, or a turn in this thread's transaction, which has the latch already. Return
    /// the turn. `refuses` returns whether an open section of this thread has the latch.
    #[inline]
    pub(in crate::page) fn latch_or_turn(
        &self,
        slot: u32,
        wait: &mut Wait<'_>,
        refuses: impl Fn() -> bool,
    ) -> Result<Option<Turn<'_>>> {
        let turn = loop {
            if self.take_latch(slot, wait)? {
                break None;
            }
            if refuses() {
                return Err(section_is_open());
            }
            if let Some(turn) = self.turn(slot) {
                break Some(turn);
            }
        };
        if self.shm().is_poisoned() || self.whole().is_err() {
            if turn.is_none() {
                self.latch().release();
            }
            return Err(self.whole().err().unwrap_or_else(|| self.poisoned()));
        }
        Ok(turn)
    }

    /// Return whether the running task may act in the transaction that its thread has open.
    #[inline]
    fn join_transaction(&self, slot: u32) -> Result<()> {
        let others = !self.transactions().is_of_running_task();
        if others && self.shm().depth(slot) > 0 {
            return Err(self.other_task());
        }
        if self.transactions().requires_rollback() {
            return self.abort_if_rollback_required();
        }
        Ok(())
    }

    #[cold]
    fn take_latch_slowly(&self, slot: u32, wait: &mut Wait<'_>) -> Result<()> {
        let latch = self.latch();
        if latch.spin(slot) {
            return Ok(());
        }
        let mut wait_loop = WaitLoop::new(wait, self.bound());
        let mut place = self.place(slot);
        let mut deadlock = LatchWait::new();
        let mut seen = (None, Instant::now());
        loop {
            if latch.try_take(slot) {
                return Ok(());
            }
            let owner = latch.owner();
            let slice = wait_loop.slice("the right to change the store", || self.describe_owner(owner))?;
            place.advance();
            place.sleep(slice);
            // The owner is the same after a whole slice: check whether it is alive.
            if latch.owner() != owner || seen.0 != owner {
                seen = (latch.owner(), Instant::now());
            } else if seen.1.elapsed() >= SLICE {
                self.recover_latch_if_owner_dead(owner)?;
                seen.1 = Instant::now();
            }
            deadlock.look(self, wait_loop.bound())?;
        }
    }
}

/// A wait for the latch that ends sooner is not checked for deadlock: its end breaks the cycle.
const SHORT: Duration = Duration::from_millis(500);

/// How long a check of another store waits for that store's latch.
const OTHER_STORE_WAIT: Duration = Duration::from_millis(20);

/// The state of a latch wait's deadlock check over other stores.
#[derive(Debug)]
pub(in crate::page) struct LatchWait {
    begun: Instant,
    waiting: Option<Waiting>,
}

impl LatchWait {
    pub(in crate::page) fn new() -> LatchWait {
        LatchWait {
            begun: Instant::now(),
            waiting: None,
        }
    }

    /// Check for a deadlock, between two sleeps of a wait that lasts at most `bound`.
    pub(in crate::page) fn look(&mut self, pager: &Pager, bound: Duration) -> Result<()> {
        if bound < SHORT || self.begun.elapsed() < SLICE || !several_stores() {
            return Ok(());
        }
        let waiting = self
            .waiting
            .get_or_insert_with(|| pager.enter_wait(task::current(), true, pager.latch_name()));
        let Some(time) = waiting.time_for_look() else {
            return Ok(());
        };
        let mut look = Look::default();
        match pager.latch_owner() {
            Some((_, Some(owner))) => look.awaited.push(owner),
            Some((_, None)) => look.abroad = true,
            None => {}
        }
        match waiting.search(time, look) {
            Found::Cycle(others) => Err(Error::Deadlock {
                what: pager.latch_name(),
                holder: members(&others),
            }),
            Found::None { .. } => Ok(()),
        }
    }
}

/// A process slot and its generation; if that is this process, also the thread's slot and its task.
type LatchOwner = ((u16, u32), Option<(u32, u64)>);

impl Pager {
    fn latch_name(&self) -> String {
        format!("the right to change {}", self.path().display())
    }

    /// Return the owner of the latch: its process and generation, and if that is this process, its thread and task.
    pub(crate) fn latch_owner(&self) -> Option<LatchOwner> {
        let owner = self.latch().owner()?;
        let mine = owner.is_of(self.member_word());
        let task = self.transactions().task();
        Some((
            (owner.process() as u16, owner.generation()),
            mine.then(|| (owner.slot(), task)),
        ))
    }

    /// Enter a wait of the calling thread's task in this store. With `blocks`, the wait stops all tasks of the thread.
    pub(crate) fn enter_wait(&self, task: u64, blocks: bool, what: String) -> Waiting {
        let mut names = Names::new();
        Pager::each_of_thread(|_, serial, slot| {
            names.push((serial, slot));
            None::<()>
        });
        Waiting::enter(self.serial(), names, task, blocks, what)
    }

    /// Return another store in which a task of the calling thread has a transaction or a lock. A store whose latch is
    /// not free now counts as having none. The caller does not hold this store's latch.
    pub(crate) fn holds_elsewhere(&self, task: u64) -> Option<String> {
        Pager::each_of_thread(|pager, serial, slot| {
            let other = pager.upgrade().filter(|_| serial != self.serial())?;
            let has_transaction = other.latch().is_held_by(slot) && other.transactions().task() == task;
            let holds = || {
                let hooks = other.hooks().ok_or(Error::Closed)?;
                other.with_latch(&mut Wait::at_most(OTHER_STORE_WAIT), || {
                    hooks.holds(&other, slot, task)
                })
            };
            (has_transaction || matches!(holds(), Ok(true))).then(|| other.path().display().to_string())
        })
    }
}
