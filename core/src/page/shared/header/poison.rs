//! The poison: why the store is closed for changes, or for all use. `pager::damage` states what poisons a store.

use crate::page::shared::shm::Shm;
use crate::page::shared::word::{Word, Words};
use std::sync::atomic::Ordering;

const POISON: Word = Word::at(208);

/// A flush failed.
pub(in crate::page) const FLUSH: u64 = u64::from_le_bytes(*b"no flush");
/// The state can be neither trusted nor undone: the gate stays raised, and readers get an error too.
pub(in crate::page) const UNDOABLE: u64 = u64::from_le_bytes(*b"undoable");
/// A page of the store or of the sidecar could not be reached.
pub(in crate::page) const LOST: u64 = u64::from_le_bytes(*b"lost....");

/// Return the reason in a sidecar; 0: none.
pub(in crate::page) fn poison_of(words: &impl Words) -> u64 {
    words.value(POISON)
}

impl Shm {
    /// Return the reason; 0: the store is not poisoned.
    #[inline(always)]
    pub(in crate::page) fn poison(&self) -> u64 {
        self.get(POISON)
    }

    /// Return whether the store is closed for changes.
    #[inline(always)]
    pub(in crate::page) fn is_poisoned(&self) -> bool {
        self.poison() != 0
    }

    /// Return whether readers are kept out: a change could not be undone.
    #[inline(always)]
    pub(in crate::page) fn is_unreadable(&self) -> bool {
        self.poison() == UNDOABLE
    }

    /// Poison the store. The first reason remains, unless the new one closes the store to readers.
    pub(in crate::page) fn poison_for(&self, why: u64) {
        let word = self.word(POISON);
        if why == UNDOABLE {
            word.store(why, Ordering::SeqCst);
        } else {
            let _ = word.compare_exchange(0, why, Ordering::SeqCst, Ordering::Relaxed);
        }
    }

    /// Remove the poison of a takeover that can be retried.
    pub(in crate::page) fn forget_poison(&self) {
        self.set(POISON, 0);
    }
}
