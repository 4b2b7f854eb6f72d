//! The live page table: where each logical page is. `pages` has its rules.
//!
//! An entry: physical page, birth epoch << 32; `ABSENT`: no page; 0: not filled yet from the durable page table.

use crate::page::shared::layout::TABLE;
use crate::page::shared::shm::Shm;
use std::sync::atomic::{AtomicU64, Ordering};

impl Shm {
    #[inline(always)]
    fn entry_word(&self, page: u64) -> &AtomicU64 {
        self.cell::<TABLE>(page as usize * 8)
    }

    /// Return the entry of a logical page. The page is below the number of logical pages.
    #[inline(always)]
    pub(in crate::page) fn entry(&self, page: u64) -> u64 {
        self.entry_word(page).load(Ordering::Acquire)
    }

    /// Replace an entry. Called in a write section or in recovery.
    #[inline]
    pub(in crate::page) fn set_entry(&self, page: u64, entry: u64) {
        self.entry_word(page).store(entry, Ordering::Release);
    }

    /// Fill an entry that is 0. Return the entry: if another reader has filled it, or a writer has changed it since,
    /// theirs remains.
    pub(in crate::page) fn fill_entry(&self, page: u64, entry: u64) -> u64 {
        match self
            .entry_word(page)
            .compare_exchange(0, entry, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => entry,
            Err(theirs) => theirs,
        }
    }
}
