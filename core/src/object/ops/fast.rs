//! The fast path of reads and of replacing small values. It finds an entry by the section's cached
//! lookups (`Pages::lookups`), or by the caller's knowledge of its object (`Known`).
//!
//! 1. Nothing here fails: whatever the fast path cannot decide, including a damaged page, is left to the slow
//!    path, which raises the errors.
//! 2. A word that is found belongs to the entry in this section. `Word::REMOVED` says that the entry does not
//!    exist.

use super::entry::lookup_key;
use super::read::{item_at, lookup};
use crate::error::Result;
use crate::ids::{Addr, Obj};
use crate::object::class::attr::{self, Known};
use crate::object::header;
use crate::object::list;
use crate::object::value::Key;
use crate::object::word::Word;
use crate::page::access::Pages;

/// An entry of a container, as the fast path names it.
#[derive(Clone, Copy, Debug)]
pub enum Member<'a> {
    /// A key of a dict, or the name of an attribute.
    Key(Key<'a>),
    /// The name of an attribute, with the caller's knowledge about its object.
    Attribute(Key<'a>, &'a Known),
    /// An index of a list; a negative one counts from the end.
    Item(i64),
}

/// Return the word of an entry; `REMOVED` if it does not exist, `EMPTY` if the fast path cannot decide.
#[inline(always)]
pub fn find_word<P: Pages>(p: &P, obj: Obj, member: Member<'_>) -> Word {
    match member {
        Member::Key(key) => entry_word(p, obj, &key),
        Member::Attribute(key, known) => attribute_word(p, obj, &key, known),
        Member::Item(index) => item_word(p, obj, index),
    }
}

/// Return the address of an entry's word, and that of its container's mtime. None: take the slow path.
#[inline(always)]
pub fn find_place<P: Pages>(p: &P, obj: Obj, member: Member<'_>) -> Option<(Addr, Addr)> {
    let at = match member {
        Member::Key(key) => {
            let [at, _] = p.lookups().find(lookup_key(obj, &key)?)?;
            Addr(at)
        }
        Member::Attribute(key, known) => {
            // The lines of the mtime and of the value are loaded together.
            p.prefetch(obj.addr + header::MTIME);
            attr::locate_known(p, obj, &key, known).ok()??.0
        }
        Member::Item(index) => {
            let at = item_at(p, obj, index).ok()??;
            list::place(p, obj.addr, at).ok()??
        }
    };
    Some((at, obj.addr + header::MTIME))
}

#[inline(always)]
fn entry_word<P: Pages>(p: &P, obj: Obj, key: &Key<'_>) -> Word {
    if let Some(cached) = lookup_key(obj, key)
        && let Some([at, _]) = p.lookups().find(cached)
    {
        if p.reading(obj.id).is_ok()
            && let Ok(word) = p.u64_at(Addr(at))
        {
            return seen(Word(word));
        }
        return Word::EMPTY;
    }
    search(p, obj, key)
}

#[inline(always)]
fn attribute_word<P: Pages>(p: &P, obj: Obj, key: &Key<'_>, known: &Known) -> Word {
    if p.reading(obj.id).is_ok()
        && let Ok(word) = attr::word_known(p, obj, key, known)
        && word != Word::EMPTY
    {
        return word;
    }
    search_known(p, obj, key, known)
}

#[inline(always)]
fn item_word<P: Pages>(p: &P, obj: Obj, index: i64) -> Word {
    match item_at(p, obj, index) {
        Ok(Some(at)) => word_of(list::get(p, obj.addr, at)),
        Ok(None) => Word::REMOVED,
        Err(_) => Word::EMPTY,
    }
}

#[inline(never)]
fn search_known<P: Pages>(p: &P, obj: Obj, key: &Key<'_>, known: &Known) -> Word {
    let word = word_of(lookup(p, obj, key));
    if word != Word::EMPTY {
        // If the object is alive, learn it; on an error it stays unknown.
        let _ = known.learn(p, obj);
    }
    word
}

#[inline(never)]
fn search<P: Pages>(p: &P, obj: Obj, key: &Key<'_>) -> Word {
    word_of(lookup(p, obj, key))
}

#[inline]
fn word_of(found: Result<Option<Word>>) -> Word {
    match found {
        Ok(Some(word)) => seen(word),
        Ok(None) => Word::REMOVED,
        Err(_) => Word::EMPTY,
    }
}

/// Return `EMPTY` for a stored word that is not a value. Such a word is damage, and the caller must not take
/// it for `REMOVED`.
#[inline(always)]
fn seen(word: Word) -> Word {
    if word.is_empty() { Word::EMPTY } else { word }
}
