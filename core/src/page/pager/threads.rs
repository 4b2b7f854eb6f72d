//! The calling thread and process in an open store: finding and releasing the thread's slot, and the registration that
//! a forked child makes for itself. The slots' words and invariants: `shared::users::slots`.
//!
//! 1. A thread claims a slot with its first operation, keeps it in a thread-local list, and releases it when it ends.
//! 2. `LAST` caches the slot in the most recently used store, at the cost of three comparisons. It stays empty where
//!    each operation needs further checks: a view that follows writers, a thread with a rolled-back transaction.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::pager::state::blocks::Blocks;
use crate::page::pager::state::transaction::Turn;
use crate::page::shared::users::lock_file;
use crate::page::shared::users::slots::{BYTE_PRESENCE, Registration, claim_process_slot, note_fork};
use crate::page::sync::latch::Latch;
use crate::page::sync::task;
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::files::held::Descriptor;
use crate::raw::process::{self, Unshared};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::sync::Weak;

/// Error of a forked process that may not open the files of its parent.
const CANNOT_REOPEN: &str = "cannot open the store once more in a forked process (if privileges were dropped since it \
                             was opened, open it in the new process)";

thread_local! {
    static LAST: Cell<(u64, u32, u32)> = const { Cell::new((0, 0, 0)) };
    static OWN_SLOTS: RefCell<OwnSlots> = const { RefCell::new(OwnSlots(Vec::new())) };
}

/// The slots of one thread, released when it ends.
struct OwnSlots(Vec<(Weak<Pager>, u64, u32, u32)>);

impl Drop for OwnSlots {
    fn drop(&mut self) {
        for (pager, serial, forks, slot) in self.0.drain(..) {
            if forks == process::forks()
                && let Some(pager) = pager.upgrade()
            {
                // The steps below ask for this thread's slot, and `OWN_SLOTS` is not accessible any more.
                LAST.set((serial, forks, slot));
                (pager.above.thread_ends)(&pager, slot);
                LAST.set((0, 0, 0));
            }
        }
    }
}

impl Pager {
    #[inline]
    pub(crate) fn latch(&self) -> Latch<'_> {
        self.shm.latch(self.membership.word())
    }

    /// Return this process's slot.
    #[inline]
    pub(crate) fn process(&self) -> usize {
        self.membership.slot()
    }

    /// Return the generation of this process's slot.
    pub(in crate::page) fn generation(&self) -> u32 {
        self.membership.generation()
    }

    /// Return the calling thread's slot.
    #[inline]
    pub(crate) fn slot(&self) -> Result<u32> {
        let (serial, forks, slot) = LAST.get();
        if serial == self.serial && forks == process::forks() && !self.openness.seems_closed() {
            return Ok(slot);
        }
        self.find_slot()
    }

    /// As `slot`, for an operation: return an error if the running owner's transaction was rolled back and not left
    /// yet.
    #[inline]
    pub(crate) fn acting_slot(&self) -> Result<u32> {
        let (serial, forks, slot) = LAST.get();
        if serial == self.serial && forks == process::forks() && !self.openness.seems_closed() {
            return Ok(slot);
        }
        self.find_acting_slot()
    }

    /// If a transaction of the thread is dead, `LAST` is left empty. So each operation comes here, and the fast path
    /// needs no check.
    #[cold]
    fn find_acting_slot(&self) -> Result<u32> {
        let slot = self.find_slot()?;
        if self.transactions.has_dead() {
            self.refuse_dead(slot)?;
        }
        Ok(slot)
    }

    /// Make the thread's next operation check again.
    pub(in crate::page) fn forget_quick_slot(&self) {
        LAST.set((0, 0, 0));
    }

    /// Return the calling thread's slot, if it was last used on this store.
    #[inline(always)]
    pub(crate) fn known_slot(&self) -> Option<u32> {
        let (serial, forks, slot) = LAST.get();
        let known = serial == self.serial && forks == process::forks() && !self.openness.seems_closed();
        known.then_some(slot)
    }

    #[cold]
    fn find_slot(&self) -> Result<u32> {
        if self.openness.is_closed() {
            return Err(Error::Closed);
        }
        let forks = process::forks();
        let known = OWN_SLOTS.try_with(|m| {
            let m = m.borrow();
            m.0.iter()
                .find(|(_, serial, f, _)| *serial == self.serial && *f == forks)
                .map(|e| e.3)
        });
        let known = known.map_err(|_| Error::invalid("a thread that is ending can use no store any more"))?;
        let slot = match known {
            Some(slot) => slot,
            None => {
                let slot = self.claim_thread_slot()?;
                OWN_SLOTS.with_borrow_mut(|m| {
                    m.0.retain(|(p, _, f, _)| *f == forks && p.strong_count() > 0);
                    m.0.push((self.me.clone(), self.serial, forks, slot));
                });
                slot
            }
        };
        if self.following().is_some() {
            // Not cached in `LAST`, so that each section comes here first.
            (self.above.follow)(self, slot)?;
        } else if !self.transactions.has_dead() || !self.has_dead(slot) {
            // A thread with a dead transaction is not cached: every operation checks again (`find_acting_slot`).
            LAST.set((self.serial, forks, slot));
        }
        Ok(slot)
    }

    /// Call `f` with the calling thread's slot in each store that it uses, until `f` returns a value.
    pub(in crate::page) fn each_of_thread<R>(
        mut f: impl FnMut(&Weak<Pager>, u64, u32) -> Option<R>,
    ) -> Option<R> {
        let all = OWN_SLOTS.try_with(|m| m.borrow().0.clone()).unwrap_or_default();
        all.iter()
            .filter(|(_, _, forks, _)| *forks == process::forks())
            .find_map(|(pager, serial, _, slot)| f(pager, *serial, *slot))
    }

    /// Forget the calling thread's cached slot (the store was closed).
    pub(crate) fn forget_slot(&self) {
        LAST.set((0, 0, 0));
        // In a thread that is ending there is nothing left to forget.
        let _ = OWN_SLOTS.try_with(|m| m.borrow_mut().0.retain(|e| e.1 != self.serial));
    }

    /// Release the slot of a thread that never held a lock and is in no section.
    pub(in crate::page) fn quit_slot(&self) {
        let (serial, forks, slot) = LAST.get();
        if serial != self.serial || forks != process::forks() {
            return;
        }
        self.shm.leave_checkpoint(slot);
        self.forget_slot();
        self.shm.give_back_slot(slot, self.process(), self.generation());
    }

    /// Return whether a thread slot belongs to this process.
    pub(in crate::page) fn is_mine(&self, slot: u32) -> bool {
        self.shm.is_slot_of(slot, self.process(), self.generation())
    }

    fn claim_thread_slot(&self) -> Result<u32> {
        let reg = self.registration()?;
        self.shm
            .claim_thread_slot(usize::from(reg.process), reg.generation)
    }

    pub(in crate::page) fn release_thread(&self, process: usize, generation: u32, slot: u32) -> Result<()> {
        let hooks = self.hooks.get();
        hooks.map_or(Ok(()), |h| h.thread_ended(self, process as u16, generation, slot))
    }

    /// Complete the release for threads that could not when they ended. Called under the latch; it can be repeated.
    pub fn release_ended_threads(&self) -> Result<()> {
        let ended = self.shm.ended_threads();
        if ended == 0 {
            return Ok(());
        }
        for slot in 0..self.shm.thread_slots() {
            if let Some(generation) = self.shm.ended_generation(slot)
                && let Some(process) = self.process_of(slot)
            {
                self.release_thread(process, generation, slot)?;
                self.shm.free_thread_slot(slot);
            }
        }
        // A thread that ends during this loop is handled the next time.
        self.shm.released_ended_threads(ended);
        Ok(())
    }

    /// Return this process's registration. A forked child makes its own.
    pub(crate) fn registration(&self) -> Result<std::sync::MutexGuard<'_, Registration>> {
        let mut reg = self.membership.registration();
        if reg.forks != process::forks() {
            if let Some(frozen) = &self.frozen {
                frozen.renew(&self.file)?;
            }
            let fresh = Unshared::new(again(&reg.file)?);
            if !file::ofd_lock(&fresh, BYTE_PRESENCE, Ofd::Shared)? {
                return Err(Error::WouldBlock {
                    what: "the store, which is being closed or recovered",
                });
            }
            let mark = if self.frozen.is_some() {
                Unshared::new(again(&reg.mark)?)
            } else {
                lock_file::mark(&self.file)?
            };
            let side = Unshared::new(self.shm.lock_in_use()?);
            let probe = Unshared::brief(again(&fresh)?);
            let (process, generation) = claim_process_slot(&self.shm, &fresh, reg.requirements)?;
            note_fork(&self.shm, process);
            self.membership.probe.renew(probe);
            *reg = Registration {
                mark,
                file: fresh,
                side,
                process,
                generation,
                requirements: reg.requirements,
                forks: process::forks(),
            };
            self.membership.set_slot(process, generation);
            // A transaction that was open at the fork belongs to the parent.
            self.transactions.change_dead(Blocks::clear);
            self.pins.after_fork(&self.shm, self.process())?;
        }
        Ok(reg)
    }

    /// Take the turn for an operation inside the transaction that this thread has open. Return None if another thread
    /// of the process has taken over the transaction.
    #[inline]
    pub(in crate::page) fn turn(&self, slot: u32) -> Option<Turn<'_>> {
        let turn = self.transactions.take_turn();
        self.latch().is_held_by(slot).then_some(turn)
    }

    /// Return whether a transaction of the slot's thread is dead.
    #[cold]
    pub(in crate::page) fn has_dead(&self, slot: u32) -> bool {
        self.transactions.blocks().has_dead_of(slot)
    }

    /// Refuse operations of an owner whose transaction was rolled back, until it has left the outermost block.
    #[cold]
    pub(in crate::page) fn refuse_dead(&self, slot: u32) -> Result<()> {
        let blocks = self.transactions.blocks();
        match blocks.reason_of_dead(slot, task::current()) {
            Some(reason) => Err(reason.error()),
            None => Ok(()),
        }
    }
}

/// Open a second file description of a file that this process's parent has open.
fn again(file: &impl Descriptor) -> Result<File> {
    file::reopen(file, true).map_err(|e| Error::io(CANNOT_REOPEN, e))
}
