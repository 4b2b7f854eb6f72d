//! The environment that the lock manager needs from the store: the latch, sleeping and waking, and the
//! liveness and names of other owners.

use crate::error::Result;
use crate::lock::{Owner, Request, Table};
use crate::page::sync::deadlock::Waiting;
use std::time::Duration;

/// What waiting needs from the store.
pub trait Env {
    /// Run `f` with the latch held. If the latch is not acquired within `at_most` (None: the store's own
    /// bound; zero: no wait), return an error without running `f`. If the latch's owner has died, the latch
    /// is recovered first (`Table::recover`).
    fn latched<R>(&self, at_most: Option<Duration>, f: impl FnOnce(&Table<'_>) -> Result<R>) -> Result<R>;
    /// Run `f` without the latch, for the calls that do not need it.
    fn unlatched<R>(&self, f: impl FnOnce(&Table<'_>) -> R) -> R;
    /// Return whether the owner's process is dead. Called without the latch, at most once a slice for each
    /// other process that blocks the request.
    fn holder_is_dead(&self, owner: &Owner) -> bool;
    /// Recover the owner's dead process; this calls `Table::release_process`. Called without the latch.
    fn recover_owner(&self, owner: &Owner) -> Result<()>;
    /// Sleep for at most `at_most`, while the signal has the value `expected` (a futex wait).
    fn sleep(&self, signal: u32, expected: u32, at_most: Duration);
    /// Wake the sleepers on a signal.
    fn wake(&self, signal: u32);
    /// Return whether a request contends for a while before it queues (`contest`), and spins before it
    /// sleeps. False in models.
    fn barges(&self) -> bool {
        false
    }
    /// Return whether threads of this process may have several tasks. A wait for a task of the same thread
    /// would never end.
    fn has_tasks(&self) -> bool {
        false
    }
    /// Enter a wait into this process's list of waits in several stores (`cross_store`); None if there is no such
    /// list. A wait that `blocks` stops all tasks of the thread.
    fn enter(&self, _request: &Request, _blocks: bool) -> Option<Waiting> {
        None
    }
    /// Return the request and its place, for an error about several stores.
    fn name(&self, request: &Request) -> String {
        request.target.to_string()
    }
    /// Return the owner of the latch, if it is held.
    fn latch_owner(&self) -> Option<Owner> {
        None
    }
    /// Return the bound on a wait without a timeout that leads to another process, while its owner holds
    /// something in another store.
    fn bound(&self) -> Duration {
        Duration::MAX
    }
    /// Return another store in which the running owner holds a lock or a transaction. Called without the
    /// latch.
    fn holds_elsewhere(&self, _owner: &Owner) -> Option<String> {
        None
    }
    /// Return the name of an owner for an error.
    fn describe(&self, owner: &Owner) -> String;
}
