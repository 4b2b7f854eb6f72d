//! The fast path: read an entry, or replace one small value by another, without waiting and without a
//! closure.
//!
//! Most reads and many changes end here, in some 10 ns. A negative answer only means "use `read` or `write`":
//! the fast path never fails and never waits.
//!
//! 1. A word counts only if its section is still valid when it ends, as in `Store::read`.
//! 2. A replacement in place is one word and one modification time, without undo (`section::in_place_store`).
//!    All other changes take the slow path: values with bodies, containers that are watched or have locks other than a
//!    thin lock of the running task, and stores in which entries wait to be freed.

use super::{Key, Obj, Reader, Store, Word};
use crate::object::{graph, key, ops};
use crate::page::access::Pages;
use crate::store::locks::hooks;
use std::sync::atomic::Ordering;

pub use crate::object::ops::Member;

/// Return the result of `long` for a word, in the section that found it. Ends the section.
#[inline(never)]
fn examine_slowly<R>(
    section: Reader<'_>,
    word: Word,
    long: impl FnOnce(&Reader<'_>, Word) -> Option<R>,
) -> Option<R> {
    let made = long(&section, word);
    let counts = made.is_some() && section.is_whole() && section.holds();
    if counts {
        section.keep_pins();
    }
    made.filter(|_| counts)
}

impl Store {
    /// Return the word of an entry, if nothing blocks the read and the value fits in a word. `Word::REMOVED`
    /// means that the entry does not exist. `Word::EMPTY` means that the fast path cannot decide: use `read`.
    ///
    /// # Errors
    /// Those of `long`, which runs in the same section for a value that does not fit in its word. The
    /// restrictions on the closure of `read` apply to `long` too.
    #[doc(hidden)]
    #[inline(always)]
    pub fn fast_get<R>(
        &self,
        obj: Obj,
        member: Member<'_>,
        long: impl FnOnce(&Reader<'_>, Word) -> Option<R>,
    ) -> std::result::Result<Word, R> {
        if self.inner.view.is_some() {
            return Ok(Word::EMPTY);
        }
        let Some(section) = self.pager().try_read() else {
            return Ok(Word::EMPTY);
        };
        let word = ops::find_word(&section, obj, member);
        if word.is_plain() || word.is_empty() {
            let counts = section.is_whole() && section.holds();
            return Ok(if counts { word } else { Word::EMPTY });
        }
        match examine_slowly(section, word, long) {
            Some(made) => Err(made),
            None => Ok(Word::EMPTY),
        }
    }

    /// Replace a small value by another (`Word::small`), if nothing blocks the change and the entry is found
    /// without a search. False means that nothing was changed: use `write`.
    #[doc(hidden)]
    #[inline(always)]
    #[must_use]
    pub fn fast_set(&self, obj: Obj, member: Member<'_>, word: Word) -> bool {
        if !word.is_plain() || self.inner.view.is_some() || self.inner.has_unpinned.load(Ordering::Relaxed) {
            return false;
        }
        match member {
            // Check first, so that the latch is not acquired for nothing.
            Member::Key(key) => self.seems_cached(obj, &key) && self.replace_in_place(obj, member, word),
            Member::Attribute(key, known) => {
                (self.seems_cached(obj, &key) && self.replace_in_place(obj, Member::Key(key), word))
                    || (known.is_of(self.pager().structure_now()) && self.replace_known(obj, member, word))
            }
            Member::Item(_) => self.replace_in_place(obj, member, word),
        }
    }

    #[inline(always)]
    fn seems_cached(&self, obj: Obj, key: &Key<'_>) -> bool {
        match ops::lookup_key(obj, key) {
            Some(cached) => self.pager().seems_cached(cached),
            None => false,
        }
    }

    fn hash_of(&self, member: &Member<'_>) -> Option<u64> {
        match member {
            Member::Key(key) | Member::Attribute(key, _) => Some(key::hash(self.pager().seed(), key)),
            Member::Item(_) => None,
        }
    }

    #[inline(never)]
    fn replace_known(&self, obj: Obj, member: Member<'_>, word: Word) -> bool {
        self.replace_in_place(obj, member, word)
    }

    #[inline(always)]
    fn replace_in_place(&self, obj: Obj, member: Member<'_>, word: Word) -> bool {
        let Some(mut section) = self.pager().try_in_place() else {
            return false;
        };
        let Some((at, time_at)) = ops::find_place(&*section, obj, member) else {
            return false;
        };
        let plain = section.u64_at(at).is_ok_and(|old| Word(old).is_plain());
        plain
            && matches!(graph::has_pending_work(&*section), Ok(false))
            && !section.is_watched(obj.id)
            && !hooks::may_forbid(section.pager(), obj.id)
            && !section.may_be_leased(obj.id, at, || self.hash_of(&member))
            && section.replace(at, word.0, time_at)
    }
}
