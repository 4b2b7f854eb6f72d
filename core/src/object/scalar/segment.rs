//! The segment of a scalar that is not in the word and not a blob: its kind, flags and content.

use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::blob;
use crate::object::word::Word;
use crate::page::access::{Pages, PagesMut};

/// Flag of a str with only ASCII characters.
pub const ASCII: u8 = 1;
/// The longest content of a single segment.
pub const SHORT_MAX: usize = heap::MAX_SEGMENT - HEADER;

pub(super) const HEADER: usize = 8;

/// The kind of a scalar segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ScalarKind {
    /// A str.
    Str = 1,
    /// Bytes.
    Bytes = 2,
    /// An int of zero or more that does not fit the word.
    IntPositive = 3,
    /// An int below zero that does not fit the word.
    IntNegative = 4,
    /// The bits of a float that does not fit the word: a negative quiet NaN.
    Float = 5,
    /// The target of a symbolic link (since version 4).
    Link = 6,
    /// A value of another type (since version 5).
    Typed = 7,
}

/// A scalar segment, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct ScalarView<'a> {
    /// Its kind.
    pub kind: ScalarKind,
    /// `NO_NEWLINE`, `ASCII`, `TEXT`.
    pub flags: u8,
    /// Of a typed value: the length of the name in front of the content.
    pub name_len: u8,
    /// The content.
    pub bytes: &'a [u8],
}

impl<'a> ScalarView<'a> {
    /// Return the name of the type and the content of a typed value, unchecked.
    pub(in crate::object) fn typed(&self, at: Addr) -> Result<(&'a [u8], &'a [u8])> {
        let whole = || Error::corrupt("a typed value that is shorter than the name of its type", at);
        self.bytes
            .split_at_checked(self.name_len.into())
            .ok_or_else(whole)
    }
}

/// Write a segment.
pub(super) fn segment<W: PagesMut>(w: &mut W, kind: ScalarKind, flags: u8, content: &[u8]) -> Result<Word> {
    let addr = heap::alloc(w, HEADER + content.len())?;
    let b = w.init(addr, HEADER + content.len())?;
    let (head, rest) = b.split_at_mut(HEADER);
    head[..4].copy_from_slice(&[kind as u8, flags, 0, 0]);
    head[4..].copy_from_slice(&(content.len() as u32).to_le_bytes());
    rest.copy_from_slice(content);
    Ok(Word::scalar(addr))
}

/// Return the segment at `addr`; None if it is the root of a blob.
#[inline]
pub(super) fn view_at<P: Pages>(p: &P, addr: Addr) -> Result<Option<ScalarView<'_>>> {
    let head = p.u64_at(addr)?;
    let kind = match head as u8 {
        1 => ScalarKind::Str,
        2 => ScalarKind::Bytes,
        3 => ScalarKind::IntPositive,
        4 => ScalarKind::IntNegative,
        5 => ScalarKind::Float,
        6 => ScalarKind::Link,
        7 => ScalarKind::Typed,
        kind if blob::is_root(kind) => return Ok(None),
        _ => return Err(Error::corrupt("a scalar of unknown kind", addr)),
    };
    let bytes = p.bytes(addr + HEADER as u64, (head >> 32) as usize)?;
    Ok(Some(ScalarView {
        kind,
        flags: (head >> 8) as u8,
        name_len: (head >> 16) as u8,
        bytes,
    }))
}
