//! The dict body: insertion-ordered, hashed, without reference counts. It moves words; the code that stores a
//! value counts its reference, and gets every displaced value word back. Key scalars belong to the body,
//! which creates and frees them.
//!
//! A body belongs to a container header (`header::BODY`, `header::FORM`); the header is that of a dict, or of
//! an object with a dict body of its own (`class`). Two forms:
//! - *small* (`small`): one segment with tags and entries, up to about 200 entries;
//! - *large* (`large`): an entry log in insertion order (`log`) and a hash index (`index`), both trees of
//!   segments; any change touches a few segments.
//!
//! Invariants (`verify` checks them):
//! 1. Every entry has a sequence number, from 1 up, that it keeps for life, however the body around it
//!    changes. A new entry gets a higher one than any the body ever had. A cursor is a sequence number.
//!    The form of an empty dict tells from where on its next entries are numbered, so that a cursor from before
//!    lies before or after all of them. (Numbers restart if the dict was emptied 16384 times, by a conversion,
//!    and for the attributes of an object.)
//! 2. `header::FORM` is the form and, for small ones, the capacity; form 0 goes with a null body.
//! 3. The body stores its number of entries; a header of kind dict repeats it in `header::CLASS_OR_LEN`.
//! 4. No operation but `verify` does work that grows with the number of entries, except for hash collisions.
//!
//! `header::FORM`:
//!
//! | BITS | FIELD |
//! | --- | --- |
//! | 0..1 | 0: no body, 1: small dense, 2: small sparse, 3: large |
//! | 2..15 | small: capacity of the body in entries; without a body: the number of the next entry, in units of 2^16 |

mod entry;
mod head;
mod large;
mod salvage;
mod shape;
mod small;
mod verify;

#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::object::key;
use crate::object::value::Key;
use crate::object::word::Word;
use crate::page::access::{Pages, PagesMut};
use head::{Form, Found, Head, Place};

pub(super) use entry::{DictEntry, put, word_in};
pub use salvage::salvage;
pub(super) use small::{scan_tags, tag};
pub use verify::verify;

#[inline]
fn find<P: Pages>(p: &P, head: &Head, key: &Key<'_>, hash: u64) -> Result<Option<Found>> {
    match head.form()? {
        Form::Empty => Ok(None),
        Form::Small(shape) => small::find(p, head.body, shape, hash, |k, _| key::eq(p, k, key)),
        Form::Large => large::body::find(p, head.body, hash, |k, _| key::eq(p, k, key)),
    }
}

/// Return the value word under a key.
#[inline]
pub fn get<P: Pages>(p: &P, h: Addr, key: &Key<'_>) -> Result<Option<Word>> {
    get_hashed(p, h, key, key::hash(p.hash_seed(), key))
}

/// Return the value word under a key whose hash is known.
#[inline]
pub fn get_hashed<P: Pages>(p: &P, h: Addr, key: &Key<'_>, hash: u64) -> Result<Option<Word>> {
    Ok(find(p, &Head::read(p, h)?, key, hash)?.map(|f| f.value))
}

/// Return the address of the value word under a key, and the word.
#[inline]
pub fn locate<P: Pages>(p: &P, h: Addr, key: &Key<'_>, hash: u64) -> Result<Option<(Addr, Word)>> {
    Ok(find(p, &Head::read(p, h)?, key, hash)?.map(|f| (f.value_at, f.value)))
}

/// Return the stored key word and the value word under a key.
pub fn get_key_value<P: Pages>(p: &P, h: Addr, key: &Key<'_>, hash: u64) -> Result<Option<(Word, Word)>> {
    Ok(find(p, &Head::read(p, h)?, key, hash)?.map(|f| (f.key, f.value)))
}

/// Store a value word under a key. Return the displaced word. An existing equal key stays, as in Python.
pub fn set<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>, value: Word) -> Result<Option<Word>> {
    let hash = key::hash(w.hash_seed(), key);
    set_hashed(w, h, key, hash, value)
}

/// Store a value word under a key whose hash is known. Replacing a value is one logged 8-byte store.
#[inline]
pub fn set_hashed<W: PagesMut>(
    w: &mut W,
    h: Addr,
    key: &Key<'_>,
    hash: u64,
    value: Word,
) -> Result<Option<Word>> {
    if value.is_empty() {
        return Err(Error::invalid("an empty word cannot be stored in a dict"));
    }
    if let Some((at, old)) = locate(w, h, key, hash)? {
        w.set_value(at, value.0)?;
        return Ok(Some(old));
    }
    add(w, h, key, hash, value)?;
    Ok(None)
}

/// Add an entry whose key does not exist (`locate`).
pub fn add<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>, hash: u64, value: Word) -> Result<()> {
    if value.is_empty() {
        return Err(Error::invalid("an empty word cannot be stored in a dict"));
    }
    let mut head = Head::read(w, h)?;
    let key = key::encode(w, key)?;
    insert(w, &mut head, key, hash, value)
}

/// Add an entry whose key does not exist.
fn insert<W: PagesMut>(w: &mut W, head: &mut Head, key: Word, hash: u64, value: Word) -> Result<()> {
    let len = match head.form()? {
        Form::Empty => small::create(w, head, key, hash, value)?,
        Form::Small(shape) => small::insert(w, head, shape, key, hash, value)?,
        Form::Large => large::body::insert(w, head.body, key, hash, value)?,
    };
    head.set_len(w, len)
}

/// Return the form of the dict at `h` after all its entries have been taken at once.
pub fn form_when_empty<P: Pages>(p: &P, h: Addr) -> Result<u16> {
    let head = Head::read(p, h)?;
    Ok(match head.form()? {
        Form::Empty => head.form,
        Form::Small(shape) => head.form_when_empty(small::parts(p, head.body, shape)?.0),
        Form::Large => head.form_when_empty(large::body::next_seq(p, head.body)?),
    })
}

/// Remove a key. Return its value word.
pub fn remove<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>) -> Result<Option<Word>> {
    let hash = key::hash(w.hash_seed(), key);
    remove_hashed(w, h, key, hash)
}

/// Remove a key whose hash is known.
pub fn remove_hashed<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>, hash: u64) -> Result<Option<Word>> {
    let mut head = Head::read(w, h)?;
    let Some(found) = find(w, &head, key, hash)? else {
        return Ok(None);
    };
    remove_found(w, &mut head, found, hash)?;
    Ok(Some(found.value))
}

fn remove_found<W: PagesMut>(w: &mut W, head: &mut Head, found: Found, hash: u64) -> Result<()> {
    let len = match (found.place, head.form()?) {
        (Place::Small(i), Form::Small(shape)) => small::remove(w, head, shape, i)?,
        (Place::Large(spot), _) => {
            let (live, next) = large::body::remove(w, head.body, spot, hash)?;
            if live <= large::body::SHRINK_TO_SMALL {
                small::from_large(w, head, live, next)?;
            }
            live
        }
        _ => return Err(Error::corrupt("a dict body that changed its form", head.h)),
    };
    head.set_len(w, len)?;
    key::free(w, found.key)
}

/// Return the entry after a cursor (0: the first) in insertion order: its cursor, key and value.
pub fn next<P: Pages>(p: &P, h: Addr, cursor: u64) -> Result<Option<(u64, Word, Word)>> {
    let head = Head::read(p, h)?;
    let ent = match head.form()? {
        Form::Empty => None,
        Form::Small(shape) => small::next(p, head.body, shape, cursor)?,
        Form::Large => large::body::next(p, head.body, cursor)?,
    };
    Ok(ent.map(|e| (e.seq, e.key, e.value)))
}

/// Return the entry before a cursor (`u64::MAX`: the last).
pub fn prev<P: Pages>(p: &P, h: Addr, cursor: u64) -> Result<Option<(u64, Word, Word)>> {
    let head = Head::read(p, h)?;
    let ent = match head.form()? {
        Form::Empty => None,
        Form::Small(shape) => small::prev(p, head.body, shape, cursor)?,
        Form::Large => large::body::prev(p, head.body, cursor)?,
    };
    Ok(ent.map(|e| (e.seq, e.key, e.value)))
}

/// Return the number of entries.
#[inline]
pub fn len<P: Pages>(p: &P, h: Addr) -> Result<u64> {
    let head = Head::read(p, h)?;
    if head.counted {
        return Ok(head.len);
    }
    body_len(p, &head)
}

fn body_len<P: Pages>(p: &P, head: &Head) -> Result<u64> {
    match head.form()? {
        Form::Empty => Ok(0),
        Form::Small(shape) => small::len(p, head.body, shape),
        Form::Large => large::body::len(p, head.body),
    }
}

/// Remove up to `max` entries from the front and free their keys; append the value words to `out`. Return
/// true if the dict is empty and its body's memory is freed. For emptying in bounded steps.
pub fn drain<W: PagesMut>(w: &mut W, h: Addr, max: usize, out: &mut Vec<Word>) -> Result<bool> {
    let mut head = Head::read(w, h)?;
    let mut cursor = 0;
    for _ in 0..max {
        let ent = match head.form()? {
            Form::Empty => return Ok(true),
            Form::Small(shape) => small::next(w, head.body, shape, cursor)?,
            Form::Large => large::body::next(w, head.body, cursor)?,
        };
        let Some(ent) = ent else {
            return Err(Error::corrupt(
                "a dict with fewer entries than it counts",
                head.body,
            ));
        };
        let hash = key::hash_word(w, ent.key)?;
        let found = match head.form()? {
            Form::Small(shape) => small::at_seq(w, head.body, shape, ent.seq)?,
            _ => large::body::find(w, head.body, hash, |k, v| Ok(k == ent.key && v == ent.value))?,
        };
        let Some(found) = found else {
            return Err(Error::corrupt(
                "a dict entry that its index does not have",
                head.body,
            ));
        };
        remove_found(w, &mut head, found, hash)?;
        out.push(ent.value);
        cursor = ent.seq;
    }
    Ok(matches!(head.form()?, Form::Empty))
}

/// Return the key with this hash whose value is this container.
pub fn find_child<P: Pages>(p: &P, h: Addr, hash: u64, child: Addr) -> Result<Option<Word>> {
    let head = Head::read(p, h)?;
    let wanted = Word::container(child);
    let found = match head.form()? {
        Form::Empty => None,
        Form::Small(shape) => small::find(p, head.body, shape, hash, |k, v| {
            Ok(v == wanted && key::hash_word(p, k)? == hash)
        })?,
        Form::Large => large::body::find(p, head.body, hash, |_, v| Ok(v == wanted))?,
    };
    Ok(found.map(|f| f.key))
}

/// Examine up to `max` entries after `cursor` for one whose value is this container. Return its key, or the
/// cursor to continue from, or that the end was reached.
pub fn scan_child<P: Pages>(p: &P, h: Addr, child: Addr, cursor: u64, max: usize) -> Result<Scan> {
    scan(child, cursor, max, |cursor| next(p, h, cursor))
}

/// The result of a bounded scan for a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
    /// The child has this key.
    Found(Word),
    /// Not among the entries examined; continue from this cursor.
    More(u64),
    /// Not in the dict.
    End,
}

/// Run a bounded scan over any `next`.
pub(super) fn scan(
    child: Addr,
    mut cursor: u64,
    max: usize,
    mut next: impl FnMut(u64) -> Result<Option<(u64, Word, Word)>>,
) -> Result<Scan> {
    for _ in 0..max {
        match next(cursor)? {
            None => return Ok(Scan::End),
            Some((_, key, value)) if value == Word::container(child) => return Ok(Scan::Found(key)),
            Some((after, ..)) => cursor = after,
        }
    }
    Ok(Scan::More(cursor))
}

/// Give a container without a body one that holds these entries, taking over their keys, with their sequence
/// numbers (ascending, from 1); new entries get numbers from `next_seq` on. For objects that leave or join
/// the key table of their class; at most `small::MAX_SPARSE` entries.
pub(super) fn adopt<W: PagesMut>(w: &mut W, h: Addr, entries: &[DictEntry], next_seq: u64) -> Result<()> {
    let mut head = Head::read(w, h)?;
    if !entries.is_empty() {
        let (form, body) = small::build(w, entries, next_seq, entries.len() + 1)?;
        head.set_body(w, form, body)?;
    }
    head.set_len(w, entries.len() as u64)
}

/// Free the body of a container with at most `small::MAX_DENSE` entries, but not the keys. Return the entries
/// with their keys.
pub(super) fn release<W: PagesMut>(w: &mut W, h: Addr) -> Result<Vec<DictEntry>> {
    let mut head = Head::read(w, h)?;
    let entries = match head.form()? {
        Form::Empty => Vec::new(),
        Form::Small(shape) => {
            let entries = small::entries(w, head.body, shape)?;
            small::free(w, head.body)?;
            entries
        }
        Form::Large => {
            let entries = large::body::entries(w, head.body, shape::MAX_DENSE)?;
            large::body::free(w, head.body)?;
            entries
        }
    };
    head.set_body(w, 0, Addr::NULL)?;
    head.set_len(w, 0)?;
    Ok(entries)
}
