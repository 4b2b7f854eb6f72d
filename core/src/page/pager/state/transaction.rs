//! The transactions of this process in one open store: which task has the open one, whose turn it is in it, and which
//! were rolled back before they were left.
//!
//! 1. The blocks are behind a mutex (`blocks`). The other fields let the fast paths do without it: `deaths` is the
//!    number of dead transactions, and `rollback_required` is set if the owner of the open one must roll it back.
//! 2. Operations inside a transaction hold the `Turn`, so that another thread of the process can take the transaction
//!    over only between two operations.

use crate::ids::Addr;
use crate::page::pager::state::blocks::{Blocks, Reason};
use crate::page::sync::task;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The transactions of this process: see the module.
#[derive(Debug, Default)]
pub(in crate::page) struct Transactions {
    blocks: Mutex<Blocks>,
    turn: AtomicU32,
    /// The task that has the open transaction; its thread has the latch.
    task: AtomicU64,
    deaths: AtomicU32,
    rollback_required: AtomicBool,
    /// The address of the last time of change that the open transaction has set; 0: none.
    touched: AtomicU64,
}

/// The right to an operation inside the open transaction.
#[derive(Debug)]
pub(in crate::page) struct Turn<'p>(&'p AtomicU32);

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

impl Transactions {
    pub(in crate::page) fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Return the task that has the open transaction, or had the last one.
    #[inline]
    pub(in crate::page) fn task(&self) -> u64 {
        self.task.load(Ordering::Relaxed)
    }

    /// Return whether that is the running task.
    #[inline]
    pub(in crate::page) fn is_of_running_task(&self) -> bool {
        self.task() == task::current()
    }

    /// Make the running task the one that has the open transaction.
    pub(in crate::page) fn give_to_running_task(&self) {
        self.task.store(task::current(), Ordering::Relaxed);
    }

    /// Take the turn. Wait, for one operation, while another thread of this process has it.
    #[inline]
    pub(in crate::page) fn take_turn(&self) -> Turn<'_> {
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

    /// Return whether the open transaction sets another time of change than it did last. The undo log then needs the
    /// old one; a time that is logged twice is undone to the older one.
    #[inline]
    pub(in crate::page) fn is_first_touch(&self, time: Addr) -> bool {
        self.touched.swap(time.0, Ordering::Relaxed) != time.0
    }

    /// A transaction begins, or a part of it was undone: it has set no time.
    pub(in crate::page) fn forget_touch(&self) {
        self.touched.store(0, Ordering::Relaxed);
    }

    /// In a forked child: forget the operations of the parent's other threads.
    pub(in crate::page) fn after_fork(&self) {
        self.turn.store(0, Ordering::Relaxed);
        self.deaths.store(0, Ordering::Relaxed);
        self.rollback_required.store(false, Ordering::Relaxed);
    }

    /// Return whether a transaction is dead.
    #[inline]
    pub(in crate::page) fn has_dead(&self) -> bool {
        self.deaths.load(Ordering::Relaxed) != 0
    }

    /// Count the dead transactions after a change of the blocks.
    fn count_dead(&self, blocks: &Blocks) {
        self.deaths.store(blocks.dead_count(), Ordering::Relaxed);
    }

    /// Record that the running task's transaction was rolled back before its end.
    pub(in crate::page) fn die(&self, reason: Reason) {
        let mut blocks = self.blocks();
        blocks.die(task::current(), reason);
        self.count_dead(&blocks);
    }

    /// Leave the innermost block of the running task's dead transaction. Return None if it has none.
    pub(in crate::page) fn leave_dead(&self, slot: u32) -> Option<Reason> {
        if !self.has_dead() {
            return None;
        }
        let mut blocks = self.blocks();
        let reason = blocks.leave_innermost_dead(slot, task::current())?;
        self.count_dead(&blocks);
        Some(reason)
    }

    /// Return the number of blocks of a dead transaction that the running task has not left.
    pub(in crate::page) fn depth_of_dead(&self, slot: u32) -> u64 {
        if !self.has_dead() {
            return 0;
        }
        self.blocks().dead_depth(slot, task::current())
    }

    /// Change the blocks of dead transactions.
    pub(in crate::page) fn change_dead<R>(&self, f: impl FnOnce(&mut Blocks) -> R) -> R {
        let mut blocks = self.blocks();
        let done = f(&mut blocks);
        self.count_dead(&blocks);
        done
    }

    /// Return whether the owner of the open transaction must roll it back.
    #[inline]
    pub(in crate::page) fn requires_rollback(&self) -> bool {
        self.rollback_required.load(Ordering::Relaxed)
    }

    /// Make the owner of the open transaction roll it back.
    pub(in crate::page) fn require_rollback(&self, blocks: &mut Blocks, reason: Reason) {
        blocks.require_rollback(reason);
        self.rollback_required.store(true, Ordering::Relaxed);
    }

    /// End the open transaction: nothing is left to commit or undo.
    pub(in crate::page) fn end(&self) {
        self.blocks().end();
        self.rollback_required.store(false, Ordering::Relaxed);
    }
}
