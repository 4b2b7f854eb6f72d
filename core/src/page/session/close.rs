//! Closing: releasing this process's resources in a store, and making a checkpoint if it is the last process.
//!
//! 1. The last process to leave makes a checkpoint. A closing byte keeps two processes that leave at once from each
//!    leaving the checkpoint to the other. Forked children that live on do not count: they have opened nothing
//!    themselves, and end without closing. A process that is not the last also makes a checkpoint if no remaining
//!    process has a helper (`helper`).
//! 2. "Closed" is set under the latch and before the closing thread looks for this process's readers. A thread that is
//!    entering sees it, and releases what it has just taken.
//! 3. Resources that cannot be released in order are left as a dead process leaves them: other processes recover them.
//! 4. A closed store is released at once (`give_back`): descriptors, mappings, and with them the blocks of a removed
//!    file, although handles still exist. This process's threads are outside by then (2). A thread that is just
//!    entering, or that reads a word of the sidecar without entering, sees zeros at the same addresses (`raw::map`),
//!    takes the latch or the gate there, and then finds the store closed. Conclusions from zeros are checked once more
//!    (`check_open`): "closed" was set before the zeros appeared. A descriptor that is in use at that moment is closed
//!    when that use ends (`raw::files::held`).
//! 5. No mutex is held during a wait: a child forked during it would have a copy of the mutex that is never unlocked.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::shared::header::next_checkpoint::IDLE;
use crate::page::shared::regions::views::owner_word;
use crate::page::shared::users::slots::{self, BYTE_CLOSING, BYTE_PRESENCE};
use crate::page::sync::wait::Wait;
use crate::raw::failpoint::fail_point;
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::files::held;
use std::time::{Duration, Instant};

/// How long closing waits for a transaction of another process, which may be stopped.
const LATCH_OF_OTHERS: Duration = Duration::from_millis(50);

/// How long a close that cannot complete in order waits for sections of this process.
const SECTIONS: Duration = Duration::from_millis(500);

impl Pager {
    /// Close the store: further operations return `Error::Closed`. The last process to close makes a checkpoint. Waits
    /// for transactions of this process's other threads; returns `Error::Timeout` if one outlasts the bound, and the
    /// store stays open.
    pub fn close(&self) -> Result<()> {
        self.close_within(self.bound())
    }

    /// As `close`, for a store with no remaining handle. A transaction that is still open was abandoned. It ends, once
    /// the pager is dropped, as if this process had died.
    pub fn close_dropped(&self) -> Result<()> {
        self.close_within(self.bound().min(Duration::from_millis(500)))
    }

    fn close_within(&self, bound: Duration) -> Result<()> {
        let _one = self.openness().take_closing();
        if self.is_closed() {
            return self.give_back();
        }
        self.stop_helper();
        let done = self.close_serialized(bound);
        if self.is_closed() {
            return done.and(self.give_back());
        }
        self.resume_helper();
        self.stand_in_for_helper(false);
        done
    }

    /// Release descriptors and mappings of a closed store. It can be repeated.
    fn give_back(&self) -> Result<()> {
        if self.is_inside() {
            return Err(Error::timeout(
                "a section to end (the store is closed; its files are given back when it is closed again, or when its \
                 last handle is dropped)",
                Duration::ZERO,
                "another thread of this process",
            ));
        }
        let reg = self.membership().registration();
        reg.side.retire();
        reg.mark.retire();
        reg.file.retire();
        drop(reg);
        self.membership().probe.retire();
        if let Some(follow) = self.following() {
            follow.retire()?;
        }
        self.forget_log();
        self.file().retire();
        // The marks before the pages: a reader that sees zeros then finds that its section does not hold.
        self.shm().retire().and(self.map().retire())
    }

    /// Return whether another thread of this process is in a section, after "closed" was set.
    fn is_inside(&self) -> bool {
        let process = self.member_word();
        let writes = self.latch().owner().is_some_and(|owner| owner.is_of(process))
            && self.shm().is_gate_raised()
            && !self.is_unreadable();
        writes || (0..self.shm().thread_slots()).any(|s| self.is_mine(s) && self.shm().is_slot_reading(s))
    }

    /// Close as the only closing thread, with this process's helper stopped.
    fn close_serialized(&self, bound: Duration) -> Result<()> {
        let damaged = self.whole().is_err();
        if self.shm().fault().is_some() {
            // This process sees only a private copy of the sidecar.
            return self.abandon();
        }
        if let Err(lost) = self.has_its_files().and_then(|()| self.is_registered()) {
            // Other processes, or the next opening, continue from the sidecar.
            self.abandon()?;
            return Err(lost);
        }
        if self.slot().is_ok_and(|slot| self.is_transaction_of(slot)) {
            let undone = self.rollback_whole();
            if !damaged {
                undone?;
            }
        }
        let Ok(slot) = self.slot() else {
            return self.abandon();
        };
        if self.shm().is_reading(slot) {
            return Err(Error::invalid("a section of this store is open on this thread"));
        }
        if !self.latch_to_close(slot, bound)? {
            return self.abandon();
        }
        self.latch().release();
        // The last checkpoint frees what was kept for them.
        self.shm()
            .end_views_of(owner_word(self.process() as u16, self.generation()));
        let deadline = Instant::now() + bound;
        let last = loop {
            let reg = self.registration()?;
            if file::ofd_lock(&reg.file, BYTE_CLOSING, Ofd::Exclusive)? || Instant::now() >= deadline {
                break file::ofd_lock(&reg.file, BYTE_PRESENCE, Ofd::Exclusive)?;
            }
            drop(reg);
            std::thread::sleep(Duration::from_micros(200));
        };
        let may = !self.is_read_only() && self.shm().poison() == 0 && !damaged;
        let done = if last && may {
            let _ = self.end_log();
            self.checkpoint(&mut Wait::default())
                .and_then(|()| self.retire_log())
        } else if may && (self.others_are_forks() || self.leaves_undurable()) {
            self.checkpoint(&mut Wait::default())
        } else {
            Ok(())
        };
        fail_point!("close.checkpointed");
        // A thread may be flushing for others: wait for it outside the latch, which it may need.
        self.let_leader_finish();
        let left = match self.latch_between_checkpoints(slot, bound) {
            Ok(true) => self.leave(slot, bound),
            Ok(false) => return self.abandon(),
            Err(e) => Err(e),
        };
        let reg = self.membership().registration();
        if left.is_ok() {
            if last && done.is_ok() && !self.is_frozen() {
                self.seal();
            }
            if let Some(frozen) = self.frozen() {
                frozen.give_up();
            }
            reg.side.unlock_all();
            reg.mark.unlock_all();
        }
        let presence = if left.is_ok() { Ofd::None } else { Ofd::Shared };
        let given_up = file::ofd_lock(&reg.file, BYTE_PRESENCE, presence);
        file::ofd_lock(&reg.file, BYTE_CLOSING, Ofd::None)?;
        left?;
        given_up?;
        done
    }

    /// Return an error if the program has closed the descriptors that show this process's presence.
    fn is_registered(&self) -> Result<()> {
        let reg = self.membership().registration();
        let what = format!("{}: the store cannot be closed in order", self.path().display());
        [&reg.mark, &reg.file, &reg.side]
            .into_iter()
            .try_for_each(|file| held::ours(file, &what).map(|_| ()))
    }

    /// Seal the sidecar after the last process has left, if a checkpoint holds every change.
    fn seal(&self) {
        let shm = self.shm();
        let list = shm.live().list();
        let is_clean = shm.list_len(list) == 0
            && shm.kept_range().is_empty()
            && shm.undo_len() == 0
            && shm.next_checkpoint().phase() == IDLE
            && shm.poison() == 0
            && shm.is_replayed()
            && shm.is_intact()
            && self.whole().is_ok();
        if is_clean {
            fail_point!("close.sealing");
            shm.seal();
        }
    }

    /// Leave as a dead process does: other processes recover what is left.
    fn abandon(&self) -> Result<()> {
        self.openness().close();
        let begun = Instant::now();
        while self.is_inside() && begun.elapsed() < SECTIONS {
            std::thread::sleep(Duration::from_micros(50));
        }
        self.forget_slot();
        if let Some(frozen) = self.frozen() {
            frozen.give_up();
        }
        let reg = self.membership().registration();
        reg.side.unlock_all();
        reg.mark.unlock_all();
        reg.file.unlock_all();
        Ok(())
    }

    /// Take the latch. Return `Error::Timeout` if another thread of this process keeps it. Return false if another
    /// process keeps it, which does not prevent closing.
    fn latch_to_close(&self, slot: u32, bound: Duration) -> Result<bool> {
        let deadline = Instant::now() + bound;
        loop {
            match self.take_latch(slot, &mut Wait::at_most(bound.min(LATCH_OF_OTHERS))) {
                Ok(_) => return Ok(true),
                Err(e @ (Error::Timeout { .. } | Error::WouldBlock { .. })) => {
                    let process = self.process();
                    match self.latch().owner() {
                        Some(owner) if owner.process() != process => return Ok(false),
                        Some(_) if Instant::now() >= deadline => return Err(e),
                        _ => {}
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// As `latch_to_close`, with no checkpoint in progress on another thread of this process: that thread would
    /// continue without ownership, beside the checkpoint of another process. A checkpoint that begins later finds the
    /// store closed.
    fn latch_between_checkpoints(&self, slot: u32, bound: Duration) -> Result<bool> {
        let process = self.process();
        let is_ours = || match self.shm().checkpoint_owner() {
            None => false,
            Some(owner) => owner != slot && self.process_of(owner) == Some(process),
        };
        let deadline = Instant::now() + bound;
        loop {
            while is_ours() {
                if Instant::now() > deadline {
                    let holder = "another thread of this process";
                    return Err(Error::timeout("a checkpoint to end", bound, holder));
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            if !self.latch_to_close(slot, bound)? {
                return Ok(false);
            }
            if !is_ours() {
                return Ok(true);
            }
            self.latch().release();
        }
    }

    /// Release this process's locks, pins, thread slots and its process slot, and set "closed". This is done under the
    /// latch, so that a thread that is about to take it sees it (`take_latch`), and with none of this process's readers
    /// inside (`read` checks again after entering).
    ///
    /// The slot that has the latch, and with it the process's own, is released after the latch. If the process dies
    /// before that, the slots show other processes that it held the latch; a latch whose holder cannot be found would
    /// never be free again.
    fn leave(&self, slot: u32, bound: Duration) -> Result<()> {
        self.openness().close();
        let done = self.leave_latched(slot, bound);
        if done.is_err() {
            self.openness().reopen();
        }
        self.latch().release();
        done?;
        self.forget_slot();
        let reg = self.membership().registration();
        self.shm().free_thread_slot(slot);
        slots::free_process_slot(self.shm(), reg.process as usize);
        slots::give_back_byte(&reg.file, reg.process as usize)
    }

    fn leave_latched(&self, slot: u32, bound: Duration) -> Result<()> {
        let (p, generation) = {
            let reg = self.membership().registration();
            (reg.process as usize, reg.generation)
        };
        self.shm().watches_nothing(p);
        self.shm().end_views_of(owner_word(p as u16, generation));
        let mine = || (0..self.shm().thread_slots()).filter(|s| self.process_of(*s) == Some(p));
        // A flush that began before its thread could see that the store is closed.
        self.let_leader_finish();
        let deadline = Instant::now() + bound;
        for s in mine() {
            while self.shm().is_slot_reading(s) {
                if Instant::now() > deadline {
                    let holder = "another thread of this process";
                    return Err(Error::timeout("a reader to leave the store", bound, holder));
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        if let Some(hooks) = self.hooks() {
            hooks.process_died(self, p as u16, generation)?;
        }
        for s in mine() {
            self.shm().leave_checkpoint(s);
            if s != slot {
                self.shm().free_thread_slot(s);
            }
        }
        Ok(())
    }
}
