//! Physical pages: the free map, the growth of the file, and the dirty lists.
//!
//! 1. Everything is accessed under the latch, except the lists of an ended epoch, which belong to the checkpointer.
//! 2. A bit is set before the page is reachable and cleared only when neither meta page nor a snapshot reaches it any
//!    more (I3).
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
use crate::page::shared::at;
use crate::page::shared::layout::{self, Region};
use crate::page::shared::shm::Shm;
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

impl Shm {
    #[inline]
    pub(crate) fn list_len(&self, list: usize) -> u64 {
        self.get(at::LIST_LEN + 8 * list)
    }

    pub(crate) fn set_list_len(&self, list: usize, len: u64) {
        self.set(at::LIST_LEN + 8 * list, len);
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

    /// Return the word of the free map that covers a page: one bit for each of 64 pages, 1 if it is in use.
    #[inline]
    pub(in crate::page) fn map_word(&self, page: u64) -> &AtomicU64 {
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
