//! What the lock manager needs of the store: the latch, sleeping and waking, and what is known of other owners.

use super::{Owner, Request, Table};
use crate::error::Result;
use crate::page::sync::deadlock::Waiting;
use std::time::Duration;

/// What waiting needs of the store.
pub trait Env {
    /// Run `f` with the latch held. If the latch cannot be had within `at_most` (None: the store's own bound; zero:
    /// without waiting), return an error without having run `f`. The latch is recovered first (`Table::recover`) if
    /// its owner has died.
    fn latched<R>(&self, at_most: Option<Duration>, f: impl FnOnce(&Table<'_>) -> Result<R>) -> Result<R>;
    /// Runs `f` without the latch: only for the calls that need none.
    fn unlatched<R>(&self, f: impl FnOnce(&Table<'_>) -> R) -> R;
    /// Whether the owner's process is dead. Called without the latch, at most every slice for each
    /// other process in the way.
    fn holder_is_dead(&self, owner: &Owner) -> bool;
    /// Recovers the owner's dead process, which calls `Table::release_process`. Without the latch.
    fn recover_owner(&self, owner: &Owner) -> Result<()>;
    /// Sleeps at most so long, while the signal has this value (a futex wait).
    fn sleep(&self, signal: u32, expected: u32, at_most: Duration);
    /// Wakes who sleeps on a signal.
    fn wake(&self, signal: u32);
    /// Whether a request contends for a while before it queues (`contest`), and spins before it sleeps. Not in models.
    fn barges(&self) -> bool {
        false
    }
    /// Whether threads of this process may have several tasks. A wait for a task of one's own thread would be for ever.
    fn has_tasks(&self) -> bool {
        false
    }
    /// Enters a wait into this process's list of waits in several stores (`beyond`); None: there is no such
    /// list. If the wait `blocks`, it stops all tasks of the thread.
    fn enter(&self, _request: &Request, _blocks: bool) -> Option<Waiting> {
        None
    }
    /// What is asked for and where, in an error about several stores.
    fn name(&self, request: &Request) -> String {
        request.target.to_string()
    }
    /// The owner of the latch, if anybody has it.
    fn latch_owner(&self) -> Option<Owner> {
        None
    }
    /// How long a wait that was given no end lasts if it leads to another process, and its owner holds something in
    /// another store.
    fn bound(&self) -> Duration {
        Duration::MAX
    }
    /// Another store in which the running owner holds a lock or a transaction. Without the latch.
    fn holds_elsewhere(&self, _owner: &Owner) -> Option<String> {
        None
    }
    /// What to call an owner in an error.
    fn describe(&self, owner: &Owner) -> String;
}
