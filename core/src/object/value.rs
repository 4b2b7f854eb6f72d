//! The values that callers store and receive, and dict keys.

use crate::error::{Error, Result};
use crate::ids::{Addr, Obj};
use smallvec::SmallVec;

/// Bytes copied out of the store; short ones without an allocation.
pub type Small = SmallVec<[u8; 48]>;

/// Values of at most this many bytes are copied out inside the section; longer ones are returned as `Large`,
/// to be read in pieces.
pub const COPY_MAX: usize = 64 * 1024;

/// The most bytes of a link's target: what the kernel accepts of a path, without its NUL.
pub const LINK_MAX: usize = 4095;

/// The most bytes of the name of a typed value's type.
pub const TYPE_NAME_MAX: usize = 255;

/// A value of a type that the engine does not interpret: the name of the type, and the content as its encoder made it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Typed {
    /// The name of the type: 1 to `TYPE_NAME_MAX` bytes.
    pub name: Box<str>,
    /// The content.
    pub payload: Vec<u8>,
    /// True if the content is text, of the form of a str; false if it is bytes.
    pub text: bool,
}

/// A value to be stored.
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
    /// The target of a symbolic link that is not a reference: 1 to `LINK_MAX` bytes without NUL.
    Link(&'a [u8]),
    /// A value of another type.
    Typed(&'a Typed),
    /// A container of this store.
    Obj(Obj),
}

impl<'a> In<'a> {
    /// Return a str value.
    #[must_use]
    pub fn str(text: &'a str) -> In<'a> {
        In::Str {
            bytes: text.as_bytes(),
            no_newline: false,
        }
    }
}

/// The type of a `Large` value.
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
    /// The target of a link. It is never `Large`: it is copied whole.
    Link,
    /// The content of a typed value. `Reader::large_name` returns the name of the type.
    Typed {
        /// See `Typed::text`.
        text: bool,
    },
}

/// A value too long to copy inside one section. Read it with `Reader::large_read`, which returns
/// `Error::Gone` if it was replaced (then get the value again).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Large {
    /// Its segment.
    pub addr: Addr,
    /// The blob's id, never reused: it proves that the address still refers to it.
    pub id: u64,
    /// Length in bytes.
    pub len: u64,
    /// The type of the bytes.
    pub kind: LargeKind,
}

/// The most bytes that one `Writer::edit` stores or cuts off.
pub const EDIT_MAX: u64 = 64 << 20;

/// A change of a part of a str or bytes (`Writer::edit`).
#[derive(Clone, Copy, Default, Debug)]
pub struct Edit<'a> {
    /// Where the new bytes begin. Beyond the end of the value, zeros come between.
    pub offset: u64,
    /// The bytes that replace as many of the value, and lengthen it if they reach beyond its end.
    pub bytes: &'a [u8],
    /// The length of the value after the change: it is cut, or lengthened by zeros. None: as the bytes make it.
    pub len: Option<u64>,
    /// Of a str: `In::Str::no_newline` after the change. None: as before.
    pub no_newline: Option<bool>,
}

/// The value inside a word: a small scalar, returned without a copy of memory.
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
    /// A str of at most 5 bytes: the bytes and their count.
    Str([u8; 8], u8),
    /// A longer value, or a container: see `Reader::value`.
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
    /// The target of a symbolic link.
    Link(Small),
    /// A value of another type.
    Typed(Box<Typed>),
    /// A str, bytes, int or content of a typed value longer than `COPY_MAX`.
    Large(Large),
    /// A container.
    Obj(Obj),
}

impl Value {
    /// Return a key that was copied out, in the form of a lookup key.
    ///
    /// # Errors
    /// `Error::Invalid` for a container, for a link, and for a text longer than keys can be.
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
            Value::Typed(typed) => Key::Typed(typed),
            Value::Large(_) => return Err(Error::invalid("the key is too long (64 KiB at most)")),
            Value::Link(_) => return Err(Error::invalid("a link cannot be a key")),
            Value::Obj(_) => return Err(Error::invalid("a container cannot be a key")),
        })
    }
}

/// A dict key to look up. Numbers are equal across types, as in Python: 1 == 1.0 == True.
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
    /// A value of another type. Those of one type are equal if their content is, and two tuples if Python's are
    /// (`object::literal`).
    Typed(&'a Typed),
}

/// The step from a container's home to the container.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Under this key (dict, attribute).
    Key(Value),
    /// At this index (list).
    Index(u64),
}

/// One entry of a walk over a dict or an object's attributes in order.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The position after which the walk continues; it stays valid under changes. Never 0.
    pub cursor: u64,
    /// The key (never `Obj` or `Link`).
    pub key: Value,
    /// The value.
    pub value: Value,
}
