//! Recovery from a dead holder of the latch. Runs under the latch (taken over), with the gate raised;
//! every step can be done again (I6).
//!
//! 1. A flip that began is finished.
//! 2. The copy intent is settled.
//! 3. The undo log is undone, newest record first.
//! 4. The upper layers' shared words are recovered (lock table).
//! 5. The marks of its transaction are cleared and the gate is lowered.

use super::shm::at;
use super::{Pager, marks};
use crate::error::Result;
use std::sync::atomic::Ordering;

impl Pager {
    /// Recovers. The caller holds the latch as `slot`.
    pub(crate) fn recover(&self, slot: u32) -> Result<()> {
        self.raise_gate(slot)?;
        let done = self.recover_raised();
        if done.is_err() {
            // What is there can be neither trusted nor undone: no more changes. The last checkpoint
            // stands.
            self.shm.set(at::POISON, 2);
        }
        marks::clear(&self.shm);
        self.shm.gate().lower(false);
        done
    }

    fn recover_raised(&self) -> Result<()> {
        self.finish_flip();
        self.settle_intent()?;
        self.undo_to(0)?;
        self.recount_free();
        if let Some(hooks) = self.hooks.get() {
            hooks.recover(self)?;
        }
        Ok(())
    }

    /// Undoes what a thread of this living process left when it ended inside a transaction.
    pub(crate) fn recover_as(&self, slot: u32) -> Result<()> {
        let done = self.recover(slot);
        self.shm.depth(slot).store(0, Ordering::Relaxed);
        self.shm.latch().release();
        done
    }
}
