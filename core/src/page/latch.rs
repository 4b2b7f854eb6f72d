//! The latch: the right to change the store. One word: 0, or the thread slot + 1 of its owner.
//!
//! 1. The word goes from 0 to an owner by compare-and-swap, and from a dead owner to the one who
//!    took the dead process's byte lock (`slots`), and back to the dead if that one could not recover;
//!    nothing else changes an owned word but its owner.
//! 2. Unlocking stores 0 and then looks at the waiters; a waiter counts itself and then looks at the
//!    word (`waiters`). So one of the two sees the other.

use super::waiters::Waiters;
use crate::raw::sync::{AtomicU32, AtomicU64, FutexWord, Ordering};
use std::time::Duration;

/// The latch's words.
pub(crate) struct Latch<'a> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) futex: &'a FutexWord,
    pub(crate) waiters: &'a AtomicU32,
}

/// Attempts before a waiter sleeps: a few microseconds, more than a lone operation takes.
const SPINS: u32 = 400;

impl Latch<'_> {
    /// Takes a free latch.
    #[inline]
    pub(crate) fn try_take(&self, slot: u32) -> bool {
        self.word
            .compare_exchange(0, u64::from(slot) + 1, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes it, spinning a few microseconds.
    pub(crate) fn spin(&self, slot: u32) -> bool {
        for i in 0..SPINS {
            if self.word.load(Ordering::Relaxed) == 0 && self.try_take(slot) {
                return true;
            }
            if i % 100 == 99 {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        false
    }

    /// The slot that holds it.
    #[inline]
    pub(crate) fn owner(&self) -> Option<u32> {
        match self.word.load(Ordering::Acquire) {
            0 => None,
            w => Some((w - 1) as u32),
        }
    }

    /// Sleeps until it may be free, at most `slice`.
    pub(crate) fn sleep(&self, slice: Duration) {
        self.sleepers().sleep(u32::MAX, slice);
    }

    fn sleepers(&self) -> Waiters<'_> {
        Waiters {
            count: self.waiters,
            futex: self.futex,
        }
    }

    /// Gives it up. A full barrier, too.
    #[inline]
    pub(crate) fn release(&self) {
        self.word.store(0, Ordering::SeqCst);
        self.sleepers().wake(1);
    }

    /// Gives it back to the dead owner it was taken over from. The caller holds the byte lock still.
    pub(crate) fn hand_back(&self, dead: u32) {
        self.word.store(u64::from(dead) + 1, Ordering::SeqCst);
    }

    /// Takes it over from a dead owner. The caller holds the dead process's byte lock.
    pub(crate) fn take_over(&self, dead: u32, slot: u32) -> bool {
        self.word
            .compare_exchange(
                u64::from(dead) + 1,
                u64::from(slot) + 1,
                Ordering::SeqCst,
                Ordering::Relaxed,
            )
            .is_ok()
    }
}
