//! Recovery from a dead holder of the latch. It runs under the latch (taken over). Every step can be repeated (I6).
//!
//! 1. Steps that need no gate come first, because waiting for the gate can require recovering a dead reader, which
//!    changes the same words: an unfinished flip is completed, the intent is completed or undone, and the upper layers'
//!    shared words (the lock table) are recovered.
//! 2. With the gate raised, an unfinished switch of checkpoints is completed and the undo log is undone, newest record
//!    first. Then the marks of the dead process's transaction are cleared and the gate is lowered.
//! 3. If a living reader keeps the gate from being raised, the gate is left as the dead process left it, and the latch
//!    is handed back to the dead process, for the next process that tries.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::shared::header::poison;
use crate::page::shared::regions::dirty_set;
use crate::page::sync::wait::Wait;
use crate::raw::failpoint::fail_point;
use std::time::Duration;

/// How long a thread that ends waits for the latch, to release its locks: the latch's holder may be waiting for that
/// end.
const AT_AN_END: Duration = Duration::from_millis(50);

impl Pager {
    /// Recover. The caller holds the latch as `slot`. Returns `Error::Timeout` (nothing else) if recovery has to be
    /// repeated; after any other error the store is poisoned.
    pub(crate) fn recover(&self, slot: u32) -> Result<()> {
        fail_point!("recover.begun");
        let before = self.recover_shared();
        fail_point!("recover.shared");
        let (gate, left) = self.keep_readers_out_to_recover(slot)?;
        let done = left.and(before).and_then(|()| self.recover_raised());
        if done.is_err() {
            // The state can be neither trusted nor undone: no more changes are allowed. The last checkpoint remains
            // valid, and no process reads the incomplete state.
            self.poison_once(poison::UNDOABLE);
        }
        dirty_set::clear(self.shm());
        drop(gate);
        done
    }

    fn recover_shared(&self) -> Result<()> {
        self.finish_flip();
        self.finish_intent()?;
        self.recount_free();
        match self.hooks() {
            Some(hooks) => hooks.recover(self),
            None => Ok(()),
        }
    }

    fn recover_raised(&self) -> Result<()> {
        self.finish_switch();
        self.finish_log_commit();
        // The dead process may have cut the log by a commit and died before its further steps.
        self.shm().change_era();
        // Without undo records the change was committed, or changed nothing.
        match self.shm().undo_len() {
            0 => self.shm().ring().publish(),
            _ => self.shm().ring().discard(),
        }
        fail_point!("recover.feed");
        self.undo_to(0)?;
        self.whole()?;
        fail_point!("recover.undone");
        // The dead process may have completed a change without counting it. The count must change so that every cache
        // is invalidated.
        self.shm().live().invalidate_caches();
        // It may not have reported the first change of an epoch to the helpers either.
        self.shm().call_helpers();
        Ok(())
    }

    /// Undo the changes that a thread of this living process left when it ended inside a transaction.
    pub(crate) fn recover_as(&self, slot: u32) -> Result<()> {
        let done = loop {
            // No other process can do it, and all of them wait for it, so there is no bound.
            match self.recover(slot) {
                Err(Error::Timeout { .. }) => {}
                done => break done,
            }
        };
        self.forget_transaction();
        self.shm().set_depth(slot, 0);
        self.latch().release();
        done
    }

    /// Release what the calling thread has in the store: it ends.
    pub(in crate::page) fn thread_ends(&self, slot: u32) {
        if self.is_closed() {
            return;
        }
        if self.transactions().has_dead() {
            self.transactions()
                .change_dead(|blocks| blocks.forget_dead_of(slot));
        }
        if let Some(_turn) = self.turn(slot) {
            // A thread that ends inside a transaction: undo it as if it had been killed.
            let _ = self.recover_as(slot);
        }
        let (process, generation) = (self.process(), self.generation());
        if !self.shm().is_thread_of(slot, process, generation) {
            return;
        }
        self.shm().leave_checkpoint(slot);
        self.shm().clear_mark(slot);
        let mut wait = Wait::at_most(AT_AN_END);
        let released = self.with_latch(&mut wait, || self.release_thread(process, generation, slot));
        match released {
            Ok(()) => self.shm().give_back_slot(slot, process, generation),
            Err(_) => self.shm().end_with_locks(slot, process, generation),
        }
    }
}
