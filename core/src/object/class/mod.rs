//! Objects: their classes, and their attributes (`attr`). Objects of a class keep attributes as bare values;
//! the class keeps one table of the names.
//!
//! A class is identified by its name (`module:qualname`, "" for generic objects). Class records are found
//! through a dict from name to record, whose header is referred to by `superblock::CLASSES`. They are never
//! freed, so their number is bounded by the number of classes ever used.
//!
//! Invariants:
//! 1. A name has one record. A record and the place of a name in its key table never change.
//! 2. The key table holds str keys of at most `NAME_MAX` bytes, each once, at most `KEYS_MAX`.
//!
//! The class dict is an ordinary dict body on a header of kind dict with id 0 that nothing refers to; its
//! values are ints: address of the record / 16.
//!
//! Class record:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 4 | `MAGIC` |
//! | 4 | 2 | names in the key table |
//! | 6 | 2 | room in the key table: 0 or 4, 8, 16, 32, 64 |
//! | 8 | 8 | the class's name: a word |
//! | 16 | 8 | address of the key table (0: none) |
//! | 24 | 8 | 0 |
//!
//! Key table with room for n (t = n rounded up to 8):
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | t | tags: the hash's top byte, 0 taken as 1 |
//! | t | 8 n | key words |

pub mod attr;

#[cfg(test)]
mod tests;

use super::dict::{self, put, word_in};
use super::header::{self, Kind};
use super::value::{In, Key, Value};
use super::word::{Tag, Word};
use super::{key, scalar};
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::page::access::{Pages, PagesMut};
use crate::page::superblock as sb;

/// Most names in a key table.
const KEYS_MAX: usize = 64;
/// Longest name in a key table, in bytes.
const NAME_MAX: usize = 255;
const SIZE: usize = 32;
const MAGIC: u32 = u32::from_le_bytes(*b"cLaS");

/// A checked class record.
#[derive(Clone, Copy)]
struct ClassRecord {
    at: Addr,
    keys: usize,
    room: usize,
    name: Word,
    table: Addr,
}

impl ClassRecord {
    #[inline]
    fn read<P: Pages>(p: &P, at: Addr) -> Result<ClassRecord> {
        let b = p.bytes(at, SIZE)?;
        let first = word_in(b, 0);
        let rec = ClassRecord {
            at,
            keys: (first >> 32 & 0xffff) as usize,
            room: (first >> 48) as usize,
            name: Word(word_in(b, 8)),
            table: Addr(word_in(b, 16)),
        };
        if first as u32 != MAGIC || rec.keys > rec.room || rec.room > KEYS_MAX {
            return Err(Error::corrupt(
                "no class record where an object refers to one",
                at,
            ));
        }
        Ok(rec)
    }

    fn first_word(keys: usize, room: usize) -> u64 {
        u64::from(MAGIC) | (keys as u64) << 32 | (room as u64) << 48
    }

    fn key_offset(&self, i: usize) -> usize {
        self.room.next_multiple_of(8) + i * 8
    }

    /// Return the tags and key words.
    #[inline]
    fn table<'p, P: Pages>(&self, p: &'p P) -> Result<&'p [u8]> {
        if self.room == 0 {
            return Ok(&[]);
        }
        p.bytes(self.table, self.key_offset(self.room))
    }

    /// Return the key word of a place in the table.
    fn key<P: Pages>(&self, p: &P, i: usize) -> Result<Word> {
        if i >= self.keys {
            return Err(Error::corrupt(
                "an attribute that its class does not know",
                self.at,
            ));
        }
        Ok(Word(word_in(self.table(p)?, self.key_offset(i))))
    }

    /// Return the place of a name.
    #[inline]
    fn find<P: Pages>(&self, p: &P, key: &Key<'_>, hash: u64) -> Result<Option<usize>> {
        let b = self.table(p)?;
        dict::scan_tags(b, self.keys, dict::tag(hash), |i| {
            let word = Word(word_in(b, self.key_offset(i)));
            Ok(key::eq(p, word, key)?.then_some(i))
        })
    }

    /// Add a name that is not in the table. Return its place; None if the table has no room for it.
    fn add<W: PagesMut>(&mut self, w: &mut W, key: &Key<'_>, hash: u64) -> Result<Option<usize>> {
        let Key::Str(text) = *key else {
            return Ok(None);
        };
        if self.keys == KEYS_MAX || text.len() > NAME_MAX {
            return Ok(None);
        }
        let word = key::encode(w, key)?;
        if self.keys == self.room {
            self.grow(w)?;
        }
        let i = self.keys;
        w.set_bytes(self.table + i as u64, &[dict::tag(hash)])?;
        w.set_u64(self.table + self.key_offset(i) as u64, word.0)?;
        self.keys += 1;
        w.set_u64(self.at, ClassRecord::first_word(self.keys, self.room))?;
        Ok(Some(i))
    }

    fn grow<W: PagesMut>(&mut self, w: &mut W) -> Result<()> {
        let bigger = ClassRecord {
            room: (self.room * 2).max(4),
            ..*self
        };
        let size = bigger.key_offset(bigger.room);
        let table = heap::alloc(w, size)?;
        let mut b = [0; 9 * KEYS_MAX];
        {
            let old = self.table(w)?;
            for i in 0..self.keys {
                b[i] = old[i];
                put(&mut b, bigger.key_offset(i), word_in(old, self.key_offset(i)));
            }
        }
        w.init(table, size)?.copy_from_slice(&b[..size]);
        if self.room != 0 {
            heap::free(w, self.table)?;
        }
        w.set_u64(self.at + 16, table.0)?;
        w.set_u64(self.at, ClassRecord::first_word(self.keys, bigger.room))?;
        *self = ClassRecord { table, ..bigger };
        Ok(())
    }
}

/// Return the record of a class. Create it if the class has none.
pub fn record<W: PagesMut>(w: &mut W, name: &str) -> Result<Addr> {
    let classes = match Addr(w.u64_at(sb::CLASSES)?) {
        Addr::NULL => {
            let at = heap::alloc(w, header::SIZE)?;
            let b = w.init(at, header::SIZE)?;
            b.fill(0);
            b[0] = Kind::Dict as u8;
            w.set_u64(sb::CLASSES, at.0)?;
            at
        }
        at => at,
    };
    let key = Key::Str(name.as_bytes());
    if let Some(word) = dict::get(w, classes, &key)? {
        return record_of(word, classes);
    }
    let word = scalar::encode(w, &In::str(name))?;
    let at = heap::alloc(w, SIZE)?;
    let b = w.init(at, SIZE)?;
    b.fill(0);
    put(b, 0, ClassRecord::first_word(0, 0));
    put(b, 8, word.0);
    let value = Word::int((at.0 / 16) as i64).ok_or_else(|| Error::corrupt("an impossible address", at))?;
    dict::set(w, classes, &key, value)?;
    Ok(at)
}

/// Return the address of the record that a word of the class dict refers to.
pub fn record_of(word: Word, classes: Addr) -> Result<Addr> {
    if word.is_float() || word.tag() != Tag::Int || !(1..1 << 44).contains(&word.as_int()) {
        return Err(Error::corrupt("a class table without an address", classes));
    }
    Ok(Addr(word.as_int() as u64 * 16))
}

/// Return the name of the class with this record.
pub fn name<P: Pages>(p: &P, record: Addr) -> Result<String> {
    let rec = ClassRecord::read(p, record)?;
    match scalar::decode(p, rec.name)? {
        Value::Str { bytes, .. } => String::from_utf8(bytes.to_vec())
            .map_err(|_| Error::corrupt("a class name that is not valid text", record)),
        _ => Err(Error::corrupt("a class name that is no str", record)),
    }
}

/// Return whether a class record has this name.
pub fn is_named<P: Pages>(p: &P, record: Addr, name: &str) -> Result<bool> {
    key::eq(p, ClassRecord::read(p, record)?.name, &Key::Str(name.as_bytes()))
}

/// Return the record after `cursor` (0: the first) in order of creation, and its cursor; for the checker.
pub fn next_record<P: Pages>(p: &P, cursor: u64) -> Result<Option<(u64, Addr)>> {
    let classes = Addr(p.u64_at(sb::CLASSES)?);
    if classes.is_null() {
        return Ok(None);
    }
    match dict::next(p, classes, cursor)? {
        Some((cursor, _, word)) => Ok(Some((cursor, record_of(word, classes)?))),
        None => Ok(None),
    }
}

/// Check a class record, and call `segment` with its segments and those of its scalars; for the checker. The
/// class dict itself is a dict body: see `dict::verify`.
pub fn verify_record<P: Pages>(
    p: &P,
    record: Addr,
    segment: &mut dyn FnMut(Addr, usize) -> Result<()>,
) -> Result<()> {
    let rec = ClassRecord::read(p, record)?;
    segment(record, SIZE)?;
    name(p, record)?;
    scalar::segments(p, rec.name, segment)?;
    if rec.room == 0 {
        return Ok(());
    }
    let b = rec.table(p)?;
    segment(rec.table, b.len())?;
    for (i, &tag) in b.iter().enumerate().take(rec.keys) {
        let word = rec.key(p, i)?;
        let hash = key::hash_word(p, word)?;
        let text = key::short_text(p, word)?;
        let Some(text) = text.filter(|t| t.len() <= NAME_MAX) else {
            return Err(Error::corrupt(
                "a class key table with a key that cannot be there",
                record,
            ));
        };
        if tag != dict::tag(hash) || rec.find(p, &Key::Str(&text), hash)? != Some(i) {
            return Err(Error::corrupt(
                "a class key table that contradicts itself",
                record,
            ));
        }
        scalar::segments(p, word, segment)?;
    }
    Ok(())
}
