//! The current state of the store: its epoch, its sizes, and the number of completed changes. Only the holder of the
//! latch changes these words.

use crate::page::shared::shm::Shm;
use crate::page::shared::word::{Word, Words};
use std::sync::atomic::Ordering;

/// The current epoch.
const EPOCH: Word = Word::at(128);
/// Number of logical pages ever used: the entries of the live table that may be read.
const LOGICAL: Word = Word::at(192);
const NEXT_ID: Word = Word::at(200);
/// Number of completed changes; in a cache line of its own.
const CHANGES: Word = Word::at(256);
/// Changes whenever entries may have moved: the number of cached lookups (`page::lookups`).
const STRUCTURE: Word = Word::at(400);

/// A view of the words of the current state.
pub(in crate::page) struct Live<'a, W = Shm>(&'a W);

impl<'a, W: Words> Live<'a, W> {
    pub(in crate::page) fn of(words: &'a W) -> Live<'a, W> {
        Live(words)
    }

    /// Return the current epoch.
    #[inline(always)]
    pub(in crate::page) fn epoch(&self) -> u64 {
        self.0.value(EPOCH)
    }

    /// Return the number of the current epoch's dirty list.
    #[inline(always)]
    pub(in crate::page) fn list(&self) -> usize {
        self.epoch() as usize % 3
    }
}

impl Live<'_> {
    /// Return the number of logical pages ever used.
    #[inline(always)]
    pub(in crate::page) fn logical(&self) -> u64 {
        self.0.get(LOGICAL)
    }

    /// Return the next id of a container.
    #[inline]
    pub(in crate::page) fn next_id(&self) -> u64 {
        self.0.get(NEXT_ID)
    }

    /// Return the number of changes completed by all processes.
    #[inline(always)]
    pub(in crate::page) fn changes(&self) -> u64 {
        self.0.get(CHANGES)
    }

    pub(in crate::page) fn set_epoch(&self, epoch: u64) {
        self.0.set(EPOCH, epoch);
    }

    pub(in crate::page) fn set_logical(&self, pages: u64) {
        self.0.set(LOGICAL, pages);
    }

    #[inline]
    pub(in crate::page) fn set_next_id(&self, id: u64) {
        self.0.set(NEXT_ID, id);
    }

    /// Count a completed change. Called by the latch's holder.
    #[inline(always)]
    pub(in crate::page) fn count_change(&self) {
        let changes = self.0.word(CHANGES);
        changes.store(changes.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Return the number under which lookups may be cached and found.
    #[inline(always)]
    pub(in crate::page) fn structure(&self) -> u64 {
        self.0.word(STRUCTURE).load(Ordering::Relaxed)
    }

    /// Invalidate cached lookups: entries may move from now on. Called inside a write section or in recovery.
    #[inline]
    pub(in crate::page) fn restructured(&self) {
        let word = self.0.word(STRUCTURE);
        word.store(
            word.load(Ordering::Relaxed).wrapping_add(1).max(1),
            Ordering::Release,
        );
    }

    /// Count a change that may have happened: every cache is invalid from now on.
    pub(in crate::page) fn invalidate_caches(&self) {
        self.0.word(CHANGES).fetch_add(1, Ordering::Release);
    }
}

impl Shm {
    /// Return the words of the current state.
    #[inline(always)]
    pub(in crate::page) fn live(&self) -> Live<'_> {
        Live(self)
    }
}
