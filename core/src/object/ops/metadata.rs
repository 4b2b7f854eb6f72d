//! Metadata: records about a container and its entries that are not values, such as the modes and times that tools set
//! on the mount. Their content belongs to the caller.
//!
//! The records are in a hidden container (`graph::annex`), which exists while there are records:
//!
//! | container | hidden | the record of the container | the table of times | the record of an entry |
//! | --- | --- | --- | --- | --- |
//! | list | list | item 0 | item 1 | the item of its index + 2; the end may be missing |
//! | dict, object | dict | key `b""` | key `b"t"` | its key; `b"e"` + key if the key is bytes |
//!
//! Invariants:
//! 1. The record of an entry lives as long as the entry: it is kept when the value is replaced, moves with the entry
//!    (`rename`), and is removed with it.
//! 2. A record is a bytes value, or None in a list.
//! 3. A change of a record sets no mtime.

use super::announce;
use super::entry::{NO_KEYS, NOT_A_LIST, alive, changing, reading};
use crate::error::{Error, Result};
use crate::ids::{Addr, Obj};
use crate::object::graph::{self, release_word};
use crate::object::header::Kind;
use crate::object::value::{In, Key, Value};
use crate::object::word::Word;
use crate::object::{blob, entries, key as keys, list, scalar};
use crate::page::access::{Pages, PagesMut};

/// The longest record in bytes.
const RECORD_MAX: usize = 16 << 20;
/// Items before those of the entries.
const BEFORE: u64 = 2;
/// Items of a hidden list that are removed at a time.
const CHUNK: usize = 4096;

/// The subject of a record.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// The container itself.
    Container,
    /// All entries of the container: a table of times.
    Times,
    /// The entry of this key.
    Key(Key<'a>),
    /// The item at this index.
    Index(u64),
}

/// Call `f` with the key of a record.
fn with_key<R>(of: &Of<'_>, f: impl FnOnce(&Key<'_>) -> R) -> R {
    match of {
        Of::Container => f(&Key::Bytes(b"")),
        Of::Times => f(&Key::Bytes(b"t")),
        Of::Key(Key::Bytes(key)) => f(&Key::Bytes(&[b"e", *key].concat())),
        Of::Key(key) => f(key),
        // Refused by `fits`.
        Of::Index(_) => f(&Key::None),
    }
}

/// Check that a container of this kind can have the entry.
fn fits(kind: Kind, of: &Of<'_>) -> Result<()> {
    match (kind, of) {
        (Kind::List, Of::Key(_)) => Err(NO_KEYS),
        (Kind::Dict | Kind::Object, Of::Index(_)) => Err(NOT_A_LIST),
        _ => Ok(()),
    }
}

/// Return the item of a record in a hidden list.
fn item(of: &Of<'_>) -> u64 {
    match of {
        Of::Times => 1,
        Of::Index(i) => i.saturating_add(BEFORE),
        // A key is refused by `fits`.
        Of::Container | Of::Key(_) => 0,
    }
}

fn word_of<P: Pages>(p: &P, h: Addr, kind: Kind, of: &Of<'_>) -> Result<Option<Word>> {
    fits(kind, of)?;
    let hidden = graph::metadata(p, h)?;
    if hidden.is_null() {
        return Ok(None);
    }
    let word = match kind {
        Kind::List => list::get(p, hidden, item(of))?,
        Kind::Dict | Kind::Object => with_key(of, |key| entries::get(p, hidden, key))?,
    };
    Ok(word.filter(|word| *word != Word::NONE))
}

fn read_word<P: Pages>(p: &P, word: Word) -> Result<Vec<u8>> {
    match scalar::decode(p, word)? {
        Value::Bytes(bytes) => Ok(bytes.to_vec()),
        Value::Large(large) if large.len <= RECORD_MAX as u64 => {
            let mut bytes = vec![0; large.len as usize];
            let mut at = 0;
            while at < bytes.len() {
                match blob::large_read(p, &large, at as u64, &mut bytes[at..])? {
                    0 => break,
                    n => at += n,
                }
            }
            bytes.truncate(at);
            Ok(bytes)
        }
        _ => Err(Error::corrupt(
            "a record of metadata that is not bytes",
            Addr::NULL,
        )),
    }
}

/// See `Reader::has_metadata`.
#[inline]
pub fn has_metadata<P: Pages>(p: &P, obj: Obj) -> Result<bool> {
    reading(p, obj)?;
    Ok(!graph::metadata(p, obj.addr)?.is_null())
}

/// See `Reader::metadata`.
pub fn metadata<P: Pages>(p: &P, obj: Obj, of: &Of<'_>) -> Result<Option<Vec<u8>>> {
    let kind = reading(p, obj)?;
    match word_of(p, obj.addr, kind, of)? {
        Some(word) => read_word(p, word).map(Some),
        None => Ok(None),
    }
}

/// See `Writer::set_metadata`.
pub fn set_metadata<W: PagesMut>(w: &mut W, obj: Obj, of: &Of<'_>, record: Option<&[u8]>) -> Result<()> {
    let kind = match of {
        // Times that were shown are noted whatever is locked.
        Of::Times => alive(w, obj)?,
        Of::Key(key) => {
            let hash = keys::hash(w.hash_seed(), key);
            changing(w, obj, Some(hash))?
        }
        Of::Container | Of::Index(_) => changing(w, obj, None)?,
    };
    let word = match record {
        Some(record) if record.len() > RECORD_MAX => {
            return Err(Error::invalid("a record of metadata over 16 MiB"));
        }
        Some(record) => scalar::encode(w, &In::Bytes(record))?,
        None => Word::NONE,
    };
    if !matches!(of, Of::Times) {
        announce::metadata(w, obj);
    }
    set(w, obj.addr, kind, of, word)
}

/// Set the word of a record (None: remove it).
pub(super) fn set<W: PagesMut>(w: &mut W, h: Addr, kind: Kind, of: &Of<'_>, word: Word) -> Result<()> {
    fits(kind, of)?;
    let mut hidden = graph::metadata(w, h)?;
    if hidden.is_null() {
        if word == Word::NONE {
            return Ok(());
        }
        let form = if kind == Kind::List {
            Kind::List
        } else {
            Kind::Dict
        };
        hidden = graph::create(w, form, 0)?.addr;
        graph::set_metadata(w, h, hidden)?;
        graph::retain(w, hidden, h, u64::MAX)?;
    }
    let old = if kind == Kind::List {
        set_item(w, hidden, item(of), word)?
    } else if word == Word::NONE {
        with_key(of, |key| entries::remove(w, hidden, key))?
    } else {
        with_key(of, |key| entries::set(w, hidden, key, word))?
    };
    if let Some(old) = old {
        release_word(w, old, hidden)?;
    }
    drop_if_empty(w, h, hidden, kind)
}

fn set_item<W: PagesMut>(w: &mut W, hidden: Addr, at: u64, word: Word) -> Result<Option<Word>> {
    let mut len = list::len(w, hidden)?;
    if at >= len {
        if word == Word::NONE {
            return Ok(None);
        }
        let fill = [Word::NONE; 64];
        while len < at {
            let n = (at - len).min(fill.len() as u64);
            list::extend(w, hidden, &fill[..n as usize])?;
            len += n;
        }
        list::insert(w, hidden, at, word)?;
        return Ok(None);
    }
    let old = list::set(w, hidden, at, word)?;
    trim(w, hidden)?;
    Ok(Some(old))
}

/// Remove what has no record from the end of a hidden list, so that one without records is empty.
fn trim<W: PagesMut>(w: &mut W, hidden: Addr) -> Result<()> {
    while let Some(last) = list::len(w, hidden)?.checked_sub(1)
        && list::get(w, hidden, last)? == Some(Word::NONE)
    {
        list::remove(w, hidden, last)?;
    }
    Ok(())
}

fn drop_if_empty<W: PagesMut>(w: &mut W, h: Addr, hidden: Addr, kind: Kind) -> Result<()> {
    let len = if kind == Kind::List {
        list::len(w, hidden)?
    } else {
        entries::len(w, hidden)?
    };
    if len > 0 {
        return Ok(());
    }
    graph::set_metadata(w, h, Addr::NULL)?;
    graph::release(w, hidden, h)
}

/// Take the record of an entry out of the metadata, without freeing it. None if there is none.
pub(super) fn take<W: PagesMut>(w: &mut W, h: Addr, kind: Kind, of: &Of<'_>) -> Result<Option<Word>> {
    let Some(word) = word_of(w, h, kind, of)? else {
        return Ok(None);
    };
    let hidden = graph::metadata(w, h)?;
    if kind == Kind::List {
        set_item(w, hidden, item(of), Word::NONE)?;
    } else {
        with_key(of, |key| entries::remove(w, hidden, key))?;
    }
    drop_if_empty(w, h, hidden, kind)?;
    Ok(Some(word))
}

/// An entry is removed: remove its record.
#[inline]
pub(super) fn removed<W: PagesMut>(w: &mut W, h: Addr, kind: Kind, key: &Key<'_>) -> Result<()> {
    if graph::metadata(w, h)?.is_null() {
        return Ok(());
    }
    set(w, h, kind, &Of::Key(*key), Word::NONE)
}

/// The items of a list change their places: their records follow.
#[inline]
pub(super) fn spliced<W: PagesMut>(w: &mut W, h: Addr, at: u64, removed: u64, inserted: u64) -> Result<()> {
    let hidden = graph::metadata(w, h)?;
    if hidden.is_null() {
        return Ok(());
    }
    splice(w, h, hidden, at, removed, inserted)
}

fn splice<W: PagesMut>(w: &mut W, h: Addr, hidden: Addr, at: u64, removed: u64, inserted: u64) -> Result<()> {
    let start = at.saturating_add(BEFORE);
    let mut words = Vec::new();
    let mut end = start.saturating_add(removed).min(list::len(w, hidden)?);
    while start < end {
        words.clear();
        let n = list::remove_range(w, hidden, start, end, CHUNK, &mut words)?;
        if n == 0 {
            return Err(Error::corrupt("a list with fewer items than it counts", hidden));
        }
        end = end.saturating_sub(n);
        for &word in &words {
            release_word(w, word, hidden)?;
        }
    }
    if start < list::len(w, hidden)? {
        for _ in 0..inserted {
            list::insert(w, hidden, start, Word::NONE)?;
        }
    } else {
        trim(w, hidden)?;
    }
    drop_if_empty(w, h, hidden, Kind::List)
}

/// All entries are removed: keep the record of the container only.
pub(super) fn emptied<W: PagesMut>(w: &mut W, h: Addr, kind: Kind) -> Result<()> {
    let hidden = graph::metadata(w, h)?;
    if hidden.is_null() {
        return Ok(());
    }
    let own = take(w, h, kind, &Of::Container)?;
    let hidden = graph::metadata(w, h)?;
    if !hidden.is_null() {
        graph::set_metadata(w, h, Addr::NULL)?;
        graph::release(w, hidden, h)?;
    }
    match own {
        Some(word) => set(w, h, kind, &Of::Container, word),
        None => Ok(()),
    }
}

/// The records of a container that is being converted, without the table of times.
#[derive(Default)]
pub(super) struct Records {
    own: Option<Word>,
    items: Vec<(u64, Word)>,
}

/// Take all records out of a container that becomes a list, or was one. `index_of` gives the index that a key means.
pub(super) fn take_all<W: PagesMut>(
    w: &mut W,
    h: Addr,
    kind: Kind,
    index_of: fn(&Value) -> Result<u64>,
) -> Result<Records> {
    let mut records = Records::default();
    if graph::metadata(w, h)?.is_null() {
        return Ok(records);
    }
    set(w, h, kind, &Of::Times, Word::NONE)?;
    records.own = take(w, h, kind, &Of::Container)?;
    let hidden = graph::metadata(w, h)?;
    if hidden.is_null() {
        return Ok(records);
    }
    let mut words = Vec::new();
    if kind == Kind::List {
        while !list::drain(w, hidden, CHUNK, &mut words)? {}
        let items = words.into_iter().zip(0u64..).skip(BEFORE as usize);
        records.items = items
            .filter(|(word, _)| *word != Word::NONE)
            .map(|(word, at)| (at - BEFORE, word))
            .collect();
    } else {
        let mut cursor = 0;
        while let Some((next, key, word)) = entries::next(w, hidden, cursor)? {
            cursor = next;
            let key = match scalar::decode(w, key)? {
                Value::Bytes(key) => Value::Bytes(key[1..].into()),
                key => key,
            };
            records.items.push((index_of(&key)?, word));
        }
        while !entries::drain(w, hidden, CHUNK, &mut words)? {}
    }
    graph::set_metadata(w, h, Addr::NULL)?;
    graph::release(w, hidden, h)?;
    Ok(records)
}

/// Give the records back to the container, which was converted. `key_of` gives the key of an index, in a dict or
/// object.
pub(super) fn put_all<W: PagesMut>(
    w: &mut W,
    h: Addr,
    kind: Kind,
    records: Records,
    key_of: fn(Kind, u64) -> Value,
) -> Result<()> {
    if let Some(word) = records.own {
        set(w, h, kind, &Of::Container, word)?;
    }
    for (index, word) in records.items {
        if kind == Kind::List {
            set(w, h, kind, &Of::Index(index), word)?;
        } else {
            let key = key_of(kind, index);
            set(w, h, kind, &Of::Key(key.as_key()?), word)?;
        }
    }
    Ok(())
}
