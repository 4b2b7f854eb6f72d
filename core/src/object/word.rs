//! The value word: 8 bytes that hold a value or refer to it.
//!
//! Doubles fill most of the 64-bit space. The rest are the negative quiet NaNs with a payload, and those
//! patterns encode everything else. A word is stored inverted, so that the word 0 means "empty":
//!
//! | word | meaning |
//! | --- | --- |
//! | top 13 bits not all zero | a double whose bits are `!word` |
//! | top 13 bits zero, bits 48..51 = tag, low 48 bits = payload | see `Tag` |
//!
//! A double whose top 13 bits are all ones (a negative quiet NaN) is kept in a scalar segment, so every NaN
//! payload survives.

use super::value::{In, Short};
use crate::ids::Addr;

/// The tags of words that are not inline doubles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    /// Payload 0: empty; 1: None; 2: False; 3: True; 4: removed entry.
    Const,
    /// A signed 48-bit integer.
    Int,
    /// A string of at most 5 bytes of UTF-8 (surrogates as three bytes): byte 5 of the payload
    /// holds the length in its low 3 bits and `NO_NEWLINE` in its top bit.
    Str,
    /// Bytes, at most 5, in the same form.
    Bytes,
    /// The address of a scalar segment (`value`): a longer str or bytes, a bigger int, a NaN.
    Scalar,
    /// The address of a container's header.
    Container,
    /// Unused: a damaged file.
    Bad,
}

/// A value word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word(pub u64);

const PAYLOAD: u64 = (1 << 48) - 1;
/// The longest str or bytes kept in the word itself.
pub const INLINE_MAX: usize = 5;
/// Flag of a str that was written through the mount without a final newline.
pub const NO_NEWLINE: u8 = 0x80;
/// Flag of a typed value whose content is text (not in the word).
pub const TEXT: u8 = 2;
/// Smallest and largest integers kept in the word itself.
pub const INT_MIN: i64 = -(1 << 47);
/// See `INT_MIN`.
pub const INT_MAX: i64 = (1 << 47) - 1;

impl Word {
    /// Empty.
    pub const EMPTY: Word = Word(0);
    /// None.
    pub const NONE: Word = Word(1);
    /// False.
    pub const FALSE: Word = Word(2);
    /// True.
    pub const TRUE: Word = Word(3);
    /// A removed entry.
    pub const REMOVED: Word = Word(4);

    const fn tagged(tag: u64, payload: u64) -> Word {
        Word(tag << 48 | payload & PAYLOAD)
    }

    /// Return the word of an int in `INT_MIN..=INT_MAX`.
    #[inline]
    #[must_use]
    pub fn int(value: i64) -> Option<Word> {
        (INT_MIN..=INT_MAX)
            .contains(&value)
            .then(|| Word::tagged(1, value as u64))
    }

    /// Return the word of a double, unless it is one of the NaNs that need a segment.
    #[inline]
    #[must_use]
    pub fn float(value: f64) -> Option<Word> {
        let word = !value.to_bits();
        (word >> 51 != 0).then_some(Word(word))
    }

    /// Return the word of a str of at most `INLINE_MAX` bytes; `flags` is 0 or `NO_NEWLINE`.
    #[inline]
    #[must_use]
    pub fn str(bytes: &[u8], flags: u8) -> Option<Word> {
        Word::short(2, bytes, flags)
    }

    /// Return the word of bytes of at most `INLINE_MAX`.
    #[inline]
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Option<Word> {
        Word::short(3, bytes, 0)
    }

    #[inline]
    fn short(tag: u64, bytes: &[u8], flags: u8) -> Option<Word> {
        if bytes.len() > INLINE_MAX {
            return None;
        }
        let mut b = [0u8; 8];
        b[..bytes.len()].copy_from_slice(bytes);
        b[5] = bytes.len() as u8 | flags;
        Some(Word::tagged(tag, u64::from_le_bytes(b)))
    }

    /// Return the word that refers to a scalar segment.
    #[inline]
    #[must_use]
    pub fn scalar(addr: Addr) -> Word {
        Word::tagged(4, addr.0)
    }

    /// Return the word that refers to a container.
    #[inline]
    #[must_use]
    pub fn container(addr: Addr) -> Word {
        Word::tagged(5, addr.0)
    }

    /// Return true if the word is empty (never written, or removed).
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0 || self.0 == 4
    }

    /// Return true for an inline double.
    #[inline]
    #[must_use]
    pub fn is_float(self) -> bool {
        self.0 >> 51 != 0
    }

    /// Return the double of a word for which `is_float` holds.
    #[inline]
    #[must_use]
    pub fn as_float(self) -> f64 {
        f64::from_bits(!self.0)
    }

    /// Return the tag of a word for which `is_float` does not hold.
    #[inline]
    #[must_use]
    pub(crate) fn tag(self) -> Tag {
        match self.0 >> 48 {
            0 => Tag::Const,
            1 => Tag::Int,
            2 => Tag::Str,
            3 => Tag::Bytes,
            4 => Tag::Scalar,
            5 => Tag::Container,
            _ => Tag::Bad,
        }
    }

    /// Return the int of a word tagged `Int`.
    #[inline]
    #[must_use]
    pub fn as_int(self) -> i64 {
        ((self.0 << 16) as i64) >> 16
    }

    /// Return the address in a word tagged `Scalar` or `Container`.
    #[inline]
    #[must_use]
    pub fn addr(self) -> Addr {
        Addr(self.0 & PAYLOAD)
    }

    /// Return the container's address, if the word refers to one.
    #[inline]
    #[must_use]
    pub fn as_container(self) -> Option<Addr> {
        (self.0 >> 48 == 5).then(|| self.addr())
    }

    /// Return the scalar segment's address, if the word refers to one.
    #[inline]
    #[must_use]
    pub fn as_scalar(self) -> Option<Addr> {
        (self.0 >> 48 == 4).then(|| self.addr())
    }

    /// Return the word of a value that needs no memory of its own, if that is decided quickly; otherwise
    /// `EMPTY`.
    #[inline(always)]
    #[must_use]
    pub fn small(value: &In<'_>) -> Word {
        let word = match *value {
            In::None => Some(Word::NONE),
            In::Bool(false) => Some(Word::FALSE),
            In::Bool(true) => Some(Word::TRUE),
            In::Int(n) => Word::int(n),
            In::Float(x) => Word::float(x),
            In::Str { bytes, no_newline } if bytes.is_ascii() => {
                Word::str(bytes, if no_newline { NO_NEWLINE } else { 0 })
            }
            In::Bytes(bytes) => Word::bytes(bytes),
            _ => None,
        };
        word.unwrap_or(Word::EMPTY)
    }

    /// Return true for a value that the word holds completely, without a segment or a container.
    #[inline]
    #[must_use]
    pub fn is_plain(self) -> bool {
        !self.is_empty() && (self.is_float() || self.0 >> 48 < 4)
    }

    /// Return the small scalar that the word itself holds.
    #[inline(always)]
    #[must_use]
    pub fn as_short(self) -> Short {
        if self.is_float() {
            return Short::Float(self.as_float());
        }
        match self.tag() {
            Tag::Int => Short::Int(self.as_int()),
            Tag::Str => {
                let (bytes, len, _) = self.short_bytes();
                Short::Str(bytes, len as u8)
            }
            Tag::Const => match self {
                Word::NONE => Short::None,
                Word::FALSE => Short::Bool(false),
                Word::TRUE => Short::Bool(true),
                _ => Short::Long,
            },
            _ => Short::Long,
        }
    }

    /// Return the bytes and flags of a word tagged `Str` or `Bytes`: `(buffer, length, flags)`. A length
    /// above `INLINE_MAX` (a damaged file) is reduced to it.
    #[inline]
    #[must_use]
    pub fn short_bytes(self) -> ([u8; 8], usize, u8) {
        let b = (self.0 & PAYLOAD).to_le_bytes();
        (b, ((b[5] & 7) as usize).min(INLINE_MAX), b[5] & NO_NEWLINE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ints_round_trip_and_limits_hold() {
        for v in [0, 1, -1, INT_MIN, INT_MAX, 12345, -99999] {
            let w = Word::int(v).unwrap();
            assert!(!w.is_float() && !w.is_empty());
            assert_eq!((w.tag(), w.as_int()), (Tag::Int, v));
        }
        assert_eq!(Word::int(INT_MAX + 1), None);
        assert_eq!(Word::int(INT_MIN - 1), None);
    }

    #[test]
    fn doubles_round_trip_by_bits() {
        for v in [
            0.0,
            -0.0,
            1.5,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::MIN_POSITIVE,
            5e-324,
        ] {
            let w = Word::float(v).unwrap();
            assert!(w.is_float() && !w.is_empty());
            assert_eq!(w.as_float().to_bits(), v.to_bits());
        }
        assert_eq!(Word::float(f64::from_bits(0xFFF8_0000_0000_0000)), None);
        assert_eq!(Word::float(f64::from_bits(0xFFFF_FFFF_FFFF_FFFF)), None);
        assert!(Word::float(f64::from_bits(0xFFF7_FFFF_FFFF_FFFF)).is_some());
    }

    #[test]
    fn short_strings_round_trip() {
        for s in ["", "a", "abcde", "\0\0"] {
            let w = Word::str(s.as_bytes(), NO_NEWLINE).unwrap();
            let (b, n, f) = w.short_bytes();
            assert_eq!((&b[..n], f, w.tag()), (s.as_bytes(), NO_NEWLINE, Tag::Str));
        }
        assert_eq!(Word::str(b"abcdef", 0), None);
        assert!(!Word::bytes(b"").unwrap().is_empty());
    }
}
