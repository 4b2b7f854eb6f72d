//! The header of every container: one 64-byte segment that never moves, so a container's address identifies
//! it as long as it lives.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 1 | kind (`Kind`) |
//! | 1 | 1 | flags (`ORPHAN`, `SUSPECT`, `DOOMED`, `UNSHARED`, `DRAINED`, `DETACHED`, `EMPTIED`) |
//! | 2 | 2 | body form, chosen by the body's own module |
//! | 4 | 4 | reference count: words in containers that refer to this one |
//! | 8 | 8 | id |
//! | 16 | 8 | home: address of the container that shows this one (0: none); on a list of `graph`: previous |
//! | 24 | 8 | home hint: hash of the key in a home dict, index in a home list (may be stale); on a list: next |
//! | 32 | 8 | mtime, nanoseconds since 1970 |
//! | 40 | 8 | body: address of the body's root segment (0: empty) |
//! | 48 | 8 | extra: address of the segment of back references and attributes (0: none) |
//! | 56 | 8 | objects: address of the class record; dicts and lists: number of entries (their class: `annex`) |

use crate::error::{Error, Result};
use crate::ids::{Addr, Obj, ObjectId};
use crate::page::access::{self, Pages};

/// Bytes of a header.
pub const SIZE: usize = 64;
/// Offset of kind (low byte), flags, form and reference count as one word.
pub const BITS: u64 = 0;
/// Offset of the body form (u16).
pub const FORM: u64 = 2;
/// Offset of the reference count (u32).
pub const REFS: u64 = 4;
/// Offset of the id.
pub const ID: u64 = 8;
/// Offset of the home.
pub const HOME: u64 = 16;
/// Offset of the home hint.
pub const HINT: u64 = 24;
/// Offset of the mtime.
pub const MTIME: u64 = 32;
/// Offset of the body.
pub const BODY: u64 = 40;
/// Offset of the extra segment.
pub const EXTRA: u64 = 48;
/// Offset of the class record (objects) or the entry count (dicts, lists).
pub const CLASS_OR_LEN: u64 = 56;

/// Flag: on the orphan list, without a home: new, lost its home, or being freed.
pub const ORPHAN: u8 = 1;
/// Flag: on the suspect list, without a home: kept alive only by a pin when last examined (or that was too
/// costly to determine); examined again when it is unpinned.
pub const SUSPECT: u8 = 2;
/// Flag: unreachable; its content is being removed in steps, or will be.
pub const DOOMED: u8 = 4;
/// Flag: an object whose attributes left the key table of its class (it owns a dict body).
pub const UNSHARED: u8 = 8;
/// Flag: doomed and emptied, on no list; freed with its last reference.
pub const DRAINED: u8 = 16;
/// Flag: not a container of the user, but the content taken from the container whose address is in MTIME,
/// waiting to be freed.
pub const DETACHED: u8 = 32;
/// Flag: former content of this container is still being freed (`DETACHED`), so a child may list it as a
/// parent although it no longer contains the child.
pub const EMPTIED: u8 = 64;

/// The kind of a container.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A dict.
    Dict = 1,
    /// A list.
    List = 2,
    /// An object: attributes and a class name.
    Object = 3,
}

impl Kind {
    /// Return the kind of a byte read from a file.
    #[must_use]
    pub fn of(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::Dict),
            2 => Some(Kind::List),
            3 => Some(Kind::Object),
            _ => None,
        }
    }
}

/// Return the kind of the container at `h`.
#[inline]
pub fn kind<P: Pages>(p: &P, h: Addr) -> Result<Kind> {
    Kind::of(p.u8_at(h)?).ok_or_else(|| Error::corrupt("no container where one is referred to", h))
}

/// Check that `obj` still refers to the same object. Return its kind.
#[inline]
pub fn check<P: Pages>(p: &P, obj: Obj) -> Result<Kind> {
    match p.u64_at(obj.addr + ID) {
        Ok(id) if id == obj.id.0 => {}
        // The object was created in a transaction that was rolled back, so its page may be gone.
        Ok(_)
        | Err(Error::Corrupt {
            what: access::BEYOND | access::ABSENT,
            ..
        }) => return Err(Error::Gone(obj.id)),
        Err(e) => return Err(e),
    }
    Kind::of(p.u8_at(obj.addr)?).ok_or(Error::Gone(obj.id))
}

/// Return the container at `h` with its id.
#[inline]
pub fn obj<P: Pages>(p: &P, h: Addr) -> Result<Obj> {
    kind(p, h)?;
    Ok(Obj {
        addr: h,
        id: ObjectId(p.u64_at(h + ID)?),
    })
}
