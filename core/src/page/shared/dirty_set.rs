//! The containers that the open transaction has changed: a set of hashed bits. A reader whose
//! container shares a bit with a changed one reads copies for nothing, which is rare and harmless.
//!
//! Written by the latch's holder before the change; read inside read sections when the gate says
//! that a transaction is open; cleared at its end inside a write section.

use crate::ids::ObjectId;
use crate::page::shared::layout;
use crate::page::shared::shm::Shm;
use std::sync::atomic::{AtomicU64, Ordering};

fn place(shm: &Shm, id: ObjectId) -> (&AtomicU64, u64) {
    let hash = id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
    let words = shm.words(layout::MARKS, layout::MARK_WORDS);
    (
        &words[(hash / 64) as usize % layout::MARK_WORDS],
        1 << (hash % 64),
    )
}

pub(crate) fn insert(shm: &Shm, id: ObjectId) {
    let (word, bit) = place(shm, id);
    word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
}

pub(crate) fn contains(shm: &Shm, id: ObjectId) -> bool {
    let (word, bit) = place(shm, id);
    word.load(Ordering::Relaxed) & bit != 0
}

pub(crate) fn clear(shm: &Shm) {
    for w in shm.words(layout::MARKS, layout::MARK_WORDS) {
        w.store(0, Ordering::Relaxed);
    }
}
