//! The shape of a small dict body: its capacity and whether it is sparse. See `small` for the layout.

use crate::heap::MAX_SEGMENT;

pub(super) const TAGS: usize = 16;
/// Entries that fit the largest dense body.
pub(super) const MAX_DENSE: usize = 236;
/// Entries that fit the largest sparse body.
pub(super) const MAX_SPARSE: usize = 160;

const _: () = assert!(
    Shape {
        cap: MAX_DENSE,
        sparse: false
    }
    .size()
        <= MAX_SEGMENT
);
const _: () = assert!(
    Shape {
        cap: MAX_SPARSE,
        sparse: true
    }
    .size()
        <= MAX_SEGMENT
);

/// Capacity and kind of a small body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) cap: usize,
    pub(super) sparse: bool,
}

impl Shape {
    /// Return the shape for numbers read from a file, if they are valid.
    #[inline]
    pub(super) fn new(cap: usize, sparse: bool) -> Option<Shape> {
        let max = if sparse { MAX_SPARSE } else { MAX_DENSE };
        (cap != 0 && cap <= max).then_some(Shape { cap, sparse })
    }

    #[inline]
    pub(super) const fn entries(self) -> usize {
        TAGS + self.cap.next_multiple_of(8)
    }

    #[inline]
    pub(super) const fn stride(self) -> usize {
        if self.sparse { 24 } else { 16 }
    }

    #[inline]
    pub(super) const fn size(self) -> usize {
        self.entries() + self.cap * self.stride()
    }

    #[inline]
    pub(super) fn entry(self, i: usize) -> usize {
        self.entries() + i * self.stride()
    }

    pub(super) fn form(self) -> u16 {
        (self.cap as u16) << 2 | if self.sparse { 2 } else { 1 }
    }

    /// Return the largest shape that fits a segment of `size` bytes.
    pub(super) fn fitting(sparse: bool, size: usize) -> Shape {
        let (stride, max) = if sparse { (24, MAX_SPARSE) } else { (16, MAX_DENSE) };
        let mut cap = (size.saturating_sub(TAGS) / stride).clamp(1, max);
        while cap > 1 && (Shape { cap, sparse }).size() > size {
            cap -= 1;
        }
        Shape { cap, sparse }
    }
}
