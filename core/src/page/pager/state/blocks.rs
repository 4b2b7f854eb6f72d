//! The open blocks of this process's transactions, and the state that each of them returns to when it is undone.
//!
//! 1. At most one transaction of a process is open in a store: its owner holds the latch. Others may be *dead*: rolled
//!    back, but with blocks that were not left yet.
//! 2. The first block of a transaction begins it. Each further one is a savepoint: the length of the undo log, and the
//!    number of frees that are deferred to the commit.
//! 3. A block has its own number, never issued twice in a process, so that a block that has ended is never mistaken for
//!    a later one.

use crate::error::Error;
use crate::ids::Addr;

/// An open block of a transaction. `begin` returns it, and any thread of the process can end it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block(u64);

/// The state that a block returns to.
#[derive(Clone, Copy, Debug)]
pub(in crate::page) struct Level {
    block: Block,
    /// Length of the undo log when it began.
    pub(in crate::page) undo: u64,
    /// End of the records of the change feed when it began.
    pub(in crate::page) notices: u64,
    /// Deferred frees when it began.
    frees: usize,
}

/// Why a transaction was rolled back before its end.
#[derive(Clone, Debug)]
pub(crate) struct Reason {
    pub(crate) why: String,
    /// Retrying the transaction may succeed.
    pub(crate) again: bool,
}

impl Reason {
    pub(in crate::page) fn error(&self) -> Error {
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
    /// The reason for which its owner must roll it back.
    rollback_required: Option<Reason>,
}

#[derive(Debug)]
struct Dead {
    slot: u32,
    task: u64,
    levels: Vec<Block>,
    reason: Reason,
}

/// The open and dead transactions of this process: see the module.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    last: u64,
    open: Option<Open>,
    dead: Vec<Dead>,
}

/// The state of a block.
pub(in crate::page) enum BlockState {
    /// It belongs to the open transaction: it is now the innermost, and the transaction the calling thread's.
    Open,
    /// It was left by an owner other than that of the open transaction, which continues or learns that it cannot.
    Left,
    /// It belonged to a transaction that was rolled back before; the block is left.
    Dead(Reason),
    /// It has ended.
    Gone,
}

impl Blocks {
    fn next(&mut self) -> Block {
        self.last += 1;
        Block(self.last)
    }

    /// Begin a block of the transaction that the slot's thread has open or is just beginning.
    pub(in crate::page) fn begin(&mut self, slot: u32, undo: u64, notices: u64) -> Block {
        let block = self.next();
        let open = self.open.get_or_insert_with(|| Open {
            slot,
            levels: Vec::new(),
            frees: Vec::new(),
            rollback_required: None,
        });
        open.levels.push(Level {
            block,
            undo,
            notices,
            frees: open.frees.len(),
        });
        block
    }

    /// Return the number of open blocks.
    pub(in crate::page) fn depth(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.levels.len() as u64)
    }

    /// Return the innermost open block.
    pub(in crate::page) fn innermost(&self) -> Option<Level> {
        self.open.as_ref().and_then(|open| open.levels.last().copied())
    }

    /// Leave the innermost block; its changes remain in the enclosing one.
    pub(in crate::page) fn leave(&mut self) {
        if let Some(open) = &mut self.open {
            open.levels.pop();
        }
    }

    /// Leave the innermost block, whose changes were undone.
    pub(in crate::page) fn undo(&mut self) {
        if let Some(open) = &mut self.open
            && let Some(level) = open.levels.pop()
        {
            open.frees.truncate(level.frees);
        }
    }

    /// Return the frees that wait for the commit.
    pub(in crate::page) fn frees(&mut self) -> Option<&mut Vec<Addr>> {
        self.open.as_mut().map(|open| &mut open.frees)
    }

    /// End the transaction.
    pub(in crate::page) fn end(&mut self) {
        self.open = None;
    }

    /// Forget everything: of a forked parent, or of a store that is being closed.
    pub(in crate::page) fn clear(&mut self) {
        self.open = None;
        self.dead.clear();
    }

    /// Record that the transaction was rolled back before its end.
    pub(in crate::page) fn die(&mut self, task: u64, reason: Reason) {
        if let Some(open) = self.open.take() {
            self.dead.push(Dead {
                slot: open.slot,
                task,
                levels: open.levels.iter().map(|level| level.block).collect(),
                reason,
            });
        }
    }

    /// Return the thread slot that has the open transaction.
    pub(in crate::page) fn slot(&self) -> Option<u32> {
        self.open.as_ref().map(|open| open.slot)
    }

    /// Return how many blocks of the open transaction enclose this one, or None if it is not open.
    pub(in crate::page) fn level_of(&self, block: Block) -> Option<usize> {
        let levels = &self.open.as_ref()?.levels;
        levels.iter().position(|level| level.block == block)
    }

    /// Leave the blocks from a level on; their changes remain in the enclosing one.
    pub(in crate::page) fn leave_from(&mut self, level: usize) {
        if let Some(open) = &mut self.open {
            open.levels.truncate(level);
        }
    }

    /// Make the transaction another thread's.
    pub(in crate::page) fn give_to(&mut self, slot: u32) {
        if let Some(open) = &mut self.open {
            open.slot = slot;
        }
    }

    /// Record the reason for which the owner must roll the transaction back.
    pub(in crate::page) fn require_rollback(&mut self, reason: Reason) {
        if let Some(open) = &mut self.open {
            open.rollback_required = Some(reason);
        }
    }

    /// Return that reason.
    pub(in crate::page) fn rollback_reason(&self) -> Option<Reason> {
        self.open.as_ref().and_then(|open| open.rollback_required.clone())
    }

    /// Return the number of dead transactions.
    pub(in crate::page) fn dead_count(&self) -> u32 {
        self.dead.len() as u32
    }

    /// Return whether a transaction of a thread is dead.
    pub(in crate::page) fn has_dead_of(&self, slot: u32) -> bool {
        self.dead.iter().any(|dead| dead.slot == slot)
    }

    /// Forget the dead transactions of an ending thread.
    pub(in crate::page) fn forget_dead_of(&mut self, slot: u32) {
        self.dead.retain(|dead| dead.slot != slot);
    }

    fn which_dead(&self, slot: u32, task: u64) -> Option<usize> {
        let is_it = |dead: &Dead| dead.slot == slot && dead.task == task;
        self.dead.iter().position(is_it)
    }

    /// Return why a task's transaction is dead, if it is.
    pub(in crate::page) fn reason_of_dead(&self, slot: u32, task: u64) -> Option<&Reason> {
        Some(&self.dead[self.which_dead(slot, task)?].reason)
    }

    /// Return the number of blocks of a task's dead transaction.
    pub(in crate::page) fn dead_depth(&self, slot: u32, task: u64) -> u64 {
        self.which_dead(slot, task)
            .map_or(0, |which| self.dead[which].levels.len() as u64)
    }

    /// Leave the innermost block of a task's dead transaction.
    pub(in crate::page) fn leave_innermost_dead(&mut self, slot: u32, task: u64) -> Option<Reason> {
        let which = self.which_dead(slot, task)?;
        let level = self.dead[which].levels.len() - 1;
        Some(self.leave_dead(which, level))
    }

    /// Leave a block of a dead transaction, if it is one.
    pub(in crate::page) fn leave_if_dead(&mut self, block: Block) -> Option<Reason> {
        let (which, level) = self.find_dead(block)?;
        Some(self.leave_dead(which, level))
    }

    /// Leave a block of a dead transaction, and those inside it; leaving the outermost ends the transaction.
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
