//! Move an entry.

use crate::error::{Error, Result};
use crate::ids::{Addr, Obj};
use crate::object::graph::{move_home, release_word};
use crate::object::ops::announce;
use crate::object::ops::change::spliced;
use crate::object::ops::entry::Spot;
use crate::object::ops::entry::alive;
use crate::object::ops::entry::changing;
use crate::object::ops::entry::out_of_range;
use crate::object::ops::entry::touch;
use crate::object::ops::metadata;
use crate::object::ops::metadata::Of;
use crate::object::ops::read::word_at;
use crate::object::ops::sorted;
use crate::object::value::Step;
use crate::object::word::Word;
use crate::object::{entries, key as keys, list};
use crate::page::access::PagesMut;

/// See `Writer::rename`. In a list, an index below the length replaces that item, and the length appends.
/// Afterwards the items behind the removed one move up.
pub fn rename<W: PagesMut>(w: &mut W, from: Obj, from_step: &Step, to: Obj, to_step: &Step) -> Result<()> {
    let seed = w.hash_seed();
    let source = Spot::of(alive(w, from)?, from_step, seed)?;
    let target = Spot::of(alive(w, to)?, to_step, seed)?;
    changing(w, from, source.lock_key())?;
    changing(w, to, target.lock_key())?;
    let Some(word) = word_at(w, from.addr, &source)? else {
        return Err(match source {
            Spot::Key(..) => Error::NoKey,
            Spot::Index(i) => out_of_range(i, list::len(w, from.addr)?),
        });
    };
    if from.addr == to.addr && same(w, from.addr, &source, &target)? {
        return Ok(());
    }
    if let Spot::Index(i) = target {
        let len = list::len(w, to.addr)?;
        if i > len {
            return Err(out_of_range(i, len));
        }
    }
    touch(w, from)?;
    if from.addr != to.addr {
        touch(w, to)?;
    }
    if let Some(child) = word.as_container() {
        move_home(w, child, (from.addr, source.hint()), (to.addr, target.hint()))?;
    }
    let (kind, to_kind) = (alive(w, from)?, alive(w, to)?);
    let record = metadata::take(w, from.addr, kind, &subject(&source))?;
    metadata::set(w, to.addr, to_kind, &subject(&target), Word::NONE)?;
    let displaced = put(w, to, &target, word)?;
    if let Some(record) = record {
        metadata::set(w, to.addr, to_kind, &subject(&target), record)?;
    }
    let taken = match &source {
        Spot::Key(key, hash) => {
            announce::entry(w, from, key, true, false);
            sorted::removed(w, from.addr, key)?;
            entries::remove_hashed(w, from.addr, key, *hash)?
        }
        Spot::Index(i) => {
            spliced(w, from, *i, 1, 0)?;
            Some(list::remove(w, from.addr, *i)?)
        }
    };
    if taken != Some(word) {
        return Err(Error::corrupt(
            "an entry that is not where it was found",
            from.addr,
        ));
    }
    match displaced {
        Some(old) => release_word(w, old, to.addr),
        None => Ok(()),
    }
}

/// Return the subject of an entry's metadata.
pub(in crate::object::ops) fn subject<'a>(spot: &Spot<'a>) -> Of<'a> {
    match *spot {
        Spot::Key(key, _) => Of::Key(key),
        Spot::Index(i) => Of::Index(i),
    }
}

/// Return whether two steps in one container denote the same entry.
pub(in crate::object::ops) fn same<W: PagesMut>(w: &W, h: Addr, a: &Spot<'_>, b: &Spot<'_>) -> Result<bool> {
    match (a, b) {
        (Spot::Index(a), Spot::Index(b)) => Ok(a == b),
        (Spot::Key(a, hash), Spot::Key(b, other)) if hash == other => {
            match entries::get_key_value(w, h, a, *hash)? {
                Some((stored, _)) => keys::eq(w, stored, b),
                None => Ok(false),
            }
        }
        _ => Ok(false),
    }
}

/// Store a word. Return the previous one.
fn put<W: PagesMut>(w: &mut W, obj: Obj, spot: &Spot<'_>, word: Word) -> Result<Option<Word>> {
    let h = obj.addr;
    match spot {
        Spot::Key(key, hash) => {
            let old = entries::set_hashed(w, h, key, *hash, word)?;
            if old.is_none() {
                sorted::added(w, h, key)?;
            }
            announce::entry(w, obj, key, old.is_some(), true);
            Ok(old)
        }
        Spot::Index(i) if *i < list::len(w, h)? => {
            announce::items(w, obj, *i, 1, 1);
            list::set(w, h, *i, word).map(Some)
        }
        Spot::Index(i) => {
            list::insert(w, h, *i, word)?;
            spliced(w, obj, *i, 0, 1)?;
            Ok(None)
        }
    }
}
