//! Dict keys: their hash, their equality and their stored form.
//!
//! The hash is published: it is XXH3 (64 bits) of the bytes below, with the store's seed xored with the
//! constant of the type. It is part of the file format and never changes. Equal keys have equal hashes, so
//! numbers are first normalized: a bool is the int 0 or 1, a float with an integral value is that int (-0.0
//! is 0), and an int that fits 64 bits takes the short form.
//!
//! | KEY | SEED XOR | BYTES |
//! | --- | --- | --- |
//! | str | 0 | UTF-8, a surrogate as its three bytes |
//! | bytes | 0x9E3779B97F4A7C15 | the bytes |
//! | int of 64 bits, bool, integral float | 0xC2B2AE3D27D4EB4F | 8 bytes, little-endian, two's complement |
//! | bigger int >= 0, bigger integral float | 0x165667B19E3779F9 | magnitude, little-endian, without trailing zeros |
//! | the same below 0 | 0x27D4EB2F165667C5 | the same |
//! | other float (fractions, infinities, NaN) | 0x85EBCA77C2B2AE63 | the 8 bytes of its bits, little-endian |
//! | None | 0xFF51AFD7ED558CCD | none |
//! | value of another type that equals a number | that number's | that number's |
//! | value of another type with a form (`canonical`) | 0xC4CEB9FE1A85EC53 | the form |
//! | other value of another type | 0x94D049BB133111EB | the name of the type, 0, the content |
//!
//! Equality is Python's, with one difference: a NaN equals a NaN of the same bits. A str never equals bytes,
//! and a number never equals a str.

mod order;

pub use order::{order, type_name};

use super::canonical::Form;
use super::scalar::{self, ScalarKind};
use super::value::{COPY_MAX, In, Key, LargeKind, Small, Typed, Value};
use super::word::{Tag, Word};
use super::{blob, canonical};
use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::page::access::{Pages, PagesMut};
#[cfg(not(test))]
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[cfg(test)]
pub(crate) use weak::{MASK, xxh3_64_with_seed};

const BYTES: u64 = 0x9E37_79B9_7F4A_7C15;
const INT: u64 = 0xC2B2_AE3D_27D4_EB4F;
const BIG: u64 = 0x1656_67B1_9E37_79F9;
const BIG_NEGATIVE: u64 = 0x27D4_EB2F_1656_67C5;
const FLOAT: u64 = 0x85EB_CA77_C2B2_AE63;
const NONE: u64 = 0xFF51_AFD7_ED55_8CCD;
const FORM: u64 = 0xC4CE_B9FE_1A85_EC53;
const TYPED: u64 = 0x94D0_49BB_1331_11EB;

/// Bytes of the longest integral double's magnitude.
const DOUBLE: usize = 128;

/// A number in normalized form, in which equal numbers are the same.
#[derive(Clone, Copy)]
enum Num<'a> {
    Int(i64),
    Big { negative: bool, magnitude: &'a [u8] },
    Float(u64),
}

impl Num<'_> {
    fn hash(self, seed: u64) -> u64 {
        match self {
            Num::Int(n) => hash_int(seed, n),
            Num::Big { negative, magnitude } => xxh3_64_with_seed(magnitude, seed ^ big(negative)),
            Num::Float(bits) => xxh3_64_with_seed(&bits.to_le_bytes(), seed ^ FLOAT),
        }
    }

    fn same(self, other: Num<'_>) -> bool {
        match (self, other) {
            (Num::Int(a), Num::Int(b)) => a == b,
            (Num::Float(a), Num::Float(b)) => a == b,
            (
                Num::Big { negative, magnitude },
                Num::Big {
                    negative: n,
                    magnitude: m,
                },
            ) => negative == n && magnitude == m,
            _ => false,
        }
    }
}

fn big(negative: bool) -> u64 {
    if negative { BIG_NEGATIVE } else { BIG }
}

#[inline]
fn hash_int(seed: u64, n: i64) -> u64 {
    xxh3_64_with_seed(&n.to_le_bytes(), seed ^ INT)
}

fn num_int(negative: bool, magnitude: &[u8]) -> Num<'_> {
    let len = magnitude.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    let magnitude = &magnitude[..len];
    let mut b = [0; 8];
    if let Some(low) = b.get_mut(..len) {
        low.copy_from_slice(magnitude);
        let n = i128::from(u64::from_le_bytes(b));
        if let Ok(n) = i64::try_from(if negative { -n } else { n }) {
            return Num::Int(n);
        }
    }
    Num::Big { negative, magnitude }
}

/// Return a float as a number; a big integral one has its magnitude in `buf`.
fn num_float(x: f64, buf: &mut [u8; DOUBLE]) -> Num<'_> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&x) {
        let n = x as i64;
        return if n as f64 == x {
            Num::Int(n)
        } else {
            Num::Float(x.to_bits())
        };
    }
    if !x.is_finite() {
        return Num::Float(x.to_bits());
    }
    // The magnitude is at least 2^63, so the float is integral: shift its 53 bits into place.
    let bits = x.to_bits();
    let shift = (bits >> 52 & 0x7ff) as usize - 1075;
    let mantissa = u128::from(bits & ((1 << 52) - 1) | 1 << 52) << (shift % 8);
    let bytes = mantissa.to_le_bytes();
    buf.fill(0);
    let end = (shift / 8 + 8).min(DOUBLE);
    buf[shift / 8..end].copy_from_slice(&bytes[..end - shift / 8]);
    num_int(x < 0.0, &buf[..])
}

/// Return the hash of a key.
#[inline]
#[must_use]
pub fn hash(seed: u64, key: &Key<'_>) -> u64 {
    match *key {
        Key::Str(text) => xxh3_64_with_seed(text, seed),
        Key::Bytes(bytes) => xxh3_64_with_seed(bytes, seed ^ BYTES),
        Key::Int(n) => hash_int(seed, n),
        Key::Bool(b) => hash_int(seed, i64::from(b)),
        Key::Float(x) => num_float(x, &mut [0; DOUBLE]).hash(seed),
        Key::BigInt { negative, magnitude } => num_int(negative, magnitude).hash(seed),
        Key::None => xxh3_64_with_seed(&[], seed ^ NONE),
        Key::Typed(typed) => hash_typed(seed, typed.name.as_bytes(), &typed.payload),
    }
}

/// What a typed value is compared by.
enum Compared {
    Number(Form),
    Form(Vec<u8>),
    Content,
}

impl Compared {
    #[cold]
    fn of(name: &[u8], content: &[u8]) -> Compared {
        match std::str::from_utf8(name)
            .ok()
            .and_then(|name| canonical::form(name, content))
        {
            Some(Form::Other(form)) => Compared::Form(form),
            Some(number) => Compared::Number(number),
            None => Compared::Content,
        }
    }

    /// Return the number that a form is.
    fn num(form: &Form) -> Option<Num<'_>> {
        match form {
            Form::Int(negative, magnitude) => Some(num_int(*negative, magnitude)),
            Form::Float(bits) => Some(Num::Float(*bits)),
            Form::Other(_) => None,
        }
    }
}

/// Return the hash of a typed value.
#[cold]
fn hash_typed(seed: u64, name: &[u8], content: &[u8]) -> u64 {
    match Compared::of(name, content) {
        Compared::Number(number) => Compared::num(&number).map_or(0, |num| num.hash(seed)),
        Compared::Form(form) => xxh3_64_with_seed(&form, seed ^ FORM),
        Compared::Content => xxh3_64_with_seed(&[name, b"\0", content].concat(), seed ^ TYPED),
    }
}

/// Return the hash of a stored key.
pub fn hash_word<P: Pages>(p: &P, word: Word) -> Result<u64> {
    let seed = p.hash_seed();
    if let Some(n) = inline_number(word, &mut [0; DOUBLE]) {
        return Ok(n.hash(seed));
    }
    match word.tag() {
        Tag::Str | Tag::Bytes => {
            let (b, n, _) = word.short_bytes();
            let salt = if word.tag() == Tag::Str { 0 } else { BYTES };
            Ok(xxh3_64_with_seed(&b[..n], seed ^ salt))
        }
        Tag::Scalar => match scalar::short_view(p, word)? {
            Some(view) => Ok(match view.kind {
                ScalarKind::Str => xxh3_64_with_seed(view.bytes, seed),
                ScalarKind::Bytes => xxh3_64_with_seed(view.bytes, seed ^ BYTES),
                ScalarKind::IntPositive => num_int(false, view.bytes).hash(seed),
                ScalarKind::IntNegative => num_int(true, view.bytes).hash(seed),
                ScalarKind::Float => segment_float(view.bytes, word.addr())?.hash(seed),
                ScalarKind::Link => return Err(not_a_key(word)),
                ScalarKind::Typed => {
                    let (name, content) = view.typed(word.addr())?;
                    hash_typed(seed, name, content)
                }
            }),
            None => hash_blob(p, word.addr(), seed),
        },
        Tag::Const if word == Word::NONE => Ok(xxh3_64_with_seed(&[], seed ^ NONE)),
        _ => Err(not_a_key(word)),
    }
}

fn hash_blob<P: Pages>(p: &P, at: Addr, seed: u64) -> Result<u64> {
    let salt = match blob::large(p, at)?.kind {
        LargeKind::Str { .. } => 0,
        LargeKind::Bytes => BYTES,
        LargeKind::Int { negative } => big(negative),
        LargeKind::Typed { .. } => match scalar::decode(p, Word::scalar(at))? {
            Value::Typed(typed) => return Ok(hash_typed(seed, typed.name.as_bytes(), &typed.payload)),
            _ => return Err(not_a_key(Word::scalar(at))),
        },
        LargeKind::Link => return Err(not_a_key(Word::scalar(at))),
    };
    let mut state = xxhash_rust::xxh3::Xxh3::with_seed(seed ^ salt);
    blob::for_each(p, at, |piece| {
        state.update(piece);
        true
    })?;
    #[cfg(test)]
    return Ok(state.digest() & MASK.get());
    #[cfg(not(test))]
    Ok(state.digest())
}

#[cold]
fn not_a_key(word: Word) -> Error {
    Error::corrupt("a dict key that cannot be one", Addr(word.0))
}

/// Return the number that the word itself holds, if it does.
#[inline]
fn inline_number(word: Word, buf: &mut [u8; DOUBLE]) -> Option<Num<'_>> {
    if word.is_float() {
        return Some(num_float(word.as_float(), buf));
    }
    match word {
        Word::FALSE => Some(Num::Int(0)),
        Word::TRUE => Some(Num::Int(1)),
        _ => (word.tag() == Tag::Int).then(|| Num::Int(word.as_int())),
    }
}

fn segment_float(bytes: &[u8], at: Addr) -> Result<Num<'static>> {
    match <[u8; 8]>::try_from(bytes) {
        Ok(bits) => Ok(Num::Float(u64::from_le_bytes(bits))),
        Err(_) => Err(Error::corrupt("a float of a wrong length", at)),
    }
}

/// Return whether a stored key equals a key.
#[inline]
pub fn eq<P: Pages>(p: &P, word: Word, key: &Key<'_>) -> Result<bool> {
    match *key {
        Key::Str(text) => match Word::str(text, 0) {
            // A short str has only one word; the mount's flag does not count.
            Some(inline) => Ok(inline == word || Word::str(text, super::word::NO_NEWLINE) == Some(word)),
            None => eq_bytes(p, word, text, ScalarKind::Str),
        },
        Key::Bytes(bytes) => match Word::bytes(bytes) {
            Some(inline) => Ok(inline == word),
            None => eq_bytes(p, word, bytes, ScalarKind::Bytes),
        },
        Key::None => Ok(word == Word::NONE),
        Key::Bool(b) => eq_num(p, word, Num::Int(i64::from(b))),
        Key::Int(n) => match Word::int(n) {
            Some(inline) if inline == word => Ok(true),
            _ => eq_num(p, word, Num::Int(n)),
        },
        Key::Float(x) => eq_num(p, word, num_float(x, &mut [0; DOUBLE])),
        Key::BigInt { negative, magnitude } => eq_num(p, word, num_int(negative, magnitude)),
        Key::Typed(typed) => eq_typed(p, word, typed),
    }
}

/// Return whether a stored key equals a typed value.
#[cold]
fn eq_typed<P: Pages>(p: &P, word: Word, key: &Typed) -> Result<bool> {
    match Compared::of(key.name.as_bytes(), &key.payload) {
        Compared::Number(number) => Compared::num(&number).map_or(Ok(false), |num| eq_num(p, word, num)),
        Compared::Form(form) => with_typed(p, word, |name, content| {
            name == key.name.as_bytes() && content == key.payload
                || matches!(Compared::of(name, content), Compared::Form(there) if there == form)
        }),
        Compared::Content => with_typed(p, word, |name, content| {
            name == key.name.as_bytes() && content == key.payload
        }),
    }
}

/// Call `f` with the name and content of a stored key; false for a key that is not a typed value.
fn with_typed<P: Pages>(p: &P, word: Word, f: impl FnOnce(&[u8], &[u8]) -> bool) -> Result<bool> {
    if word.is_float() || word.tag() != Tag::Scalar {
        return Ok(false);
    }
    match scalar::short_view(p, word)? {
        Some(view) if view.kind == ScalarKind::Typed => {
            let (name, content) = view.typed(word.addr())?;
            Ok(f(name, content))
        }
        Some(_) => Ok(false),
        None => match blob::large(p, word.addr())?.kind {
            LargeKind::Typed { .. } => match scalar::decode(p, word)? {
                Value::Typed(there) => Ok(f(there.name.as_bytes(), &there.payload)),
                _ => Ok(false),
            },
            _ => Ok(false),
        },
    }
}

/// Return whether a stored typed value is this number.
#[cold]
fn is_number<P: Pages>(p: &P, word: Word, key: Num<'_>) -> Result<bool> {
    with_typed(p, word, |name, content| match Compared::of(name, content) {
        Compared::Number(there) => Compared::num(&there).is_some_and(|there| there.same(key)),
        _ => false,
    })
}

#[inline]
fn eq_bytes<P: Pages>(p: &P, word: Word, bytes: &[u8], kind: ScalarKind) -> Result<bool> {
    if word.is_float() || word.tag() != Tag::Scalar {
        return Ok(false);
    }
    match scalar::short_view(p, word)? {
        Some(view) => Ok(view.kind == kind && view.bytes == bytes),
        None => {
            let same_kind = match blob::large(p, word.addr())?.kind {
                LargeKind::Str { .. } => kind == ScalarKind::Str,
                LargeKind::Bytes => kind == ScalarKind::Bytes,
                LargeKind::Int { .. } | LargeKind::Link | LargeKind::Typed { .. } => false,
            };
            Ok(same_kind && blob::equals(p, word.addr(), bytes)?)
        }
    }
}

fn eq_num<P: Pages>(p: &P, word: Word, key: Num<'_>) -> Result<bool> {
    if let Some(n) = inline_number(word, &mut [0; DOUBLE]) {
        return Ok(n.same(key));
    }
    if word.tag() != Tag::Scalar {
        return Ok(false);
    }
    match scalar::short_view(p, word)? {
        Some(view) => Ok(match view.kind {
            ScalarKind::IntPositive => num_int(false, view.bytes).same(key),
            ScalarKind::IntNegative => num_int(true, view.bytes).same(key),
            ScalarKind::Float => segment_float(view.bytes, word.addr())?.same(key),
            ScalarKind::Typed => return is_number(p, word, key),
            ScalarKind::Str | ScalarKind::Bytes | ScalarKind::Link => false,
        }),
        None => match (blob::large(p, word.addr())?.kind, key) {
            (
                LargeKind::Int { negative },
                Num::Big {
                    negative: n,
                    magnitude,
                },
            ) if negative == n => blob::equals(p, word.addr(), magnitude),
            (LargeKind::Typed { .. }, _) => is_number(p, word, key),
            _ => Ok(false),
        },
    }
}

/// Return the word of a key. A key that does not fit the word is written to newly allocated memory.
pub fn encode<W: PagesMut>(w: &mut W, key: &Key<'_>) -> Result<Word> {
    let value = match *key {
        Key::None => In::None,
        Key::Bool(b) => In::Bool(b),
        Key::Int(n) => In::Int(n),
        Key::BigInt { negative, magnitude } => In::BigInt { negative, magnitude },
        Key::Float(x) => In::Float(x),
        Key::Str(bytes) => In::Str {
            bytes,
            no_newline: false,
        },
        Key::Bytes(bytes) => In::Bytes(bytes),
        // Hashing and comparing it takes the whole of it.
        Key::Typed(typed) if typed.payload.len() > COPY_MAX => {
            return Err(Error::invalid("the key is too long (64 KiB at most)"));
        }
        Key::Typed(typed) => In::Typed(typed),
    };
    scalar::encode(w, &value)
}

/// Free a stored key's scalar.
pub fn free<W: PagesMut>(w: &mut W, word: Word) -> Result<()> {
    scalar::free(w, word)
}

/// Return the text of a stored key that is a str of at most one segment; None for all other keys.
pub fn short_text<P: Pages>(p: &P, word: Word) -> Result<Option<Small>> {
    if word.is_float() {
        return Ok(None);
    }
    match word.tag() {
        Tag::Str => {
            let (b, n, _) = word.short_bytes();
            Ok(Some(Small::from_slice(&b[..n])))
        }
        Tag::Scalar => Ok(scalar::short_view(p, word)?
            .filter(|view| view.kind == ScalarKind::Str)
            .map(|view| Small::from_slice(view.bytes))),
        _ => Ok(None),
    }
}

/// Return whether a stored key is a str.
pub fn is_text<P: Pages>(p: &P, word: Word) -> Result<bool> {
    if word.is_float() {
        return Ok(false);
    }
    match word.tag() {
        Tag::Str => Ok(true),
        Tag::Scalar => match scalar::short_view(p, word)? {
            Some(view) => Ok(view.kind == ScalarKind::Str),
            None => Ok(matches!(blob::large(p, word.addr())?.kind, LargeKind::Str { .. })),
        },
        _ => Ok(false),
    }
}

/// For tests of collisions: the hash with some bits masked out.
#[cfg(test)]
mod weak {
    thread_local! {
        pub(crate) static MASK: std::cell::Cell<u64> = const { std::cell::Cell::new(u64::MAX) };
    }

    pub(crate) fn xxh3_64_with_seed(bytes: &[u8], seed: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed) & MASK.get()
    }
}

#[cfg(test)]
mod tests;
