//! Raising the gate: keeping readers out, and waiting for those that are inside. The gate's words and protocol:
//! `sync::gate`.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::shared::at;
use crate::page::shared::shm::Shm;
use crate::page::sync::gate::{self, Gate};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a writer gives way to others, and sleeps, before it looks at a reader again.
const SLEEP: Duration = Duration::from_micros(200);

impl Shm {
    #[inline]
    pub(crate) fn gate(&self) -> Gate<'_> {
        Gate {
            word: self.word(at::GATE),
            futex: self.word32(at::GATE),
            waiters: self.word32(at::GATE_WAITERS),
        }
    }
}

/// The raised gate. Its drop lowers it, and with it the sign that a transaction has marked containers.
///
/// After a panic the gate stays raised: what is behind it is half done, and the latch stays taken too.
#[must_use]
pub(in crate::page) struct RaisedGate<'p> {
    pager: &'p Pager,
    /// It was raised while a panic unwound (a transaction that is rolled back then).
    unwinding: bool,
}

impl RaisedGate<'_> {
    /// Lowers the gate; the sign that a transaction has marked containers stays.
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
    /// Raises the gate and waits until no reader is inside. The caller holds the latch.
    #[inline]
    pub(crate) fn raise_gate(&self, slot: u32) -> Result<()> {
        self.close_gate(slot)
            .inspect_err(|_| self.lower_gate(self.marked()))
    }

    /// Raises the gate, waits until no reader is inside, and keeps readers out as long as the guard lives. For steps
    /// outside sections; a section of a writer lowers the gate itself. The caller holds the latch.
    pub(in crate::page) fn keep_readers_out(&self, slot: u32) -> Result<RaisedGate<'_>> {
        self.raise_gate(slot)?;
        Ok(RaisedGate {
            pager: self,
            unwinding: std::thread::panicking(),
        })
    }

    /// As `raise_gate`, but after an error the gate is left raised.
    #[inline]
    pub(crate) fn close_gate(&self, slot: u32) -> Result<()> {
        self.shm.gate().raise();
        let mut begun = None;
        // Sequentially consistent like the marks: a slot claimed since is seen by its own reader.
        for s in 0..self.shm.word(at::SLOTS_HIGH).load(Ordering::SeqCst) as u32 {
            if self.shm.mark(s).load(Ordering::SeqCst) == gate::INSIDE {
                self.wait_for_reader(s, slot, &mut begun)?;
            }
        }
        Ok(())
    }

    /// Waits until a reader has left, is found dead, or has had its time: all readers that one writer waits for have
    /// `REVOKE_AFTER` together.
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
                // A dead one leaves more behind than its mark.
                self.check_owner_alive(reader, Some(mine))?;
                if self.following().is_none() {
                    Gate::revoke(mark);
                    return Ok(());
                }
                if waited >= self.bound {
                    return Err(Error::Timeout {
                        what: "a reader of the checkpoint that was shown before to leave it".to_owned(),
                        holder: self.describe_slot(reader),
                    });
                }
            }
            // Where there is much else to do every turn of this can take milliseconds.
            if turns < 2100 && waited < SLEEP {
                std::thread::yield_now();
            } else {
                std::thread::sleep(SLEEP);
            }
        }
        Ok(())
    }

    /// Whether a transaction is open that has marked containers.
    pub(crate) fn marked(&self) -> bool {
        self.shm.gate().word.load(Ordering::Relaxed) & gate::TRANSACTION != 0
    }
}
