//! The gate: many readers or one writer, for one operation.
//!
//! Every thread has a slot with a mark of its own; the writer (who holds the latch) has one word.
//!
//! 1. A reader marks its slot, then looks at the word; a writer raises the word, then looks at the
//!    marks. All four are sequentially consistent, so at least one sees the other: a reader that saw
//!    the word lowered is seen by the writer, who waits for it.
//! 2. A mark is lowered with release order and read with acquire order, so a writer that sees no
//!    mark sees everything that reader did as finished, and the reverse for the word.
//! 3. A mark that stays belongs to a slow, a stopped or a dead reader. The waiting writer asks which (`slots`), and
//!    after `REVOKE_AFTER` it revokes the mark: from `INSIDE` to `REVOKED`, by compare-and-swap. Then it changes
//!    bytes although the reader is inside, and no later writer waits for that reader.
//! 4. A reader asks whether its mark still says `INSIDE` after its last load and before anything that it found
//!    counts (`holds`). The writer's change of the mark precedes its stores, with a fence between the two; the
//!    reader's loads precede its question, with a fence between the two. So a reader that saw a byte of such a
//!    store finds its mark revoked, throws away what it found, errors included, and reads again.
//! 5. A reader that has asked is finished: a mark that is revoked between the question and `leave` takes nothing
//!    back. So leaving is a plain store, and costs what it did before there was revocation.
//! 6. What a revoked reader loads may be torn. Nothing that it does before it asks may last: pins are given back,
//!    notes are made only after a question (`section::lookup`), and an entry of the live page table is filled only
//!    after one (`section`).
//! 7. A reader beside a stopped writer (`view`, of the committed state) has the mark `BESIDE`: it excludes no
//!    writer, and says to its own process only that the mapping is in use.

use crate::page::sync::waiters::Waiters;
use crate::raw::sync::{AtomicU32, AtomicU64, FutexWord, Ordering, fence};
use std::time::Duration;

/// A writer is changing bytes: readers stay out.
pub(crate) const RAISED: u64 = 1;
/// A transaction is open and has marked the containers it changed: readers look at the marks.
pub(crate) const TRANSACTION: u64 = 2;

/// The mark of a thread that is in no section.
pub(crate) const OUTSIDE: u64 = 0;
/// The mark of a reader that keeps writers out.
pub(crate) const INSIDE: u64 = 1;
/// The mark of a reader that a writer did not wait for any longer.
pub(crate) const REVOKED: u64 = 2;
/// The mark of a reader of the committed state beside a writer at work: it keeps no writer out.
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
    /// Enters as a reader if no writer is at work: the gate's word, or None.
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

    /// Leaves as a reader.
    #[inline]
    pub(crate) fn leave(mark: &AtomicU64) {
        mark.store(OUTSIDE, Ordering::Release);
    }

    /// Whether everything that the reader has loaded since it entered belongs together.
    #[inline(always)]
    pub(crate) fn holds(mark: &AtomicU64) -> bool {
        // The loads before it are not moved behind the load of the mark.
        fence(Ordering::Acquire);
        mark.load(Ordering::Relaxed) == INSIDE
    }

    /// As the writer that has raised the word: waits for this reader no longer.
    pub(crate) fn revoke(mark: &AtomicU64) {
        let _ = mark.compare_exchange(INSIDE, REVOKED, Ordering::SeqCst, Ordering::Relaxed);
        // The writer's stores are not moved before it.
        fence(Ordering::SeqCst);
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
