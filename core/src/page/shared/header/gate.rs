//! The gate of a store: its words, the marks of its readers, and the guard of the writer that has raised it. The
//! protocol: `sync::gate`.
//!
//! 1. Only `RaisedGate` raises and lowers the gate, so no way out of a write leaves it raised by mistake.
//! 2. If a change could not be undone, the gate stays raised (`poison`): no process reads the state behind it.

use crate::error::Result;
use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use crate::page::sync::gate::{self, Gate};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The gate's word. In a cache line of its own.
const GATE: Word = Word::at(384);
const GATE_WAITERS: Word = Word::at(392);

impl Shm {
    /// Forget the waiters at the gate: all of them are dead.
    pub(in crate::page) fn forget_gate_waiters(&self) {
        self.set(GATE_WAITERS, 0);
    }

    /// Lower the gate, when all processes that used it are dead.
    pub(in crate::page) fn reset_gate(&self) {
        self.set(GATE, 0);
        self.forget_gate_waiters();
    }

    #[inline(always)]
    fn gate(&self) -> Gate<'_> {
        Gate {
            word: self.word(GATE),
            futex: self.word32(GATE),
            waiters: self.word32(GATE_WAITERS),
        }
    }

    /// Return whether a writer is changing bytes, or nothing may be read.
    #[inline]
    pub(in crate::page) fn is_gate_raised(&self) -> bool {
        self.word(GATE).load(Ordering::SeqCst) & gate::RAISED != 0
    }

    /// Return whether an open transaction has marked containers.
    #[inline]
    pub(in crate::page) fn is_gate_marked(&self) -> bool {
        self.word(GATE).load(Ordering::Relaxed) & gate::TRANSACTION != 0
    }

    /// Enter as the reader of a slot if no writer is running. Return whether an open transaction has marked containers,
    /// or None.
    #[inline(always)]
    pub(in crate::page) fn try_enter(&self, slot: u32) -> Option<bool> {
        let word = self.gate().try_enter(self.mark(slot))?;
        Some(word & gate::TRANSACTION != 0)
    }

    /// Enter as a reader of the committed state: it excludes no writer.
    pub(in crate::page) fn enter_beside(&self, slot: u32) {
        self.mark(slot).store(gate::BESIDE, Ordering::SeqCst);
    }

    /// Leave as a reader.
    #[inline(always)]
    pub(in crate::page) fn leave_gate(&self, slot: u32) {
        Gate::leave(self.mark(slot));
    }

    /// Return whether everything that the reader has loaded since it entered is consistent.
    #[inline(always)]
    pub(in crate::page) fn reader_holds(&self, slot: u32) -> bool {
        Gate::holds(self.mark(slot))
    }

    /// Return whether the calling thread, which has this slot, is in a read section.
    #[inline(always)]
    pub(in crate::page) fn is_reading(&self, slot: u32) -> bool {
        self.mark(slot).load(Ordering::Relaxed) != gate::OUTSIDE
    }

    /// Return whether the thread of another slot is in a read section.
    pub(in crate::page) fn is_slot_reading(&self, slot: u32) -> bool {
        self.mark(slot).load(Ordering::SeqCst) != gate::OUTSIDE
    }

    /// Return whether the reader of a slot keeps writers out.
    #[inline]
    pub(in crate::page) fn keeps_writers_out(&self, slot: u32) -> bool {
        self.mark(slot).load(Ordering::SeqCst) == gate::INSIDE
    }

    /// Stop waiting for the reader of a slot. Called by the writer that has raised the gate.
    pub(in crate::page) fn revoke_reader(&self, slot: u32) {
        Gate::revoke(self.mark(slot));
    }

    /// Remove what a thread that has ended left in the mark of its slot.
    pub(in crate::page) fn clear_mark(&self, slot: u32) {
        self.mark(slot).store(gate::OUTSIDE, Ordering::SeqCst);
    }

    /// Sleep while the gate is raised, for at most `slice`.
    pub(in crate::page) fn sleep_at_gate(&self, slice: Duration) {
        self.gate().sleep(gate::RAISED, slice);
    }

    /// Raise the gate, and call `wait` for the slot of each reader that is inside: it returns when that reader has left
    /// or was revoked. The caller holds the latch. After an error the gate is lowered.
    #[inline]
    pub(in crate::page) fn raise_gate(&self, wait: impl FnMut(u32) -> Result<()>) -> Result<RaisedGate<'_>> {
        let mut raised = self.raise();
        match raised.wait_for_readers(wait) {
            Ok(()) => Ok(raised),
            Err(e) => {
                raised.lower(self.is_gate_marked());
                Err(e)
            }
        }
    }

    /// As `raise_gate`, to recover from a dead owner of the latch. Return the gate raised also after an error, unless
    /// `repeats` says that recovery is to be repeated: then the gate is left as the dead owner left it.
    pub(in crate::page) fn raise_gate_for_recovery(
        &self,
        wait: impl FnMut(u32) -> Result<()>,
        repeats: impl FnOnce(&crate::error::Error) -> bool,
    ) -> Result<(RaisedGate<'_>, Result<()>)> {
        let found = self.word(GATE).load(Ordering::Relaxed);
        let mut raised = self.raise();
        match raised.wait_for_readers(wait) {
            Err(e) if repeats(&e) => {
                raised.lowered = true;
                self.gate().restore(found);
                Err(e)
            }
            done => Ok((raised, done)),
        }
    }

    #[inline]
    fn raise(&self) -> RaisedGate<'_> {
        self.gate().raise();
        RaisedGate {
            shm: self,
            lowered: false,
        }
    }
}

/// The raised gate: no reader is inside, and none enters. Dropping it lowers the gate, and clears the flag that a
/// transaction has marked containers.
#[derive(Debug)]
#[must_use]
pub(in crate::page) struct RaisedGate<'s> {
    shm: &'s Shm,
    lowered: bool,
}

impl<'s> RaisedGate<'s> {
    #[inline]
    fn wait_for_readers(&mut self, mut wait: impl FnMut(u32) -> Result<()>) -> Result<()> {
        // Sequentially consistent, like the marks: the reader of a slot claimed later sees the raised gate itself.
        for slot in 0..self.shm.thread_slots() {
            if self.shm.keeps_writers_out(slot) {
                wait(slot)?;
            }
        }
        Ok(())
    }

    /// Lower the gate, with the flag of marked containers as given, and wake readers.
    pub(in crate::page) fn lower(&mut self, marked: bool) {
        if !std::mem::replace(&mut self.lowered, true) {
            match self.shm.is_unreadable() {
                true => self.shm.gate().wake_waiters(),
                false => self.shm.gate().lower(marked),
            }
        }
    }

    /// As `lower`, but leave waking readers to the returned guard. It is dropped after a full barrier. `is_sound`: the
    /// change is complete, or nothing was changed: no failed undo has closed the store.
    #[inline(always)]
    pub(in crate::page) fn lower_late(&mut self, marked: bool, is_sound: bool) -> LoweredGate<'s> {
        if is_sound || !self.shm.is_unreadable() {
            self.shm.gate().lower_without_wake(marked);
        }
        self.lowered = true;
        LoweredGate { shm: self.shm }
    }

    /// Let waiting readers in between two steps of a write, and raise the gate again as `raise_gate` does.
    pub(in crate::page) fn let_readers_in(&mut self, wait: impl FnMut(u32) -> Result<()>) -> Result<()> {
        self.lower(self.shm.is_gate_marked());
        std::thread::yield_now();
        *self = self.shm.raise_gate(wait)?;
        Ok(())
    }

    /// Keep readers out after the guard's end: the state behind the gate is incomplete.
    pub(in crate::page) fn stay_raised(&mut self) {
        self.lowered = true;
    }

    /// Set the flag that an open transaction has marked containers.
    pub(in crate::page) fn set_marked(&self) {
        self.shm
            .word(GATE)
            .store(gate::RAISED | gate::TRANSACTION, Ordering::SeqCst);
    }

    /// Clear the flag that an open transaction has marked containers.
    pub(in crate::page) fn clear_marked(&self) {
        self.shm.word(GATE).store(gate::RAISED, Ordering::Relaxed);
    }
}

impl Drop for RaisedGate<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.lowered {
            self.lower(false);
        }
    }
}

/// The gate after `lower_late`. Dropping it wakes the sleeping readers.
#[derive(Debug)]
#[must_use]
pub(in crate::page) struct LoweredGate<'s> {
    shm: &'s Shm,
}

impl Drop for LoweredGate<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.shm.gate().wake_waiters();
    }
}
