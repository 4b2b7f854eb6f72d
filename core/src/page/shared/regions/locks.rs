//! The room of the lock manager, which owns its content: the table, wait signals, and counters of buckets.

use crate::page::shared::layout::{
    LOCK_COUNTER_COUNT, LOCK_COUNTERS, LOCK_SIGNAL_COUNT, LOCK_SIGNALS, LOCK_WORDS, LOCKS,
};
use crate::page::shared::shm::Shm;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

impl Shm {
    #[inline]
    pub(in crate::page) fn lock_table(&self) -> &[AtomicU64] {
        self.words(LOCKS, LOCK_WORDS)
    }

    #[inline]
    pub(in crate::page) fn lock_signals(&self) -> &[AtomicU32] {
        self.words32(LOCK_SIGNALS, LOCK_SIGNAL_COUNT)
    }

    #[inline]
    pub(in crate::page) fn lock_counters(&self) -> &[AtomicU32] {
        self.words32(LOCK_COUNTERS, LOCK_COUNTER_COUNT)
    }

    /// Empty the table: all owners are dead.
    pub(in crate::page) fn forget_locks(&self) {
        let counters = self.words(LOCK_COUNTERS, LOCK_COUNTER_COUNT / 2);
        for word in self.lock_table().iter().chain(counters) {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
    }
}
