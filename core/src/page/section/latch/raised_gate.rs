//! Raising the gate: keeping readers out, and waiting for readers that are inside. The gate's words and guard:
//! `shared::header::gate`; its protocol: `sync::gate`.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::shared::header::gate::RaisedGate;
use crate::page::sync::gate::REVOKE_AFTER;
use std::time::{Duration, Instant};

/// How long a writer yields, and then how long it sleeps, before it checks a reader again.
const SLEEP: Duration = Duration::from_micros(200);

/// The gate, raised for a step outside sections.
///
/// After a panic the gate stays raised, because the state behind it is incomplete. The latch stays taken too.
#[must_use]
pub(in crate::page) struct NoReaders<'p> {
    pager: &'p Pager,
    gate: RaisedGate<'p>,
    /// The gate was raised while a panic unwound (to roll back a transaction).
    unwinding: bool,
}

impl<'p> NoReaders<'p> {
    fn new(pager: &'p Pager, gate: RaisedGate<'p>) -> NoReaders<'p> {
        NoReaders {
            pager,
            gate,
            unwinding: std::thread::panicking(),
        }
    }

    /// Lower the gate and keep the flag that a transaction has marked containers.
    pub(in crate::page) fn lower_in_transaction(mut self) {
        self.gate.lower(self.pager.shm().is_gate_marked());
    }
}

impl Drop for NoReaders<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() != self.unwinding {
            self.gate.stay_raised();
        }
    }
}

impl Pager {
    /// Raise the gate and wait until no reader is inside. The caller holds the latch.
    #[inline]
    pub(in crate::page) fn raise_gate(&self, slot: u32) -> Result<RaisedGate<'_>> {
        let mut begun = None;
        self.shm()
            .raise_gate(|reader| self.wait_for_reader(reader, slot, &mut begun))
    }

    /// Let waiting readers in between two steps of a write section, and wait until they have left.
    pub(in crate::page) fn let_readers_in(&self, gate: &mut RaisedGate<'_>, slot: u32) -> Result<()> {
        let mut begun = None;
        gate.let_readers_in(|reader| self.wait_for_reader(reader, slot, &mut begun))
    }

    /// As `raise_gate`, for steps outside sections.
    pub(in crate::page) fn keep_readers_out(&self, slot: u32) -> Result<NoReaders<'_>> {
        Ok(NoReaders::new(self, self.raise_gate(slot)?))
    }

    /// As `keep_readers_out`, to recover from a dead owner of the latch. After `Error::Timeout` the gate is as the dead
    /// owner left it; after another error, which is returned beside it, the gate is raised.
    pub(in crate::page) fn keep_readers_out_to_recover(
        &self,
        slot: u32,
    ) -> Result<(NoReaders<'_>, Result<()>)> {
        let mut begun = None;
        let (gate, done) = self.shm().raise_gate_for_recovery(
            |reader| self.wait_for_reader(reader, slot, &mut begun),
            |e| matches!(e, Error::Timeout { .. }),
        )?;
        Ok((NoReaders::new(self, gate), done))
    }

    /// Wait until a reader has left, is found dead, or has used up its time. All readers that one writer waits for
    /// share one `REVOKE_AFTER`.
    #[cold]
    fn wait_for_reader(&self, reader: u32, mine: u32, begun: &mut Option<Instant>) -> Result<()> {
        let mut turns = 0u32;
        while self.shm().keeps_writers_out(reader) {
            turns += 1;
            if turns < 2000 {
                std::hint::spin_loop();
                continue;
            }
            let waited = begun.get_or_insert_with(Instant::now).elapsed();
            if waited >= REVOKE_AFTER {
                // A dead reader leaves more behind than its mark.
                self.check_owner_alive(reader, Some(mine))?;
                if self.following().is_none() {
                    self.shm().revoke_reader(reader);
                    return Ok(());
                }
                if waited >= self.bound() {
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
}
