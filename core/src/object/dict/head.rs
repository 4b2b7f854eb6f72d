//! The dict fields of a container's header: form, address, number of entries. Also an entry that was found.

use super::entry::word_in;
use super::shape::Shape;
use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::object::dict::large::index;
use crate::object::header::{self, Kind};
use crate::object::word::Word;
use crate::page::access::{Pages, PagesMut};

/// The body fields of a header.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) h: Addr,
    pub(super) counted: bool,
    pub(super) form: u16,
    pub(super) body: Addr,
    pub(super) len: u64,
}

/// The forms of a body.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Empty,
    Small(Shape),
    Large,
}

pub(super) const FORM_LARGE: u16 = 3;
/// The form of an empty dict has the number of its next entry without this many bits.
const EMPTIED: u32 = 16;

impl Head {
    #[inline]
    pub(super) fn read<P: Pages>(p: &P, h: Addr) -> Result<Head> {
        let b = p.bytes(h, header::SIZE)?;
        Ok(Head {
            h,
            counted: b[0] == Kind::Dict as u8,
            form: u16::from_le_bytes([b[header::FORM as usize], b[header::FORM as usize + 1]]),
            body: Addr(word_in(b, header::BODY as usize)),
            len: word_in(b, header::CLASS_OR_LEN as usize),
        })
    }

    #[inline]
    pub(super) fn form(&self) -> Result<Form> {
        match self.form & 3 {
            0 => Ok(Form::Empty),
            FORM_LARGE => Ok(Form::Large),
            bits => Shape::new(usize::from(self.form >> 2), bits == 2)
                .map(Form::Small)
                .ok_or_else(|| Error::corrupt("a dict body of an impossible size", self.h)),
        }
    }

    /// Return the number of the first entry of an empty dict.
    pub(super) fn first_seq(&self) -> u64 {
        match self.form & 3 {
            0 => (u64::from(self.form >> 2) << EMPTIED) + 1,
            _ => 1,
        }
    }

    /// Return the form of this dict without entries; `next` is the number that its next entry would have had.
    pub(super) fn form_when_empty(&self, next: u64) -> u16 {
        // Of an object, the form may be the number of its values (`class::attr`).
        match self.counted {
            true => (((next >> EMPTIED) + 1) << 2) as u16,
            false => 0,
        }
    }

    /// Store another body in the header.
    pub(super) fn set_body<W: PagesMut>(&mut self, w: &mut W, form: u16, body: Addr) -> Result<()> {
        if form != self.form {
            w.set_bytes(self.h + header::FORM, &form.to_le_bytes())?;
        }
        if body != self.body {
            w.set_u64(self.h + header::BODY, body.0)?;
        }
        (self.form, self.body) = (form, body);
        Ok(())
    }

    /// Store the number of entries if the header keeps it.
    #[inline]
    pub(super) fn set_len<W: PagesMut>(&mut self, w: &mut W, len: u64) -> Result<()> {
        if self.counted && self.len != len {
            w.set_u64(self.h + header::CLASS_OR_LEN, len)?;
            self.len = len;
        }
        Ok(())
    }
}

/// An entry that was found: its words and its place.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) key: Word,
    pub(super) value: Word,
    /// The address of the value word.
    pub(super) value_at: Addr,
    pub(super) place: Place,
}

#[derive(Clone, Copy)]
pub(super) enum Place {
    Small(usize),
    Large(index::FoundSlot),
}
