//! The parts of a container's body that can still be read, whatever is damaged. How they are found: `salvage`.

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
    /// Something that cannot be read.
    Lost(Lost),
}

/// What cannot be read of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// What is wrong.
    pub what: &'static str,
    /// Where.
    pub at: Addr,
    /// Of a list: the index of the first item lost.
    pub index: u64,
    /// Of a list: how many items are lost, as far as is known (0: unknown).
    pub count: u64,
}

impl Lost {
    /// From the error that was met on reading something at `at`.
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

    /// A segment that more than one refers to.
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

/// Said of a segment that is met a second time.
pub const TWICE: &str = "a segment that is used twice";

/// Says whether a segment is met for the first time.
pub type Fresh<'a> = &'a mut dyn FnMut(Addr) -> bool;
/// Takes the pieces.
pub type Out<'a> = &'a mut dyn FnMut(Piece) -> Result<()>;
