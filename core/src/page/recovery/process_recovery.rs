//! Recovery from the death of a process.
//!
//! 1. A process that acquires the byte lock of another one's slot (`slots`) through another descriptor knows that its
//!    owner is dead, and must run the recovery: take the latch over and recover if the dead process held it, drop its
//!    locks, pins and thread slots, and mark the slot free last. A recovery that is itself killed is done again by the
//!    next process.
//! 2. A latch whose owner's process is gone from its slot was taken by a thread that came too late (`latch`): it
//!    is freed, and nothing is left to recover.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::shared::slots::{BYTE_PROCESS, P, free_process_slot};
use crate::page::shared::{at, layout};
use crate::page::sync::latch::Owner;
use crate::raw::failpoint::fail_point;
use crate::raw::process;
use std::sync::atomic::Ordering;

impl Pager {
    /// Whether the process in a slot is dead: nobody holds its byte.
    pub(crate) fn process_is_dead(&self, process: usize) -> bool {
        if self.shm.process_word(process, P::State).load(Ordering::Acquire) == 0 {
            return false;
        }
        self.probe.is_free(BYTE_PROCESS + process as u64).unwrap_or(false)
    }

    /// Who has the latch, for messages.
    pub(crate) fn describe_owner(&self, owner: Option<Owner>) -> String {
        let Some(owner) = owner else {
            return "nobody".to_owned();
        };
        match owner.process() {
            p if p < layout::PROCESS_SLOTS => {
                process::describe(self.shm.process_word(p, P::Pid).load(Ordering::Relaxed))
            }
            _ => "an unknown process".to_owned(),
        }
    }

    /// If the owner of this thread slot is dead, recovers its process. True if there is hope that
    /// whatever it held is free now. `holding`: the caller's slot, if the caller holds the latch.
    pub(crate) fn check_owner_alive(&self, slot: u32, holding: Option<u32>) -> Result<bool> {
        match self.process_of(slot) {
            Some(p) if self.process_is_dead(p) => self.recover_process(p, holding),
            _ => Ok(false),
        }
    }

    /// As `check_owner_alive`, for the one who has the latch.
    pub(crate) fn check_latch_owner_alive(&self, owner: Owner) -> Result<bool> {
        let p = owner.process();
        let word = |field| self.shm.process_word(p, field).load(Ordering::SeqCst);
        if p >= layout::PROCESS_SLOTS {
            return Ok(false);
        }
        if word(P::State) == 0 || word(P::Generation) as u32 != owner.generation() {
            self.latch().free_unused(owner);
            return Ok(true);
        }
        match self.process_is_dead(p) {
            true => self.recover_process(p, None),
            false => Ok(false),
        }
    }

    /// Recovers every dead process found in the slots.
    pub(crate) fn recover_dead_processes(&self, holding: Option<u32>) -> Result<()> {
        loop {
            let (mut recovered, mut left) = (false, false);
            for p in 0..self.shm.process_slots() {
                if self.shm.process_word(p, P::State).load(Ordering::Relaxed) != 0 && self.process_is_dead(p)
                {
                    match self.recover_process(p, holding)? {
                        true => recovered = true,
                        false => left = true,
                    }
                }
            }
            // The latch was held by a process that is recovered now: again.
            if !(recovered && left) {
                return Ok(());
            }
        }
    }

    /// Recovers what a dead process left, if its byte can be had (else somebody else is at it).
    pub(crate) fn recover_process(&self, process: usize, holding: Option<u32>) -> Result<bool> {
        let mine = match holding {
            Some(slot) => slot,
            None => self.slot()?,
        };
        match self.probe.take(process)? {
            Some(_byte) => self.recover_locked(process, mine, holding.is_some()),
            None => Ok(false),
        }
    }

    fn recover_locked(&self, process: usize, mine: u32, holding: bool) -> Result<bool> {
        if self.shm.process_word(process, P::State).load(Ordering::Acquire) == 0 {
            return Ok(true);
        }
        if holding {
            // A caller in the middle of its own change: what a dead owner of the latch left it has
            // recovered before.
            return self.clear_process(process).map(|()| true);
        }
        // Take the latch over from the dead, or take it as anyone does. Never wait here: a living owner
        // is met again by the caller's own bounded wait.
        let latch = self.latch();
        let dead = latch.owner().filter(|o| o.process() == process);
        let taken = match dead {
            Some(dead) => latch.take_over(dead, mine),
            None => latch.spin(mine),
        };
        if !taken {
            return Ok(false);
        }
        fail_point!("recover.process");
        self.lower_marks(process);
        let recovered = self.recover(mine);
        if let (Err(Error::Timeout { .. }), Some(dead)) = (&recovered, dead) {
            latch.hand_back(dead);
            return recovered.map(|()| false);
        }
        let done = recovered.and_then(|()| self.clear_process(process));
        latch.release();
        done.map(|()| true)
    }

    /// A dead process's threads are in no section.
    fn lower_marks(&self, process: usize) {
        for slot in 0..self.shm.get(at::SLOTS_HIGH) as u32 {
            if self.process_of(slot) == Some(process) {
                self.shm.mark(slot).store(0, Ordering::SeqCst);
                self.shm.depth(slot).store(0, Ordering::SeqCst);
            }
        }
    }

    /// Drops all that a dead process held. Under the latch and with the process's byte held.
    fn clear_process(&self, process: usize) -> Result<()> {
        self.lower_marks(process);
        let generation = self
            .shm
            .process_word(process, P::Generation)
            .load(Ordering::Relaxed) as u32;
        if let Some(hooks) = self.hooks.get() {
            hooks.process_died(self, process as u16, generation)?;
        }
        fail_point!("recover.locks");
        for slot in 0..self.shm.get(at::SLOTS_HIGH) as u32 {
            if self.process_of(slot) == Some(process) {
                self.leave_checkpoint(slot);
                self.shm.slot_owner(slot).store(0, Ordering::SeqCst);
            }
        }
        fail_point!("recover.slots");
        free_process_slot(&self.shm, process);
        Ok(())
    }
}
