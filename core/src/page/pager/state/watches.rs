//! How often this process watches each bucket of containers (`shared::regions::feed`).
//!
//! A forked child inherits the counts but watches nothing: counts of another member of the store do not count.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub(in crate::page) struct Watches(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    member: u64,
    counts: HashMap<usize, u64>,
}

impl Watches {
    fn of(&self, member: u64) -> MutexGuard<'_, Counts> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.member != member {
            all.counts.clear();
            all.member = member;
        }
        all
    }

    /// Count one more watcher of a bucket. Return true if it is the first.
    pub(in crate::page) fn add(&self, member: u64, bucket: usize) -> bool {
        let mut all = self.of(member);
        let count = all.counts.entry(bucket).or_default();
        *count += 1;
        *count == 1
    }

    /// Count one watcher less. Return true if it was the last.
    pub(in crate::page) fn remove(&self, member: u64, bucket: usize) -> bool {
        let mut all = self.of(member);
        let Some(count) = all.counts.get_mut(&bucket) else {
            return false;
        };
        *count -= 1;
        let was_last = *count == 0;
        if was_last {
            all.counts.remove(&bucket);
        }
        was_last
    }
}
