//! The running task of a thread. Threads that run several tasks in turn (an event loop, green threads) set it before
//! each operation that depends on its owner.
//!
//! 1. An owner of a transaction or of a lock is a thread slot and a task. Task 0 is the thread itself.
//! 2. The word is thread-local and is only read here: this library never asks the program which task is running.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    static TASK: Cell<u64> = const { Cell::new(0) };
}

static USED: AtomicBool = AtomicBool::new(false);

/// The largest number of a task: owners of locks have 16 more bits for the thread.
pub const MAX_TASK: u64 = (1 << 47) - 1;

/// Return the task that runs on the calling thread.
#[inline]
pub(crate) fn current() -> u64 {
    TASK.get()
}

/// Return whether any thread of this process has ever set a task.
#[inline]
pub(crate) fn are_used() -> bool {
    USED.load(Ordering::Relaxed)
}

/// Set the task that runs on the calling thread from now on (0: the thread itself). A number belongs to one task as
/// long as the process lives. Return the previous number.
pub fn set_task(task: u64) -> u64 {
    if task != 0 && !are_used() {
        USED.store(true, Ordering::Relaxed);
    }
    TASK.replace(task & MAX_TASK)
}
