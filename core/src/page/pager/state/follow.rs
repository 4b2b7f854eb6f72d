//! State of a view of the newest checkpoint: its copies of pages, and the mapped meta pages. The protocol:
//! `session::follow`.

use crate::error::Result;
use crate::ids::PAGE_SIZE;
use crate::raw::files::held::Held;
use crate::raw::map::Map;
use crate::raw::process;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Offset of the checkpoint's number in a meta page.
const NUMBER: usize = 32;

/// The state of a view in addition to the pager that shows it.
#[derive(Debug)]
pub(crate) struct Follow {
    /// The copies, each at its page's offset in the file.
    memory: Arc<Held>,
    /// The meta pages, mapped so that their numbers can be checked.
    metas: Map,
    /// Number of copies made; locked while one is made.
    copied: Mutex<u64>,
    /// The copies are too large.
    full: AtomicBool,
    /// When the file's name was last checked.
    looked: AtomicU64,
}

impl Follow {
    pub(crate) fn new(store: &File, memory: Arc<Held>) -> Result<Follow> {
        Ok(Follow {
            memory,
            metas: Map::read_only(store, 2 * PAGE_SIZE, false)?,
            copied: Mutex::new(0),
            full: AtomicBool::new(false),
            looked: AtomicU64::new(process::coarse_now()),
        })
    }

    /// Release descriptor and mapping: the store is closed.
    pub(crate) fn retire(&self) -> Result<()> {
        self.memory.retire();
        self.metas.retire()
    }

    /// Return the file of the copies.
    pub(in crate::page) fn memory(&self) -> &Held {
        &self.memory
    }

    /// Lock the number of copies: no other thread makes one.
    pub(in crate::page) fn copied(&self) -> MutexGuard<'_, u64> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Return whether the copies are too large, so that they must be discarded.
    pub(in crate::page) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(in crate::page) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Return whether the file's name was last checked more than `age` nanoseconds ago. If so, it counts as checked.
    pub(in crate::page) fn name_is_due(&self, age: u64) -> bool {
        let now = process::coarse_now();
        let due = now.wrapping_sub(self.looked.load(Ordering::Relaxed)) > age;
        if due {
            self.looked.store(now, Ordering::Relaxed);
        }
        due
    }

    /// Return the number in a meta page.
    pub(in crate::page) fn number(&self, i: usize) -> u64 {
        u64::from_le(self.metas.word(i * PAGE_SIZE + NUMBER).load(Ordering::Acquire))
    }

    pub(in crate::page) fn newest(&self) -> u64 {
        self.number(0).max(self.number(1))
    }
}
