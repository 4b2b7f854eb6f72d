//! Scalars in memory: from a value to its word and back. A scalar that does not fit the word is a segment of
//! its own, or, if it is longer than a segment, a blob (`blob`).
//!
//! Invariants:
//! 1. Each value has one form: what fits the word is in the word; an int in a segment does not fit the word,
//!    and its magnitude has no trailing zero bytes; only content longer than `SHORT_MAX` is a blob.
//! 2. A str is generalized UTF-8: UTF-8 with any surrogate (U+D800 to U+DFFF), paired or not, as its three
//!    bytes. It is checked when it is stored and, if the whole is copied, when it is read.
//! 3. The name of a typed value's type is UTF-8 of 1 to `TYPE_NAME_MAX` bytes; a content that is text is as a str.
//!    A typed value is never in the word.
//! 4. The target of a link has 1 to `LINK_MAX` bytes without NUL, and is never in the word. A link is never a key.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 1 | kind (`ScalarKind`; 0x1X: the root of a blob, another format) |
//! | 1 | 1 | flags: `NO_NEWLINE`, `ASCII` (str only); `TEXT` (typed values only) |
//! | 2 | 1 | length of the type's name (typed values only; else 0) |
//! | 3 | 1 | 0 |
//! | 4 | 4 | length in bytes |
//! | 8 | length | the text, the bytes, the int's little-endian magnitude, the float's bits, the link's target; the name of the type and
//! the content |

use super::value::{COPY_MAX, In, LINK_MAX, LargeKind, Small, Value};
use super::word::{INLINE_MAX, NO_NEWLINE, TEXT, Tag, Word};
use super::{blob, header};
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::page::access::{Pages, PagesMut};

mod segment;
mod text;
mod typed;

pub use segment::{ASCII, SHORT_MAX, ScalarKind, ScalarView};
use segment::{HEADER, segment, view_at};
use text::{CHECKED, check_text, unfinished};
pub use text::{NOT_TEXT, is_text};
pub use typed::large_name;
use typed::{encode_typed, typed};

/// Message for bytes that cannot be the target of a link.
pub const NOT_TARGET: &str = "the target of a link must have 1 to 4095 bytes and no NUL";

/// Return the word of a value, writing its segments to newly allocated memory. Long values yield to readers,
/// so call this before the operation changes anything that readers can reach. Containers are words already:
/// `Error::Invalid`.
pub fn encode<W: PagesMut>(w: &mut W, value: &In<'_>) -> Result<Word> {
    match *value {
        In::None => Ok(Word::NONE),
        In::Bool(false) => Ok(Word::FALSE),
        In::Bool(true) => Ok(Word::TRUE),
        In::Int(n) => match Word::int(n) {
            Some(word) => Ok(word),
            None => encode_magnitude(w, n < 0, trim(&n.unsigned_abs().to_le_bytes())),
        },
        In::BigInt { negative, magnitude } => {
            let magnitude = trim(magnitude);
            match small_int(negative, magnitude).and_then(Word::int) {
                Some(word) => Ok(word),
                None => encode_magnitude(w, negative, magnitude),
            }
        }
        In::Float(x) => match Word::float(x) {
            Some(word) => Ok(word),
            None => segment(w, ScalarKind::Float, 0, &x.to_bits().to_le_bytes()),
        },
        In::Str { bytes, no_newline } => {
            let ascii = if bytes.len() <= CHECKED && bytes.is_ascii() {
                ASCII
            } else {
                0
            };
            if ascii == 0 {
                check_text(w, bytes)?;
            }
            let flags = if no_newline { NO_NEWLINE } else { 0 };
            match Word::str(bytes, flags) {
                Some(word) => Ok(word),
                None if bytes.len() <= SHORT_MAX => segment(w, ScalarKind::Str, flags | ascii, bytes),
                None => Ok(Word::scalar(blob::create(
                    w,
                    LargeKind::Str { no_newline },
                    bytes,
                )?)),
            }
        }
        In::Bytes(bytes) => match Word::bytes(bytes) {
            Some(word) => Ok(word),
            None if bytes.len() <= SHORT_MAX => segment(w, ScalarKind::Bytes, 0, bytes),
            None => Ok(Word::scalar(blob::create(w, LargeKind::Bytes, bytes)?)),
        },
        In::Link(target) if !is_target(target) => Err(Error::invalid(NOT_TARGET)),
        In::Link(target) if target.len() <= SHORT_MAX => segment(w, ScalarKind::Link, 0, target),
        In::Link(target) => Ok(Word::scalar(blob::create(w, LargeKind::Link, target)?)),
        In::Typed(typed) => encode_typed(w, typed),
        In::Obj(_) => Err(Error::invalid("a container is not a scalar")),
    }
}

fn encode_magnitude<W: PagesMut>(w: &mut W, negative: bool, magnitude: &[u8]) -> Result<Word> {
    let kind = if negative {
        ScalarKind::IntNegative
    } else {
        ScalarKind::IntPositive
    };
    if magnitude.len() <= SHORT_MAX {
        return segment(w, kind, 0, magnitude);
    }
    Ok(Word::scalar(blob::create(
        w,
        LargeKind::Int { negative },
        magnitude,
    )?))
}

/// Return the value of a word that is not empty. More than `COPY_MAX` bytes are returned as `Value::Large`.
pub fn decode<P: Pages>(p: &P, word: Word) -> Result<Value> {
    if word.is_float() {
        return Ok(Value::Float(word.as_float()));
    }
    match word.tag() {
        Tag::Int => Ok(Value::Int(word.as_int())),
        Tag::Str => {
            let (b, n, flags) = word.short_bytes();
            if !b[..INLINE_MAX].is_ascii() && !is_text(&b[..n]) {
                return Err(Error::corrupt("a str that is not valid text", Addr(word.0)));
            }
            Ok(Value::Str {
                bytes: inline(b, n),
                no_newline: flags & NO_NEWLINE != 0,
            })
        }
        Tag::Bytes => {
            let (b, n, _) = word.short_bytes();
            Ok(Value::Bytes(inline(b, n)))
        }
        Tag::Scalar => decode_segment(p, word.addr()),
        Tag::Container => Ok(Value::Obj(header::obj(p, word.addr())?)),
        Tag::Const => match word {
            Word::NONE => Ok(Value::None),
            Word::FALSE => Ok(Value::Bool(false)),
            Word::TRUE => Ok(Value::Bool(true)),
            _ => Err(Error::corrupt("a value word without a value", Addr(word.0))),
        },
        Tag::Bad => Err(Error::corrupt("a value word of unknown kind", Addr(word.0))),
    }
}

/// Return the bytes of a word, copied with a fixed length.
#[inline]
fn inline(word: [u8; 8], len: usize) -> Small {
    let mut buf = [0; 48];
    buf[..8].copy_from_slice(&word);
    Small::from_buf_and_len(buf, len)
}

fn decode_segment<P: Pages>(p: &P, addr: Addr) -> Result<Value> {
    let Some(view) = view_at(p, addr)? else {
        return decode_blob(p, addr);
    };
    match view.kind {
        ScalarKind::Str => text(view.bytes, view.flags, addr),
        ScalarKind::Bytes => Ok(Value::Bytes(Small::from_slice(view.bytes))),
        ScalarKind::IntPositive => Ok(int(false, view.bytes)),
        ScalarKind::IntNegative => Ok(int(true, view.bytes)),
        ScalarKind::Float => match <[u8; 8]>::try_from(view.bytes) {
            Ok(bits) => Ok(Value::Float(f64::from_bits(u64::from_le_bytes(bits)))),
            Err(_) => Err(Error::corrupt("a float of a wrong length", addr)),
        },
        ScalarKind::Link if is_target(view.bytes) => Ok(Value::Link(Small::from_slice(view.bytes))),
        ScalarKind::Link => Err(Error::corrupt("a link whose target cannot be a path", addr)),
        ScalarKind::Typed => {
            let (name, content) = view.typed(addr)?;
            typed(name, content.to_vec(), view.flags & TEXT != 0, addr)
        }
    }
}

/// Return whether the bytes can be the target of a link.
#[must_use]
pub fn is_target(bytes: &[u8]) -> bool {
    (1..=LINK_MAX).contains(&bytes.len()) && !bytes.contains(&0)
}

fn decode_blob<P: Pages>(p: &P, addr: Addr) -> Result<Value> {
    let large = blob::large(p, addr)?;
    if large.len > COPY_MAX as u64 {
        return Ok(Value::Large(large));
    }
    if let LargeKind::Typed { text } = large.kind {
        return typed(blob::name(p, addr)?, content(p, addr, large.len)?, text, addr);
    }
    let mut bytes = Small::with_capacity(large.len as usize);
    blob::for_each(p, addr, |piece| {
        bytes.extend_from_slice(piece);
        true
    })?;
    match large.kind {
        LargeKind::Str { no_newline } if is_text(&bytes) => Ok(Value::Str { bytes, no_newline }),
        LargeKind::Str { .. } => Err(Error::corrupt("a str that is not valid text", addr)),
        LargeKind::Bytes => Ok(Value::Bytes(bytes)),
        LargeKind::Int { negative } => Ok(int(negative, &bytes)),
        LargeKind::Link if is_target(&bytes) => Ok(Value::Link(bytes)),
        LargeKind::Link | LargeKind::Typed { .. } => {
            Err(Error::corrupt("a link whose target cannot be a path", addr))
        }
    }
}

/// Return the content of a blob of moderate length.
pub(super) fn content<P: Pages>(p: &P, addr: Addr, len: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len as usize);
    blob::for_each(p, addr, |piece| {
        bytes.extend_from_slice(piece);
        true
    })?;
    Ok(bytes)
}

/// Free, at commit, the segments of a scalar's word. Does nothing for values in the word itself and for
/// containers.
pub fn free<W: PagesMut>(w: &mut W, word: Word) -> Result<()> {
    let Some(addr) = word.as_scalar() else {
        return Ok(());
    };
    if blob::is_root(w.u8_at(addr)?) {
        blob::free(w, addr)
    } else {
        heap::free(w, addr)
    }
}

/// Return the length in bytes of a str or bytes, without copying it; None for everything else.
pub fn byte_len<P: Pages>(p: &P, word: Word) -> Result<Option<u64>> {
    if word.is_float() {
        return Ok(None);
    }
    match word.tag() {
        Tag::Str | Tag::Bytes => Ok(Some(word.short_bytes().1 as u64)),
        Tag::Scalar => match view_at(p, word.addr())? {
            Some(view) => {
                let is_bytes = matches!(view.kind, ScalarKind::Str | ScalarKind::Bytes);
                Ok(is_bytes.then_some(view.bytes.len() as u64))
            }
            None => {
                let large = blob::large(p, word.addr())?;
                let is_bytes = matches!(large.kind, LargeKind::Str { .. } | LargeKind::Bytes);
                Ok(is_bytes.then_some(large.len))
            }
        },
        _ => Ok(None),
    }
}

/// Return the content of a scalar that is one segment, borrowed; None for values in the word itself, blobs
/// and containers.
#[inline]
pub fn short_view<P: Pages>(p: &P, word: Word) -> Result<Option<ScalarView<'_>>> {
    match word.as_scalar() {
        Some(addr) => view_at(p, addr),
        None => Ok(None),
    }
}

/// Return the address of the blob that a word refers to, if it does.
pub fn as_blob<P: Pages>(p: &P, word: Word) -> Result<Option<Addr>> {
    match word.as_scalar() {
        Some(addr) => Ok(blob::is_root(p.u8_at(addr)?).then_some(addr)),
        None => Ok(None),
    }
}

/// Call `f` with every segment of a scalar's word and its bytes in use, for the checker.
pub fn segments<P: Pages>(p: &P, word: Word, f: &mut dyn FnMut(Addr, usize) -> Result<()>) -> Result<()> {
    let Some(addr) = word.as_scalar() else {
        return Ok(());
    };
    match view_at(p, addr)? {
        Some(view) => f(addr, HEADER + view.bytes.len()),
        None => blob::segments(p, addr, f),
    }
}

/// Verify the content of a word that is not a container, for the checker: invariants 1 and 2.
pub fn verify<P: Pages>(p: &P, word: Word) -> Result<()> {
    let at = Addr(word.0);
    if !word.is_float() && matches!(word.tag(), Tag::Str | Tag::Bytes) {
        let (b, n, flags) = word.short_bytes();
        if b[n..INLINE_MAX].iter().any(|&b| b != 0) || b[INLINE_MAX] != n as u8 | flags {
            return Err(Error::corrupt(
                "a short str or bytes with something behind its end",
                at,
            ));
        }
    }
    let Some(addr) = word.as_scalar() else {
        return decode(p, word).map(|_| ());
    };
    let Some(view) = view_at(p, addr)? else {
        return verify_blob(p, addr);
    };
    match decode_segment(p, addr)? {
        Value::Int(n) if Word::int(n).is_some() => Err(Error::corrupt("an int that fits its word", addr)),
        Value::Int(_) | Value::BigInt { .. } if view.bytes.last() == Some(&0) => {
            Err(Error::corrupt("an int with zeros above it", addr))
        }
        Value::Float(x) if Word::float(x).is_some() => {
            Err(Error::corrupt("a float that fits its word", addr))
        }
        Value::Str { .. } | Value::Bytes(_) if view.bytes.len() <= INLINE_MAX => {
            Err(Error::corrupt("a str or bytes that fits its word", addr))
        }
        Value::Str { .. } if view.flags & ASCII != 0 && !view.bytes.is_ascii() => {
            Err(Error::corrupt("a str that says it is ASCII and is not", addr))
        }
        _ => Ok(()),
    }
}

/// Verify a blob. A piece may end inside a character: those bytes are checked together with the next piece.
fn verify_blob<P: Pages>(p: &P, addr: Addr) -> Result<()> {
    let large = blob::large(p, addr)?;
    let name = match large.kind {
        LargeKind::Typed { .. } => large_name(p, addr)?.len() as u64,
        _ => 0,
    };
    if large.len + name <= SHORT_MAX as u64 {
        return Err(Error::corrupt("a large value that is not large", addr));
    }
    if large.kind == LargeKind::Link {
        return decode_blob(p, addr).map(|_| ());
    }
    let text = matches!(
        large.kind,
        LargeKind::Str { .. } | LargeKind::Typed { text: true }
    );
    let (mut good, mut cut) = (true, Vec::new());
    blob::for_each(p, addr, |piece| {
        if text {
            cut.extend_from_slice(piece);
            let end = cut.len() - unfinished(&cut);
            good = is_text(&cut[..end]);
            cut.drain(..end);
        }
        good
    })?;
    if good && cut.is_empty() {
        Ok(())
    } else {
        Err(Error::corrupt("a str that is not valid text", addr))
    }
}

fn text(bytes: &[u8], flags: u8, addr: Addr) -> Result<Value> {
    if !is_text(bytes) {
        return Err(Error::corrupt("a str that is not valid text", addr));
    }
    Ok(Value::Str {
        bytes: Small::from_slice(bytes),
        no_newline: flags & NO_NEWLINE != 0,
    })
}

/// Return the value of an int of any length from its magnitude.
fn int(negative: bool, magnitude: &[u8]) -> Value {
    let magnitude = trim(magnitude);
    match small_int(negative, magnitude) {
        Some(n) => Value::Int(n),
        None => Value::BigInt {
            negative,
            magnitude: Small::from_slice(magnitude),
        },
    }
}

/// Return a magnitude without its trailing zeros.
fn trim(magnitude: &[u8]) -> &[u8] {
    let len = magnitude.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    &magnitude[..len]
}

/// Return the int of a trimmed magnitude, if it fits 64 bits.
fn small_int(negative: bool, magnitude: &[u8]) -> Option<i64> {
    let mut b = [0; 8];
    b.get_mut(..magnitude.len())?.copy_from_slice(magnitude);
    let n = i128::from(u64::from_le_bytes(b));
    i64::try_from(if negative { -n } else { n }).ok()
}

#[cfg(test)]
mod tests;
