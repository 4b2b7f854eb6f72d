//! The list of free logical pages: trunk pages that list others (`superblock` states the format).

use crate::error::{Error, Result};
use crate::ids::PageNo;
use crate::page::access::Pages;
use crate::page::section::write::WriteSection;
use crate::page::superblock as sb;

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

    /// Free the physical pages under up to `most` free logical pages. Return how many. Their space is available two
    /// checkpoints later. The release is not undone, because the pages have no content.
    pub(crate) fn release_free_pages(&mut self, most: u64) -> Result<u64> {
        let (mut trunk, mut left) = (PageNo(self.u64_at(sb::FREE_PAGE)?), self.u64_at(sb::FREE_PAGES)?);
        let mut released = 0;
        while trunk.0 != 0 && left > 0 && released < most {
            left -= 1;
            for i in 0..self.trunk_count(trunk)? {
                let page = self.trunk_name(trunk, i)?;
                if self
                    .read
                    .pager
                    .release(page.0, self.read.entry(page, page.addr())?)?
                {
                    released += 1;
                }
            }
            trunk = PageNo(self.u64_at(trunk.addr())?);
        }
        Ok(released)
    }
}
