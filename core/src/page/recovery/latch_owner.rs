//! Recovery from a dead holder of the latch. Runs under the latch (taken over); every step can be
//! done again (I6).
//!
//! 1. First what needs no gate, since waiting for the gate can mean to recover a dead reader, which
//!    changes the same words: a flip that began is finished, the intent is settled, the upper layers'
//!    shared words (the lock table) are recovered.
//! 2. With the gate raised a switch of checkpoints is finished and the undo log undone, newest record
//!    first; then the marks of the dead's transaction are cleared and the gate is lowered.
//! 3. If a living reader keeps the gate from being raised, it is left as the dead left it, and the
//!    latch is given back to the dead, for the next who tries.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::shared::{at, dirty_set, states};
use crate::raw::failpoint::fail_point;
use std::sync::atomic::Ordering;

impl Pager {
    /// Recovers. The caller holds the latch as `slot`. `Error::Timeout` (nothing else) if it has to be
    /// done again; after any other error the store is poisoned.
    pub(crate) fn recover(&self, slot: u32) -> Result<()> {
        fail_point!("recover.begun");
        let before = self.recover_shared();
        fail_point!("recover.shared");
        let gate = self.shm.gate();
        let word = gate.word.load(Ordering::Relaxed);
        let done = match self.close_gate(slot) {
            Ok(()) => before.and_then(|()| self.recover_raised()),
            Err(e @ Error::Timeout { .. }) => {
                gate.restore(word);
                return Err(e);
            }
            Err(e) => Err(e),
        };
        if done.is_err() {
            // What is there can be neither trusted nor undone: no more changes. The last checkpoint
            // stands, and nobody reads what is half done.
            self.poison_once(states::UNDOABLE);
        }
        dirty_set::clear(&self.shm);
        self.lower_gate(false);
        done
    }

    fn recover_shared(&self) -> Result<()> {
        self.finish_flip();
        self.finish_intent()?;
        self.recount_free();
        match self.hooks.get() {
            Some(hooks) => hooks.recover(self),
            None => Ok(()),
        }
    }

    fn recover_raised(&self) -> Result<()> {
        self.finish_switch();
        self.finish_log_commit();
        // The dead may have cut the log by a commit, and said nothing more.
        self.shm.change_era();
        self.undo_to(0)?;
        self.whole()?;
        fail_point!("recover.undone");
        // The dead may have completed a change without counting it: nobody's cache may miss it.
        self.shm.word(at::CHANGES).fetch_add(1, Ordering::Release);
        // Nor the helpers the first change of an epoch.
        self.call_helpers();
        Ok(())
    }

    /// Undoes what a thread of this living process left when it ended inside a transaction.
    pub(crate) fn recover_as(&self, slot: u32) -> Result<()> {
        let done = loop {
            // Nobody else can do it, and everybody waits for it: so there is no bound.
            match self.recover(slot) {
                Err(Error::Timeout { .. }) => {}
                done => break done,
            }
        };
        self.forget_transaction();
        self.shm.depth(slot).store(0, Ordering::Relaxed);
        self.latch().release();
        done
    }
}
