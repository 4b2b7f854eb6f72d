//! An index of the undo log's records by page, kept from reader to reader, for reading the committed state
//! (`section::committed`). `Tag` changes whenever that state does.

use crate::error::Result;
use crate::page::shared::layout;
use crate::page::shared::shm::Shm;
use std::sync::Mutex;

/// Number of records that are searched one by one before they are sorted in.
const RECENT: usize = 512;
/// Bits of a place in the log, in words.
const PLACE_BITS: u32 = 28;
const _: () = assert!(layout::UNDO_SIZE / 8 < 1 << PLACE_BITS);

/// The words that change when the committed state does (invariant 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::page) struct Tag([u64; 3]);

impl Tag {
    pub(in crate::page) fn now(shm: &Shm) -> Tag {
        let live = shm.live();
        Tag([shm.undo_era(), live.changes(), live.epoch()])
    }
}

/// The index that the last reader of the committed state has left for the next one. A thread that finds another one
/// there does without it.
#[derive(Debug, Default)]
pub(in crate::page) struct KeptIndex(Mutex<Option<Index>>);

impl KeptIndex {
    /// Take the index, or an empty one.
    pub(in crate::page) fn take(&self) -> Index {
        let kept = self.0.try_lock().ok().and_then(|mut kept| kept.take());
        kept.unwrap_or_default()
    }

    /// Return whether the index is of this state.
    pub(in crate::page) fn is_of(&self, tag: Tag) -> bool {
        let kept = self.0.try_lock();
        kept.is_ok_and(|kept| kept.as_ref().is_some_and(|index| index.tag == tag))
    }

    /// Leave an index, unless there is a longer one of the same state.
    pub(in crate::page) fn leave(&self, index: &mut Index) {
        if let Ok(mut kept) = self.0.try_lock()
            && kept
                .as_ref()
                .is_none_or(|kept| kept.tag != index.tag || kept.len < index.len)
        {
            *kept = Some(std::mem::take(index));
        }
    }
}

/// The records of the undo log for each page.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(in crate::page) tag: Tag,
    /// Number of bytes of the log that it covers.
    pub(in crate::page) len: usize,
    /// Page and end of each record, sorted; and those that came since.
    sorted: Vec<u64>,
    recent: Vec<u64>,
}

impl Index {
    /// Create an empty index of the state that has this tag.
    pub(in crate::page) fn of(tag: Tag) -> Index {
        Index {
            tag,
            ..Index::default()
        }
    }

    /// Extend the index to the current end of the log.
    pub(in crate::page) fn catch_up(&mut self, shm: &Shm) -> Result<()> {
        let len = shm.undo_len() as usize;
        if len <= self.len {
            return Ok(());
        }
        let from = self.recent.len();
        shm.undo_records(self.len, len, |page, end| {
            self.recent.push(page << PLACE_BITS | (end / 8) as u64);
        })?;
        self.recent[from..].reverse();
        self.len = len;
        if self.recent.len() > RECENT.max(self.sorted.len() / 8) {
            self.sorted.append(&mut self.recent);
            self.sorted.sort();
        }
        Ok(())
    }

    /// Return the pages that records name, each once.
    pub(in crate::page) fn pages(&self) -> Vec<u64> {
        let keys = self.sorted.iter().chain(&self.recent);
        let mut pages: Vec<u64> = keys.map(|key| key >> PLACE_BITS).collect();
        pages.sort_unstable();
        pages.dedup();
        pages
    }

    /// Return the ends of the records of a page, newest first.
    pub(in crate::page) fn records(&self, page: u64) -> impl Iterator<Item = usize> {
        let end = |key: &u64| (key & ((1 << PLACE_BITS) - 1)) as usize * 8;
        let of_page = move |key: &&u64| **key >> PLACE_BITS == page;
        let from = self.sorted.partition_point(|key| key >> PLACE_BITS < page);
        let to = self.sorted.partition_point(|key| key >> PLACE_BITS <= page);
        let recent = self.recent.iter().rev().filter(of_page).map(end);
        recent.chain(self.sorted[from..to].iter().rev().map(end))
    }
}
