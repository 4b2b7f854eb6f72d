//! The functions shared by dicts and the attributes of objects: those of `dict` or of `class::attr`, chosen
//! by the header's kind.

use super::class::attr;
use super::dict;
use super::header::{Kind, kind};
use super::value::Key;
use super::word::Word;
use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::page::access::{Pages, PagesMut};

pub use super::dict::Scan;

const NO_KEYS: Error = Error::WrongKind {
    what: "a list has no keys",
};

/// See `dict::get`.
#[inline]
pub fn get<P: Pages>(p: &P, h: Addr, key: &Key<'_>) -> Result<Option<Word>> {
    get_hashed(p, h, key, super::key::hash(p.hash_seed(), key))
}

/// See `dict::get_hashed`.
#[inline]
pub fn get_hashed<P: Pages>(p: &P, h: Addr, key: &Key<'_>, hash: u64) -> Result<Option<Word>> {
    match kind(p, h)? {
        Kind::Dict => dict::get_hashed(p, h, key, hash),
        Kind::Object => attr::get_hashed(p, h, key, hash),
        Kind::List => Err(NO_KEYS),
    }
}

/// See `dict::get_key_value`.
pub fn get_key_value<P: Pages>(p: &P, h: Addr, key: &Key<'_>, hash: u64) -> Result<Option<(Word, Word)>> {
    match kind(p, h)? {
        Kind::Dict => dict::get_key_value(p, h, key, hash),
        Kind::Object => attr::get_key_value(p, h, key, hash),
        Kind::List => Err(NO_KEYS),
    }
}

/// See `dict::set`.
pub fn set<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>, value: Word) -> Result<Option<Word>> {
    let hash = super::key::hash(w.hash_seed(), key);
    set_hashed(w, h, key, hash, value)
}

/// See `dict::set_hashed`.
#[inline]
pub fn set_hashed<W: PagesMut>(
    w: &mut W,
    h: Addr,
    key: &Key<'_>,
    hash: u64,
    value: Word,
) -> Result<Option<Word>> {
    match kind(w, h)? {
        Kind::Dict => dict::set_hashed(w, h, key, hash, value),
        Kind::Object => attr::set_hashed(w, h, key, hash, value),
        Kind::List => Err(NO_KEYS),
    }
}

/// See `dict::remove`.
pub fn remove<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>) -> Result<Option<Word>> {
    let hash = super::key::hash(w.hash_seed(), key);
    remove_hashed(w, h, key, hash)
}

/// See `dict::remove_hashed`.
pub fn remove_hashed<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>, hash: u64) -> Result<Option<Word>> {
    match kind(w, h)? {
        Kind::Dict => dict::remove_hashed(w, h, key, hash),
        Kind::Object => attr::remove_hashed(w, h, key, hash),
        Kind::List => Err(NO_KEYS),
    }
}

/// See `dict::next`.
pub fn next<P: Pages>(p: &P, h: Addr, cursor: u64) -> Result<Option<(u64, Word, Word)>> {
    match kind(p, h)? {
        Kind::Dict => dict::next(p, h, cursor),
        Kind::Object => attr::next(p, h, cursor),
        Kind::List => Err(NO_KEYS),
    }
}

/// See `dict::prev`.
pub fn prev<P: Pages>(p: &P, h: Addr, cursor: u64) -> Result<Option<(u64, Word, Word)>> {
    match kind(p, h)? {
        Kind::Dict => dict::prev(p, h, cursor),
        Kind::Object => attr::prev(p, h, cursor),
        Kind::List => Err(NO_KEYS),
    }
}

/// See `dict::len`.
pub fn len<P: Pages>(p: &P, h: Addr) -> Result<u64> {
    match kind(p, h)? {
        Kind::Dict => dict::len(p, h),
        Kind::Object => attr::len(p, h),
        Kind::List => Err(NO_KEYS),
    }
}

/// See `dict::drain`.
pub fn drain<W: PagesMut>(w: &mut W, h: Addr, max: usize, out: &mut Vec<Word>) -> Result<bool> {
    match kind(w, h)? {
        Kind::Dict => dict::drain(w, h, max, out),
        Kind::Object => attr::drain(w, h, max, out),
        Kind::List => Err(NO_KEYS),
    }
}

/// See `dict::find_child`.
pub fn find_child<P: Pages>(p: &P, h: Addr, hash: u64, child: Addr) -> Result<Option<Word>> {
    match kind(p, h)? {
        Kind::Dict => dict::find_child(p, h, hash, child),
        Kind::Object => attr::find_child(p, h, hash, child),
        Kind::List => Err(NO_KEYS),
    }
}

/// See `dict::scan_child`.
pub fn scan_child<P: Pages>(p: &P, h: Addr, child: Addr, cursor: u64, max: usize) -> Result<Scan> {
    match kind(p, h)? {
        Kind::Dict => dict::scan_child(p, h, child, cursor, max),
        Kind::Object => attr::scan_child(p, h, child, cursor, max),
        Kind::List => Err(NO_KEYS),
    }
}

/// See `dict::verify`.
pub fn verify<P: Pages>(
    p: &P,
    h: Addr,
    limit: u64,
    segment: &mut dyn FnMut(Addr, usize) -> Result<()>,
) -> Result<()> {
    match kind(p, h)? {
        Kind::Dict => dict::verify(p, h, limit, segment),
        Kind::Object => attr::verify(p, h, limit, segment),
        Kind::List => Err(NO_KEYS),
    }
}
