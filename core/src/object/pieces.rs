//! The parts of a container's body that are readable in spite of damage. See `salvage` for how they are
//! found.

use super::word::Word;
use crate::error::{Error, Result};
use crate::ids::Addr;

/// A part of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// An entry of a dict, an attribute of an object.
    Entry(Word, Word),
    /// An item of a list.
    Item(u64, Word),
    /// A part that cannot be read.
    Lost(Lost),
}

/// A part of a body that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The damage.
    pub what: &'static str,
    /// The address.
    pub at: Addr,
    /// For a list: the index of the first lost item.
    pub index: u64,
    /// For a list: the number of lost items, as far as known (0: unknown).
    pub count: u64,
}

impl Lost {
    /// Return the loss for an error that occurred on reading at `at`.
    #[must_use]
    pub fn of(e: &Error, at: Addr) -> Lost {
        let (what, at) = match e {
            Error::Corrupt { what, at } => (*what, Addr(*at)),
            _ => ("what cannot be read", at),
        };
        Lost {
            what,
            at,
            index: 0,
            count: 0,
        }
    }

    /// Return the loss for a segment that is referred to more than once.
    #[must_use]
    pub fn twice(at: Addr) -> Lost {
        Lost {
            what: TWICE,
            at,
            index: 0,
            count: 0,
        }
    }
}

/// The error for a segment that is found a second time.
pub const TWICE: &str = "a segment that is used twice";

/// A function that returns whether a segment is found for the first time.
pub type Fresh<'a> = &'a mut dyn FnMut(Addr) -> bool;
/// A function that receives the pieces.
pub type Out<'a> = &'a mut dyn FnMut(Piece) -> Result<()>;
