//! The part of an object's header that a handle of the object keeps: the location of its attributes. So
//! access needs no read of the header, whose cache line is seldom in the processor's cache if there are many
//! objects.
//!
//! 1. It is valid as long as `Lookups::structure` is unchanged, like a cached lookup
//!    (`page::lookups`).
//! 2. It is filled in a section that holds, and used in a section. All threads that fill it under one number
//!    write the same words. A thread that is stopped while it fills may later write older words over newer
//!    ones: a checksum over the words detects that.

use super::Head;
use crate::error::Result;
use crate::ids::{Addr, Obj};
use crate::object::key;
use crate::object::value::Key;
use crate::object::word::Word;
use crate::page::access::Pages;
use std::sync::atomic::{AtomicU64, Ordering};

const BODY_BITS: u32 = 48;

/// The location of one object's attributes.
#[derive(Debug, Default)]
pub struct Known {
    structure: AtomicU64,
    /// Address of the body, and its number of words in the upper bits.
    body: AtomicU64,
    class: AtomicU64,
    /// `sum` of the other three.
    sum: AtomicU64,
}

#[inline]
fn sum(structure: u64, body: u64, class: u64) -> u64 {
    (structure.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ body)
        .wrapping_mul(0xff51_afd7_ed55_8ccd)
        .wrapping_add(class)
}

impl Known {
    /// Return whether it would be valid in a section with this number.
    #[inline]
    pub(crate) fn is_of(&self, structure: u64) -> bool {
        structure != 0 && self.structure.load(Ordering::Acquire) == structure
    }

    #[inline]
    fn head<P: Pages>(&self, p: &P, h: Addr) -> Option<Head> {
        let structure = p.lookups().structure();
        if !self.is_of(structure) {
            return None;
        }
        let body = self.body.load(Ordering::Relaxed);
        let class = self.class.load(Ordering::Relaxed);
        (self.sum.load(Ordering::Relaxed) == sum(structure, body, class)).then_some(Head {
            h,
            shared: true,
            flags: 0,
            words: (body >> BODY_BITS) as usize,
            body: Addr(body & ((1 << BODY_BITS) - 1)),
            class: Addr(class),
        })
    }

    fn keep<P: Pages>(&self, p: &P, head: &Head) {
        let structure = p.lookups().structure();
        if head.shared && head.body.0 >> BODY_BITS == 0 && structure != 0 && p.holds() {
            let body = head.body.0 | (head.words as u64) << BODY_BITS;
            self.body.store(body, Ordering::Relaxed);
            self.class.store(head.class.0, Ordering::Relaxed);
            self.sum
                .store(sum(structure, body, head.class.0), Ordering::Relaxed);
            self.structure.store(structure, Ordering::Release);
        }
    }

    /// Record the location from the header of a live object. Return its class record.
    pub(crate) fn learn<P: Pages>(&self, p: &P, obj: Obj) -> Result<Addr> {
        let head = Head::read(p, obj.addr)?;
        self.keep(p, &head);
        if head.words != 0 {
            p.prefetch(head.body);
        }
        Ok(head.class)
    }
}

/// Return the address of an attribute's value word, and the word; None too if nothing is recorded.
#[inline]
pub fn locate_known<P: Pages>(p: &P, obj: Obj, key: &Key<'_>, known: &Known) -> Result<Option<(Addr, Word)>> {
    match known.head(p, obj.addr) {
        Some(head) => head.locate(p, key, key::hash(p.hash_seed(), key)),
        None => Ok(None),
    }
}

/// Return the value word of an attribute: `REMOVED` if the object has no such attribute, `EMPTY` if nothing
/// is recorded.
#[inline]
pub fn word_known<P: Pages>(p: &P, obj: Obj, key: &Key<'_>, known: &Known) -> Result<Word> {
    let Some(head) = known.head(p, obj.addr) else {
        return Ok(Word::EMPTY);
    };
    let found = head.locate(p, key, key::hash(p.hash_seed(), key))?;
    Ok(found.map_or(Word::REMOVED, |(_, word)| word))
}
