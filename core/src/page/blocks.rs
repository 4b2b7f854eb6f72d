//! The open blocks of this process's transactions: which there are, and what each of them goes back to.
//!
//! 1. At most one transaction of a process is open in a store: its owner holds the latch. Others may be *dead*: rolled
//!    back, but their blocks were not left yet.
//! 2. The first block of a transaction begins it; each further one is a savepoint: the length of the undo log, and the
//!    number of frees that are deferred to the commit.
//! 3. A block has a number of its own, never given twice in a process, so that a block that has ended is never taken
//!    for a later one.
//! 4. Operations inside a transaction have the `Turn`: so another thread of the process that takes the transaction over
//!    meets it between two operations.

use super::{Pager, task};
use crate::error::{Error, Result};
use crate::ids::Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// An open block of a transaction: what `begin` gives, and what ends it from anywhere in the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block(u64);

/// What a block goes back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    block: Block,
    /// Length of the undo log when it began.
    pub(super) undo: u64,
    /// Deferred frees when it began.
    frees: usize,
}

/// Why a transaction was rolled back before its end.
#[derive(Clone, Debug)]
pub(crate) struct Reason {
    pub(crate) why: String,
    /// Running it again may succeed.
    pub(crate) again: bool,
}

impl Reason {
    pub(super) fn error(&self) -> Error {
        Error::Aborted {
            why: self.why.clone(),
            again: self.again,
        }
    }
}

#[derive(Debug)]
struct Open {
    slot: u32,
    levels: Vec<Level>,
    frees: Vec<Addr>,
    /// Why its owner has to roll it back.
    doomed: Option<Reason>,
}

#[derive(Debug)]
struct Dead {
    slot: u32,
    task: u64,
    levels: Vec<Block>,
    reason: Reason,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    last: u64,
    open: Option<Open>,
    dead: Vec<Dead>,
}

/// Where a block stands.
pub(super) enum Standing {
    /// Of the open transaction: the innermost now, and the calling thread's.
    Open,
    /// Left by another owner than that of the open transaction, which goes on or learns that it cannot.
    Left,
    /// Of a transaction that was rolled back before; the block is left.
    Dead(Reason),
    /// It has ended.
    Gone,
}

impl Blocks {
    fn next(&mut self) -> Block {
        self.last += 1;
        Block(self.last)
    }

    /// Begins a block of the transaction that the slot's thread has open, or is just beginning.
    pub(super) fn begin(&mut self, slot: u32, undo: u64) -> Block {
        let block = self.next();
        let open = self.open.get_or_insert_with(|| Open {
            slot,
            levels: Vec::new(),
            frees: Vec::new(),
            doomed: None,
        });
        open.levels.push(Level {
            block,
            undo,
            frees: open.frees.len(),
        });
        block
    }

    /// The number of open blocks.
    pub(super) fn depth(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.levels.len() as u64)
    }

    /// The innermost open block.
    pub(super) fn innermost(&self) -> Option<Level> {
        self.open.as_ref().and_then(|open| open.levels.last().copied())
    }

    /// Leaves the innermost block; what it did stays in the one around it.
    pub(super) fn leave(&mut self) {
        if let Some(open) = &mut self.open {
            open.levels.pop();
        }
    }

    /// Leaves the innermost block, whose changes were undone.
    pub(super) fn undo(&mut self) {
        if let Some(open) = &mut self.open
            && let Some(level) = open.levels.pop()
        {
            open.frees.truncate(level.frees);
        }
    }

    /// Frees that wait for the commit.
    pub(super) fn frees(&mut self) -> Option<&mut Vec<Addr>> {
        self.open.as_mut().map(|open| &mut open.frees)
    }

    /// The transaction has ended.
    pub(super) fn end(&mut self) {
        self.open = None;
    }

    /// Forgets everything: of a forked parent, or of a store that is being closed.
    pub(super) fn clear(&mut self) {
        self.open = None;
        self.dead.clear();
    }

    /// The transaction was rolled back before its end.
    fn die(&mut self, task: u64, reason: Reason) {
        if let Some(open) = self.open.take() {
            self.dead.push(Dead {
                slot: open.slot,
                task,
                levels: open.levels.iter().map(|level| level.block).collect(),
                reason,
            });
        }
    }

    fn dead_of(&self, slot: u32, task: u64) -> Option<&Dead> {
        self.dead
            .iter()
            .find(|dead| dead.slot == slot && dead.task == task)
    }

    /// Leaves a block of a dead transaction, and those inside it; the outermost ends it.
    fn leave_dead(&mut self, which: usize, level: usize) -> Reason {
        let dead = &mut self.dead[which];
        dead.levels.truncate(level);
        let reason = dead.reason.clone();
        if level == 0 {
            self.dead.swap_remove(which);
        }
        reason
    }

    fn find_dead(&self, block: Block) -> Option<(usize, usize)> {
        self.dead.iter().enumerate().find_map(|(i, dead)| {
            let level = dead.levels.iter().position(|b| *b == block)?;
            Some((i, level))
        })
    }
}

/// The right to an operation inside the open transaction.
#[derive(Debug)]
pub(super) struct Turn<'p>(&'p AtomicU32);

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

impl Pager {
    pub(super) fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the thread of this slot and its running task have the transaction that is open. The latch says that
    /// the thread has.
    #[inline]
    pub(crate) fn is_transaction_of(&self, slot: u32) -> bool {
        self.latch().is_held_by(slot) && self.transaction_task.load(Ordering::Relaxed) == task::current()
    }

    /// Takes the turn. Waits while another thread of this process has it: for one operation.
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

    /// The turn for an operation inside the transaction that this thread has open. None: another thread of the process
    /// has taken the transaction over.
    #[inline]
    pub(super) fn turn(&self, slot: u32) -> Option<Turn<'_>> {
        let turn = self.take_turn();
        self.latch().is_held_by(slot).then_some(turn)
    }

    /// The error of a task that would wait for another task of its own thread.
    #[cold]
    pub(super) fn other_task(&self) -> Error {
        Error::OtherTask {
            what: "a transaction is open".to_owned(),
        }
    }

    /// Whether a transaction of the slot's thread is dead.
    #[cold]
    pub(super) fn has_dead(&self, slot: u32) -> bool {
        self.blocks().dead.iter().any(|dead| dead.slot == slot)
    }

    /// In a forked child: what its parent's other threads were doing is none of its own.
    pub(super) fn forget_turns(&self) {
        self.turn.store(0, Ordering::Relaxed);
        self.deaths.store(0, Ordering::Relaxed);
        self.doomed.store(false, Ordering::Relaxed);
    }

    /// Refuses operations of an owner whose transaction was rolled back, until it has left the outermost block.
    #[cold]
    pub(super) fn refuse_dead(&self, slot: u32) -> Result<()> {
        match self.blocks().dead_of(slot, task::current()) {
            Some(dead) => Err(dead.reason.error()),
            None => Ok(()),
        }
    }

    /// An error if the running owner's transaction was rolled back and not left yet.
    pub fn check_alive(&self) -> Result<()> {
        if self.deaths.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.refuse_dead(self.slot()?)
    }

    /// Blocks that the running owner has not left of a transaction that was rolled back.
    pub(super) fn depth_of_dead(&self, slot: u32) -> u64 {
        if self.deaths.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.blocks()
            .dead_of(slot, task::current())
            .map_or(0, |dead| dead.levels.len() as u64)
    }

    /// Rolls back this thread's transaction for a reason that lies outside it. Its owner is refused everything until
    /// it has left the outermost block.
    pub(crate) fn abort(&self, reason: Reason) -> Result<()> {
        self.undo_whole(|pager| {
            pager.blocks().die(task::current(), reason);
            pager.count_dead();
        })?;
        // From here on this thread's operations look whether it may act.
        self.forget_quick_slot();
        Ok(())
    }

    fn count_dead(&self) {
        let n = self.blocks().dead.len() as u32;
        self.deaths.store(n, Ordering::Relaxed);
    }

    /// Leaves the innermost block of the running owner's dead transaction. None: it has none.
    pub(super) fn leave_dead(&self, slot: u32) -> Option<Reason> {
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

    /// Forgets what was not left: of a store that is being closed.
    pub(super) fn forget_blocks(&self) {
        self.blocks().clear();
        self.count_dead();
    }

    /// How many blocks of the open transaction are around this one. None: it has ended, or was rolled back.
    #[must_use]
    pub fn level_of(&self, block: Block) -> Option<usize> {
        let blocks = self.blocks();
        let levels = &blocks.open.as_ref()?.levels;
        levels.iter().position(|level| level.block == block)
    }

    /// Prepares the end of a block, by any thread and task of the process. `Standing::Open`: it is the innermost now,
    /// and the transaction the calling owner's; blocks inside it that were not left are joined to it.
    ///
    /// An inner block that is not left by its transaction's owner is joined to the one around it by a commit. If it is
    /// to be undone, the whole transaction is rolled back: by its owner, at its next operation. (Its owner may have
    /// gone on since the block began; what it did cannot be undone behind its back.)
    pub(super) fn take_block(&self, block: Block, commit: bool) -> Result<Standing> {
        let mine = self.slot()?;
        // Between two operations of the owner.
        let _turn = self.take_turn();
        let mut blocks = self.blocks();
        if let Some((which, level)) = blocks.find_dead(block) {
            let reason = blocks.leave_dead(which, level);
            drop(blocks);
            self.count_dead();
            return Ok(Standing::Dead(reason));
        }
        let Some(open) = &mut blocks.open else {
            return Ok(Standing::Gone);
        };
        let Some(level) = open.levels.iter().position(|l| l.block == block) else {
            return Ok(Standing::Gone);
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
            return Ok(Standing::Left);
        }
        open.levels.truncate(level + 1);
        open.slot = mine;
        self.shm.depth(mine).store(level as u64 + 1, Ordering::SeqCst);
        if theirs != mine {
            self.latch().pass_on(theirs, mine);
            self.shm.depth(theirs).store(0, Ordering::SeqCst);
        }
        self.transaction_task.store(task, Ordering::Relaxed);
        Ok(Standing::Open)
    }

    /// Rolls back a transaction that another owner has doomed: called by its owner at its next operation.
    #[cold]
    pub(super) fn meet_doom(&self) -> Result<()> {
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

    /// What a thread that ends has not left is forgotten.
    pub(super) fn forget_dead_of(&self, slot: u32) {
        if self.deaths.load(Ordering::Relaxed) != 0 {
            self.blocks().dead.retain(|dead| dead.slot != slot);
            self.count_dead();
        }
    }
}
