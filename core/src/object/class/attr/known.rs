//! What whoever refers to an object keeps of its header: the way to its attributes without reading the header,
//! whose line is seldom in the processor's cache where objects are many.
//!
//! 1. It is good as long as `Pages::structure` is what it was, as a note is (`page/memo.rs`).
//! 2. It is filled in a section, the structure's number last, and asked in a section. All who fill it under one
//!    number write the same, and no section with that number overlaps one with another. So its words belong
//!    together wherever the number is found.

use super::Head;
use crate::error::Result;
use crate::ids::{Addr, Obj};
use crate::object::key;
use crate::object::value::Key;
use crate::object::word::Word;
use crate::page::access::Pages;
use std::sync::atomic::{AtomicU64, Ordering};

const BODY_BITS: u32 = 48;

/// Where an object's attributes were found. It stands for one object only.
#[derive(Debug, Default)]
pub struct Known {
    structure: AtomicU64,
    /// Address of the body, and its words in the upper bits.
    body: AtomicU64,
    class: AtomicU64,
}

impl Known {
    /// Whether it would be good in a section that finds this number.
    #[inline]
    pub(crate) fn is_of(&self, structure: u64) -> bool {
        structure != 0 && self.structure.load(Ordering::Acquire) == structure
    }

    #[inline]
    fn head<P: Pages>(&self, p: &P, h: Addr) -> Option<Head> {
        self.is_of(p.structure()).then(|| {
            let body = self.body.load(Ordering::Relaxed);
            Head {
                h,
                shared: true,
                flags: 0,
                words: (body >> BODY_BITS) as usize,
                body: Addr(body & ((1 << BODY_BITS) - 1)),
                class: Addr(self.class.load(Ordering::Relaxed)),
            }
        })
    }

    fn keep<P: Pages>(&self, p: &P, head: &Head) {
        if head.shared && head.body.0 >> BODY_BITS == 0 && p.structure() != 0 {
            let words = (head.words as u64) << BODY_BITS;
            self.body.store(head.body.0 | words, Ordering::Relaxed);
            self.class.store(head.class.0, Ordering::Relaxed);
            self.structure.store(p.structure(), Ordering::Release);
        }
    }

    /// Keeps what the header of an object says that is alive. Gives its class record.
    pub(crate) fn learn<P: Pages>(&self, p: &P, obj: Obj) -> Result<Addr> {
        let head = Head::read(p, obj.addr)?;
        self.keep(p, &head);
        if head.words != 0 {
            p.prefetch(head.body);
        }
        Ok(head.class)
    }
}

/// Where the value word of an attribute lies, and the word; None too if nothing is known.
#[inline]
pub fn locate_known<P: Pages>(p: &P, obj: Obj, key: &Key<'_>, known: &Known) -> Result<Option<(Addr, Word)>> {
    match known.head(p, obj.addr) {
        Some(head) => head.locate(p, key, key::hash(p.hash_seed(), key)),
        None => Ok(None),
    }
}

/// The value word of an attribute: `REMOVED` if the object has no such attribute, `EMPTY` if nothing is known.
#[inline]
pub fn word_known<P: Pages>(p: &P, obj: Obj, key: &Key<'_>, known: &Known) -> Result<Word> {
    let Some(head) = known.head(p, obj.addr) else {
        return Ok(Word::EMPTY);
    };
    let found = head.locate(p, key, key::hash(p.hash_seed(), key))?;
    Ok(found.map_or(Word::REMOVED, |(_, word)| word))
}
