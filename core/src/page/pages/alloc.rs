//! Allocation of physical pages, growth of the file, and the reserve that lets the next checkpoint complete on a full
//! disk. The free map, the dirty lists and their invariants: `shared::regions::free_pages`.

use crate::error::{Error, Result};
use crate::ids::{PAGE_SIZE, PhysicalPage};
use crate::page::pager::Pager;
use crate::page::shared::layout::{MAX_PAGES, Region};
use crate::page::shared::regions::free_pages::{ENTRY, LIST_MAX};
use crate::raw::files::file;

/// Pages that only removing operations may use.
pub(in crate::page) const REMOVAL: u64 = 48;

/// Largest number of pages by which a change grows the file at once (16 MiB).
pub(in crate::page) const GROWTH: u64 = 4096;

impl Pager {
    /// Return the number of free pages reserved for the next checkpoint: the leaves and inner pages of the page table
    /// it may have to rewrite, and the snapshot catalogue.
    pub(crate) fn reserve(&self) -> u64 {
        let leaves = self.shm().live().logical() / 256 + 1;
        let catalogue = self.shm().last_checkpoint().catalogue_pages();
        leaves + leaves / 128 + catalogue + 12
    }

    /// Return whether the dirty list is so full that a large change may not find room in it before a checkpoint.
    #[inline]
    pub(crate) fn lists_are_crowded(&self) -> bool {
        self.dirty_pages() > LIST_MAX as u64 / 2
    }

    /// Make room in the dirty lists for one more page, for the pages of the table that the next checkpoint writes and
    /// replaces, and for as much in the next epoch as removing takes, so that a full disk stops neither.
    pub(crate) fn reserve_lists(&self) -> Result<()> {
        let (now, nodes) = (self.shm().live().list(), 2 * self.reserve() as usize);
        self.shm().list_room(now, 1 + nodes)?;
        let next = REMOVAL as usize + nodes;
        self.shm()
            .ensure(Region::List((now + 1) % 3), next.min(LIST_MAX) * ENTRY)
    }

    /// Allocate a free physical page for data. It keeps the reserve, and unless the operation removes something also
    /// what removing needs, so that deletion works on a full disk.
    pub(crate) fn alloc_physical(&self, removing: bool) -> Result<PhysicalPage> {
        let keep = match removing {
            true => self.reserve(),
            false => self.kept_free(),
        };
        if self.shm().space().free() <= keep {
            self.grow(keep)?;
        }
        self.take_free()
    }

    /// Allocate a free physical page from the reserve. Grow the file only if no page is free.
    pub(crate) fn alloc_reserved(&self) -> Result<PhysicalPage> {
        if self.shm().space().free() == 0 {
            self.grow(0)?;
        }
        self.take_free()
    }

    /// Return an error unless so many pages are free beyond the reserve. Called under the latch.
    pub(crate) fn expect_free(&self, pages: u64) -> Result<()> {
        let keep = self.reserve() + pages;
        if self.shm().space().free() <= keep {
            self.grow(keep)?;
        }
        Ok(())
    }

    /// Return the number of pages that stay free when a change that adds something allocates the last one it can get.
    pub(crate) fn kept_free(&self) -> u64 {
        // Three reserves: the older meta page reaches what a checkpoint replaces, so two checkpoints can take a reserve
        // each before the first pages come back, and removing keeps a third.
        3 * self.reserve() + REMOVAL
    }

    /// Find a free page from the cursor on, so that an epoch's pages are adjacent. Its bit is not set yet: the caller
    /// writes an intent first.
    fn take_free(&self) -> Result<PhysicalPage> {
        let pages = self.shm().space().file_pages();
        let low = self.shm().space().unknown_below().max(2);
        for _ in 0..2 {
            // In tests take the lowest, so that pages are reused as soon as they are free.
            let cursor = if cfg!(feature = "testing") {
                0
            } else {
                self.shm().space().cursor()
            };
            let start = cursor.clamp(low, pages.max(low));
            if let Some(p) = self.scan(start, pages).or_else(|| self.scan(low, start)) {
                self.shm().space().set_cursor(p + 1);
                return Ok(PhysicalPage(p as u32));
            }
            // The hint was wrong: no page is free.
            self.shm().space().set_free(0);
            self.grow(0)?;
        }
        Err(Error::Corrupt {
            what: "the free map in the sidecar (page)",
            at: pages,
        })
    }

    fn scan(&self, from: u64, to: u64) -> Option<u64> {
        let mut page = from;
        while page < to {
            let word = self.shm().used_bits(page);
            let free = !word & (u64::MAX << (page % 64));
            if free != 0 {
                let found = page / 64 * 64 + u64::from(free.trailing_zeros());
                return (found < to).then_some(found);
            }
            page = (page / 64 + 1) * 64;
        }
        None
    }

    /// Mark a page as used, after the intent was written.
    pub(crate) fn set_used(&self, page: PhysicalPage) {
        if self.shm().mark_used(u64::from(page.0), true) {
            let n = self.shm().space().free();
            self.shm().space().set_free(n.saturating_sub(1));
        }
    }

    /// Free a page.
    pub(crate) fn set_free(&self, page: PhysicalPage) {
        let page = u64::from(page.0);
        if page < 2 || page >= self.shm().space().file_pages() {
            return;
        }
        if self.shm().mark_used(page, false) && page >= self.shm().space().unknown_below() {
            let n = self.shm().space().free();
            self.shm().space().set_free(n + 1);
        }
    }

    /// Recount the free pages.
    pub(crate) fn recount_free(&self) {
        let pages = self.shm().space().file_pages();
        let low = self.shm().space().unknown_below().max(2);
        let mut free = 0;
        let mut page = low;
        while page < pages {
            if page.is_multiple_of(64) && page + 64 <= pages {
                free += u64::from(self.shm().used_bits(page).count_zeros());
                page += 64;
            } else {
                free += u64::from(!self.shm().is_used(page));
                page += 1;
            }
        }
        self.shm().space().set_free(free);
    }

    /// Grow the file by a part of its size, or on a nearly full disk by the available space. Return an error unless
    /// more than `keep` pages are free afterwards.
    #[cold]
    fn grow(&self, keep: u64) -> Result<()> {
        let pages = self.shm().space().file_pages();
        if pages >= MAX_PAGES {
            return Err(Error::NoSpace {
                what: "the store has reached its largest size",
                source: std::io::Error::from_raw_os_error(libc::EFBIG),
            });
        }
        let mut more = (pages / 8).clamp(64, GROWTH).max(keep + 1).min(MAX_PAGES - pages);
        loop {
            let done = self
                .shm()
                .ensure(Region::FreeMap, ((pages + more) as usize).div_ceil(64) * 8)
                .and_then(|()| {
                    file::allocate(
                        self.file(),
                        pages * PAGE_SIZE as u64,
                        more * PAGE_SIZE as u64,
                        "the store file",
                    )
                })
                // The new pages count only if this process can map them.
                .and_then(|()| self.map().reach((pages + more) as usize * PAGE_SIZE));
            match done {
                Ok(()) => break,
                Err(_) if more > 1 => more /= 2,
                Err(e) => return Err(e),
            }
        }
        // Bits past the old end are zero, free: the end is published last.
        let space = self.shm().space();
        space.grow(more);
        if space.free() <= keep {
            return Err(Error::NoSpace {
                what: "the store file",
                source: std::io::Error::from_raw_os_error(libc::ENOSPC),
            });
        }
        Ok(())
    }
}
