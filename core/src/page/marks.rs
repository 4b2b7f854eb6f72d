//! The containers that the open transaction has changed: a set of hashed bits. A reader whose
//! container shares a bit with a changed one reads copies for nothing, which is rare and harmless.
//!
//! Written by the latch's holder before the change; read inside read sections when the gate says
//! that a transaction is open; cleared at its end inside a write section.

use super::shm::{self, Shm};
use crate::ids::ObjectId;
use std::sync::atomic::{AtomicU64, Ordering};

fn place(shm: &Shm, id: ObjectId) -> (&AtomicU64, u64) {
    let hash = id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
    let words = shm.words(shm::MARKS, shm::MARK_WORDS);
    (&words[(hash / 64) as usize % shm::MARK_WORDS], 1 << (hash % 64))
}

pub(crate) fn mark(shm: &Shm, id: ObjectId) {
    let (word, bit) = place(shm, id);
    word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
}

pub(crate) fn is_marked(shm: &Shm, id: ObjectId) -> bool {
    let (word, bit) = place(shm, id);
    word.load(Ordering::Relaxed) & bit != 0
}

pub(crate) fn clear(shm: &Shm) {
    for w in shm.words(shm::MARKS, shm::MARK_WORDS) {
        w.store(0, Ordering::Relaxed);
    }
}
