//! Values as callers give and get them, and dict keys.

use crate::error::{Error, Result};
use crate::ids::{Addr, Obj};
use smallvec::SmallVec;

/// Bytes copied out of the store; short ones without an allocation.
pub type Small = SmallVec<[u8; 48]>;

/// Values of at most this many bytes are copied out inside the section; longer ones come as
/// `Large`, to be read in pieces.
pub const COPY_MAX: usize = 64 * 1024;

/// A value on its way into the store.
#[derive(Clone, Copy, Debug)]
pub enum In<'a> {
    /// None.
    None,
    /// A bool.
    Bool(bool),
    /// An int that fits 64 bits.
    Int(i64),
    /// A bigger int: sign and little-endian magnitude without trailing zeros.
    BigInt {
        /// True below zero.
        negative: bool,
        /// Little-endian magnitude.
        magnitude: &'a [u8],
    },
    /// A float.
    Float(f64),
    /// A str as UTF-8, lone surrogates as their three bytes.
    Str {
        /// The encoded text.
        bytes: &'a [u8],
        /// True if it was written through the mount without a final newline.
        no_newline: bool,
    },
    /// Bytes.
    Bytes(&'a [u8]),
    /// A container of this store.
    Obj(Obj),
}

impl<'a> In<'a> {
    /// A str value.
    #[must_use]
    pub fn str(text: &'a str) -> In<'a> {
        In::Str {
            bytes: text.as_bytes(),
            no_newline: false,
        }
    }
}

/// What a `Large` value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LargeKind {
    /// A str.
    Str {
        /// See `In::Str`.
        no_newline: bool,
    },
    /// Bytes.
    Bytes,
    /// An int: little-endian magnitude.
    Int {
        /// True below zero.
        negative: bool,
    },
}

/// A value too long to copy inside one section: read it with `Reader::large_read`, which answers
/// `Error::Gone` when it was replaced meanwhile (then get the value anew).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Large {
    /// Its segment.
    pub addr: Addr,
    /// The blob's id, never used again: proves that the address still means it.
    pub id: u64,
    /// Length in bytes.
    pub len: u64,
    /// What the bytes are.
    pub kind: LargeKind,
}

/// What a word holds by itself: a small scalar, handed out without a copy of memory.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Short {
    /// None.
    None,
    /// A bool.
    Bool(bool),
    /// An int of 48 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A str of at most 5 bytes: the bytes and their number.
    Str([u8; 8], u8),
    /// Something longer, or a container: see `Reader::value`.
    Long,
}

/// A value copied out of the store.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// None.
    None,
    /// A bool.
    Bool(bool),
    /// An int that fits 64 bits.
    Int(i64),
    /// A bigger int: sign and little-endian magnitude.
    BigInt {
        /// True below zero.
        negative: bool,
        /// Little-endian magnitude.
        magnitude: Small,
    },
    /// A float.
    Float(f64),
    /// A str as UTF-8, lone surrogates as their three bytes.
    Str {
        /// The encoded text.
        bytes: Small,
        /// See `In::Str`.
        no_newline: bool,
    },
    /// Bytes.
    Bytes(Small),
    /// A str, bytes or int longer than `COPY_MAX`.
    Large(Large),
    /// A container.
    Obj(Obj),
}

impl Value {
    /// A key that was copied out, as a key again.
    ///
    /// # Errors
    /// `Error::Invalid` of a container, and of a text that is longer than keys are.
    pub fn as_key(&self) -> Result<Key<'_>> {
        Ok(match self {
            Value::None => Key::None,
            Value::Bool(b) => Key::Bool(*b),
            Value::Int(n) => Key::Int(*n),
            Value::BigInt { negative, magnitude } => Key::BigInt {
                negative: *negative,
                magnitude,
            },
            Value::Float(x) => Key::Float(*x),
            Value::Str { bytes, .. } => Key::Str(bytes),
            Value::Bytes(bytes) => Key::Bytes(bytes),
            Value::Large(_) => return Err(Error::invalid("the key is too long (64 KiB at most)")),
            Value::Obj(_) => return Err(Error::invalid("a container cannot be a key")),
        })
    }
}

/// A dict key on its way in. Numbers are equal across types, as in Python: 1 == 1.0 == True.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    /// None.
    None,
    /// A bool.
    Bool(bool),
    /// An int that fits 64 bits.
    Int(i64),
    /// A bigger int.
    BigInt {
        /// True below zero.
        negative: bool,
        /// Little-endian magnitude, without trailing zeros.
        magnitude: &'a [u8],
    },
    /// A float. NaN keys are found by bits only.
    Float(f64),
    /// A str as UTF-8, lone surrogates as their three bytes.
    Str(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// How a container is reached: the step from its home.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Under this key (dict, attribute).
    Key(Value),
    /// At this index (list).
    Index(u64),
}

/// One entry met while walking a dict or an object's attributes in order.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Where the walk goes on after this entry; stays right under changes. Never 0.
    pub cursor: u64,
    /// The key (never `Obj`).
    pub key: Value,
    /// The value.
    pub value: Value,
}
