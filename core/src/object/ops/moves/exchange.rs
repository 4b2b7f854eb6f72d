//! Exchange the values of two entries without a copy.
//!
//! Invariants:
//! 1. The entries stay where they are. Values and records of metadata change places.
//! 2. Neither value is a container: homes do not move here.

use crate::error::{Error, Result};
use crate::ids::Obj;
use crate::object::ops::announce;
use crate::object::ops::entry::Spot;
use crate::object::ops::entry::alive;
use crate::object::ops::entry::changing;
use crate::object::ops::entry::out_of_range;
use crate::object::ops::entry::touch;
use crate::object::ops::metadata;
use crate::object::ops::moves::rename::same;
use crate::object::ops::moves::rename::subject;
use crate::object::ops::read::word_at;
use crate::object::value::Step;
use crate::object::word::Word;
use crate::object::{entries, list};
use crate::page::access::PagesMut;

const NO_CONTAINER: Error = Error::WrongKind {
    what: "only values that are not containers can be exchanged",
};

/// See `Writer::exchange`.
pub fn exchange<W: PagesMut>(w: &mut W, a: Obj, a_step: &Step, b: Obj, b_step: &Step) -> Result<()> {
    let seed = w.hash_seed();
    let one = Spot::of(alive(w, a)?, a_step, seed)?;
    let two = Spot::of(alive(w, b)?, b_step, seed)?;
    changing(w, a, one.lock_key())?;
    changing(w, b, two.lock_key())?;
    let (first, second) = (value(w, a, &one)?, value(w, b, &two)?);
    if a.addr == b.addr && same(w, a.addr, &one, &two)? {
        return Ok(());
    }
    touch(w, a)?;
    if a.addr != b.addr {
        touch(w, b)?;
    }
    let kinds = (alive(w, a)?, alive(w, b)?);
    let record = metadata::take(w, a.addr, kinds.0, &subject(&one))?;
    let other = metadata::take(w, b.addr, kinds.1, &subject(&two))?;
    put(w, a, &one, second)?;
    put(w, b, &two, first)?;
    if let Some(record) = record {
        metadata::set(w, b.addr, kinds.1, &subject(&two), record)?;
    }
    if let Some(record) = other {
        metadata::set(w, a.addr, kinds.0, &subject(&one), record)?;
    }
    Ok(())
}

/// Return the word at a place, which must not be a container.
fn value<W: PagesMut>(w: &W, obj: Obj, spot: &Spot<'_>) -> Result<Word> {
    match word_at(w, obj.addr, spot)? {
        Some(word) if word.as_container().is_some() => Err(NO_CONTAINER),
        Some(word) => Ok(word),
        None => Err(match spot {
            Spot::Key(..) => Error::NoKey,
            Spot::Index(i) => out_of_range(*i, list::len(w, obj.addr)?),
        }),
    }
}

/// Store a word in the place of another.
fn put<W: PagesMut>(w: &mut W, obj: Obj, spot: &Spot<'_>, word: Word) -> Result<()> {
    announce::replaced(w, obj, spot);
    match spot {
        Spot::Key(key, hash) => entries::set_hashed(w, obj.addr, key, *hash, word).map(drop),
        Spot::Index(i) => list::set(w, obj.addr, *i, word).map(drop),
    }
}
