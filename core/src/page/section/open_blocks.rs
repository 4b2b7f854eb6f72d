//! Transaction blocks in an open store: finding the running owner's block, ending blocks from any thread, and
//! transactions that were rolled back before their end. The state and its invariants: `pager::blocks`.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::pager::blocks::{Block, BlockState, Blocks, Reason, Turn};
use crate::page::sync::task;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

impl Pager {
    pub(in crate::page) fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Return whether the open transaction belongs to the thread of this slot and to its running task. The latch shows
    /// that it belongs to the thread.
    #[inline]
    pub(crate) fn is_transaction_of(&self, slot: u32) -> bool {
        self.latch().is_held_by(slot) && self.transaction_task.load(Ordering::Relaxed) == task::current()
    }

    /// Take the turn. Wait, for one operation, while another thread of this process has it.
    #[inline]
    fn take_turn(&self) -> Turn<'_> {
        let free = |turn: &AtomicU32| {
            turn.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        };
        let mut tries = 0u32;
        while !free(&self.turn) {
            tries += 1;
            if tries < 100 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Turn(&self.turn)
    }

    /// Take the turn for an operation inside the transaction that this thread has open. Return None if another thread
    /// of the process has taken over the transaction.
    #[inline]
    pub(in crate::page) fn turn(&self, slot: u32) -> Option<Turn<'_>> {
        let turn = self.take_turn();
        self.latch().is_held_by(slot).then_some(turn)
    }

    /// Return the error for a task that would wait for another task of its own thread.
    #[cold]
    pub(in crate::page) fn other_task(&self) -> Error {
        Error::OtherTask {
            what: "a transaction is open".to_owned(),
        }
    }

    /// Return whether a transaction of the slot's thread is dead.
    #[cold]
    pub(in crate::page) fn has_dead(&self, slot: u32) -> bool {
        self.blocks().dead.iter().any(|dead| dead.slot == slot)
    }

    /// In a forked child: forget the operations of the parent's other threads.
    pub(in crate::page) fn forget_turns(&self) {
        self.turn.store(0, Ordering::Relaxed);
        self.deaths.store(0, Ordering::Relaxed);
        self.doomed.store(false, Ordering::Relaxed);
    }

    /// Refuse operations of an owner whose transaction was rolled back, until it has left the outermost block.
    #[cold]
    pub(in crate::page) fn refuse_dead(&self, slot: u32) -> Result<()> {
        match self.blocks().dead_of(slot, task::current()) {
            Some(dead) => Err(dead.reason.error()),
            None => Ok(()),
        }
    }

    /// Return an error if the running owner's transaction was rolled back and not left yet.
    pub fn check_alive(&self) -> Result<()> {
        if self.deaths.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.refuse_dead(self.slot()?)
    }

    /// Return the number of blocks of a rolled-back transaction that the running owner has not left.
    pub(in crate::page) fn depth_of_dead(&self, slot: u32) -> u64 {
        if self.deaths.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.blocks()
            .dead_of(slot, task::current())
            .map_or(0, |dead| dead.levels.len() as u64)
    }

    /// Roll back this thread's transaction for a reason outside it. Every operation of its owner is refused until it
    /// has left the outermost block.
    pub(crate) fn abort(&self, reason: Reason) -> Result<()> {
        self.undo_whole(|pager| {
            pager.blocks().die(task::current(), reason);
            pager.count_dead();
        })?;
        // From now on this thread's operations check whether the thread may act.
        self.forget_quick_slot();
        Ok(())
    }

    fn count_dead(&self) {
        let n = self.blocks().dead.len() as u32;
        self.deaths.store(n, Ordering::Relaxed);
    }

    /// Leave the innermost block of the running owner's dead transaction. Return None if it has none.
    pub(in crate::page) fn leave_dead(&self, slot: u32) -> Option<Reason> {
        if self.deaths.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut blocks = self.blocks();
        let which = blocks
            .dead
            .iter()
            .position(|dead| dead.slot == slot && dead.task == task::current())?;
        let level = blocks.dead[which].levels.len() - 1;
        let reason = blocks.leave_dead(which, level);
        drop(blocks);
        self.count_dead();
        Some(reason)
    }

    /// Forget all blocks that were not left, of a store that is being closed.
    pub(in crate::page) fn forget_blocks(&self) {
        self.blocks().clear();
        self.count_dead();
    }

    /// Return how many blocks of the open transaction enclose this one, or None if it has ended or was rolled back.
    #[must_use]
    pub fn level_of(&self, block: Block) -> Option<usize> {
        let blocks = self.blocks();
        let levels = &blocks.open.as_ref()?.levels;
        levels.iter().position(|level| level.block == block)
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
        let _turn = self.take_turn();
        let mut blocks = self.blocks();
        if let Some((which, level)) = blocks.find_dead(block) {
            let reason = blocks.leave_dead(which, level);
            drop(blocks);
            self.count_dead();
            return Ok(BlockState::Dead(reason));
        }
        let Some(open) = &mut blocks.open else {
            return Ok(BlockState::Gone);
        };
        let Some(level) = open.levels.iter().position(|l| l.block == block) else {
            return Ok(BlockState::Gone);
        };
        let task = task::current();
        let theirs = open.slot;
        let foreign = theirs != mine || self.transaction_task.load(Ordering::Relaxed) != task;
        if foreign && level > 0 {
            open.levels.truncate(level);
            self.shm.depth(theirs).store(level as u64, Ordering::SeqCst);
            if !commit {
                open.doomed = Some(Reason {
                    why: "an inner block of it was left with an exception by another thread or task"
                        .to_owned(),
                    again: false,
                });
                self.doomed.store(true, Ordering::Relaxed);
            }
            return Ok(BlockState::Left);
        }
        open.levels.truncate(level + 1);
        open.slot = mine;
        self.shm.depth(mine).store(level as u64 + 1, Ordering::SeqCst);
        if theirs != mine {
            self.latch().pass_on(theirs, mine);
            self.shm.depth(theirs).store(0, Ordering::SeqCst);
        }
        self.transaction_task.store(task, Ordering::Relaxed);
        Ok(BlockState::Open)
    }

    /// Roll back a transaction that another owner has doomed. Called by its owner at its next operation.
    #[cold]
    pub(in crate::page) fn abort_if_doomed(&self) -> Result<()> {
        let reason = self.blocks().open.as_ref().and_then(|open| open.doomed.clone());
        match reason {
            Some(reason) => {
                let error = reason.error();
                self.abort(reason)?;
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// Forget the blocks that an ending thread has not left.
    pub(in crate::page) fn forget_dead_of(&self, slot: u32) {
        if self.deaths.load(Ordering::Relaxed) != 0 {
            self.blocks().dead.retain(|dead| dead.slot != slot);
            self.count_dead();
        }
    }
}
