//! Read containers.

use super::entry::{NO_KEYS, Spot, locate, lookup_key, reading, wants_list};
use crate::error::{Error, Result};
use crate::ids::{Addr, Obj};
use crate::object::class::attr::Known;
use crate::object::graph::{self, Place, Shown};
use crate::object::header::{self, Kind};
use crate::object::value::{Entry, Key, Large, Step, Value};
use crate::object::word::Word;
use crate::object::{blob, class as classes, entries, key as keys, list, scalar};
use crate::page::access::Pages;

/// The result of `open_handle`: the data from which a container's handle is made.
#[derive(Debug)]
pub struct HandleInfo {
    /// Its kind.
    pub kind: Kind,
    /// The class of an object, or of a dict or list that has one.
    pub class: Option<Class>,
    /// For an object: the location of its attributes, kept by its handle.
    pub known: Known,
}

/// A class, valid in the section that returned it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Class(pub(crate) Addr);

/// Items taken from a list at once.
const CHUNK: usize = 512;

/// See `Reader::kind`.
#[inline]
pub fn kind<P: Pages>(p: &P, obj: Obj) -> Result<Kind> {
    reading(p, obj)
}

/// See `Reader::len`.
#[inline]
pub fn len<P: Pages>(p: &P, obj: Obj) -> Result<u64> {
    let len = match reading(p, obj)? {
        Kind::List => list::len(p, obj.addr),
        Kind::Dict | Kind::Object => entries::len(p, obj.addr),
    }?;
    // Callers allocate room for this many.
    if len > p.words() {
        return Err(Error::corrupt("a container longer than the store", obj.addr));
    }
    Ok(len)
}

/// See `Reader::mtime`.
#[inline]
pub fn mtime<P: Pages>(p: &P, obj: Obj) -> Result<u64> {
    reading(p, obj)?;
    p.u64_at(obj.addr + header::MTIME)
}

/// See `Reader::refs`.
pub fn refs<P: Pages>(p: &P, obj: Obj) -> Result<u64> {
    reading(p, obj)?;
    graph::refs(p, obj.addr)
}

/// See `Reader::class`.
pub fn class<P: Pages>(p: &P, obj: Obj) -> Result<Option<String>> {
    let record = match reading(p, obj)? {
        Kind::Object => Addr(p.u64_at(obj.addr + header::CLASS_OR_LEN)?),
        Kind::Dict | Kind::List => graph::class(p, obj.addr)?,
    };
    if record.is_null() {
        return Ok(None);
    }
    classes::name(p, record).map(Some)
}

/// See `Reader::open_handle`.
pub fn open_handle<P: Pages>(p: &P, obj: Obj) -> Result<HandleInfo> {
    let kind = reading(p, obj)?;
    let known = Known::default();
    let class = match kind {
        Kind::Object => Some(Class(known.learn(p, obj)?)),
        Kind::Dict | Kind::List => Some(graph::class(p, obj.addr)?)
            .filter(|record| !record.is_null())
            .map(Class),
    };
    Ok(HandleInfo { kind, class, known })
}

/// See `Reader::class_name`.
pub fn class_name<P: Pages>(p: &P, class: Class) -> Result<String> {
    classes::name(p, class.0)
}

/// See `Reader::class_is`.
pub fn class_is<P: Pages>(p: &P, class: Class, name: &str) -> Result<bool> {
    classes::is_named(p, class.0, name)
}

/// See `Reader::home`.
pub fn home<P: Pages>(p: &P, obj: Obj) -> Result<Option<(Obj, Step)>> {
    reading(p, obj)?;
    let Some(Shown { parent, place }) = graph::shown_home(p, obj.addr)? else {
        return Ok(None);
    };
    // An open transaction may be moving the container to or from this parent.
    let parent = header::obj(p, parent)?;
    p.reading(parent.id)?;
    let step = match place {
        Place::Key(word) => Step::Key(scalar::decode(p, word)?),
        Place::Index(i) => Step::Index(i),
        // No index; `list_of_waiting` tells it from an item.
        Place::Hidden => Step::Index(u64::MAX),
    };
    Ok(Some((parent, step)))
}

/// See `Reader::is_home`.
pub fn is_home<P: Pages>(p: &P, obj: Obj, parent: Obj, step: &Step) -> Result<bool> {
    reading(p, obj)?;
    let kind = reading(p, parent)?;
    let spot = Spot::of(kind, step, p.hash_seed())?;
    if word_at(p, parent.addr, &spot)? != Some(Word::container(obj.addr)) {
        return Ok(false);
    }
    let Some(shown) = graph::shown_home(p, obj.addr)? else {
        return Ok(false);
    };
    if shown.parent != parent.addr {
        p.reading(header::obj(p, shown.parent)?.id)?;
        return Ok(false);
    }
    match (shown.place, &spot) {
        (Place::Key(word), Spot::Key(key, _)) => keys::eq(p, word, key),
        (Place::Index(a), Spot::Index(b)) => Ok(a == *b),
        _ => Ok(false),
    }
}

/// Return the word of an entry.
pub(super) fn word_at<P: Pages>(p: &P, h: Addr, spot: &Spot<'_>) -> Result<Option<Word>> {
    match spot {
        Spot::Key(key, hash) => entries::get_hashed(p, h, key, *hash),
        Spot::Index(i) => list::get(p, h, *i),
    }
}

#[inline]
pub(super) fn lookup<P: Pages>(p: &P, obj: Obj, key: &Key<'_>) -> Result<Option<Word>> {
    let cached = lookup_key(obj, key);
    if let Some(cached) = cached
        && let Some([at, _]) = p.lookups().find(cached)
    {
        // The structure is unchanged, so container and entry are where they were.
        p.reading(obj.id)?;
        return Ok(Some(Word(p.u64_at(Addr(at))?)));
    }
    let kind = reading(p, obj)?;
    let hash = keys::hash(p.hash_seed(), key);
    let found = locate(p, kind, obj, key, hash)?;
    if let (Some(cached), Some((at, _))) = (cached, found) {
        p.lookups().insert(cached, [at.0, hash], || p.holds());
    }
    Ok(found.map(|(_, word)| word))
}

/// Return the address of an item; a negative index counts from the end.
#[inline]
pub(super) fn item_at<P: Pages>(p: &P, obj: Obj, index: i64) -> Result<Option<u64>> {
    wants_list(reading(p, obj)?)?;
    if index >= 0 {
        return Ok(Some(index as u64));
    }
    Ok(list::len(p, obj.addr)?.checked_sub(index.unsigned_abs()))
}

/// See `Reader::get`.
#[inline]
pub fn get<P: Pages>(p: &P, obj: Obj, key: &Key<'_>) -> Result<Option<Value>> {
    lookup(p, obj, key)?
        .map(|word| scalar::decode(p, word))
        .transpose()
}

/// See `Reader::word`.
#[inline]
pub fn word<P: Pages>(p: &P, obj: Obj, key: &Key<'_>) -> Result<Option<Word>> {
    lookup(p, obj, key)
}

/// See `Reader::item_word`.
#[inline]
pub fn item_word<P: Pages>(p: &P, obj: Obj, index: u64) -> Result<Option<Word>> {
    wants_list(reading(p, obj)?)?;
    list::get(p, obj.addr, index)
}

/// See `Reader::contains`.
#[inline]
pub fn contains<P: Pages>(p: &P, obj: Obj, key: &Key<'_>) -> Result<bool> {
    Ok(lookup(p, obj, key)?.is_some())
}

/// See `Reader::next`.
pub fn next<P: Pages>(p: &P, obj: Obj, cursor: u64) -> Result<Option<Entry>> {
    if reading(p, obj)? == Kind::List {
        return Err(NO_KEYS);
    }
    entry(p, entries::next(p, obj.addr, cursor)?)
}

/// See `Reader::prev`.
pub fn prev<P: Pages>(p: &P, obj: Obj, cursor: u64) -> Result<Option<Entry>> {
    if reading(p, obj)? == Kind::List {
        return Err(NO_KEYS);
    }
    entry(p, entries::prev(p, obj.addr, cursor)?)
}

fn entry<P: Pages>(p: &P, found: Option<(u64, Word, Word)>) -> Result<Option<Entry>> {
    let Some((cursor, key, value)) = found else {
        return Ok(None);
    };
    Ok(Some(Entry {
        cursor,
        key: scalar::decode(p, key)?,
        value: scalar::decode(p, value)?,
    }))
}

/// See `Reader::item`.
#[inline]
pub fn item<P: Pages>(p: &P, obj: Obj, index: u64) -> Result<Option<Value>> {
    wants_list(reading(p, obj)?)?;
    list::get(p, obj.addr, index)?
        .map(|word| scalar::decode(p, word))
        .transpose()
}

/// See `Reader::items`.
pub fn items<P: Pages>(p: &P, obj: Obj, start: u64, max: usize, out: &mut Vec<Value>) -> Result<()> {
    wants_list(reading(p, obj)?)?;
    let mut words = Vec::new();
    let (mut at, mut left) = (start, max);
    while left > 0 {
        words.clear();
        list::scan(p, obj.addr, at, left.min(CHUNK), &mut words)?;
        if words.is_empty() {
            break;
        }
        (at, left) = (at + words.len() as u64, left - words.len());
        for &word in &words {
            out.push(scalar::decode(p, word)?);
        }
    }
    Ok(())
}

/// See `Reader::size`.
pub fn size<P: Pages>(p: &P, obj: Obj, step: &Step) -> Result<Option<u64>> {
    let kind = reading(p, obj)?;
    let spot = Spot::of(kind, step, p.hash_seed())?;
    match word_at(p, obj.addr, &spot)? {
        Some(word) => scalar::byte_len(p, word),
        None => Ok(None),
    }
}

/// See `Reader::large_name`.
pub fn large_name<P: Pages>(p: &P, large: &Large) -> Result<Box<str>> {
    blob::large_read(p, large, 0, &mut [])?;
    scalar::large_name(p, large.addr)
}

/// See `Reader::large_read`.
pub fn large_read<P: Pages>(p: &P, large: &Large, offset: u64, buf: &mut [u8]) -> Result<usize> {
    blob::large_read(p, large, offset, buf)
}
