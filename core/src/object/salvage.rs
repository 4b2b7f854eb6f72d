//! What can still be got out of a container's body, whatever is damaged: the parts that can be read are
//! handed out, the others are named. For the checker and for salvage.
//!
//! 1. Nothing is an error but what the receiver says: a part that cannot be read is `Piece::Lost`.
//! 2. `fresh` is asked before a segment is walked, and says no to one that was walked before. So a walk over
//!    all containers of a store takes no more steps than the store has segments, however they are linked.
//! 3. Depth is bounded by the heights that bodies can have.

use super::class::attr;
use super::header::Kind;
use super::word::Word;
use super::{dict, list};
use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::page::access::Pages;

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

/// Hands out what can be read of the content of the container at `h`, of which the kind is known.
///
/// # Errors
/// Those of `out`.
pub fn content<P: Pages>(p: &P, h: Addr, kind: Kind, fresh: Fresh<'_>, out: Out<'_>) -> Result<()> {
    match kind {
        Kind::List => list::salvage(p, h, fresh, out),
        Kind::Dict => dict::salvage(p, h, fresh, out),
        Kind::Object => attr::salvage(p, h, fresh, out),
    }
}
