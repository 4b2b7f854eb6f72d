//! The gate: many readers or one writer, for one operation.
//!
//! Every thread has a slot with a mark of its own; the writer (who holds the latch) has one word.
//!
//! 1. A reader marks its slot, then looks at the word; a writer raises the word, then looks at the
//!    marks. All four are sequentially consistent, so at least one sees the other: a reader that saw
//!    the word lowered is seen by the writer, who waits for it.
//! 2. A mark is lowered with release order and read with acquire order, so a writer that sees no
//!    mark sees everything that reader did as finished, and the reverse for the word.
//! 3. A mark that stays belongs to a slow or to a dead reader; the waiting writer asks (`slots`).

use super::waiters::Waiters;
use crate::raw::sync::{AtomicU32, AtomicU64, FutexWord, Ordering};
use std::time::Duration;

/// A writer is changing bytes: readers stay out.
pub(crate) const RAISED: u64 = 1;
/// A transaction is open and has marked the containers it changed: readers look at the marks.
pub(crate) const TRANSACTION: u64 = 2;

/// The gate's words.
pub(crate) struct Gate<'a> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) futex: &'a FutexWord,
    pub(crate) waiters: &'a AtomicU32,
}

impl Gate<'_> {
    /// Enters as a reader if no writer is at work: the gate's word, or None.
    #[inline]
    pub(crate) fn try_enter(&self, mark: &AtomicU64) -> Option<u64> {
        mark.store(1, Ordering::SeqCst);
        let word = self.word.load(Ordering::SeqCst);
        if word & RAISED == 0 {
            return Some(word);
        }
        mark.store(0, Ordering::Release);
        None
    }

    /// Leaves as a reader.
    #[inline]
    pub(crate) fn leave(mark: &AtomicU64) {
        mark.store(0, Ordering::Release);
    }

    /// Raises the writer's word. The caller holds the latch, and waits for the marks next.
    #[inline]
    pub(crate) fn raise(&self) {
        let word = self.word.load(Ordering::Relaxed);
        self.word.store(word | RAISED, Ordering::SeqCst);
    }

    /// Lowers the word, with the transaction bit as given, and wakes readers.
    #[inline]
    pub(crate) fn lower(&self, transaction: bool) {
        self.restore(if transaction { TRANSACTION } else { 0 });
    }

    /// Puts back what the word was before `raise`.
    #[inline]
    pub(crate) fn restore(&self, word: u64) {
        self.word.store(word, Ordering::SeqCst);
        self.wake_waiters();
    }

    /// Lowers the word without looking at the waiters: the caller does, after a full barrier
    /// (`wake_waiters`).
    #[inline]
    pub(crate) fn lower_quietly(&self, transaction: bool) {
        self.word
            .store(if transaction { TRANSACTION } else { 0 }, Ordering::Release);
    }

    /// Wakes the readers that sleep.
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

    /// Sleeps while the word has any of `bits`, at most `slice`.
    pub(crate) fn sleep(&self, bits: u64, slice: Duration) {
        self.sleepers().sleep(bits as u32, slice);
    }
}
