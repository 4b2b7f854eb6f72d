//! The open blocks of this process's transactions, and the state that each of them returns to when it is undone.
//!
//! 1. At most one transaction of a process is open in a store: its owner holds the latch. Others may be *dead*: rolled
//!    back, but with blocks that were not left yet.
//! 2. The first block of a transaction begins it. Each further one is a savepoint: the length of the undo log, and the
//!    number of frees that are deferred to the commit.
//! 3. A block has its own number, never issued twice in a process, so that a block that has ended is never mistaken for
//!    a later one.
//! 4. Operations inside a transaction hold the `Turn`, so that another thread of the process can take the transaction
//!    over only between two operations.

use crate::error::Error;
use crate::ids::Addr;
use std::sync::atomic::{AtomicU32, Ordering};

/// An open block of a transaction. `begin` returns it, and any thread of the process can end it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block(u64);

/// The state that a block returns to.
#[derive(Clone, Copy, Debug)]
pub(in crate::page) struct Level {
    pub(in crate::page) block: Block,
    /// Length of the undo log when it began.
    pub(in crate::page) undo: u64,
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
pub(in crate::page) struct Open {
    pub(in crate::page) slot: u32,
    pub(in crate::page) levels: Vec<Level>,
    frees: Vec<Addr>,
    /// The reason for which its owner must roll it back.
    pub(in crate::page) doomed: Option<Reason>,
}

#[derive(Debug)]
pub(in crate::page) struct Dead {
    pub(in crate::page) slot: u32,
    pub(in crate::page) task: u64,
    pub(in crate::page) levels: Vec<Block>,
    pub(in crate::page) reason: Reason,
}

/// The open and dead transactions of this process: see the module.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    last: u64,
    pub(in crate::page) open: Option<Open>,
    pub(in crate::page) dead: Vec<Dead>,
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
    pub(in crate::page) fn begin(&mut self, slot: u32, undo: u64) -> Block {
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

    pub(in crate::page) fn dead_of(&self, slot: u32, task: u64) -> Option<&Dead> {
        self.dead
            .iter()
            .find(|dead| dead.slot == slot && dead.task == task)
    }

    /// Leave a block of a dead transaction, and those inside it; leaving the outermost ends the transaction.
    pub(in crate::page) fn leave_dead(&mut self, which: usize, level: usize) -> Reason {
        let dead = &mut self.dead[which];
        dead.levels.truncate(level);
        let reason = dead.reason.clone();
        if level == 0 {
            self.dead.swap_remove(which);
        }
        reason
    }

    pub(in crate::page) fn find_dead(&self, block: Block) -> Option<(usize, usize)> {
        self.dead.iter().enumerate().find_map(|(i, dead)| {
            let level = dead.levels.iter().position(|b| *b == block)?;
            Some((i, level))
        })
    }
}

/// The right to an operation inside the open transaction.
#[derive(Debug)]
pub(in crate::page) struct Turn<'p>(pub(in crate::page) &'p AtomicU32);

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}
