//! Physical pages: the free map, the growth of the file, and the dirty lists.
//!
//! 1. Everything is accessed under the latch, except the lists of an ended epoch, which belong to the checkpointer.
//! 2. A bit is set before the page is reachable and cleared only when neither meta page, snapshot nor view reaches it
//!    any more (I3).
//! 3. Enough free pages and places in the dirty lists are always reserved for the next checkpoint to write its page
//!    table, also on a full disk (`reserve`, `reserve_lists`).
//! 4. Until the free map is rebuilt, pages that existed when the sidecar was made are not allocated, and their bits
//!    show only what has been found so far.
//!
//! A dirty list entry, 24 bytes:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | logical page, or `NODE_NEW`/`NODE_OLD` for pages of the page table |
//! | 8 | 8 | the new entry (physical page, birth epoch << 32; 0: the page has none any more); of `NODE_OLD` its place in the tree (`page_table::key`) |
//! | 16 | 8 | the old entry, whose page is free two checkpoints later unless a snapshot holds it (0: none) |

use crate::error::{Error, Result};
use crate::page::shared::layout::{self, Region};
use crate::page::shared::shm::Shm;
use crate::page::shared::word::{Word, Words};
use std::sync::atomic::{AtomicU64, Ordering};

/// A page-table page that the checkpointer allocated.
pub(crate) const NODE_NEW: u64 = u64::MAX;
/// A page-table page that a checkpoint replaced.
pub(crate) const NODE_OLD: u64 = u64::MAX - 1;

/// Bytes of a list entry.
pub(in crate::page) const ENTRY: usize = 24;
pub(in crate::page) const LIST_MAX: usize = layout::LIST_SIZE / ENTRY;

/// Entry of the live table for a page that does not exist.
pub(crate) const ABSENT: u64 = 1 << 63;

/// Number of physical pages for which the file has blocks.
const FILE_PAGES: Word = Word::at(168);
/// Where the search for a free physical page continues.
const CURSOR: Word = Word::at(176);
/// Free physical pages (a hint; recounted at recovery).
const FREE_COUNT: Word = Word::at(184);
/// Pages below this number existed when the sidecar was made and are not allocated until the free map is rebuilt; 0:
/// rebuilt.
const REBUILD_BELOW: Word = Word::at(216);
/// Lengths of the dirty lists, by epoch mod 3.
const LIST_LEN: Word = Word::at(704); // 3 words
/// Changes before recovery takes an entry off a dirty list.
const LIST_CUTS: Word = Word::at(3248);

/// A view of the words about physical pages.
pub(in crate::page) struct Space<'a>(&'a Shm);

impl Space<'_> {
    /// Return the number of physical pages for which the file has blocks.
    pub(in crate::page) fn file_pages(&self) -> u64 {
        self.0.get(FILE_PAGES)
    }

    pub(in crate::page) fn set_file_pages(&self, pages: u64) {
        self.0.set(FILE_PAGES, pages);
    }

    /// Record that the file has `more` free pages at its end. Bits of the free map past the old end are zero, free.
    pub(in crate::page) fn grow(&self, more: u64) {
        self.set_file_pages(self.file_pages() + more);
        self.set_free(self.free() + more);
    }

    /// Return where the search for a free page continues.
    pub(in crate::page) fn cursor(&self) -> u64 {
        self.0.get(CURSOR)
    }

    pub(in crate::page) fn set_cursor(&self, page: u64) {
        self.0.set(CURSOR, page);
    }

    /// Return the number of free pages, as far as it is known.
    pub(in crate::page) fn free(&self) -> u64 {
        self.0.get(FREE_COUNT)
    }

    pub(in crate::page) fn set_free(&self, pages: u64) {
        self.0.set(FREE_COUNT, pages);
    }

    /// Return the page below which the free map is not rebuilt yet; 0: it is rebuilt.
    pub(in crate::page) fn unknown_below(&self) -> u64 {
        self.0.get(REBUILD_BELOW)
    }

    pub(in crate::page) fn set_unknown_below(&self, page: u64) {
        self.0.set(REBUILD_BELOW, page);
    }
}

/// Return the length of a dirty list in a sidecar.
pub(in crate::page) fn list_len_of(words: &impl Words, list: usize) -> u64 {
    words.value(LIST_LEN.nth(list))
}

impl Shm {
    /// Return the words about physical pages.
    #[inline]
    pub(in crate::page) fn space(&self) -> Space<'_> {
        Space(self)
    }

    #[inline]
    pub(crate) fn list_len(&self, list: usize) -> u64 {
        self.get(LIST_LEN.nth(list))
    }

    pub(crate) fn set_list_len(&self, list: usize, len: u64) {
        self.set(LIST_LEN.nth(list), len);
    }

    /// Take entries off a dirty list, in recovery. A reader of the list that has seen them finds that out.
    pub(crate) fn cut_list(&self, list: usize, len: u64) {
        self.set(LIST_CUTS, self.list_cuts().wrapping_add(1));
        self.set_list_len(list, len);
    }

    /// Return the number that changes before entries are taken off a list.
    pub(in crate::page) fn list_cuts(&self) -> u64 {
        self.get(LIST_CUTS)
    }

    pub(crate) fn list_entry(&self, list: usize, i: u64) -> [u64; 3] {
        let at = i as usize * ENTRY;
        [at, at + 8, at + 16].map(|at| self.list_cell(list, at).load(Ordering::Relaxed))
    }

    pub(crate) fn list_push(&self, list: usize, entry: [u64; 3]) -> Result<()> {
        let len = self.list_len(list) as usize;
        self.list_room(list, 1)?;
        for (i, value) in entry.into_iter().enumerate() {
            self.list_cell(list, len * ENTRY + 8 * i)
                .store(value, Ordering::Relaxed);
        }
        self.set_list_len(list, len as u64 + 1);
        Ok(())
    }

    /// Make room for more entries.
    pub(crate) fn list_room(&self, list: usize, more: usize) -> Result<()> {
        let want = self.list_len(list) as usize + more;
        if want > LIST_MAX {
            return Err(Error::TransactionTooLarge {
                what: "more pages changed since the last checkpoint than the dirty list of 96 MiB names",
            });
        }
        self.ensure(Region::List(list), want * ENTRY)
    }

    /// Return the bits of the free map for the 64 pages from a multiple of 64 on: 1 if the page is in use.
    #[inline]
    pub(in crate::page) fn used_bits(&self, page: u64) -> u64 {
        self.map_word(page).load(Ordering::Relaxed)
    }

    #[inline]
    fn map_word(&self, page: u64) -> &AtomicU64 {
        self.cell::<{ layout::FREEMAP }>((page / 64) as usize * 8)
    }

    pub(crate) fn is_used(&self, page: u64) -> bool {
        self.map_word(page).load(Ordering::Relaxed) & 1 << (page % 64) != 0
    }

    /// Set or clear a page's bit. Return true if that changed it.
    pub(crate) fn mark_used(&self, page: u64, used: bool) -> bool {
        let (w, bit) = (self.map_word(page), 1 << (page % 64));
        let old = w.load(Ordering::Relaxed);
        w.store(if used { old | bit } else { old & !bit }, Ordering::Relaxed);
        (old & bit != 0) != used
    }
}
