//! The heap manager: allocates and frees segments of 1 to `MAX_SEGMENT` bytes on top of pages. No segment
//! crosses a page. All its state lives in pages (undo-logged), none in the process.
//!
//! A page in use holds slots of one size class and a bitmap of the taken ones (`slab` has the format, `class`
//! the sizes). Allocation changes one bitmap word in the common case.
//!
//! Invariants:
//! 1. A page is on its class's list exactly once, or its header says that it is not listed. A listed page has
//!    a free slot; one that becomes full is unlinked, and listed again when an eighth of its slots (at least
//!    one) is free. So while values are replaced in full pages, an operation touches the pages of its
//!    segments and seldom a third; at most an eighth of the memory is unused.
//! 2. A bit is set from the allocation of its slot to the commit of the operation that frees it. So a slot is
//!    never allocated twice in one transaction, and a fresh slot may be filled without undo.
//! 3. At most one entirely empty page of a class remains after a commit that empties pages; the others are
//!    returned to the page manager.
//!
//! No operation walks a list except the checker's `list`, which is bounded.

mod class;
mod slab;
mod walk;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use class::MAX_SEGMENT;
pub use slab::NOT_A_PAGE;
pub use walk::{SegmentInfo, class_count, is_heap_page, is_listed, list, page_segments};

use crate::error::{Error, Result};
use crate::ids::{Addr, PageNo};
use crate::page::access::{Pages, PagesMut};
use class::{Class, MAP_WORDS};
use slab::Slab;

/// Allocate a segment of at least `size` bytes (1..=MAX_SEGMENT), 16-aligned. Its content is undefined: fill
/// it with `PagesMut::init`, which is allowed on it for the rest of the operation.
pub fn alloc<W: PagesMut>(w: &mut W, size: usize) -> Result<Addr> {
    let Some(class) = class::for_size(size) else {
        return Err(Error::invalid(format!(
            "a segment of {size} bytes (1 to {MAX_SEGMENT} are possible)"
        )));
    };
    let first = slab::head(w, class)?;
    if first == 0 {
        return alloc_in_new_page(w, class);
    }
    let mut slab = Slab::read_listed(w, first, class)?;
    for i in 0..class.words as usize {
        let free = !slab.map[i] & class.full[i];
        if free == 0 {
            continue;
        }
        let bit = free.trailing_zeros() as usize;
        let taken = slab.map[i] | 1 << bit;
        slab.set_map(w, i, taken)?;
        if free & (free - 1) == 0 && slab.is_full() {
            slab.unlink(w)?;
        }
        return Ok(slab.addr() + class.offset_of(i * 64 + bit));
    }
    Err(Error::corrupt(
        "a full page in the heap's list of pages with room",
        slab.addr(),
    ))
}

#[cold]
fn alloc_in_new_page<W: PagesMut>(w: &mut W, class: &'static Class) -> Result<Addr> {
    let page = w.alloc_page()?;
    Slab::create(w, page, class)?;
    Ok(page.addr() + class.offset_of(0))
}

/// Free a segment at commit (`PagesMut::defer_free`), after checking now that it is allocated.
pub fn free<W: PagesMut>(w: &mut W, addr: Addr) -> Result<()> {
    size_of(w, addr)?;
    w.defer_free(addr)
}

/// Apply the deferred frees. The store calls it just before the commit point. A segment freed twice is
/// `Error::Corrupt`; the caller then rolls back.
pub fn apply_frees<W: PagesMut>(w: &mut W) -> Result<()> {
    let mut addrs = w.take_deferred();
    // Free page by page: one logged word for all frees in a word of the bitmap.
    addrs.sort_unstable();
    let mut rest = addrs.as_slice();
    while let Some(first) = rest.first() {
        let page = first.page();
        let n = rest.iter().take_while(|a| a.page() == page).count();
        let (here, others) = rest.split_at(n);
        free_in_page(w, page, here)?;
        rest = others;
    }
    Ok(())
}

/// Free the segments `addrs`, all in one page.
fn free_in_page<W: PagesMut>(w: &mut W, page: PageNo, addrs: &[Addr]) -> Result<()> {
    let mut slab = Slab::read(w, page)?;
    let old = slab;
    for &addr in addrs {
        let slot = slab.slot_at(addr)?;
        if !slab.has(slot) {
            return Err(Error::corrupt("a heap segment freed twice", addr));
        }
        slab.map[slot / 64] &= !(1 << (slot % 64));
    }
    if slab.is_empty() && !is_spare(w, &slab)? {
        if slab.is_listed() {
            slab.unlink(w)?;
        }
        return slab.release(w);
    }
    for i in 0..MAP_WORDS {
        if slab.map[i] != old.map[i] {
            let value = slab.map[i];
            slab.set_map(w, i, value)?;
        }
    }
    if !slab.is_listed() && slab.free_slots() >= u32::from(slab.class.relist) {
        slab.push(w)?;
    }
    Ok(())
}

/// Return whether to keep an empty page: it is the only page of its class with room. So a program that
/// allocates and frees one segment in turn does not allocate and free a page each time.
fn is_spare<P: Pages>(p: &P, slab: &Slab) -> Result<bool> {
    if slab.class.slots == 1 {
        return Ok(false);
    }
    let first = slab::head(p, slab.class)?;
    Ok(if slab.is_listed() {
        first == slab.page.0 && slab.next == 0
    } else {
        first == 0
    })
}

/// Return the usable size of an allocated segment (its size class), after checking that `addr` is the start
/// of one.
#[inline]
pub fn size_of<P: Pages>(p: &P, addr: Addr) -> Result<usize> {
    let slab = Slab::read(p, addr.page())?;
    let slot = slab.slot_at(addr)?;
    if !slab.has(slot) {
        return Err(Error::corrupt("a heap segment that is not allocated", addr));
    }
    Ok(slab.class.size as usize)
}
