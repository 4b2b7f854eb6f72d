//! Back references: which containers refer to a container, besides its home. They make it possible to find
//! another home, and to decide upward whether anything still reaches a container.
//!
//! The EXTRA word of a container's header (or the word in its `annex`) is null while no container but the home
//! refers to it, and the home once. Otherwise it refers to one of two forms, distinguished by their first byte.
//!
//! Invariants:
//! 1. A parent that refers to a container n times is listed with the count n; the home with n - 1. Parents
//!    with the count 0 are not listed.
//! 2. Up to `FEW` parents are an array; more are a dict (its key is the parent's address / 16), so that the
//!    cost of a reference does not grow with their number, up to a million and more.
//!
//! The array:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 1 | `FORM` |
//! | 1 | 1 | number of parents |
//! | 2 | 1 | capacity |
//! | 16 | 16 * capacity | parents: address (8), count (8) |
//!
//! The dict: a container header (`header`) of the kind dict with the id 0.

use super::annex::backs_word;
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::dict;
use crate::object::header::{self, Kind};
use crate::object::value::Key;
use crate::object::word::{Tag, Word};
use crate::page::access::{Pages, PagesMut};

const FORM: u8 = b'B';
const ENTRIES: u64 = 16;
const ENTRY: u64 = 16;
/// Parents in the largest array (few in tests, to cover both forms).
const FEW: usize = if cfg!(test) { 6 } else { 30 };

/// The array's head.
#[derive(Clone, Copy)]
struct Array {
    at: Addr,
    n: usize,
    cap: usize,
}

enum Form {
    None,
    Array(Array),
    Dict(Addr),
}

impl Array {
    fn entry(self, i: usize) -> Addr {
        self.at + ENTRIES + ENTRY * i as u64
    }

    fn head(n: usize, cap: usize) -> u64 {
        u64::from(FORM) | (n as u64) << 8 | (cap as u64) << 16
    }

    /// Return the position and count of a parent.
    fn find<P: Pages>(self, p: &P, parent: Addr) -> Result<Option<(usize, u64)>> {
        let bytes = p.bytes(self.entry(0), ENTRY as usize * self.n)?;
        for (i, e) in bytes.chunks_exact(ENTRY as usize).enumerate() {
            if le(e, 0) == parent.0 {
                return Ok(Some((i, le(e, 8))));
            }
        }
        Ok(None)
    }
}

fn le(b: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&b[at..at + 8]);
    u64::from_le_bytes(word)
}

fn form<P: Pages>(p: &P, c: Addr) -> Result<Form> {
    let word = backs_word(p, c)?;
    let at = Addr(p.u64_at(word)?);
    if at.is_null() {
        return Ok(Form::None);
    }
    let head = p.u64_at(at)?;
    let (n, cap) = ((head >> 8 & 0xFF) as usize, (head >> 16 & 0xFF) as usize);
    match head as u8 {
        FORM if n <= cap && cap <= FEW => Ok(Form::Array(Array { at, n, cap })),
        b if b == Kind::Dict as u8 => Ok(Form::Dict(at)),
        _ => Err(Error::corrupt("back references in no known form", at)),
    }
}

fn key(parent: Addr) -> Key<'static> {
    Key::Int((parent.0 >> 4) as i64)
}

fn count_of(word: Word, at: Addr) -> Result<u64> {
    match u64::try_from(word.as_int()) {
        Ok(n) if n > 0 && !word.is_float() && word.tag() == Tag::Int => Ok(n),
        _ => Err(Error::corrupt("a back reference without a count", at)),
    }
}

fn count_word(n: u64) -> Result<Word> {
    i64::try_from(n)
        .ok()
        .and_then(Word::int)
        .ok_or_else(|| Error::invalid("too many references"))
}

/// Return the count of `parent` in the back references of `c`.
pub(super) fn count<P: Pages>(p: &P, c: Addr, parent: Addr) -> Result<u64> {
    match form(p, c)? {
        Form::None => Ok(0),
        Form::Array(a) => Ok(a.find(p, parent)?.map_or(0, |(_, n)| n)),
        Form::Dict(d) => match dict::get(p, d, &key(parent))? {
            Some(word) => count_of(word, d),
            None => Ok(0),
        },
    }
}

/// Add one reference from `parent`.
pub(super) fn add<W: PagesMut>(w: &mut W, c: Addr, parent: Addr) -> Result<()> {
    add_many(w, c, parent, 1)
}

fn add_many<W: PagesMut>(w: &mut W, c: Addr, parent: Addr, n: u64) -> Result<()> {
    let a = match form(w, c)? {
        Form::None => Array {
            at: Addr::NULL,
            n: 0,
            cap: 0,
        },
        Form::Array(a) => a,
        Form::Dict(d) => {
            let old = dict::get(w, d, &key(parent))?.map_or(Ok(0), |word| count_of(word, d))?;
            dict::set(w, d, &key(parent), count_word(old.saturating_add(n))?)?;
            return Ok(());
        }
    };
    if !a.at.is_null()
        && let Some((i, old)) = a.find(w, parent)?
    {
        return w.set_u64(a.entry(i) + 8, old.saturating_add(n));
    }
    if a.n < a.cap {
        w.set_bytes(a.entry(a.n), &entry(parent, n))?;
        return w.set_u64(a.at, Array::head(a.n + 1, a.cap));
    }
    let old = if a.at.is_null() {
        Vec::new()
    } else {
        w.bytes(a.entry(0), ENTRY as usize * a.n)?.to_vec()
    };
    let new = if a.n < FEW {
        let cap = 2 * a.cap + 2;
        let at = heap::alloc(w, (ENTRIES + ENTRY * cap as u64) as usize)?;
        let bytes = w.init(at, (ENTRIES as usize) + ENTRY as usize * (a.n + 1))?;
        bytes.fill(0);
        bytes[..8].copy_from_slice(&Array::head(a.n + 1, cap).to_le_bytes());
        bytes[16..16 + old.len()].copy_from_slice(&old);
        bytes[16 + old.len()..].copy_from_slice(&entry(parent, n));
        at
    } else {
        let d = heap::alloc(w, header::SIZE)?;
        let bytes = w.init(d, header::SIZE)?;
        bytes.fill(0);
        bytes[0] = Kind::Dict as u8;
        for e in old.chunks_exact(ENTRY as usize) {
            dict::set(w, d, &key(Addr(le(e, 0))), count_word(le(e, 8))?)?;
        }
        dict::set(w, d, &key(parent), count_word(n)?)?;
        d
    };
    let word = backs_word(w, c)?;
    w.set_u64(word, new.0)?;
    if a.at.is_null() {
        Ok(())
    } else {
        heap::free(w, a.at)
    }
}

fn entry(parent: Addr, n: u64) -> [u8; ENTRY as usize] {
    let mut e = [0; ENTRY as usize];
    e[..8].copy_from_slice(&parent.0.to_le_bytes());
    e[8..].copy_from_slice(&n.to_le_bytes());
    e
}

/// Remove one reference from `parent`, which must exist.
pub(super) fn sub<W: PagesMut>(w: &mut W, c: Addr, parent: Addr) -> Result<()> {
    let missing = || Error::corrupt("a reference that is not among the back references", c);
    match form(w, c)? {
        Form::None => Err(missing()),
        Form::Array(a) => {
            let (i, n) = a.find(w, parent)?.ok_or_else(missing)?;
            if n > 1 {
                return w.set_u64(a.entry(i) + 8, n - 1);
            }
            if a.n == 1 {
                let word = backs_word(w, c)?;
                w.set_u64(word, 0)?;
                return heap::free(w, a.at);
            }
            if i + 1 < a.n {
                let last = w.bytes(a.entry(a.n - 1), ENTRY as usize)?.to_vec();
                w.set_bytes(a.entry(i), &last)?;
            }
            w.set_u64(a.at, Array::head(a.n - 1, a.cap))
        }
        Form::Dict(d) => {
            let word = dict::get(w, d, &key(parent))?.ok_or_else(missing)?;
            let n = count_of(word, d)?;
            if n > 1 {
                dict::set(w, d, &key(parent), count_word(n - 1)?)?;
                return Ok(());
            }
            dict::remove(w, d, &key(parent))?;
            if dict::len(w, d)? > 0 {
                return Ok(());
            }
            free(w, c)
        }
    }
}

/// Free the back references of a container that is being freed (only a damaged file has any left).
pub(super) fn free<W: PagesMut>(w: &mut W, c: Addr) -> Result<()> {
    let at = match form(w, c)? {
        Form::None => return Ok(()),
        Form::Array(a) => a.at,
        Form::Dict(d) => {
            let mut words = Vec::new();
            while !dict::drain(w, d, 1024, &mut words)? {
                words.clear();
            }
            d
        }
    };
    let word = backs_word(w, c)?;
    w.set_u64(word, 0)?;
    heap::free(w, at)
}

/// Return the parent after `cursor` (0: the first), and advance the cursor. None at the end.
pub(super) fn next<P: Pages>(p: &P, c: Addr, cursor: &mut u64) -> Result<Option<(Addr, u64)>> {
    match form(p, c)? {
        Form::None => Ok(None),
        Form::Array(a) => {
            let i = *cursor as usize;
            if i >= a.n {
                return Ok(None);
            }
            *cursor += 1;
            Ok(Some((Addr(p.u64_at(a.entry(i))?), p.u64_at(a.entry(i) + 8)?)))
        }
        Form::Dict(d) => {
            let Some((at, key, word)) = dict::next(p, d, *cursor)? else {
                return Ok(None);
            };
            *cursor = at;
            if key.is_float() || key.tag() != Tag::Int {
                return Err(Error::corrupt("a back reference without an address", d));
            }
            Ok(Some((Addr((key.as_int() as u64) << 4), count_of(word, d)?)))
        }
    }
}

/// Return the segments of the back references themselves, for the checker: the array, or the dict's header
/// (its body belongs to the dict module).
pub(super) fn segment<P: Pages>(p: &P, c: Addr) -> Result<Option<(Addr, bool)>> {
    Ok(match form(p, c)? {
        Form::None => None,
        Form::Array(a) => Some((a.at, false)),
        Form::Dict(d) => Some((d, true)),
    })
}
