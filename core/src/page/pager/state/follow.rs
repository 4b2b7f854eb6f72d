//! State of a view of the newest checkpoint: its copies of pages, and the mapped meta pages. The protocol:
//! `session::follow`.

use crate::error::Result;
use crate::ids::PAGE_SIZE;
use crate::raw::files::held::Held;
use crate::raw::map::Map;
use crate::raw::process;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Offset of the checkpoint's number in a meta page.
const NUMBER: usize = 32;

/// The state of a view in addition to the pager that shows it.
#[derive(Debug)]
pub(crate) struct Follow {
    /// The copies, each at its page's offset in the file.
    pub(in crate::page) memory: Arc<Held>,
    /// The meta pages, mapped so that their numbers can be checked.
    metas: Map,
    /// Number of copies made; locked while one is made.
    pub(in crate::page) copied: Mutex<u64>,
    /// The copies are too large.
    pub(in crate::page) full: AtomicU64,
    /// When the file's name was last checked.
    pub(in crate::page) looked: AtomicU64,
}

impl Follow {
    pub(crate) fn new(store: &File, memory: Arc<Held>) -> Result<Follow> {
        Ok(Follow {
            memory,
            metas: Map::read_only(store, 2 * PAGE_SIZE, false)?,
            copied: Mutex::new(0),
            full: AtomicU64::new(0),
            looked: AtomicU64::new(process::coarse_now()),
        })
    }

    /// Release descriptor and mapping: the store is closed.
    pub(crate) fn retire(&self) -> Result<()> {
        self.memory.retire();
        self.metas.retire()
    }

    /// Return the number in a meta page.
    pub(in crate::page) fn number(&self, i: usize) -> u64 {
        u64::from_le(self.metas.word(i * PAGE_SIZE + NUMBER).load(Ordering::Acquire))
    }

    pub(in crate::page) fn newest(&self) -> u64 {
        self.number(0).max(self.number(1))
    }
}
