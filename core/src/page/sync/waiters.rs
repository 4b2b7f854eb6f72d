//! How many sleep on a word, so that who changes it need not ask the kernel when nobody does.
//!
//! 1. A sleeper counts itself before it looks at the word for the last time, and takes itself off when it
//!    is back. Nobody else takes it off.
//! 2. So a sleeper that was killed stays counted. A wake that finds nobody is noted as a miss, one that
//!    finds somebody forgets the misses, and after `MISSES` in a row the count starts anew. A sleeper
//!    that was counted and not yet asleep all that time sleeps one slice too long, no worse.
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
    /// Sleeps at most `slice` while the word is what it is now, if it has any of `bits`.
    pub(crate) fn sleep(&self, bits: u32, slice: Duration) {
        self.count.fetch_add(1, Ordering::SeqCst);
        let seen = self.futex.load(Ordering::SeqCst);
        if seen & bits != 0 {
            futex::wait(self.futex, seen, slice);
        }
        self.update(|n| (n & COUNT != 0).then(|| n - 1));
    }

    /// Wakes up to `most` of the sleepers. After the word was changed by a sequentially consistent store,
    /// or before one.
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

    /// Changes the count to what `f` makes of it, unless that is `None`. A loop, because the method of the standard
    /// library for this is deprecated in the newest Rust, and its successor is missing in the oldest supported one.
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
