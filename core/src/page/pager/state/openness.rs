//! Whether the store is still open in this process, and which thread closes it.
//!
//! 1. "Closed" is set under the latch, and before the closing thread looks for this process's readers. A thread that is
//!    entering sees it, and releases what it has just taken.
//! 2. One thread at a time closes. The right to close is the fork generation of its process, so that a child that was
//!    forked during it finds it free.

use crate::raw::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::page) struct Openness {
    closed: AtomicBool,
    closing: AtomicU32,
}

/// The right to close, held by one thread at a time.
pub(in crate::page) struct Closing<'p>(&'p AtomicU32);

impl Openness {
    /// Return whether the store was closed.
    #[inline(always)]
    pub(in crate::page) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// As `is_closed`, where the answer may be briefly out of date: a later check follows.
    #[inline(always)]
    pub(in crate::page) fn seems_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Set "closed", under the latch.
    pub(in crate::page) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Open the store again: it could not be closed.
    pub(in crate::page) fn reopen(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Wait for the right to close, and take it.
    pub(in crate::page) fn take_closing(&self) -> Closing<'_> {
        let (word, me) = (&self.closing, process::forks());
        loop {
            let seen = word.load(Ordering::Relaxed);
            if seen != me
                && word
                    .compare_exchange(seen, me, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return Closing(word);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}
