//! The two lists of containers without a home, and the header word that names the list of a container.
//!
//! Both lists are circular and doubly linked through the header fields that otherwise hold the home (HOME:
//! previous, HINT: next). The superblock holds the first member and the number of members. So any member can
//! be removed in place, and the last member is one step from the first.

use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::object::header::{self, Kind};
use crate::page::access::{Pages, PagesMut};
use crate::page::superblock as sb;

/// The first word of a header: kind, flags, body form and reference count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bits(u64);

impl Bits {
    /// Return the bits of the container at `h`, after checking that a container is there.
    #[inline]
    pub(super) fn read<P: Pages>(p: &P, h: Addr) -> Result<Bits> {
        let bits = Bits(p.u64_at(h + header::BITS)?);
        if Kind::of(bits.0 as u8).is_none() {
            return Err(Error::corrupt("no container where one is referred to", h));
        }
        Ok(bits)
    }

    #[inline]
    pub(super) fn kind(self) -> Kind {
        Kind::of(self.0 as u8).unwrap_or(Kind::Dict)
    }

    #[inline]
    pub(super) fn flags(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Return whether any of these flags is set.
    #[inline]
    pub(super) fn has(self, flags: u8) -> bool {
        self.flags() & flags != 0
    }

    #[inline]
    pub(super) fn refs(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Return whether the container has a home (the root counts as homed).
    #[inline]
    pub(super) fn homed(self) -> bool {
        !self.has(header::ORPHAN | header::SUSPECT | header::DRAINED)
    }

    #[inline]
    pub(super) fn with(self, flags: u8) -> Bits {
        Bits(self.0 | u64::from(flags) << 8)
    }

    #[inline]
    pub(super) fn without(self, flags: u8) -> Bits {
        Bits(self.0 & !(u64::from(flags) << 8))
    }

    #[inline]
    pub(super) fn with_refs(self, refs: u32) -> Bits {
        Bits(self.0 & 0xFFFF_FFFF | u64::from(refs) << 32)
    }

    /// Store kind, flags and reference count, and the form as read: no body may change between read and
    /// store.
    #[inline]
    pub(super) fn store<W: PagesMut>(self, w: &mut W, h: Addr) -> Result<()> {
        w.set_u64(h + header::BITS, self.0)
    }
}

/// One of the two lists.
#[derive(Clone, Copy)]
pub(super) struct List {
    head: Addr,
    count: Addr,
    flag: u8,
}

/// Containers to examine: new ones, those that lost their home, and those being freed.
pub(super) const ORPHANS: List = List {
    head: sb::ORPHANS,
    count: sb::ORPHAN_COUNT,
    flag: header::ORPHAN,
};
/// Containers that only a pin keeps, or whose state was too costly to determine.
pub(super) const SUSPECTS: List = List {
    head: sb::SUSPECTS,
    count: sb::SUSPECT_COUNT,
    flag: header::SUSPECT,
};

impl List {
    /// Return the first member; null if there is none.
    pub(super) fn first<P: Pages>(self, p: &P) -> Result<Addr> {
        Ok(Addr(p.u64_at(self.head)?))
    }

    /// Return the number of members.
    pub(super) fn len<P: Pages>(self, p: &P) -> Result<u64> {
        p.u64_at(self.count)
    }

    /// Insert `h`, which is on no list and has no home (`last`: at the end), and store `bits` with the list's
    /// flag.
    pub(super) fn push<W: PagesMut>(self, w: &mut W, h: Addr, bits: Bits, last: bool) -> Result<()> {
        let links = self.link_in(w, h, last)?;
        w.set_bytes(h + header::HOME, &links)?;
        bits.with(self.flag).store(w, h)
    }

    /// Do the part of `push` that changes everything but `h` itself. Return the new words HOME and HINT of
    /// `h`.
    pub(super) fn link_in<W: PagesMut>(self, w: &mut W, h: Addr, last: bool) -> Result<[u8; 16]> {
        let head = self.first(w)?;
        let links = if head.is_null() {
            link(h, h)
        } else {
            let prev = self.linked(w, head, header::HOME)?;
            w.set_u64(prev + header::HINT, h.0)?;
            w.set_u64(head + header::HOME, h.0)?;
            link(prev, head)
        };
        if head.is_null() || !last {
            w.set_u64(self.head, h.0)?;
        }
        let count = self.len(w)?;
        w.set_u64(self.count, count.wrapping_add(1))?;
        Ok(links)
    }

    /// Remove `h` from the list. Return its bits without the list's flag; the caller stores them.
    pub(super) fn unlink<W: PagesMut>(self, w: &mut W, h: Addr, bits: Bits) -> Result<Bits> {
        let prev = self.linked(w, h, header::HOME)?;
        let next = self.linked(w, h, header::HINT)?;
        if w.u64_at(prev + header::HINT)? != h.0 || w.u64_at(next + header::HOME)? != h.0 {
            return Err(Error::corrupt("a list of containers with a wrong link", h));
        }
        let head = self.first(w)?;
        if next == h {
            if head != h {
                return Err(Error::corrupt(
                    "a list of containers that is not linked to its head",
                    h,
                ));
            }
            w.set_u64(self.head, 0)?;
        } else {
            w.set_u64(prev + header::HINT, next.0)?;
            w.set_u64(next + header::HOME, prev.0)?;
            if head == h {
                w.set_u64(self.head, next.0)?;
            }
        }
        let count = self.len(w)?;
        w.set_u64(self.count, count.wrapping_sub(1))?;
        Ok(bits.without(self.flag))
    }

    /// Make the first member the last.
    pub(super) fn rotate<W: PagesMut>(self, w: &mut W) -> Result<()> {
        let head = self.first(w)?;
        if !head.is_null() {
            let next = self.linked(w, head, header::HINT)?;
            w.set_u64(self.head, next.0)?;
        }
        Ok(())
    }

    /// Return the next (HINT) or previous (HOME) member, after checking that it is on this list.
    pub(super) fn linked<P: Pages>(self, p: &P, h: Addr, field: u64) -> Result<Addr> {
        let to = Addr(p.u64_at(h + field)?);
        if !Bits::read(p, to)?.has(self.flag) {
            return Err(Error::corrupt(
                "a list of containers with a member that is not its own",
                h,
            ));
        }
        Ok(to)
    }
}

/// Remove a container without a home from its list, if it is on one. Return its bits, to be stored.
pub(super) fn remove_from_list<W: PagesMut>(w: &mut W, h: Addr, bits: Bits) -> Result<Bits> {
    if bits.has(header::ORPHAN) {
        ORPHANS.unlink(w, h, bits)
    } else if bits.has(header::SUSPECT) {
        SUSPECTS.unlink(w, h, bits)
    } else {
        Ok(bits)
    }
}

fn link(prev: Addr, next: Addr) -> [u8; 16] {
    let mut b = [0; 16];
    b[..8].copy_from_slice(&prev.0.to_le_bytes());
    b[8..].copy_from_slice(&next.0.to_le_bytes());
    b
}
