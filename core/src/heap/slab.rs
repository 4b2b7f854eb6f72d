//! A slab page: its header, read and checked in one place, and the class's list of pages with room.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 4 | `MAGIC` |
//! | 4 | 1 | size class |
//! | 5 | 3 | 0 |
//! | 8 | 8 | next page of the class's list (page number, 0: none, `UNLISTED`: not on the list) |
//! | 16 | 8 | previous page of the list (0: this is the first) |
//! | 24 | 8 | 0 |
//! | 32 | 32 | allocation bitmap: bit n of word n / 64 is slot n; bits beyond the last slot are 0 |
//! | 64 | 4032 | the slots |

use super::class::{Class, HEADER, MAP_WORDS, TABLE};
use crate::error::{Error, Result};
use crate::ids::{Addr, PageNo};
use crate::page::access::{Pages, PagesMut};
use crate::page::superblock as sb;

/// The first four bytes of every slab page.
const MAGIC: u32 = u32::from_le_bytes(*b"hEaP");
/// The error for a page that does not belong to the heap.
pub const NOT_A_PAGE: &str = "not a heap page";
/// The next-page field of a page that is not on its class's list.
const UNLISTED: u64 = u64::MAX;
const NEXT: u64 = 8;
const PREV: u64 = 16;
const MAP: u64 = 32;
/// Pages of a 48-bit address space.
const PAGE_LIMIT: u64 = 1 << 36;

const _: () = assert!(TABLE_FITS && MAP as usize + MAP_WORDS * 8 == HEADER);
const TABLE_FITS: bool = super::class::CLASSES <= sb::HEAP_WORDS;

/// A copy of a slab page's header, its first word already checked.
#[derive(Clone, Copy)]
pub(super) struct Slab {
    pub(super) page: PageNo,
    pub(super) class: &'static Class,
    pub(super) next: u64,
    pub(super) prev: u64,
    pub(super) map: [u64; MAP_WORDS],
}

/// Return the first word of a page of this class.
#[inline]
fn tag(class: &Class) -> u64 {
    u64::from(class.index) << 32 | u64::from(MAGIC)
}

#[inline]
fn word(header: &[u8; HEADER], offset: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&header[offset..offset + 8]);
    u64::from_le_bytes(b)
}

impl Slab {
    /// Read the header of a page, which must be a slab page.
    #[inline]
    pub(super) fn read<P: Pages>(p: &P, page: PageNo) -> Result<Slab> {
        if page.0 == 0 || page.0 >= PAGE_LIMIT {
            return Err(Error::corrupt(NOT_A_PAGE, page.addr()));
        }
        let bytes = p.bytes(page.addr(), HEADER)?;
        let Ok(header) = <&[u8; HEADER]>::try_from(bytes) else {
            return Err(Error::corrupt("a short heap header", page.addr()));
        };
        let first = word(header, 0);
        match TABLE.get((first >> 32) as usize) {
            Some(class) if first as u32 == MAGIC => Ok(Slab {
                page,
                class,
                next: word(header, NEXT as usize),
                prev: word(header, PREV as usize),
                map: [
                    word(header, 32),
                    word(header, 40),
                    word(header, 48),
                    word(header, 56),
                ],
            }),
            _ => Err(Error::corrupt(NOT_A_PAGE, page.addr())),
        }
    }

    /// Read the header of a page found in the list of `class`.
    #[inline]
    pub(super) fn read_listed<P: Pages>(p: &P, page: u64, class: &Class) -> Result<Slab> {
        let slab = Slab::read(p, PageNo(page))?;
        if slab.class.index != class.index || !slab.is_listed() {
            return Err(Error::corrupt("a heap page in a list it is not of", slab.addr()));
        }
        Ok(slab)
    }

    /// Make a newly allocated page a slab page in which only slot 0 is taken. It becomes the only page on its
    /// class's list, which must be empty, unless slot 0 makes it full.
    pub(super) fn create<W: PagesMut>(w: &mut W, page: PageNo, class: &Class) -> Result<()> {
        let next = if class.slots > 1 { 0 } else { UNLISTED };
        let header = w.init(page.addr(), HEADER)?;
        header.fill(0);
        header[..8].copy_from_slice(&tag(class).to_le_bytes());
        header[8..16].copy_from_slice(&next.to_le_bytes());
        header[MAP as usize] = 1;
        if next == UNLISTED {
            Ok(())
        } else {
            set_head(w, class, page.0)
        }
    }

    pub(super) fn addr(&self) -> Addr {
        self.page.addr()
    }

    /// Return whether the page is on its class's list.
    #[inline]
    pub(super) fn is_listed(&self) -> bool {
        self.next != UNLISTED
    }

    /// Return the number of free slots.
    pub(super) fn free_slots(&self) -> u32 {
        (0..MAP_WORDS)
            .map(|i| (!self.map[i] & self.class.full[i]).count_ones())
            .sum()
    }

    pub(super) fn is_full(&self) -> bool {
        (0..MAP_WORDS).all(|i| !self.map[i] & self.class.full[i] == 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        (0..MAP_WORDS).all(|i| self.map[i] & self.class.full[i] == 0)
    }

    #[inline]
    pub(super) fn has(&self, slot: usize) -> bool {
        self.map[slot / 64] >> (slot % 64) & 1 != 0
    }

    /// Return the slot that begins at this address of the page.
    #[inline]
    pub(super) fn slot_at(&self, addr: Addr) -> Result<usize> {
        self.class
            .slot_at(addr.offset())
            .ok_or_else(|| Error::corrupt("not the start of a segment", addr))
    }

    /// Store one word of the bitmap.
    #[inline]
    pub(super) fn set_map<W: PagesMut>(&mut self, w: &mut W, index: usize, value: u64) -> Result<()> {
        self.map[index] = value;
        w.set_u64(self.addr() + MAP + index as u64 * 8, value)
    }

    /// Insert a page that is on no list at the head of its class's list.
    pub(super) fn push<W: PagesMut>(&self, w: &mut W) -> Result<()> {
        let first = head(w, self.class)?;
        if first != 0 {
            let slab = Slab::read_listed(w, first, self.class)?;
            w.set_u64(slab.addr() + PREV, self.page.0)?;
        }
        w.set_u64(self.addr() + NEXT, first)?;
        if self.prev != 0 {
            w.set_u64(self.addr() + PREV, 0)?;
        }
        set_head(w, self.class, self.page.0)
    }

    /// Remove a page from its class's list.
    pub(super) fn unlink<W: PagesMut>(&self, w: &mut W) -> Result<()> {
        if self.prev == 0 {
            if head(w, self.class)? != self.page.0 {
                return Err(Error::corrupt(
                    "a heap page that is missing in its list",
                    self.addr(),
                ));
            }
        } else {
            let slab = Slab::read_listed(w, self.prev, self.class)?;
            if slab.next != self.page.0 {
                return Err(Error::corrupt("a heap list with a wrong link", slab.addr()));
            }
        }
        if self.next != 0 {
            let slab = Slab::read_listed(w, self.next, self.class)?;
            if slab.prev != self.page.0 {
                return Err(Error::corrupt("a heap list with a wrong link", slab.addr()));
            }
            w.set_u64(slab.addr() + PREV, self.prev)?;
        }
        w.set_u64(self.addr() + NEXT, UNLISTED)?;
        if self.prev == 0 {
            set_head(w, self.class, self.next)
        } else {
            w.set_u64(PageNo(self.prev).addr() + NEXT, self.next)
        }
    }

    /// Return the page, which is on no list, to the page manager.
    pub(super) fn release<W: PagesMut>(self, w: &mut W) -> Result<()> {
        if self.class.slots == 1 {
            // A piece of a large value, or a large node: it is reached from a segment that is freed with it. So
            // the page need not be written, which would copy all of it.
            return w.retire_page(self.page);
        }
        // Clear the header: an address that still points here must not find a heap page.
        w.set_u64(self.addr(), 0)?;
        w.free_page(self.page)
    }
}

fn head_addr(class: &Class) -> Addr {
    sb::HEAP + u64::from(class.index) * 8
}

/// Return the first page with room of a class (page number, 0: none).
#[inline]
pub(super) fn head<P: Pages>(p: &P, class: &Class) -> Result<u64> {
    p.u64_at(head_addr(class))
}

/// Make a page the head of its class's list.
fn set_head<W: PagesMut>(w: &mut W, class: &Class, page: u64) -> Result<()> {
    w.set_u64(head_addr(class), page)
}
