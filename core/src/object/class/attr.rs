//! The attributes of objects: `dict`'s functions for containers of kind object. A header's `CLASS_OR_LEN` is
//! the class record.
//!
//! Two forms:
//! - *shared*: the body is a bare array of value words, `header::FORM` of them. Word i belongs to name i of
//!   the class's key table, 0 means that the attribute does not exist. A cursor is i + 1.
//! - *unshared* (`header::UNSHARED`): the object has a dict body of its own.
//!
//! Invariants:
//! 1. In the shared form the order of the key table is the order of insertion: a new attribute gets a higher
//!    place than every existing one, or the object leaves the shared form. Its cursors become sequence
//!    numbers then.
//! 2. A shared body holds at least one attribute; it is freed with the last one.

mod known;
mod walk;

pub use known::{Known, locate_known, word_known};
pub use walk::{salvage, verify};

use super::{ClassRecord, KEYS_MAX, record};
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::dict::{self, DictEntry, Scan, put, word_in};
use crate::object::header::{self, Kind};
use crate::object::key;
use crate::object::value::Key;
use crate::object::word::Word;
use crate::page::access::{Pages, PagesMut};

/// The first sequence number after all cursors of the shared form.
const NEXT_SEQ: u64 = KEYS_MAX as u64 + 1;

/// The attribute fields of a header.
#[derive(Clone, Copy)]
struct Head {
    h: Addr,
    shared: bool,
    flags: u8,
    words: usize,
    body: Addr,
    class: Addr,
}

impl Head {
    #[inline]
    fn read<P: Pages>(p: &P, h: Addr) -> Result<Head> {
        let b = p.bytes(h, header::SIZE)?;
        let form = u16::from_le_bytes([b[header::FORM as usize], b[header::FORM as usize + 1]]);
        let head = Head {
            h,
            shared: b[1] & header::UNSHARED == 0,
            flags: b[1],
            words: usize::from(form),
            body: Addr(word_in(b, header::BODY as usize)),
            class: Addr(word_in(b, header::CLASS_OR_LEN as usize)),
        };
        if b[0] != Kind::Object as u8 {
            return Err(Error::corrupt("no object where one is referred to", h));
        }
        if head.shared && head.words > heap::MAX_SEGMENT / 8 {
            return Err(Error::corrupt("an object body of an impossible size", h));
        }
        Ok(head)
    }

    /// Return the words of a shared body.
    #[inline]
    fn values<'p, P: Pages>(&self, p: &'p P) -> Result<&'p [u8]> {
        if self.words == 0 {
            Ok(&[])
        } else {
            p.bytes(self.body, self.words * 8)
        }
    }

    /// Return the value at a place of the key table.
    #[inline]
    fn value<P: Pages>(&self, p: &P, i: usize) -> Result<Word> {
        if i >= self.words {
            return Ok(Word::EMPTY);
        }
        Ok(Word(p.u64_at(self.body + i as u64 * 8)?))
    }

    /// Return the places and values of the existing attributes, in order.
    fn present<P: Pages>(&self, p: &P) -> Result<impl DoubleEndedIterator<Item = (usize, Word)>> {
        let b = self.values(p)?;
        Ok((0..self.words)
            .map(|i| (i, Word(word_in(b, i * 8))))
            .filter(|(_, v)| !v.is_empty()))
    }

    /// Return the address of an attribute's value word in the shared form, and the word.
    #[inline]
    fn locate<P: Pages>(&self, p: &P, key: &Key<'_>, hash: u64) -> Result<Option<(Addr, Word)>> {
        if self.words == 0 {
            return Ok(None);
        }
        let Some(i) = ClassRecord::read(p, self.class)?.find(p, key, hash)? else {
            return Ok(None);
        };
        let value = self.value(p, i)?;
        Ok((!value.is_empty()).then_some((self.body + i as u64 * 8, value)))
    }

    fn set_body<W: PagesMut>(&mut self, w: &mut W, words: usize, body: Addr) -> Result<()> {
        w.set_bytes(self.h + header::FORM, &(words as u16).to_le_bytes())?;
        w.set_u64(self.h + header::BODY, body.0)?;
        (self.words, self.body) = (words, body);
        Ok(())
    }

    fn set_shared<W: PagesMut>(&mut self, w: &mut W, shared: bool) -> Result<()> {
        let flags = if shared {
            self.flags & !header::UNSHARED
        } else {
            self.flags | header::UNSHARED
        };
        (self.shared, self.flags) = (shared, flags);
        w.set_bytes(self.h + 1, &[flags])
    }
}

/// Return the value word of an attribute.
#[inline]
pub fn get<P: Pages>(p: &P, h: Addr, key: &Key<'_>) -> Result<Option<Word>> {
    get_hashed(p, h, key, key::hash(p.hash_seed(), key))
}

/// Return the value word of an attribute whose hash is known.
#[inline]
pub fn get_hashed<P: Pages>(p: &P, h: Addr, key: &Key<'_>, hash: u64) -> Result<Option<Word>> {
    let head = Head::read(p, h)?;
    if !head.shared {
        return dict::get_hashed(p, h, key, hash);
    }
    Ok(head.locate(p, key, hash)?.map(|(_, value)| value))
}

/// Return the address of an attribute's value word, and the word.
#[inline]
pub fn locate<P: Pages>(p: &P, h: Addr, key: &Key<'_>, hash: u64) -> Result<Option<(Addr, Word)>> {
    let head = Head::read(p, h)?;
    if !head.shared {
        return dict::locate(p, h, key, hash);
    }
    head.locate(p, key, hash)
}

/// Return the stored key word and the value word of an attribute.
pub fn get_key_value<P: Pages>(p: &P, h: Addr, key: &Key<'_>, hash: u64) -> Result<Option<(Word, Word)>> {
    let head = Head::read(p, h)?;
    if !head.shared {
        return dict::get_key_value(p, h, key, hash);
    }
    let rec = ClassRecord::read(p, head.class)?;
    let Some(i) = rec.find(p, key, hash)? else {
        return Ok(None);
    };
    let value = head.value(p, i)?;
    Ok(if value.is_empty() {
        None
    } else {
        Some((rec.key(p, i)?, value))
    })
}

/// Store an attribute. Return the displaced word.
pub fn set<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>, value: Word) -> Result<Option<Word>> {
    let hash = key::hash(w.hash_seed(), key);
    set_hashed(w, h, key, hash, value)
}

/// Store an attribute whose hash is known. Replacing a value is one logged 8-byte store.
pub fn set_hashed<W: PagesMut>(
    w: &mut W,
    h: Addr,
    key: &Key<'_>,
    hash: u64,
    value: Word,
) -> Result<Option<Word>> {
    if !matches!(key, Key::Str(_)) {
        return Err(Error::WrongKind {
            what: "the name of an attribute must be a str",
        });
    }
    if value.is_empty() {
        return Err(Error::invalid("an empty word cannot be stored in an object"));
    }
    let mut head = Head::read(w, h)?;
    if !head.shared && head.words == 0 && head.body.is_null() {
        // The object was emptied since it left the shared form: it may use that form again.
        head.set_shared(w, true)?;
    }
    if !head.shared {
        return dict::set_hashed(w, h, key, hash, value);
    }
    let mut rec = ClassRecord::read(w, head.class)?;
    let place = rec.find(w, key, hash)?;
    if let Some(i) = place {
        let old = head.value(w, i)?;
        if !old.is_empty() {
            w.set_value(head.body + i as u64 * 8, value.0)?;
            return Ok(Some(old));
        }
    }
    let last = head.present(w)?.next_back().map(|(i, _)| i);
    let place = match place {
        None => rec.add(w, key, hash)?,
        place => place,
    };
    match place {
        Some(i) if last.is_none_or(|last| last < i) => {
            put_new(w, &mut head, &rec, i, value)?;
            Ok(None)
        }
        _ => {
            unshare(w, &mut head, &rec)?;
            dict::set_hashed(w, h, key, hash, value)
        }
    }
}

/// Store a value at an empty place, enlarging the body if needed.
fn put_new<W: PagesMut>(w: &mut W, head: &mut Head, rec: &ClassRecord, i: usize, value: Word) -> Result<()> {
    if i < head.words {
        return w.set_u64(head.body + i as u64 * 8, value.0);
    }
    // Objects of a class tend to get the same attributes: make room for all of them at once, if there are
    // few.
    let room = (i + 1).max(rec.keys.min((2 * head.words).max(8)));
    let at = heap::alloc(w, room * 8)?;
    let words = (heap::size_of(w, at)? / 8).min(KEYS_MAX);
    let mut b = [0; 8 * KEYS_MAX];
    {
        let old = head.values(w)?;
        let n = old.len().min(b.len());
        b[..n].copy_from_slice(&old[..n]);
    }
    put(&mut b, i * 8, value.0);
    w.init(at, words * 8)?.copy_from_slice(&b[..words * 8]);
    if head.words != 0 {
        heap::free(w, head.body)?;
    }
    head.set_body(w, words, at)
}

/// Free a shared body. Return its attributes with copies of their keys.
fn take_shared<W: PagesMut>(w: &mut W, head: &mut Head, rec: &ClassRecord) -> Result<Vec<DictEntry>> {
    let present: Vec<(usize, Word)> = head.present(w)?.collect();
    let mut entries = Vec::with_capacity(present.len());
    for (i, value) in present {
        let Some(text) = key::short_text(w, rec.key(w, i)?)? else {
            return Err(Error::corrupt(
                "a class key table with a key that cannot be there",
                rec.at,
            ));
        };
        let key = key::encode(w, &Key::Str(&text))?;
        entries.push(DictEntry {
            seq: i as u64 + 1,
            key,
            value,
        });
    }
    if head.words != 0 {
        heap::free(w, head.body)?;
        head.set_body(w, 0, Addr::NULL)?;
    }
    Ok(entries)
}

/// Give the object a dict body of its own.
fn unshare<W: PagesMut>(w: &mut W, head: &mut Head, rec: &ClassRecord) -> Result<()> {
    let entries = take_shared(w, head, rec)?;
    head.set_shared(w, false)?;
    dict::adopt(w, head.h, &entries, NEXT_SEQ)
}

/// Remove an attribute. Return its value word.
pub fn remove<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>) -> Result<Option<Word>> {
    let hash = key::hash(w.hash_seed(), key);
    remove_hashed(w, h, key, hash)
}

/// Remove an attribute whose hash is known.
pub fn remove_hashed<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>, hash: u64) -> Result<Option<Word>> {
    let mut head = Head::read(w, h)?;
    if !head.shared {
        return dict::remove_hashed(w, h, key, hash);
    }
    let Some(i) = ClassRecord::read(w, head.class)?.find(w, key, hash)? else {
        return Ok(None);
    };
    let old = head.value(w, i)?;
    if old.is_empty() {
        return Ok(None);
    }
    remove_at(w, &mut head, i)?;
    Ok(Some(old))
}

fn remove_at<W: PagesMut>(w: &mut W, head: &mut Head, i: usize) -> Result<()> {
    if head.present(w)?.all(|(j, _)| j == i) {
        heap::free(w, head.body)?;
        return head.set_body(w, 0, Addr::NULL);
    }
    w.set_u64(head.body + i as u64 * 8, 0)
}

/// Return the attribute after a cursor (0: the first): its cursor, key and value.
pub fn next<P: Pages>(p: &P, h: Addr, cursor: u64) -> Result<Option<(u64, Word, Word)>> {
    let head = Head::read(p, h)?;
    if !head.shared {
        return dict::next(p, h, cursor);
    }
    shared_entry(p, &head, head.present(p)?.find(|(i, _)| *i as u64 >= cursor))
}

/// Return the attribute before a cursor (`u64::MAX`: the last).
pub fn prev<P: Pages>(p: &P, h: Addr, cursor: u64) -> Result<Option<(u64, Word, Word)>> {
    let head = Head::read(p, h)?;
    if !head.shared {
        return dict::prev(p, h, cursor);
    }
    shared_entry(
        p,
        &head,
        head.present(p)?.rfind(|(i, _)| (*i as u64) + 1 < cursor),
    )
}

fn shared_entry<P: Pages>(
    p: &P,
    head: &Head,
    found: Option<(usize, Word)>,
) -> Result<Option<(u64, Word, Word)>> {
    match found {
        Some((i, value)) => Ok(Some((
            i as u64 + 1,
            ClassRecord::read(p, head.class)?.key(p, i)?,
            value,
        ))),
        None => Ok(None),
    }
}

/// Return the number of attributes.
pub fn len<P: Pages>(p: &P, h: Addr) -> Result<u64> {
    let head = Head::read(p, h)?;
    if !head.shared {
        return dict::len(p, h);
    }
    Ok(head.present(p)?.count() as u64)
}

/// Remove up to `max` attributes; append their value words to `out`. Return true if none is left.
pub fn drain<W: PagesMut>(w: &mut W, h: Addr, max: usize, out: &mut Vec<Word>) -> Result<bool> {
    let mut head = Head::read(w, h)?;
    if !head.shared {
        return dict::drain(w, h, max, out);
    }
    let present: Vec<(usize, Word)> = head.present(w)?.take(max).collect();
    for (i, value) in present {
        remove_at(w, &mut head, i)?;
        out.push(value);
    }
    Ok(head.words == 0)
}

/// Return the key with this hash whose value is this container.
pub fn find_child<P: Pages>(p: &P, h: Addr, hash: u64, child: Addr) -> Result<Option<Word>> {
    let head = Head::read(p, h)?;
    if !head.shared {
        return dict::find_child(p, h, hash, child);
    }
    let wanted = Word::container(child);
    for (i, _) in head.present(p)?.filter(|(_, value)| *value == wanted) {
        let key = ClassRecord::read(p, head.class)?.key(p, i)?;
        if key::hash_word(p, key)? == hash {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// See `dict::scan_child`.
pub fn scan_child<P: Pages>(p: &P, h: Addr, child: Addr, cursor: u64, max: usize) -> Result<Scan> {
    dict::scan(child, cursor, max, |cursor| next(p, h, cursor))
}

/// Give an object another class. The attributes stay, in their order; cursors into an object in the shared
/// form restart.
pub fn set_class<W: PagesMut>(w: &mut W, h: Addr, name: &str) -> Result<()> {
    let mut head = Head::read(w, h)?;
    let class = record(w, name)?;
    if class == head.class {
        return Ok(());
    }
    if !head.shared {
        return w.set_u64(h + header::CLASS_OR_LEN, class.0);
    }
    let rec = ClassRecord::read(w, head.class)?;
    let entries = take_shared(w, &mut head, &rec)?;
    join(w, &mut head, class, &entries, NEXT_SEQ)
}

/// Convert a dict to an object, in place. Its keys must be str: `Error::WrongKind` otherwise. Reads every
/// key.
pub fn from_dict<W: PagesMut>(w: &mut W, h: Addr, name: &str) -> Result<()> {
    if header::kind(w, h)? != Kind::Dict {
        return Err(Error::WrongKind {
            what: "only a dict can become an object this way",
        });
    }
    let mut cursor = 0;
    while let Some((next, key, _)) = dict::next(w, h, cursor)? {
        if !key::is_text(w, key)? {
            return Err(Error::WrongKind {
                what: "a dict with keys that are not str cannot become an object",
            });
        }
        cursor = next;
    }
    let class = record(w, name)?;
    let entries = if dict::len(w, h)? <= KEYS_MAX as u64 {
        Some(dict::release(w, h)?)
    } else {
        None
    };
    // The object has a dict body for now, so that the form is never taken for a number of words.
    let flags = w.u8_at(h + 1)? | header::UNSHARED;
    w.set_bytes(h, &[Kind::Object as u8, flags])?;
    let mut head = Head::read(w, h)?;
    match entries {
        Some(entries) => join(w, &mut head, class, &entries, cursor.saturating_add(1)),
        None => w.set_u64(h + header::CLASS_OR_LEN, class.0),
    }
}

/// Convert an object to a dict, in place.
pub fn to_dict<W: PagesMut>(w: &mut W, h: Addr) -> Result<()> {
    let mut head = Head::read(w, h)?;
    let len = len(w, h)?;
    if head.shared {
        let rec = ClassRecord::read(w, head.class)?;
        unshare(w, &mut head, &rec)?;
    }
    head.set_shared(w, true)?;
    w.set_bytes(h, &[Kind::Dict as u8])?;
    w.set_u64(h + header::CLASS_OR_LEN, len)
}

/// Attach these attributes (whose keys belong to the object) to an object of a class: in the shared form if
/// their order allows it.
fn join<W: PagesMut>(
    w: &mut W,
    head: &mut Head,
    class: Addr,
    entries: &[DictEntry],
    next_seq: u64,
) -> Result<()> {
    w.set_u64(head.h + header::CLASS_OR_LEN, class.0)?;
    head.class = class;
    let mut rec = ClassRecord::read(w, class)?;
    let mut places = Vec::with_capacity(entries.len());
    for e in entries {
        let Some(text) = key::short_text(w, e.key)? else {
            break;
        };
        let key = Key::Str(&text);
        let hash = key::hash(w.hash_seed(), &key);
        let place = match rec.find(w, &key, hash)? {
            None => rec.add(w, &key, hash)?,
            place => place,
        };
        match place {
            Some(i) if places.last().is_none_or(|&last| last < i) => places.push(i),
            _ => break,
        }
    }
    if places.len() < entries.len() {
        head.set_shared(w, false)?;
        return dict::adopt(w, head.h, entries, next_seq);
    }
    head.set_shared(w, true)?;
    for (e, &i) in entries.iter().zip(&places) {
        put_new(w, head, &rec, i, e.value)?;
        key::free(w, e.key)?;
    }
    Ok(())
}
