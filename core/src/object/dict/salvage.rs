//! Salvage of a dict body (see `object::salvage`). If the log of a large body is damaged, the index leads to
//! leaves that the log no longer reaches.

use super::head::{Form, Head};
use super::small;
use crate::error::Result;
use crate::ids::Addr;
use crate::object::dict::large::index_walk;
use crate::object::dict::large::leaf;
use crate::object::dict::large::leaf::Leaf;
use crate::object::dict::large::log;
use crate::object::dict::large::record::DictRecord;
use crate::object::key;
use crate::object::pieces::{Fresh, Lost, Out, Piece};
use crate::object::word::Word;
use crate::page::access::Pages;

/// See `object::salvage::content`.
pub fn salvage<P: Pages>(p: &P, h: Addr, fresh: Fresh<'_>, out: Out<'_>) -> Result<()> {
    let head = Head::read(p, h).and_then(|head| Ok((head.form()?, head.body)));
    match head {
        Err(e) => out(Piece::Lost(Lost::of(&e, h))),
        Ok((Form::Empty, _)) => Ok(()),
        Ok((_, body)) if !fresh(body) => out(Piece::Lost(Lost::twice(body))),
        Ok((Form::Small(shape), body)) => match small::all_places(p, body, shape) {
            Ok(entries) => entries
                .into_iter()
                .try_for_each(|(k, v)| entry(p, k, v, body, out)),
            Err(e) => out(Piece::Lost(Lost::of(&e, body))),
        },
        Ok((Form::Large, body)) => match DictRecord::read(p, body) {
            Ok(rec) => large(p, &rec, fresh, out),
            Err(e) => out(Piece::Lost(Lost::of(&e, body))),
        },
    }
}

/// Pass an entry to `out`, if its key is valid.
fn entry<P: Pages>(p: &P, key: Word, value: Word, at: Addr, out: Out<'_>) -> Result<()> {
    match key::hash_word(p, key) {
        Ok(_) if !value.is_empty() => out(Piece::Entry(key, value)),
        Ok(_) => out(Piece::Lost(Lost {
            what: "a dict entry without a value",
            at,
            index: 0,
            count: 0,
        })),
        Err(e) => out(Piece::Lost(Lost::of(&e, at))),
    }
}

fn emit<P: Pages>(p: &P, leaf: &Leaf<'_>, out: Out<'_>) -> Result<()> {
    for (e, _) in leaf.entries() {
        entry(p, e.key, e.value, leaf.at, out)?;
    }
    Ok(())
}

fn large<P: Pages>(p: &P, rec: &DictRecord, fresh: Fresh<'_>, out: Out<'_>) -> Result<()> {
    let mut whole = true;
    log::each_leaf(p, rec, fresh, &mut |found| {
        let lost = match found {
            Ok((number, pointer)) => match leaf::read_numbered(p, number, pointer) {
                Ok(leaf) => return emit(p, &leaf, out),
                Err(e) => Lost::of(&e, Addr(pointer & Addr::MAX)),
            },
            Err(lost) => lost,
        };
        whole = false;
        out(Piece::Lost(lost))
    })?;
    if whole {
        return Ok(());
    }
    // The index knows the places of entries, however damaged the log's tree is. Entries that the index has
    // lost too were reported before, or are not known to have existed.
    index_walk::each_slot(p, rec, fresh, &mut |fresh, hash, loc| {
        let known = leaf::words(p, loc).and_then(|(key, _)| key::hash_word(p, key));
        match leaf::read(p, loc.leaf(), loc.sparse()) {
            Ok(leaf) if known.is_ok_and(|known| known == hash) && fresh(leaf.at) => emit(p, &leaf, out),
            _ => Ok(()),
        }
    })
}
