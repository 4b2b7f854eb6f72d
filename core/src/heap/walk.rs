//! Read the heap's structure, for the checker: the heap's pages, their segments, and the pages on each
//! class's list.

use super::class::{MAP_WORDS, TABLE};
use super::slab::{self, Slab};
use crate::error::{Error, Result};
use crate::ids::{Addr, PageNo};
use crate::page::access::Pages;

/// One slot of a heap page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    /// Address of its first byte.
    pub addr: Addr,
    /// Its size in bytes: the size class.
    pub size: usize,
    /// Whether it is allocated.
    pub allocated: bool,
}

/// Return whether the page has a heap page's header.
#[must_use]
pub fn is_heap_page<P: Pages>(p: &P, page: PageNo) -> bool {
    Slab::read(p, page).is_ok()
}

/// Return all slots of a heap page, in address order.
pub fn page_segments<P: Pages>(p: &P, page: PageNo) -> Result<Vec<SegmentInfo>> {
    let slab = Slab::read(p, page)?;
    if (0..MAP_WORDS).any(|i| slab.map[i] & !slab.class.full[i] != 0) {
        return Err(Error::corrupt(
            "a heap bitmap with bits beyond the last slot",
            page.addr(),
        ));
    }
    Ok((0..slab.class.slots as usize)
        .map(|slot| SegmentInfo {
            addr: page.addr() + slab.class.offset_of(slot),
            size: slab.class.size as usize,
            allocated: slab.has(slot),
        })
        .collect())
}

/// Return whether a heap page is on its class's list according to its header (compare with `list`), after
/// checking that this agrees with the number of its free slots.
pub fn is_listed<P: Pages>(p: &P, page: PageNo) -> Result<bool> {
    let slab = Slab::read(p, page)?;
    let (free, listed) = (slab.free_slots(), slab.is_listed());
    if (listed && free == 0) || (!listed && free >= u32::from(slab.class.relist)) {
        return Err(Error::corrupt(
            "a heap page whose place on the list does not fit its free slots",
            slab.addr(),
        ));
    }
    Ok(listed)
}

/// Return the number of size classes, each with a list.
#[must_use]
pub fn class_count() -> usize {
    TABLE.len()
}

/// Return the pages on the list of a class, after checking its links and that every page has room. Returns an
/// error if there are more than `limit` (the number of pages of the store).
pub fn list<P: Pages>(p: &P, class: usize, limit: usize) -> Result<Vec<PageNo>> {
    let class = TABLE
        .get(class)
        .ok_or_else(|| Error::invalid("no such size class"))?;
    let mut pages = Vec::new();
    let (mut prev, mut at) = (0, slab::head(p, class)?);
    while at != 0 {
        let slab = Slab::read_listed(p, at, class)?;
        if pages.len() == limit {
            return Err(Error::corrupt("a heap list that does not end", slab.addr()));
        }
        if slab.prev != prev {
            return Err(Error::corrupt("a heap list with a wrong link", slab.addr()));
        }
        if slab.is_full() {
            return Err(Error::corrupt(
                "a full page in the heap's list of pages with room",
                slab.addr(),
            ));
        }
        pages.push(slab.page);
        (prev, at) = (at, slab.next);
    }
    Ok(pages)
}
