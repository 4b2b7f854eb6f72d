//! Salvage of a container's body in spite of damage: the readable parts are returned, the others are reported
//! as lost. For the checker and for salvage.
//!
//! 1. Only the receiver's errors are errors: a part that cannot be read is `Piece::Lost`.
//! 2. `fresh` is called before a segment is walked, and returns false for one that was walked before. So a
//!    walk over all containers of a store takes no more steps than the store has segments, however they are
//!    linked.
//! 3. Depth is bounded by the heights that bodies can have.

pub use super::pieces::{Fresh, Lost, Out, Piece, TWICE};

use super::class::attr;
use super::header::Kind;
use super::{dict, list};
use crate::error::Result;
use crate::ids::Addr;
use crate::page::access::Pages;

/// Pass what can be read of the content of the container at `h`, whose kind is known, to `out`.
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
