//! Transaction blocks in an open store: finding the running owner's block, ending blocks from any thread, and
//! transactions that were rolled back before their end. The state and its invariants: `pager::state::transaction` and
//! `pager::state::blocks`.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::pager::state::blocks::{Block, BlockState, Reason};

impl Pager {
    /// Return whether the open transaction belongs to the thread of this slot and to its running task. The latch shows
    /// that it belongs to the thread.
    #[inline]
    pub(crate) fn is_transaction_of(&self, slot: u32) -> bool {
        self.latch().is_held_by(slot) && self.transactions().is_of_running_task()
    }

    /// Return the error for a task that would wait for another task of its own thread.
    #[cold]
    pub(in crate::page) fn other_task(&self) -> Error {
        Error::OtherTask {
            what: "a transaction is open".to_owned(),
        }
    }

    /// Return an error if another task of this thread has a transaction open: what waits for its end here would keep
    /// it from ending. For operations that wait for others before they take the latch.
    pub(crate) fn not_behind_another_task(&self) -> Result<()> {
        let slot = self.slot()?;
        let is_behind = self.latch().is_held_by(slot)
            && !self.transactions().is_of_running_task()
            && self.shm().depth(slot) > 0;
        if !is_behind {
            return Ok(());
        }
        // To wait would not help an owner whose own transaction was rolled back.
        self.check_alive()?;
        Err(self.other_task())
    }

    /// Return an error if the running owner's transaction was rolled back and not left yet.
    pub fn check_alive(&self) -> Result<()> {
        if !self.transactions().has_dead() {
            return Ok(());
        }
        self.refuse_dead(self.slot()?)
    }

    /// Roll back this thread's transaction for a reason outside it. Every operation of its owner is refused until it
    /// has left the outermost block.
    pub(crate) fn abort(&self, reason: Reason) -> Result<()> {
        self.undo_whole(|pager| pager.transactions().die(reason))?;
        // From now on this thread's operations check whether the thread may act.
        self.forget_quick_slot();
        Ok(())
    }

    /// Return how many blocks of the open transaction enclose this one, or None if it has ended or was rolled back.
    #[must_use]
    pub fn level_of(&self, block: Block) -> Option<usize> {
        self.transactions().blocks().level_of(block)
    }

    /// Prepare the end of a block, from any thread and task of the process. `BlockState::Open`: the block is now the
    /// innermost one, the transaction belongs to the calling owner, and blocks inside it that were not left are joined
    /// to it.
    ///
    /// A commit joins an inner block that is not left by its transaction's owner to the enclosing block. If the block
    /// is to be undone, the owner rolls back the whole transaction at its next operation. (The owner may have continued
    /// since the block began, and its later changes cannot be undone without its knowledge.)
    pub(in crate::page) fn take_block(&self, block: Block, commit: bool) -> Result<BlockState> {
        let mine = self.slot()?;
        // Between two operations of the owner.
        let _turn = self.transactions().take_turn();
        if let Some(reason) = self
            .transactions()
            .change_dead(|blocks| blocks.leave_if_dead(block))
        {
            return Ok(BlockState::Dead(reason));
        }
        let mut blocks = self.transactions().blocks();
        let (Some(theirs), Some(level)) = (blocks.slot(), blocks.level_of(block)) else {
            return Ok(BlockState::Gone);
        };
        let foreign = theirs != mine || !self.transactions().is_of_running_task();
        if foreign && level > 0 {
            blocks.leave_from(level);
            self.shm().set_depth_of_other(theirs, level as u64);
            if !commit {
                let reason = Reason {
                    why: "an inner block of it was left with an exception by another thread or task"
                        .to_owned(),
                    again: false,
                };
                self.transactions().require_rollback(&mut blocks, reason);
            }
            return Ok(BlockState::Left);
        }
        blocks.leave_from(level + 1);
        blocks.give_to(mine);
        self.shm().set_depth(mine, level as u64 + 1);
        if theirs != mine {
            self.latch().pass_on(theirs, mine);
            self.shm().set_depth_of_other(theirs, 0);
        }
        self.transactions().give_to_running_task();
        self.shm()
            .set_task_of_transaction(mine, self.transactions().task());
        Ok(BlockState::Open)
    }

    /// Roll back a transaction whose rollback another owner requires. Called by its owner at its next operation.
    #[cold]
    pub(in crate::page) fn abort_if_rollback_required(&self) -> Result<()> {
        let reason = self.transactions().blocks().rollback_reason();
        match reason {
            Some(reason) => {
                let error = reason.error();
                self.abort(reason)?;
                Err(error)
            }
            None => Ok(()),
        }
    }
}
