//! The annex of a container: a segment that holds what belongs to a container but is not an entry. Only a container
//! that needs one has one; its EXTRA word then refers to the annex, and the annex holds the word of the back
//! references. It lives as long as the container.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | `FORM`, or `WIDE` if the two last fields are there |
//! | 8 | 8 | the back references (`backs`), as EXTRA holds them in a list without an annex |
//! | 16 | 8 | list: address of the dict of waiting entries (0: none) |
//! | 24 | 8 | list: stamp, the count of the log of splices after its last splice (`splices`; 0: none) |
//! | 32 | 8 | address of the metadata of the container and its entries (`ops::metadata`; 0: none) |
//! | 40 | 8 | dict, list: address of the class record (`class`; 0: none) |
//! | 48 | 8 | dict: address of the list of its keys in order (`ops::sorted`; 0: none) |
//!
//! Invariants:
//! 1. The dict of waiting entries, the metadata and the keys in order are hidden containers. Each is a container like
//!    any other; its home is the owner of the annex, which refers to it once. It is not an entry: it has no key and no
//!    index, and no door shows it as one.
//! 2. Walks over the content of a container meet the hidden ones after the entries (`content`), so liveness, the
//!    checker and the freeing of a container include them.

use crate::error::Result;
use crate::heap;
use crate::ids::Addr;
use crate::object::header::EXTRA;
use crate::page::access::{Pages, PagesMut};

const FORM: u8 = b'A';
const BACKS: u64 = 8;
const WAITING: u64 = 16;
const STAMP: u64 = 24;
const METADATA: u64 = 32;
/// Bytes of an annex without the two last fields. Most need neither, and stores of version 4 have only these.
const SIZE: usize = 40;
const WIDE: u8 = b'C';
const CLASS: u64 = 40;
const ORDER: u64 = 48;
const WIDE_SIZE: usize = 56;

/// Return the address of a container's annex, if it has one, and its form.
#[inline]
fn find<P: Pages>(p: &P, h: Addr) -> Result<Option<(Addr, u8)>> {
    let at = Addr(p.u64_at(h + EXTRA)?);
    if at.is_null() {
        return Ok(None);
    }
    let form = p.u8_at(at)?;
    Ok((form == FORM || form == WIDE).then_some((at, form)))
}

/// Return whether a container has an annex, for callers that need several of its fields.
#[inline]
pub fn has_annex<P: Pages>(p: &P, h: Addr) -> Result<bool> {
    Ok(find(p, h)?.is_some())
}

/// Return the address of a container's annex, if it has one.
#[inline]
fn of<P: Pages>(p: &P, h: Addr) -> Result<Option<Addr>> {
    Ok(find(p, h)?.map(|(at, _)| at))
}

/// Return a word of a container's annex; 0 if it has none, or no such field.
#[inline]
fn word<P: Pages>(p: &P, h: Addr, field: u64) -> Result<u64> {
    match find(p, h)? {
        Some(annex) => field_of(p, annex, field),
        None => Ok(0),
    }
}

/// Return a word of an annex of this form; 0 if it has no such field.
#[inline]
fn field_of<P: Pages>(p: &P, (at, form): (Addr, u8), field: u64) -> Result<u64> {
    if field < SIZE as u64 || form == WIDE {
        p.u64_at(at + field)
    } else {
        Ok(0)
    }
}

/// Return the address of the word that refers to the back references of a container.
#[inline]
pub(super) fn backs_word<P: Pages>(p: &P, h: Addr) -> Result<Addr> {
    Ok(of(p, h)?.map_or(h + EXTRA, |annex| annex + BACKS))
}

/// Return the address of the dict of waiting entries; null if there is none.
pub fn waiting<P: Pages>(p: &P, h: Addr) -> Result<Addr> {
    word(p, h, WAITING).map(Addr)
}

/// Return the address of the hidden container with the metadata; null if there is none.
#[inline]
pub fn metadata<P: Pages>(p: &P, h: Addr) -> Result<Addr> {
    word(p, h, METADATA).map(Addr)
}

/// Return the address of the class record of a dict or list; null if it has no class.
#[inline]
pub fn class<P: Pages>(p: &P, h: Addr) -> Result<Addr> {
    word(p, h, CLASS).map(Addr)
}

/// Return the address of the list of a dict's keys in order; null if there is none.
#[inline]
pub fn order<P: Pages>(p: &P, h: Addr) -> Result<Addr> {
    word(p, h, ORDER).map(Addr)
}

/// Return the hidden containers of a container, null where there is none.
pub fn hidden<P: Pages>(p: &P, h: Addr) -> Result<[Addr; 3]> {
    let Some(annex) = find(p, h)? else {
        return Ok([Addr::NULL; 3]);
    };
    let field = |field| field_of(p, annex, field).map(Addr);
    Ok([field(WAITING)?, field(METADATA)?, field(ORDER)?])
}

/// Set the class record of a dict or list, or null.
pub fn set_class<W: PagesMut>(w: &mut W, h: Addr, record: Addr) -> Result<()> {
    set(w, h, CLASS, record.0)
}

/// Set the list of keys in order, or null. The caller counts the reference.
pub fn set_order<W: PagesMut>(w: &mut W, h: Addr, list: Addr) -> Result<()> {
    set(w, h, ORDER, list.0)
}

/// Set the address of the metadata, or null. The caller counts the reference.
pub fn set_metadata<W: PagesMut>(w: &mut W, h: Addr, hidden: Addr) -> Result<()> {
    set(w, h, METADATA, hidden.0)
}

/// Set the dict of waiting entries, or null. The caller counts the reference.
pub fn set_waiting<W: PagesMut>(w: &mut W, h: Addr, dict: Addr) -> Result<()> {
    set(w, h, WAITING, dict.0)
}

/// Return the stamp of a list's last splice that was logged; 0 if there is none.
pub fn stamp<P: Pages>(p: &P, h: Addr) -> Result<u64> {
    word(p, h, STAMP)
}

/// Set the stamp of a list's last splice.
pub fn set_stamp<W: PagesMut>(w: &mut W, h: Addr, stamp: u64) -> Result<()> {
    set(w, h, STAMP, stamp)
}

/// Set a word of the annex. It is made, or made wider, if it lacks the field.
fn set<W: PagesMut>(w: &mut W, h: Addr, field: u64, word: u64) -> Result<()> {
    let found = find(w, h)?;
    let wide = field >= SIZE as u64;
    if let Some((annex, form)) = found
        && (form == WIDE || !wide)
    {
        return w.set_u64(annex + field, word);
    }
    let mut fields = [0; WIDE_SIZE];
    match found {
        Some((old, _)) => fields[..SIZE].copy_from_slice(w.bytes(old, SIZE)?),
        None => fields[BACKS as usize..][..8].copy_from_slice(&w.u64_at(h + EXTRA)?.to_le_bytes()),
    }
    fields[0] = if wide { WIDE } else { FORM };
    fields[field as usize..][..8].copy_from_slice(&word.to_le_bytes());
    let size = if wide { WIDE_SIZE } else { SIZE };
    let annex = heap::alloc(w, size)?;
    w.init(annex, size)?.copy_from_slice(&fields[..size]);
    w.set_u64(h + EXTRA, annex.0)?;
    match found {
        Some((old, _)) => heap::free(w, old),
        None => Ok(()),
    }
}

/// Remove the annex, with its container. The caller has released the hidden containers.
pub(super) fn remove<W: PagesMut>(w: &mut W, h: Addr) -> Result<()> {
    let Some(annex) = of(w, h)? else {
        return Ok(());
    };
    let backs = w.u64_at(annex + BACKS)?;
    w.set_u64(h + EXTRA, backs)?;
    heap::free(w, annex)
}

/// Return the segment of the annex, for the checker.
pub(super) fn segment<P: Pages>(p: &P, h: Addr) -> Result<Option<Addr>> {
    of(p, h)
}
