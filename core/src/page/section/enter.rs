//! Entering sections: taking the latch and the gate, and waiting for both. `section` states what an operation may do
//! inside a section.
//!
//! A wait here is bounded, recovers dead processes that it waits for, and leaves the gate lowered and the latch free
//! when it gives up.

use crate::error::{Error, Result};
use crate::ids::Actor;
use crate::page::pager::Pager;
use crate::page::section::latch::take_latch::section_is_open;
use crate::page::section::read::{Protection, ReadSection, Shown};
use crate::page::section::touched::Touched;
use crate::page::section::write::WriteSection;
use crate::page::sync::wait::{Wait, WaitLoop};
use std::time::{Duration, Instant};

/// How long a reader waits for a running writer before it reads the committed state beside it.
const MAX_WAIT: Duration = Duration::from_millis(20);

impl Pager {
    /// Return an error inside a section of this thread. Sections of one thread exclude each other by their own checks.
    /// Operations that change the latch, the gate or the depth of a transaction under a section call this first.
    pub(crate) fn outside_sections(&self) -> Result<()> {
        let Ok(slot) = self.slot() else {
            return Ok(()); // A thread without a slot has no section.
        };
        // After a failed rollback the gate stays raised without a section.
        let writing = self.latch().is_held_by(slot) && self.shm().is_gate_raised() && !self.is_unreadable();
        if writing || self.shm().is_reading(slot) {
            return Err(Error::invalid(
                "a section of this store is open on this thread: return from the closure of `read` or `write` first",
            ));
        }
        Ok(())
    }

    /// Enter as a reader. Wait while a writer is running.
    #[inline]
    pub fn read(&self, wait: &mut Wait<'_>) -> Result<ReadSection<'_>> {
        let slot = self.acting_slot()?;
        if self.shm().is_reading(slot) {
            return Err(section_is_open());
        }
        match self.shm().try_enter(slot) {
            Some(marked) => self.inside(slot, marked).ok_or(Error::Closed),
            None => self.enter_slowly(slot, wait),
        }
    }

    /// Run `f` in a read section, and again until its result is valid.
    pub(crate) fn read_held<R>(&self, f: impl Fn(&ReadSection<'_>) -> Result<R>) -> Result<R> {
        loop {
            let section = self.read(&mut Wait::default())?;
            match self.unless_damaged(f(&section)) {
                // The checkpoint was replaced: read the newest one.
                Err(Error::Stale) => {}
                done if section.holds() => return done,
                _ => {}
            }
        }
    }

    /// Return the section of a reader whose mark is in the gate, or None if the store is closed.
    #[inline(always)]
    fn inside(&self, slot: u32, marked: bool) -> Option<ReadSection<'_>> {
        // A closing thread sets `closed` and then waits for the marks of this process.
        if self.is_closed() {
            self.shm().leave_gate(slot);
            return None;
        }
        let beside_transaction = marked && !self.is_transaction_of(slot);
        Some(ReadSection::new(self, slot, Protection::Mark, beside_transaction))
    }

    /// Enter as a reader of the committed state beside a writer. Return None if the writer changes the state too
    /// quickly.
    #[cold]
    fn read_beside(&self, slot: u32) -> Result<Option<ReadSection<'_>>> {
        self.shm().enter_beside(slot);
        let mut section = ReadSection::new(self, slot, Protection::None, false);
        if self.is_closed() {
            return Err(Error::Closed);
        }
        Ok(self.committed().map(|committed| {
            section.show(Shown::Committed(Box::new(committed)));
            section
        }))
    }

    /// Enter as a reader if no wait is needed.
    #[inline(always)]
    pub fn try_read(&self) -> Option<ReadSection<'_>> {
        let slot = self.known_slot()?;
        if self.shm().is_reading(slot) {
            return None;
        }
        let marked = self.shm().try_enter(slot)?;
        self.inside(slot, marked)
    }

    /// Wait for the running writer. After `MAX_WAIT`, stop waiting and show the reader the committed state.
    #[cold]
    fn enter_slowly(&self, slot: u32, wait: &mut Wait<'_>) -> Result<ReadSection<'_>> {
        if self.is_unreadable() {
            return Err(self.poisoned());
        }
        if self.writer_is_stopped() {
            self.recover_latch_if_owner_dead(self.latch().owner())?;
            if !self.latch().is_held_by(slot)
                && self.shm().is_gate_raised()
                && let Some(section) = self.read_beside(slot)?
            {
                return Ok(section);
            }
        }
        for _ in 0..2000 {
            if !self.shm().is_gate_raised()
                && let Some(marked) = self.shm().try_enter(slot)
            {
                return self.inside(slot, marked).ok_or(Error::Closed);
            }
            std::hint::spin_loop();
        }
        let begun = Instant::now();
        let mut wait_loop = WaitLoop::new(wait, self.bound());
        loop {
            if let Some(marked) = self.shm().try_enter(slot) {
                return self.inside(slot, marked).ok_or(Error::Closed);
            }
            if self.is_unreadable() {
                return Err(self.poisoned());
            }
            let owner = self.latch().owner();
            if self.latch().is_held_by(slot) {
                return Err(section_is_open());
            }
            let slice = wait_loop.slice("a writer that changes the store", || self.describe_owner(owner));
            if (begun.elapsed() >= MAX_WAIT || matches!(slice, Err(Error::Timeout { .. })))
                && let Some(section) = self.read_beside(slot)?
            {
                return Ok(section);
            }
            let slice = slice?;
            self.shm().sleep_at_gate(slice);
            if self.shm().is_gate_raised() {
                self.recover_latch_if_owner_dead(owner)?;
            }
        }
    }

    /// Return the epoch whose pages a writer changes in place. While a view is alive, every write asks whether its page
    /// must be copied (`pages::cow`).
    #[inline]
    pub(super) fn writable_epoch(&self) -> u64 {
        match self.shm().newest_view() {
            0 => self.shm().live().epoch(),
            _ => u64::MAX,
        }
    }

    /// Enter as a writer, as a part of this thread's transaction if it has one.
    #[inline]
    pub fn write(&self, wait: &mut Wait<'_>) -> Result<WriteSection<'_>> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let slot = self.acting_slot()?;
        if self.shm().is_reading(slot) {
            return Err(section_is_open());
        }
        // Only the latch's owner raises the gate.
        let turn = self.latch_or_turn(slot, wait, || {
            self.shm().is_gate_raised() && self.latch().is_held_by(slot)
        })?;
        let took = turn.is_none();
        let gate = match self.raise_gate(slot) {
            Ok(gate) => gate,
            Err(e) => {
                // If the files are gone, no wait can succeed.
                let e = self.whole().err().unwrap_or(e);
                if took {
                    self.latch().release();
                }
                return Err(e);
            }
        };
        let transaction = self.shm().depth(slot) > 0;
        let limit = self.shm().live().logical();
        // The section is large, and a move right after it was written stalls. So it is made where the caller gets it,
        // when all that it holds is known.
        let section = |fresh_from| WriteSection {
            read: ReadSection::new(self, slot, Protection::Latch, false),
            gate,
            undo: self.shm().undo_len(),
            fresh_from,
            deferred: Vec::new(),
            retired: Vec::new(),
            epoch: self.writable_epoch(),
            now: 0,
            transaction,
            owned: took,
            removing: false,
            touched: Touched::default(),
            insists: false,
            actor: Actor::Thread,
            done: false,
            announced: None,
            publishes: false,
            _turn: turn,
        };
        match self.first_new_page(limit) {
            Ok(page) => Ok(section(page)),
            Err(e) => {
                drop(section(0));
                Err(e)
            }
        }
    }
}
