//! The list of free logical pages: trunk pages that list others (`superblock` states the format).

use crate::error::{Error, Result};
use crate::ids::PageNo;
use crate::page::access::Pages;
use crate::page::pager::Pager;
use crate::page::section::write::WriteSection;
use crate::page::superblock as sb;
use crate::page::sync::wait::Wait;
use crate::raw::failpoint::fail_point;

/// Number of pages released in one section, and number examined; both may be exceeded by a few hundred.
const MOST_RELEASED: u64 = 4096;
const MOST_EXAMINED: u64 = 65536;

impl WriteSection<'_> {
    /// Return the number of pages that a trunk page lists.
    pub(super) fn trunk_count(&self, trunk: PageNo) -> Result<u64> {
        match self.u64_at(trunk.addr() + sb::TRUNK_COUNT)? {
            n if n > sb::TRUNK_MAX => Err(Error::corrupt(
                "a trunk page of the free list names too many",
                trunk.addr(),
            )),
            n => Ok(n),
        }
    }

    /// Return the `i`th free page that a trunk page lists.
    pub(super) fn trunk_name(&self, trunk: PageNo, i: u64) -> Result<PageNo> {
        let page = self.u64_at(trunk.addr() + (sb::TRUNK_NAMES + 8 * i))?;
        if page == 0 || page >= self.u64_at(sb::NEXT_PAGE)? {
            return Err(Error::corrupt(
                "the free list names a page that is not there",
                trunk.addr(),
            ));
        }
        Ok(PageNo(page))
    }

    /// After the commit: release the physical pages under the pages that it freed. Each was last written in an older
    /// epoch, so only checkpoints need its content. If the process dies before this, or there is no room to record
    /// more, the physical pages stay under their free logical pages (`release_free_pages`).
    pub(super) fn release_retired(&mut self) {
        let pager = self.read.pager;
        for page in std::mem::take(&mut self.retired) {
            if pager.lists_are_crowded() {
                return;
            }
            fail_point!("retired.release");
            let entry = pager.shm().entry(page.0);
            if pager.release(page.0, entry).is_err() {
                return;
            }
        }
    }

    /// Free the physical pages under free logical pages, from the trunk page `from` on (0: the first one). End after
    /// `MOST_RELEASED` of them, or when many were examined. Return how many, and where to continue (0: at the end).
    /// Their space is available two checkpoints later. The release is not undone, because the pages have no content.
    pub(super) fn release_free_pages(&mut self, from: PageNo) -> Result<(u64, PageNo)> {
        let mut trunk = match from.0 {
            0 => PageNo(self.u64_at(sb::FREE_PAGE)?),
            _ => from,
        };
        let (mut released, mut examined) = (0, 0);
        while trunk.0 != 0 && released < MOST_RELEASED && examined < MOST_EXAMINED {
            examined += 1;
            for i in 0..self.trunk_count(trunk)? {
                let page = self.trunk_name(trunk, i)?;
                let entry = self.read.entry(page, page.addr())?;
                released += u64::from(self.read.pager.release(page.0, entry)?);
                examined += 1;
            }
            trunk = PageNo(self.u64_at(trunk.addr())?);
        }
        Ok((released, trunk))
    }
}

impl Pager {
    /// Free the physical pages under all free logical pages, in steps. Called right after a checkpoint, which makes
    /// them old enough; their space is available two checkpoints later.
    pub fn release_free_pages(&self) -> Result<()> {
        // Where to continue, and the count of changes for which that place is right.
        let (mut from, mut changes) = (PageNo(0), 0);
        let mut left = u64::MAX;
        loop {
            let mut section = self.write(&mut Wait::default())?;
            if self.changes() != changes {
                from = PageNo(0);
            }
            let restarted = from.0 == 0;
            // Each section examines as many as it may release, or reaches the end. In a damaged list the walk ends too.
            left = left.min(section.u64_at(sb::FREE_PAGES)?.saturating_add(MOST_EXAMINED));
            let (released, next) = match section.release_free_pages(from) {
                // There is no room to record more. Pages released so far stay released.
                Err(Error::NoSpace { .. } | Error::TransactionTooLarge { .. }) => (0, PageNo(0)),
                done => done?,
            };
            section.whole()?;
            changes = self.changes().wrapping_add(1);
            section.commit();
            from = next;
            left = left.saturating_sub(released.max(MOST_RELEASED));
            if next.0 == 0 || left == 0 || restarted && released == 0 {
                return Ok(());
            }
        }
    }
}
