//! Freeing while no process changes the store: the second task of the leading helper (`helper`).
//!
//! The upper layers own the entries that wait to be freed (`Hooks::has_pending_frees`). Small changes do not free them
//! (`store::space::freeing`), so a thread must.
//!
//! 1. A step is its own write section that frees few entries and never waits for the latch. It begins only when the
//!    count of changes has been constant for `PAUSE`.
//! 2. A change between two steps ends them, and the pause begins again. So a change waits for at most one step.
//! 3. Half of the time no step is made, so that readers of a store without writers are rarely revoked.

use crate::error::Error;
use crate::page::pager::Pager;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long no change must be made before a step.
const PAUSE: Duration = Duration::from_millis(20);
/// How long steps follow each other, and how long the following pause is.
const SLICE: Duration = Duration::from_millis(2);
/// The pause after a step that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Approximate number of container entries that a step frees.
const ENTRIES: u64 = 32;

/// Since when no change was made, as a helper observed it.
pub(in crate::page) struct Idle {
    changes: u64,
    since: Instant,
}

impl Idle {
    pub(in crate::page) fn new() -> Idle {
        Idle {
            changes: 0,
            since: Instant::now(),
        }
    }
}

impl Pager {
    /// Return whether a helper frees what waits, here or in another process that has the store open (one load).
    #[inline]
    #[must_use]
    pub fn frees_when_idle(&self) -> bool {
        self.shm().shortest_max_age() != 0
    }

    /// Free for a while, if the store is quiet and this helper leads. Return when to check again, or None if nothing
    /// waits.
    pub(in crate::page) fn free_when_idle(&self, ending: &AtomicBool, quiet: &mut Idle) -> Option<Duration> {
        let hooks = self.hooks()?;
        if !self.frees_when_idle() || self.shm().is_poisoned() || !self.is_leader() {
            return None;
        }
        match hooks.has_pending_frees(self) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(_) => return Some(PAUSE),
        }
        let (now, changes) = (Instant::now(), self.changes());
        if changes != quiet.changes {
            (quiet.changes, quiet.since) = (changes, now);
            return Some(PAUSE);
        }
        let left = PAUSE.saturating_sub(now.saturating_duration_since(quiet.since));
        if !left.is_zero() {
            return Some(left);
        }
        while now.elapsed() < SLICE && !ending.load(Ordering::SeqCst) {
            match hooks.free_some(self, ENTRIES) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(Error::WouldBlock { .. }) => {
                    quiet.since = Instant::now();
                    return Some(PAUSE);
                }
                Err(_) => return Some(AFTER_FAILURE),
            }
            quiet.changes = quiet.changes.wrapping_add(1);
            if self.changes() != quiet.changes {
                return Some(PAUSE);
            }
        }
        Some(SLICE)
    }
}
