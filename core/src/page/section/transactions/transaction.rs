//! Explicit transactions: several write sections that commit or roll back together.
//!
//! 1. A transaction holds the latch for its owner, with a depth above 0 in the thread's slot. No other change can
//!    happen, so the undo log holds only this transaction.
//! 2. The containers it changed are marked. Readers of other owners see them as they were before the transaction
//!    (`committed`). Marks remain when an inner block is undone; readers then read copies unnecessarily.
//! 3. A block inside a transaction is a savepoint (`blocks`): undoing it takes the undo log back to its length at the
//!    block's beginning. The redo log does not contain blocks: a transaction is written to it at commit, from the
//!    ranges that the undo log holds then.
//! 4. Locks are not part of a transaction: locks taken inside it remain when it, or a block of it, is undone.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::pager::state::blocks::{Block, BlockState};
use crate::page::section::write::WriteSection;
use crate::page::shared::regions::dirty_set;
use crate::page::sync::wait::Wait;
use crate::raw::failpoint::fail_point;

fn no_transaction_error() -> Error {
    Error::invalid("no transaction is open on this thread")
}

impl Pager {
    /// Begin a transaction of the running owner, or a block inside the one it has.
    pub fn begin(&self, wait: &mut Wait<'_>) -> Result<Block> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let slot = self.acting_slot()?;
        let turn = self.latch_or_turn(slot, wait, || self.shm().depth(slot) == 0)?;
        if turn.is_none() {
            self.transactions().give_to_running_task();
            self.shm()
                .set_task_of_transaction(slot, self.transactions().task());
            self.transactions().forget_touch();
        }
        let mut blocks = self.transactions().blocks();
        let block = blocks.begin(slot, self.shm().undo_len(), self.shm().ring().staged_end());
        self.shm().set_depth(slot, blocks.depth());
        fail_point!("transaction.begun");
        Ok(block)
    }

    /// Return how many blocks of a transaction the running owner is in, including those of a dead transaction.
    #[must_use]
    pub fn depth(&self) -> u64 {
        match self.slot() {
            Ok(slot) if self.is_transaction_of(slot) => self.shm().depth(slot),
            Ok(slot) => self.transactions().depth_of_dead(slot),
            Err(_) => 0,
        }
    }

    /// Leave an inner block. `commit_section` or `rollback` leaves the outermost one.
    pub fn leave_inner(&self) -> Result<()> {
        let slot = self.slot()?;
        let _turn = self.turn(slot).ok_or_else(no_transaction_error)?;
        let mut blocks = self.transactions().blocks();
        blocks.leave();
        self.shm().set_depth(slot, blocks.depth());
        Ok(())
    }

    /// Leave the innermost block of a transaction that was rolled back before; the error gives the reason. Return Ok if
    /// the running owner has none, or if another owner requires the rollback of the one it has.
    pub fn leave_refused(&self) -> Result<()> {
        if self.transactions().requires_rollback() && self.is_transaction_of(self.slot()?) {
            let _ = self.abort_if_rollback_required();
        }
        match self.transactions().leave_dead(self.slot()?) {
            Some(reason) => Err(reason.error()),
            None => Ok(()),
        }
    }

    /// End a block begun by any thread or task of this process. `commit` and `rollback` then end the running owner's
    /// innermost block.
    pub fn end(
        &self,
        block: Block,
        commits: bool,
        commit: impl FnOnce() -> Result<()>,
        rollback: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        match self.take_block(block, commits)? {
            BlockState::Open if commits => commit(),
            BlockState::Open => rollback(),
            BlockState::Dead(reason) if commits => Err(reason.error()),
            BlockState::Gone if commits => Err(Error::Aborted {
                why: "it had ended before this block of it was left".to_owned(),
                again: false,
            }),
            BlockState::Left | BlockState::Dead(_) | BlockState::Gone => Ok(()),
        }
    }

    /// Run the section in which the transaction's frees are applied and the transaction is committed.
    pub fn commit_section(&self, apply: impl FnOnce(&mut WriteSection<'_>) -> Result<()>) -> Result<()> {
        let mut section = self.write(&mut Wait::default())?;
        // The transaction's additions are already stored; this section only frees.
        section.removing();
        section.take_transaction_frees();
        apply(&mut section)?;
        section.whole()?;
        section.commit_transaction();
        Ok(())
    }

    /// Reset the open transaction: nothing is left to commit or undo.
    pub(crate) fn forget_transaction(&self) {
        self.transactions().end();
    }

    /// Undo and leave the innermost block of the running owner's transaction.
    pub fn rollback(&self) -> Result<()> {
        let slot = self.slot()?;
        if !self.is_transaction_of(slot) {
            if self.transactions().leave_dead(slot).is_some() {
                return Ok(());
            }
            self.whole()?;
            return Err(no_transaction_error());
        }
        // Computed before the mutex of the blocks is taken, because `depth` takes it too.
        let depth = self.depth();
        let inner = self.transactions().blocks().innermost().filter(|_| depth > 1);
        let Some(level) = inner else {
            return self.rollback_whole();
        };
        let _turn = self.turn(slot).ok_or_else(no_transaction_error)?;
        // This fails only if files are damaged, and then nothing can be committed any more.
        let raised = self.keep_readers_out(slot);
        if raised.is_ok() {
            self.shm().ring().discard_from(level.notices);
        }
        let undone = match &raised {
            Ok(_) if self.undo_or_poison(level.undo) => self.whole(),
            Ok(_) => Err(self.poisoned()),
            Err(_) => Ok(()),
        };
        fail_point!("transaction.block_undone");
        let mut blocks = self.transactions().blocks();
        blocks.undo();
        self.shm().set_depth(slot, blocks.depth());
        drop(blocks);
        raised?.lower_in_transaction();
        undone
    }

    /// Undo the running owner's whole transaction with all its blocks.
    pub fn rollback_whole(&self) -> Result<()> {
        self.undo_whole(Self::forget_transaction)
    }

    /// As `rollback_whole`, with the bookkeeping done by `end`.
    pub(in crate::page) fn undo_whole(&self, end: impl FnOnce(&Pager)) -> Result<()> {
        let slot = self.slot()?;
        if !self.is_transaction_of(slot) {
            self.whole()?;
            return Err(no_transaction_error());
        }
        let _turn = self.turn(slot).ok_or_else(no_transaction_error)?;
        let gate = self.keep_readers_out(slot)?;
        self.shm().ring().discard();
        let undone = if self.undo_or_poison(0) {
            self.whole()
        } else {
            Err(self.poisoned())
        };
        fail_point!("transaction.undone");
        end(self);
        self.shm().set_depth(slot, 0);
        dirty_set::clear(self.shm());
        drop(gate);
        self.latch().release();
        undone
    }
}

impl WriteSection<'_> {
    /// Complete the transaction's last section: everything since the transaction began is committed.
    pub(crate) fn commit_transaction(mut self) {
        let pager = self.read.pager;
        debug_assert!(self.deferred.is_empty(), "commit with frees not applied");
        self.done = true;
        pager.shm().live().restructured();
        pager.shm().set_depth(self.read.slot, 0);
        pager.forget_transaction();
        fail_point!("transaction.commit");
        if pager.shm().log_mode() != 0 {
            pager.commit_logged();
        } else {
            pager.shm().forget_undo();
        }
        fail_point!("transaction.done");
        dirty_set::clear(pager.shm());
        self.gate.clear_marked();
        pager.shm().live().count_change();
        if pager.shm().ring().has_staged() {
            self.publish_notices();
        }
        self.release_retired();
        self.owned = true;
    }
}
