//! The annex of a container: a segment that holds what belongs to a container but is not an entry. Only a container
//! that needs one has one; its EXTRA word then refers to the annex, and the annex holds the word of the back
//! references. It lives as long as the container.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | `FORM` |
//! | 8 | 8 | the back references (`backs`), as EXTRA holds them in a list without an annex |
//! | 16 | 8 | list: address of the dict of waiting entries (0: none) |
//! | 24 | 8 | list: stamp, the count of the log of splices after its last splice (`splices`; 0: none) |
//! | 32 | 8 | address of the metadata of the container and its entries (`ops::metadata`; 0: none) |
//!
//! Invariants:
//! 1. The dict of waiting entries and the metadata are hidden containers. Each is a container like any other; its home
//!    is the owner of the annex, which refers to it once. It is not an entry: it has no key and no index, and no door
//!    shows it as one.
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
/// Bytes of an annex.
pub(super) const SIZE: usize = 40;

/// Return the address of a container's annex, if it has one.
#[inline]
fn of<P: Pages>(p: &P, h: Addr) -> Result<Option<Addr>> {
    let at = Addr(p.u64_at(h + EXTRA)?);
    if at.is_null() || p.u8_at(at)? != FORM {
        return Ok(None);
    }
    Ok(Some(at))
}

/// Return the address of the word that refers to the back references of a container.
#[inline]
pub(super) fn backs_word<P: Pages>(p: &P, h: Addr) -> Result<Addr> {
    Ok(of(p, h)?.map_or(h + EXTRA, |annex| annex + BACKS))
}

/// Return the address of the dict of waiting entries; null if there is none.
pub fn waiting<P: Pages>(p: &P, h: Addr) -> Result<Addr> {
    match of(p, h)? {
        Some(annex) => Ok(Addr(p.u64_at(annex + WAITING)?)),
        None => Ok(Addr::NULL),
    }
}

/// Return the address of the hidden container with the metadata; null if there is none.
#[inline]
pub fn metadata<P: Pages>(p: &P, h: Addr) -> Result<Addr> {
    match of(p, h)? {
        Some(annex) => Ok(Addr(p.u64_at(annex + METADATA)?)),
        None => Ok(Addr::NULL),
    }
}

/// Return the hidden containers of a container, null where there is none.
pub fn hidden<P: Pages>(p: &P, h: Addr) -> Result<[Addr; 2]> {
    match of(p, h)? {
        Some(annex) => Ok([
            Addr(p.u64_at(annex + WAITING)?),
            Addr(p.u64_at(annex + METADATA)?),
        ]),
        None => Ok([Addr::NULL; 2]),
    }
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
    match of(p, h)? {
        Some(annex) => p.u64_at(annex + STAMP),
        None => Ok(0),
    }
}

/// Set the stamp of a list's last splice.
pub fn set_stamp<W: PagesMut>(w: &mut W, h: Addr, stamp: u64) -> Result<()> {
    set(w, h, STAMP, stamp)
}

/// Set a word of the annex. It is made if it is missing.
fn set<W: PagesMut>(w: &mut W, h: Addr, field: u64, word: u64) -> Result<()> {
    if let Some(annex) = of(w, h)? {
        return w.set_u64(annex + field, word);
    }
    let backs = w.u64_at(h + EXTRA)?;
    let annex = heap::alloc(w, SIZE)?;
    let bytes = w.init(annex, SIZE)?;
    bytes.fill(0);
    bytes[0] = FORM;
    bytes[BACKS as usize..][..8].copy_from_slice(&backs.to_le_bytes());
    bytes[field as usize..][..8].copy_from_slice(&word.to_le_bytes());
    w.set_u64(h + EXTRA, annex.0)
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
