//! Raising the gate: keeping readers out, and waiting for readers that are inside. The gate's words and protocol:
//! `sync::gate`.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use crate::page::sync::gate::{self, Gate};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a writer yields, and then how long it sleeps, before it checks a reader again.
const SLEEP: Duration = Duration::from_micros(200);

/// The gate's word (`gate`). In a cache line of its own.
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

    #[inline]
    pub(crate) fn gate(&self) -> Gate<'_> {
        Gate {
            word: self.word(GATE),
            futex: self.word32(GATE),
            waiters: self.word32(GATE_WAITERS),
        }
    }
}

/// The raised gate. Dropping it lowers the gate and clears the flag that a transaction has marked containers.
///
/// After a panic the gate stays raised, because the state behind it is incomplete. The latch stays taken too.
#[must_use]
pub(in crate::page) struct RaisedGate<'p> {
    pager: &'p Pager,
    /// The gate was raised while a panic unwound (to roll back a transaction).
    unwinding: bool,
}

impl RaisedGate<'_> {
    /// Lower the gate and keep the flag that a transaction has marked containers.
    pub(in crate::page) fn lower_in_transaction(self) {
        self.pager.lower_gate(self.pager.marked());
        std::mem::forget(self);
    }
}

impl Drop for RaisedGate<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() == self.unwinding {
            self.pager.lower_gate(false);
        }
    }
}

impl Pager {
    /// Raise the gate and wait until no reader is inside. The caller holds the latch.
    #[inline]
    pub(crate) fn raise_gate(&self, slot: u32) -> Result<()> {
        self.close_gate(slot)
            .inspect_err(|_| self.lower_gate(self.marked()))
    }

    /// Raise the gate, wait until no reader is inside, and keep readers out as long as the guard lives. For steps
    /// outside sections; a write section lowers the gate itself. The caller holds the latch.
    pub(in crate::page) fn keep_readers_out(&self, slot: u32) -> Result<RaisedGate<'_>> {
        self.raise_gate(slot)?;
        Ok(RaisedGate {
            pager: self,
            unwinding: std::thread::panicking(),
        })
    }

    /// As `raise_gate`, but leave the gate raised after an error.
    #[inline]
    pub(crate) fn close_gate(&self, slot: u32) -> Result<()> {
        self.shm.gate().raise();
        let mut begun = None;
        // Sequentially consistent, like the marks: the reader of a slot claimed later sees the raised gate itself.
        for s in 0..self.shm.thread_slots() {
            if self.shm.mark(s).load(Ordering::SeqCst) == gate::INSIDE {
                self.wait_for_reader(s, slot, &mut begun)?;
            }
        }
        Ok(())
    }

    /// Wait until a reader has left, is found dead, or has used up its time. All readers that one writer waits for
    /// share one `REVOKE_AFTER`.
    #[cold]
    fn wait_for_reader(&self, reader: u32, mine: u32, begun: &mut Option<Instant>) -> Result<()> {
        let mark = self.shm.mark(reader);
        let mut turns = 0u32;
        while mark.load(Ordering::SeqCst) == gate::INSIDE {
            turns += 1;
            if turns < 2000 {
                std::hint::spin_loop();
                continue;
            }
            let waited = begun.get_or_insert_with(Instant::now).elapsed();
            if waited >= gate::REVOKE_AFTER {
                // A dead reader leaves more behind than its mark.
                self.check_owner_alive(reader, Some(mine))?;
                if self.following().is_none() {
                    Gate::revoke(mark);
                    return Ok(());
                }
                if waited >= self.bound {
                    let what = "a reader of the checkpoint that was shown before to leave it";
                    return Err(Error::timeout(what, waited, self.describe_slot(reader)));
                }
            }
            // On a busy machine each turn of this loop can take milliseconds.
            if turns < 2100 && waited < SLEEP {
                std::thread::yield_now();
            } else {
                std::thread::sleep(SLEEP);
            }
        }
        Ok(())
    }

    /// Return whether an open transaction has marked containers.
    pub(crate) fn marked(&self) -> bool {
        self.shm.gate().word.load(Ordering::Relaxed) & gate::TRANSACTION != 0
    }
}
