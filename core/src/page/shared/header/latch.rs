//! The words of the latch (`sync::latch`), and of the turn and the tickets of its waiters (`section::latch::turn`).

use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use crate::page::sync::latch::Latch;
use std::sync::atomic::Ordering;

/// The latch: 0, or its owner. In a cache line of its own.
const LATCH: Word = Word::at(320);
const LATCH_WAITERS: Word = Word::at(328);
/// The waiter for which the latch is reserved, and the number of the newest ticket (`turn`).
const LATCH_TURN: Word = Word::at(336);
const LATCH_TICKETS: Word = Word::at(344);

impl Shm {
    /// Return the latch, for a process given as in its word.
    #[inline(always)]
    pub(in crate::page) fn latch(&self, process: u64) -> Latch<'_> {
        Latch {
            word: self.word(LATCH),
            futex: self.word32(LATCH),
            waiters: self.word32(LATCH_WAITERS),
            turn: self.word(LATCH_TURN),
            process,
        }
    }

    /// Return a new ticket of a waiter.
    pub(in crate::page) fn new_ticket(&self) -> u64 {
        self.word(LATCH_TICKETS).fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Return whether the latch of a sidecar that no process uses has an owner.
    pub(in crate::page) fn is_latch_taken(&self) -> bool {
        self.get(LATCH) != 0
    }

    /// Free the latch of a sidecar that no other process uses.
    pub(in crate::page) fn free_latch(&self) {
        self.set(LATCH, 0);
    }

    /// Forget the waiters: all of them are dead.
    pub(in crate::page) fn forget_latch_waiters(&self) {
        self.set(LATCH_WAITERS, 0);
        self.set(LATCH_TURN, 0);
    }

    /// Forget the tickets, with the waiters that had them.
    pub(in crate::page) fn forget_tickets(&self) {
        self.set(LATCH_TICKETS, 0);
    }
}
