//! The gate: it admits many readers or one writer, for one operation.
//!
//! Every thread has a slot with its own mark; the writer (the holder of the latch) has one word.
//!
//! 1. A reader marks its slot, then reads the word; a writer raises the word, then reads the marks. All four are
//!    sequentially consistent, so at least one sees the other: a reader that saw the word lowered is seen by the
//!    writer, which waits for it.
//! 2. A mark is lowered with release order and read with acquire order. So a writer that sees no mark sees everything
//!    that reader did as finished, and the reverse for the word.
//! 3. A mark that remains belongs to a slow, a stopped or a dead reader. The waiting writer checks which (`slots`), and
//!    after `REVOKE_AFTER` it revokes the mark: from `INSIDE` to `REVOKED`, by compare-and-swap. Then it changes bytes
//!    although the reader is inside, and no later writer waits for that reader.
//! 4. A reader checks whether its mark is still `INSIDE` after its last load and before its result is used (`holds`).
//!    The writer's change of the mark precedes its stores, with a fence between the two; the reader's loads precede its
//!    check, with a fence between the two. So a reader that saw a byte of such a store finds its mark revoked, discards
//!    its result, errors included, and reads again.
//! 5. A reader that has made this check is finished: revoking its mark between the check and `leave` does not
//!    invalidate the result. So leaving is a plain store, and revocation adds no cost to it.
//! 6. A revoked reader may load torn bytes. Nothing that it does before the check may last: pins are released, lookups
//!    are cached only after a check (`section::lookup`), and an entry of the live page table is filled only after one
//!    (`section`).
//! 7. A reader beside a stopped writer (`view`, of the committed state) has the mark `BESIDE`: it excludes no writer,
//!    and shows only its own process that the mapping is in use.

use crate::page::sync::waiters::Waiters;
use crate::raw::sync::{AtomicU32, AtomicU64, FutexWord, Ordering, fence};
use std::time::Duration;

/// A writer is changing bytes: readers stay out.
pub(crate) const RAISED: u64 = 1;
/// A transaction is open and has marked the containers it changed: readers check the marks.
pub(crate) const TRANSACTION: u64 = 2;

/// The mark of a thread that is in no section.
pub(crate) const OUTSIDE: u64 = 0;
/// The mark of a reader that keeps writers out.
pub(crate) const INSIDE: u64 = 1;
/// The mark of a reader for which a writer stopped waiting.
pub(crate) const REVOKED: u64 = 2;
/// The mark of a reader of the committed state beside a running writer: it excludes no writer.
pub(crate) const BESIDE: u64 = 3;

/// How long a writer waits for the readers that are inside.
pub(crate) const REVOKE_AFTER: Duration = Duration::from_millis(20);

/// The gate's words.
pub(crate) struct Gate<'a> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) futex: &'a FutexWord,
    pub(crate) waiters: &'a AtomicU32,
}

impl Gate<'_> {
    /// Enter as a reader if no writer is running. Return the gate's word, or None.
    #[inline]
    pub(crate) fn try_enter(&self, mark: &AtomicU64) -> Option<u64> {
        mark.store(INSIDE, Ordering::SeqCst);
        let word = self.word.load(Ordering::SeqCst);
        if word & RAISED == 0 {
            return Some(word);
        }
        mark.store(OUTSIDE, Ordering::Release);
        None
    }

    /// Leave as a reader.
    #[inline]
    pub(crate) fn leave(mark: &AtomicU64) {
        mark.store(OUTSIDE, Ordering::Release);
    }

    /// Return whether everything that the reader has loaded since it entered is consistent.
    #[inline(always)]
    pub(crate) fn holds(mark: &AtomicU64) -> bool {
        // Keeps the preceding loads before the load of the mark.
        fence(Ordering::Acquire);
        mark.load(Ordering::Relaxed) == INSIDE
    }

    /// Stop waiting for this reader. Called by the writer that has raised the word.
    pub(crate) fn revoke(mark: &AtomicU64) {
        let _ = mark.compare_exchange(INSIDE, REVOKED, Ordering::SeqCst, Ordering::Relaxed);
        // Keeps the writer's stores after the change of the mark.
        fence(Ordering::SeqCst);
    }

    /// Raise the writer's word. The caller holds the latch, and waits for the marks next.
    #[inline]
    pub(crate) fn raise(&self) {
        let word = self.word.load(Ordering::Relaxed);
        self.word.store(word | RAISED, Ordering::SeqCst);
    }

    /// Lower the word, with the transaction bit as given, and wake readers.
    #[inline]
    pub(crate) fn lower(&self, transaction: bool) {
        self.restore(if transaction { TRANSACTION } else { 0 });
    }

    /// Restore the word that was there before `raise`.
    #[inline]
    pub(crate) fn restore(&self, word: u64) {
        self.word.store(word, Ordering::SeqCst);
        self.wake_waiters();
    }

    /// Lower the word without checking the waiters. The caller checks them after a full barrier (`wake_waiters`).
    #[inline]
    pub(crate) fn lower_without_wake(&self, transaction: bool) {
        self.word
            .store(if transaction { TRANSACTION } else { 0 }, Ordering::Release);
    }

    /// Wake the sleeping readers.
    #[inline]
    pub(crate) fn wake_waiters(&self) {
        self.sleepers().wake(i32::MAX);
    }

    fn sleepers(&self) -> Waiters<'_> {
        Waiters {
            count: self.waiters,
            futex: self.futex,
        }
    }

    /// Sleep while the word has any of `bits`, for at most `slice`.
    pub(crate) fn sleep(&self, bits: u64, slice: Duration) {
        self.sleepers().sleep(bits as u32, slice);
    }
}
