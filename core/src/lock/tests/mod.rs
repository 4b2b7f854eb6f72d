//! Tests of the lock manager: shared helpers.

mod abandoned;
mod damage;
mod deferred;
mod kill;
mod model;
mod reference;
mod rules;
mod speed;
mod thin;
mod threads;
mod verify;

use super::{LockMode, Owner, OwnerKind, Request, Table, Target, Wakes};
use crate::ids::ObjectId;
use crate::lock::memory::layout::{COUNTERS, SIGNALS, WORDS};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The shared memory of a table.
pub(super) struct Region {
    pub(super) words: Vec<AtomicU64>,
    pub(super) signals: Vec<AtomicU32>,
    pub(super) counts: Vec<AtomicU32>,
}

/// A copy of the region, for restoring it.
#[derive(PartialEq)]
pub(super) struct Image {
    words: Vec<u64>,
    counts: Vec<u32>,
}

impl Region {
    pub(super) fn new() -> Region {
        Region {
            words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
            signals: (0..SIGNALS).map(|_| AtomicU32::new(0)).collect(),
            counts: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    pub(super) fn table(&self) -> Table<'_> {
        Table::new(&self.words, &self.signals, &self.counts).unwrap()
    }

    pub(super) fn image(&self) -> Image {
        Image {
            words: self.words.iter().map(|w| w.load(Ordering::Relaxed)).collect(),
            counts: self.counts.iter().map(|w| w.load(Ordering::Relaxed)).collect(),
        }
    }

    pub(super) fn restore(&self, image: &Image) {
        for (word, old) in self.words.iter().zip(&image.words) {
            word.store(*old, Ordering::Relaxed);
        }
        for (word, old) in self.counts.iter().zip(&image.counts) {
            word.store(*old, Ordering::Relaxed);
        }
    }
}

pub(super) const S: LockMode = LockMode::Shared;
pub(super) const X: LockMode = LockMode::Exclusive;

pub(super) fn owner(slot: u16, kind: OwnerKind, id: u64) -> Owner {
    Owner {
        slot,
        generation: 7,
        kind,
        id,
        caller: 0,
    }
}

/// Return thread `id` of process 1 as an owner.
pub(super) fn thread(id: u64) -> Owner {
    owner(1, OwnerKind::Thread, id)
}

pub(super) fn object(id: u64) -> Target {
    Target::container(ObjectId(id))
}

pub(super) fn entry(id: u64, key: u64) -> Target {
    Target::entry(ObjectId(id), key)
}

/// Try to acquire a lock. Return whether that succeeded.
pub(super) fn try_lock(table: &Table<'_>, owner: Owner, target: Target, mode: LockMode) -> bool {
    let request = Request::lock(owner, target, mode).unwrap();
    table.try_lock(&request, &mut Wakes::new()).unwrap().is_none()
}
