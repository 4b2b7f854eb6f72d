//! The number of sleepers on a word, so that a thread that changes the word need not call the kernel when there are
//! none.
//!
//! 1. A sleeper counts itself before it reads the word for the last time, and removes itself when it has woken up. No
//!    other thread removes it.
//! 2. So a sleeper that was killed remains counted. A wake-up that finds no sleeper is counted as a miss, and one that
//!    finds a sleeper resets the misses. After `MISSES` in a row the count restarts at zero. At worst, a sleeper that
//!    was counted but not yet asleep during all that time sleeps one slice too long.
//!
//! The word: sleepers in the low half, misses in the high half.

use crate::raw::futex;
use crate::raw::sync::{AtomicU32, FutexWord, Ordering};
use std::time::Duration;

const COUNT: u32 = 0xffff;
const MISS: u32 = COUNT + 1;
const MISSES: u32 = 256;

/// The sleepers on one word.
#[derive(Clone, Copy)]
pub(crate) struct Waiters<'a> {
    pub(crate) count: &'a AtomicU32,
    pub(crate) futex: &'a FutexWord,
}

impl Waiters<'_> {
    /// Sleep for at most `slice` while the word keeps its current value, if it has any of `bits`.
    pub(crate) fn sleep(&self, bits: u32, slice: Duration) {
        self.count.fetch_add(1, Ordering::SeqCst);
        let seen = self.futex.load(Ordering::SeqCst);
        if seen & bits != 0 {
            futex::wait(self.futex, seen, slice);
        }
        self.update(|n| (n & COUNT != 0).then(|| n - 1));
    }

    /// Sleep for at most `slice` unless `ready` holds. A thread that makes it hold changes the word afterwards, and
    /// then wakes.
    pub(crate) fn sleep_unless(&self, slice: Duration, ready: impl FnOnce() -> bool) {
        self.count.fetch_add(1, Ordering::SeqCst);
        let seen = self.futex.load(Ordering::SeqCst);
        if !ready() {
            futex::wait(self.futex, seen, slice);
        }
        self.update(|n| (n & COUNT != 0).then(|| n - 1));
    }

    /// Wake up to `most` of the sleepers. Called after the word was changed by a sequentially consistent store, or
    /// before one.
    #[inline]
    pub(crate) fn wake(&self, most: i32) {
        if self.count.load(Ordering::SeqCst) & COUNT != 0 {
            self.wake_some(most);
        }
    }

    #[cold]
    fn wake_some(&self, most: i32) {
        let found = futex::wake(self.futex, most) > 0;
        self.update(|n| match n / MISS {
            _ if found => (n >= MISS).then_some(n & COUNT),
            misses if misses >= MISSES => Some(0),
            _ => Some(n + MISS),
        });
    }

    /// Replace the count by the result of `f`, unless that is `None`. This is a loop because the standard library's
    /// method for it is deprecated in the newest Rust, and its successor is missing in the oldest supported one.
    fn update(&self, f: impl Fn(u32) -> Option<u32>) {
        let mut seen = self.count.load(Ordering::Relaxed);
        while let Some(new) = f(seen)
            && let Err(now) = self
                .count
                .compare_exchange(seen, new, Ordering::SeqCst, Ordering::Relaxed)
        {
            seen = now;
        }
    }
}
