//! Put a str or bytes that was built in another container in the place of an entry's value, without a copy.
//!
//! Invariants:
//! 1. The entry stays: its record of metadata and its place too. Its old value is released.
//! 2. The value gets its type here. The caller has checked that it is text if it becomes a str.

use crate::error::{Error, Result};
use crate::ids::Obj;
use crate::object::blob::{self, edit as pieces};
use crate::object::graph::release_word;
use crate::object::header::Kind;
use crate::object::ops::announce;
use crate::object::ops::entry::NO_KEYS;
use crate::object::ops::entry::Spot;
use crate::object::ops::entry::alive;
use crate::object::ops::entry::changing;
use crate::object::ops::entry::out_of_range;
use crate::object::ops::entry::touch;
use crate::object::ops::read::word_at;
use crate::object::ops::sorted;
use crate::object::value::{Key, LargeKind, Step};
use crate::object::word::{Tag, Word};
use crate::object::{entries, key as keys, list};
use crate::page::access::PagesMut;

const NOT_LARGE: Error = Error::WrongKind {
    what: "only a large str or bytes can be moved to another entry",
};

/// See `Writer::adopt`.
pub fn adopt<W: PagesMut>(
    w: &mut W,
    from: Obj,
    key: &Key<'_>,
    to: Obj,
    step: &Step,
    kind: LargeKind,
) -> Result<()> {
    let seed = w.hash_seed();
    let spot = Spot::of(alive(w, to)?, step, seed)?;
    changing(w, to, spot.lock_key())?;
    let hash = keys::hash(seed, key);
    if changing(w, from, Some(hash))? == Kind::List {
        return Err(NO_KEYS);
    }
    let Some(old) = word_at(w, to.addr, &spot)? else {
        return Err(match spot {
            Spot::Key(..) => Error::NoKey,
            Spot::Index(i) => out_of_range(i, list::len(w, to.addr)?),
        });
    };
    let Some(word) = entries::get_hashed(w, from.addr, key, hash)? else {
        return Err(Error::NoKey);
    };
    if from.addr == to.addr {
        return Err(Error::invalid("a value that moves within one container"));
    }
    give_kind(w, word, kind)?;
    touch(w, to)?;
    if entries::remove_hashed(w, from.addr, key, hash)? != Some(word) {
        return Err(Error::corrupt(
            "an entry that is not where it was found",
            from.addr,
        ));
    }
    sorted::removed(w, from.addr, key)?;
    announce::entry(w, from, key, true, false);
    announce::replaced(w, to, &spot);
    match spot {
        Spot::Key(key, hash) => {
            entries::set_hashed(w, to.addr, &key, hash, word)?;
        }
        Spot::Index(i) => {
            list::set(w, to.addr, i, word)?;
        }
    }
    release_word(w, old, to.addr)
}

/// Make a large str or bytes one of this kind.
fn give_kind<W: PagesMut>(w: &mut W, word: Word, kind: LargeKind) -> Result<()> {
    if word.is_float() || word.tag() != Tag::Scalar || !blob::is_root(w.u8_at(word.addr())?) {
        return Err(NOT_LARGE);
    }
    let now = blob::large(w, word.addr())?.kind;
    match (now, kind) {
        (LargeKind::Str { .. } | LargeKind::Bytes, LargeKind::Str { .. } | LargeKind::Bytes) => {
            pieces::set_kind(w, word.addr(), kind)
        }
        _ => Err(NOT_LARGE),
    }
}
