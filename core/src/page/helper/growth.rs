//! Growing the file before a writer has to.

use crate::ids::PAGE_SIZE;
use crate::page::pager::Pager;
use crate::page::pages::alloc::REMOVAL;
use crate::page::shared::layout::{MAX_PAGES, Region};
use crate::page::shared::regions::free_pages::LIST_MAX;
use crate::raw::files::file;

/// Smallest number of pages for which the file is grown ahead of need (4 MiB).
const AHEAD: u64 = 1024;

impl Pager {
    /// Grow the file before a writer has to, if the next epoch copies as many pages as the one before. The blocks are
    /// allocated without the latch, so no change waits for them. A failure has no effect.
    pub(super) fn grow_ahead(&self) {
        let pages = self.shm().space().file_pages();
        let epoch = self.shm().live().epoch() as usize;
        let next = self.copied(epoch % 3).max(self.copied((epoch + 2) % 3));
        let want = next + 3 * self.reserve() + REMOVAL;
        let free = self.shm().space().free();
        // A small growth is fast enough inside a change.
        if free >= want || want - free < AHEAD || pages + want > MAX_PAGES {
            return;
        }
        let more = want - free;
        let (from, len) = (pages * PAGE_SIZE as u64, more * PAGE_SIZE as u64);
        let there = file::allocate(self.file(), from, len, "the store file")
            .and_then(|()| self.map().reach((pages + more) as usize * PAGE_SIZE));
        if there.is_err() {
            return;
        }
        let _ = self.latched(|pager, _| {
            // Otherwise a writer has grown it.
            if pager.shm().space().file_pages() == pages {
                let bytes = ((pages + more) as usize).div_ceil(64) * 8;
                pager.shm().ensure(Region::FreeMap, bytes)?;
                pager.shm().space().grow(more);
            }
            Ok(())
        });
    }

    /// Return how many pages with content a list names as copied. New pages and pages that were freed do not count: a
    /// change that replaces what it frees waits for room (`helper::room`). A list that changes now gives a near number.
    fn copied(&self, list: usize) -> u64 {
        let is_copy = |i: &u64| {
            let [page, new, old] = self.shm().list_entry(list, *i);
            page < MAX_PAGES && new as u32 != 0 && old as u32 != 0
        };
        (0..self.shm().list_len(list).min(LIST_MAX as u64))
            .filter(is_copy)
            .count() as u64
    }
}
