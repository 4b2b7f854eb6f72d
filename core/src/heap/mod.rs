//! The heap manager: malloc and free of segments of 1 to `MAX_SEGMENT` bytes on top of pages.
//! No segment crosses a page. All its state lives in pages (undo-logged), none in the process.

use crate::error::Result;
use crate::ids::Addr;
use crate::page::access::{Pages, PagesMut};

/// The largest segment, in bytes: one page less its header.
pub const MAX_SEGMENT: usize = 4032;

/// Allocates a segment of at least `size` bytes (1..=MAX_SEGMENT), 16-aligned. Its content is
/// undefined: fill it with `PagesMut::init`, which is allowed on it for the rest of the operation.
pub fn alloc<W: PagesMut>(_w: &mut W, _size: usize) -> Result<Addr> {
    todo!()
}

/// Frees a segment at commit (`PagesMut::defer_free`). Checks now that it is one.
pub fn free<W: PagesMut>(_w: &mut W, _addr: Addr) -> Result<()> {
    todo!()
}

/// Applies the deferred frees. The store calls it just before the commit point.
pub fn apply_frees<W: PagesMut>(_w: &mut W) -> Result<()> {
    todo!()
}

/// The usable size of an allocated segment (its size class), after checking that `addr` is the
/// start of one.
pub fn size_of<P: Pages>(_p: &P, _addr: Addr) -> Result<usize> {
    todo!()
}
