//! The size classes: the sizes of segments, and the layout of their slots in a page.
//!
//! Invariants: sizes are multiples of 16 and ascend; slots begin at `HEADER` and fit the page; the bitmap of
//! any class fits the header's `MAP_WORDS` words.

/// The largest segment, in bytes: one page less its header.
pub const MAX_SEGMENT: usize = 4032;

/// Bytes of a slab page's header; the first slot begins here.
pub(super) const HEADER: usize = 64;
/// Words of the allocation bitmap in the header.
pub(super) const MAP_WORDS: usize = 4;
/// The sizes, chosen to waste little of the 4032 bytes.
const SIZES: [u16; CLASSES] = [
    16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 192, 224, 256, 288, 336, 400, 448, 496, 576, 672, 800, 1008,
    1344, 2016, 4032,
];
/// Number of size classes.
pub(super) const CLASSES: usize = 25;

/// One size class.
#[derive(Debug)]
pub(super) struct Class {
    /// Its index, which is also that of its list head.
    pub(super) index: u8,
    /// Bytes of a slot.
    pub(super) size: u16,
    /// Slots in a page.
    pub(super) slots: u16,
    /// The number of free slots at which a page that was full is listed again.
    pub(super) relist: u16,
    /// Number of bitmap words in use.
    pub(super) words: u8,
    /// `ceil(65536 / (size / 16))`: divides a slot offset without a division.
    recip: u32,
    /// The bitmap of a full page.
    pub(super) full: [u64; MAP_WORDS],
}

impl Class {
    const fn new(index: usize) -> Class {
        let size = SIZES[index];
        let slots = MAX_SEGMENT as u16 / size;
        let mut full = [0; MAP_WORDS];
        let mut i = 0;
        while i < slots {
            full[i as usize / 64] |= 1 << (i % 64);
            i += 1;
        }
        let words = slots.div_ceil(64) as u8;
        let relist = if slots < 16 { 1 } else { slots / 8 };
        Class {
            index: index as u8,
            size,
            slots,
            relist,
            words,
            recip: 65536u32.div_ceil(size as u32 / 16),
            full,
        }
    }

    /// Return the slot that begins at this offset within the page, if there is one.
    #[inline]
    pub(super) fn slot_at(&self, offset: usize) -> Option<usize> {
        let from = offset.wrapping_sub(HEADER);
        if from >= MAX_SEGMENT || from & 15 != 0 {
            return None;
        }
        let slot = (((from / 16) as u32 * self.recip) >> 16) as usize;
        (slot * self.size as usize == from && slot < self.slots as usize).then_some(slot)
    }

    /// Return the offset within the page at which a slot begins.
    #[inline]
    pub(super) fn offset_of(&self, slot: usize) -> u64 {
        (HEADER + slot * self.size as usize) as u64
    }
}

/// All classes, by index.
pub(super) static TABLE: [Class; CLASSES] = {
    let mut table = [const { Class::new(0) }; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        table[i] = Class::new(i);
        i += 1;
    }
    table
};

/// The class of a size in units of 16 bytes, rounded up.
static BY_UNITS: [u8; MAX_SEGMENT / 16 + 1] = {
    let mut map = [0; MAX_SEGMENT / 16 + 1];
    let (mut units, mut class) = (0, 0);
    while units < map.len() {
        if units * 16 > SIZES[class] as usize {
            class += 1;
        }
        map[units] = class as u8;
        units += 1;
    }
    map
};

/// Return the smallest class that holds `size` bytes; None for 0 and for more than `MAX_SEGMENT`.
#[inline]
pub(super) fn for_size(size: usize) -> Option<&'static Class> {
    if size == 0 {
        return None;
    }
    let units = size.checked_add(15)? / 16;
    BY_UNITS.get(units).map(|&class| &TABLE[class as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_well_formed() {
        for (i, c) in TABLE.iter().enumerate() {
            assert_eq!((c.index as usize, c.size), (i, SIZES[i]));
            assert!(
                c.size % 16 == 0
                    && c.slots >= 1
                    && c.relist >= 1
                    && c.relist * 8 <= c.slots.max(8)
                    && (c.words as usize) <= MAP_WORDS
            );
            assert_eq!(c.full.iter().map(|w| w.count_ones()).sum::<u32>(), c.slots as u32);
            assert!(i == 0 || c.size > SIZES[i - 1] && c.slots <= TABLE[i - 1].slots);
        }
        assert_eq!(SIZES[CLASSES - 1] as usize, MAX_SEGMENT);
    }

    #[test]
    fn every_size_gets_the_smallest_class() {
        assert!(
            for_size(0).is_none() && for_size(MAX_SEGMENT + 1).is_none() && for_size(usize::MAX).is_none()
        );
        for size in 1..=MAX_SEGMENT {
            let slow = SIZES.iter().find(|&&s| s as usize >= size);
            assert_eq!(for_size(size).map(|c| c.size).as_ref(), slow);
        }
    }

    #[test]
    fn slots_are_found_without_division() {
        for c in &TABLE {
            for offset in 0..5000 {
                let from = offset as i64 - HEADER as i64;
                let slow =
                    (from >= 0 && from % c.size as i64 == 0 && from / (c.size as i64) < c.slots as i64)
                        .then_some((from / c.size as i64) as usize);
                assert_eq!(c.slot_at(offset), slow, "class {} offset {offset}", c.size);
                if let Some(slot) = slow {
                    assert_eq!(c.offset_of(slot), offset as u64);
                }
            }
        }
    }
}
