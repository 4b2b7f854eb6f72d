//! The first steps of all operations on entries: check that the container exists, that no lock or transaction
//! blocks the access, and find the entry. Also the notes that a section keeps about an entry.

use crate::error::{Error, Result};
use crate::ids::{Addr, Obj};
use crate::object::class::attr::{self};
use crate::object::header::{self, DOOMED, DRAINED, Kind};
use crate::object::value::{In, Key, Step};
use crate::object::word::Word;
use crate::object::{dict, key as keys, scalar};
use crate::page::access::{self, Pages, PagesMut};
use crate::page::lookups::LookupKey;

/// Check that the object exists and is not being freed. Return its kind. (`header::check` and more, by one
/// load.)
#[inline]
pub(super) fn alive<P: Pages>(p: &P, obj: Obj) -> Result<Kind> {
    let b = match p.bytes(obj.addr, 16) {
        Ok(b) => b,
        // The object was created in a transaction that was rolled back, so its page may be gone.
        Err(Error::Corrupt {
            what: access::BEYOND | access::ABSENT,
            ..
        }) => return Err(Error::Gone(obj.id)),
        Err(e) => return Err(e),
    };
    let id = b[8..].iter().rev().fold(0, |id, &byte| id << 8 | u64::from(byte));
    match Kind::of(b[0]) {
        Some(kind) if id == obj.id.0 && id != 0 && b[1] & (DOOMED | DRAINED) == 0 => Ok(kind),
        _ => Err(Error::Gone(obj.id)),
    }
}

/// Begin a read.
#[inline]
pub(super) fn reading<P: Pages>(p: &P, obj: Obj) -> Result<Kind> {
    let kind = alive(p, obj)?;
    p.reading(obj.id)?;
    Ok(kind)
}

/// See `Writer::check_change`.
pub fn check_change<W: PagesMut>(w: &mut W, obj: Obj, key: Option<&Key<'_>>) -> Result<()> {
    let hash = key.map(|key| keys::hash(w.hash_seed(), key));
    changing(w, obj, hash).map(drop)
}

/// Begin a change.
#[inline]
pub(super) fn changing<W: PagesMut>(w: &mut W, obj: Obj, key: Option<u64>) -> Result<Kind> {
    let kind = alive(w, obj)?;
    w.changing(obj, key)?;
    Ok(kind)
}

/// Return the words under which sections cache where an entry is (`Pages::lookups`): the container, and the key if it
/// is short; None for other keys.
#[inline(always)]
pub fn lookup_key(obj: Obj, key: &Key<'_>) -> Option<LookupKey> {
    let Key::Str(text) = *key else {
        return None;
    };
    let word = |at: usize| Some(u64::from_le_bytes(text.get(at..at + 8)?.try_into().ok()?));
    let half = |at: usize| {
        Some(u64::from(u32::from_le_bytes(
            text.get(at..at + 4)?.try_into().ok()?,
        )))
    };
    let n = text.len();
    // The halves may overlap: with the length they determine the key.
    let (first, last) = match n {
        8..=16 => (word(0)?, word(n - 8)?),
        4..8 => (half(0)?, half(n - 4)?),
        0 => (0, 0),
        1..4 => (
            u64::from(text[0]) | u64::from(text[n / 2]) << 8,
            u64::from(text[n - 1]),
        ),
        _ => return None,
    };
    (obj.id.0 < 1 << 56).then_some([obj.id.0 | (n as u64) << 56, first, last])
}

/// Return the address of an entry's or attribute's value word, and the word.
#[inline]
pub(super) fn locate<P: Pages>(
    p: &P,
    kind: Kind,
    obj: Obj,
    key: &Key<'_>,
    hash: u64,
) -> Result<Option<(Addr, Word)>> {
    match (kind, key) {
        (Kind::List, _) => Err(NO_KEYS),
        (Kind::Dict, _) => dict::locate(p, obj.addr, key, hash),
        (Kind::Object, Key::Str(_)) => attr::locate(p, obj.addr, key, hash),
        (Kind::Object, _) => Ok(None),
    }
}

/// Set the mtime.
#[inline]
pub(super) fn touch<W: PagesMut>(w: &mut W, obj: Obj) -> Result<()> {
    let now = w.now();
    w.set_time(obj.addr + header::MTIME, now)
}

/// Return the word of a value, writing it to newly allocated memory if it does not fit a word.
#[inline]
pub(super) fn encode<W: PagesMut>(w: &mut W, value: &In<'_>) -> Result<Word> {
    if let In::Obj(obj) = *value {
        alive(w, obj)?;
        return Ok(Word::container(obj.addr));
    }
    scalar::encode(w, value)
}

pub(super) const NOT_A_LIST: Error = Error::WrongKind {
    what: "this is not a list",
};
pub(super) const NO_KEYS: Error = Error::WrongKind {
    what: "a list has items, no keys",
};
pub(super) const STR_ONLY: Error = Error::WrongKind {
    what: "the attributes of an object have names that are str",
};

/// Check that a container of this kind can have this key.
#[inline]
pub(super) fn takes_key(kind: Kind, key: &Key<'_>) -> Result<()> {
    match (kind, key) {
        (Kind::List, _) => Err(NO_KEYS),
        (Kind::Object, Key::Str(_)) | (Kind::Dict, _) => Ok(()),
        (Kind::Object, _) => Err(STR_ONLY),
    }
}

pub(super) fn wants_list(kind: Kind) -> Result<()> {
    if kind == Kind::List {
        Ok(())
    } else {
        Err(NOT_A_LIST)
    }
}

/// A resolved step: the place of an entry in a container of a certain kind.
#[derive(Clone, Copy)]
pub(super) enum Spot<'a> {
    Key(Key<'a>, u64),
    Index(u64),
}

impl<'a> Spot<'a> {
    pub(super) fn of(kind: Kind, step: &'a Step, seed: u64) -> Result<Spot<'a>> {
        match step {
            Step::Index(i) => {
                wants_list(kind)?;
                Ok(Spot::Index(*i))
            }
            Step::Key(value) => {
                let key = value.as_key()?;
                takes_key(kind, &key)?;
                Ok(Spot::Key(key, crate::object::key::hash(seed, &key)))
            }
        }
    }

    /// Return the argument for `changing`: the hash of the key, or None for the whole list.
    pub(super) fn lock_key(&self) -> Option<u64> {
        match self {
            Spot::Key(_, hash) => Some(*hash),
            Spot::Index(_) => None,
        }
    }

    /// Return the hint for the graph.
    pub(super) fn hint(&self) -> u64 {
        match *self {
            Spot::Key(_, hash) => hash,
            Spot::Index(i) => i,
        }
    }
}

pub(super) fn out_of_range(index: u64, len: u64) -> Error {
    Error::Index {
        index: i64::try_from(index).unwrap_or(i64::MAX),
        len,
    }
}
