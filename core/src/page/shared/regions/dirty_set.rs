//! The dirty set: the containers that the open transaction has changed, as a set of hashed bits. If an unchanged
//! container shares a bit with a changed one, its readers read copies unnecessarily, which is rare and harmless.
//!
//! The latch's holder sets a bit before the change. Readers test it inside read sections when the gate shows an open
//! transaction. It is cleared at the transaction's end inside a write section.

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
