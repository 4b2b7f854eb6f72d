//! Recovery from the death of a process.
//!
//! 1. A process that acquires the byte lock of another one's slot (`slots`) through another descriptor knows that its
//!    owner is dead, and must run the recovery: take the latch over and recover if the dead process held it, drop its
//!    locks, pins and thread slots, and mark the slot free last. If the recovery is itself killed, the next process
//!    repeats it.
//! 2. If the latch's owner word names a process that is no longer in its slot, a thread took the latch too late
//!    (`latch`): the latch is freed, and nothing is left to recover.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::shared::layout;
use crate::page::shared::regions::views::owner_word;
use crate::page::shared::users::slots::free_process_slot;
use crate::raw::failpoint::fail_point;
use crate::raw::process::describe_ended;

impl Pager {
    /// Recover what a dead process left, if its byte can be locked (otherwise another process is recovering it).
    pub(crate) fn recover_process(&self, process: usize, holding: Option<u32>) -> Result<bool> {
        let mine = match holding {
            Some(slot) => slot,
            None => self.slot()?,
        };
        match self.membership().probe.take(process)? {
            Some(_byte) => self.recover_locked(process, mine, holding.is_some()),
            None => Ok(false),
        }
    }

    fn recover_locked(&self, process: usize, mine: u32, holding: bool) -> Result<bool> {
        if !self.shm().is_process_present(process) {
            return Ok(true);
        }
        if holding {
            // The caller is in the middle of its own change: it has already recovered from a dead owner of the latch.
            return self.clear_process(process).map(|_| true);
        }
        // Take the latch over from the dead process, or take it in the normal way. Never wait here: the caller's own
        // bounded wait finds a living owner again.
        let latch = self.latch();
        let dead = latch.owner().filter(|o| o.process() == process);
        let taken = match dead {
            Some(dead) => latch.take_over(dead, mine),
            None => latch.spin(mine),
        };
        if !taken {
            return Ok(false);
        }
        // Not its command: the pid may be another process's by now.
        let ended = describe_ended(self.shm().process_pid(process));
        fail_point!("recover.process");
        self.lower_marks(process);
        let recovered = self.recover(mine);
        if let (Err(Error::Timeout { .. }), Some(dead)) = (&recovered, dead) {
            latch.hand_back(dead);
            return recovered.map(|()| false);
        }
        let done = recovered.and_then(|()| self.clear_process(process));
        latch.release();
        let path = self.path().display();
        match done? {
            true => log::warn!("{path}: {ended} has ended with locks or waits: they are released"),
            false => log::info!("{path}: {ended} has ended without closing the store"),
        }
        Ok(true)
    }

    /// Clear the marks of a dead process's threads, which are in no section.
    fn lower_marks(&self, process: usize) {
        for slot in 0..self.shm().thread_slots() {
            if self.process_of(slot) == Some(process) {
                self.shm().clear_mark(slot);
                self.shm().set_depth_of_other(slot, 0);
            }
        }
    }

    /// Drop everything that a dead process held, and return whether it held locks. Called under the latch and with the
    /// process's byte held.
    fn clear_process(&self, process: usize) -> Result<bool> {
        self.lower_marks(process);
        let generation = self.shm().process_generation(process);
        let held = match self.hooks() {
            Some(hooks) => hooks.process_died(self, process as u16, generation)?,
            None => false,
        };
        fail_point!("recover.locks");
        self.shm().watches_nothing(process);
        self.shm().end_views_of(owner_word(process as u16, generation));
        for slot in 0..self.shm().thread_slots() {
            if self.process_of(slot) == Some(process) {
                self.shm().leave_checkpoint(slot);
                self.shm().free_thread_slot(slot);
            }
        }
        fail_point!("recover.slots");
        free_process_slot(self.shm(), process);
        Ok(held)
    }

    /// Recover a process if it is dead. Called outside sections.
    pub fn recover_if_dead(&self, process: u16) -> Result<()> {
        let p = process as usize;
        if p < layout::PROCESS_SLOTS && self.process_is_dead(p) {
            self.recover_process(p, None)?;
        }
        Ok(())
    }
}
