//! A ring of records that one writer at a time adds and any number of readers follow. The change feed is one.
//!
//! 1. Positions count words and never wrap; a word's place in the ring is its position modulo the ring's length, which
//!    is a power of two. Only the latch's holder adds records.
//! 2. `head` is the end of what counts. `staged` is the end of what is complete: records from `head` to there belong to
//!    a change that is not committed yet. `publish` makes them count, `discard` drops them.
//! 3. `reserved` never decreases. It is raised before a word is written, so that a reader which has read overwritten
//!    words knows it: it reads `reserved` last (the fences pair), and what lies a ring's length before it is lost.
//! 4. Each step can be repeated. A writer that dies between two steps leaves the words from `head` to `staged`
//!    complete, and the process that recovers publishes or discards them.
//! 5. A change that does not fit the ring is replaced by one record `LOST`: everything may have changed.
//!
//! A record: its first word has the record's length in words in the low 16 bits.

use crate::raw::sync::{AtomicU64, Ordering, fence};

/// The record that says that records are missing.
pub(crate) const LOST: u64 = 1;

/// The words.
pub(crate) struct Ring<'a> {
    pub(crate) head: &'a AtomicU64,
    pub(crate) staged: &'a AtomicU64,
    pub(crate) reserved: &'a AtomicU64,
    pub(crate) words: &'a [AtomicU64],
}

/// What a reader finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// All records up to this position were copied.
    To(u64),
    /// Records are missing. The reader continues at this position.
    Lost(u64),
}

impl Ring<'_> {
    fn word(&self, at: u64) -> &AtomicU64 {
        &self.words[at as usize & (self.words.len() - 1)]
    }

    /// Add a record of the change that is being made. The first word of `record` has its length.
    pub(crate) fn stage(&self, record: &[u64]) {
        let head = self.head.load(Ordering::Relaxed);
        let at = self.staged.load(Ordering::Relaxed);
        if at != head && self.word(head).load(Ordering::Relaxed) == LOST {
            return;
        }
        // Half of the ring remains for readers that are a little late.
        if at.wrapping_sub(head) + record.len() as u64 > self.words.len() as u64 / 2 {
            return self.write(head, &[LOST]);
        }
        self.write(at, record);
    }

    fn write(&self, at: u64, record: &[u64]) {
        let end = at + record.len() as u64;
        if end > self.reserved.load(Ordering::Relaxed) {
            self.reserved.store(end, Ordering::Relaxed);
        }
        fence(Ordering::Release);
        for (i, word) in record.iter().enumerate() {
            self.word(at + i as u64).store(*word, Ordering::Relaxed);
        }
        self.staged.store(end, Ordering::Release);
    }

    /// Return whether records wait for their change to be committed.
    #[inline]
    pub(crate) fn has_staged(&self) -> bool {
        self.staged.load(Ordering::Relaxed) != self.head.load(Ordering::Relaxed)
    }

    /// Make the records of a committed change count.
    pub(crate) fn publish(&self) {
        self.head
            .store(self.staged.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Drop the records of a change that was undone.
    pub(crate) fn discard(&self) {
        self.staged
            .store(self.head.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Return the end of what is complete, for `discard_from`.
    #[inline]
    pub(crate) fn staged_end(&self) -> u64 {
        self.staged.load(Ordering::Relaxed)
    }

    /// Drop the records that were added after this position, of a part of a change that was undone. A record that says
    /// that records are missing stays: it stands for earlier parts, too.
    pub(crate) fn discard_from(&self, at: u64) {
        let (head, staged) = (self.head.load(Ordering::Relaxed), self.staged_end());
        let stays = at != head && self.word(head).load(Ordering::Relaxed) == LOST;
        if at < staged && !stays {
            self.staged.store(at, Ordering::Release);
        }
    }

    /// Return the end of what counts.
    pub(crate) fn end(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Copy the records after `from` to `into`, which is empty.
    pub(crate) fn read(&self, from: u64, into: &mut Vec<u64>) -> Found {
        let end = self.end();
        let length = self.words.len() as u64;
        if end.wrapping_sub(from) > length {
            return Found::Lost(end);
        }
        into.extend((from..end).map(|at| self.word(at).load(Ordering::Relaxed)));
        fence(Ordering::Acquire);
        // Words that are written now take the places of those a ring's length before them.
        if self.reserved.load(Ordering::Relaxed) > from + length {
            into.clear();
            return Found::Lost(self.end());
        }
        Found::To(end)
    }
}
