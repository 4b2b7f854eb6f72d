//! The durable page table: a radix tree of copy-on-write pages, 256 entries each.
//!
//! An entry, 16 bytes; in inner pages it describes the child page, in leaves a data page:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 4 | physical page (0: nothing) |
//! | 4 | 4 | birth epoch: the epoch in which that physical page was first written |
//! | 8 | 8 | xxh3 of the page |
//!
//! 1. A page of the tree is written once, by the checkpointer, before it becomes reachable.
//! 2. Every page read from the tree is compared with the checksum in its parent (or the meta page), and every number in
//!    it is checked against the file's size, before it is used.

use crate::ids::PAGE_SIZE;
use xxhash_rust::xxh3::xxh3_64;

/// Entries in a page of the tree.
pub(crate) const FANOUT: u64 = 256;
/// Largest number of levels: 256^4 pages are 16 TiB.
pub(crate) const MAX_HEIGHT: u32 = 4;

/// A page and its checksum, as an entry names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) physical: u32,
    pub(crate) birth: u32,
    pub(crate) sum: u64,
}

impl Entry {
    pub(crate) fn read(page: &[u8; PAGE_SIZE], i: usize) -> Entry {
        let b = &page[i * 16..i * 16 + 16];
        let word = |at: usize| {
            let mut w = [0; 8];
            w.copy_from_slice(&b[at..at + 8]);
            u64::from_le_bytes(w)
        };
        Entry {
            physical: word(0) as u32,
            birth: (word(0) >> 32) as u32,
            sum: word(8),
        }
    }

    pub(crate) fn write(self, page: &mut [u8; PAGE_SIZE], i: usize) {
        page[i * 16..i * 16 + 8].copy_from_slice(&self.live().to_le_bytes());
        page[i * 16 + 8..i * 16 + 16].copy_from_slice(&self.sum.to_le_bytes());
    }

    /// Return whether this is the entry of that page.
    pub(crate) fn fits(self, page: &[u8; PAGE_SIZE]) -> bool {
        xxh3_64(page) == self.sum
    }

    /// Return the entry in the live table's form.
    pub(crate) fn live(self) -> u64 {
        u64::from(self.physical) | u64::from(self.birth) << 32
    }
}

/// A page table: its root and its number of levels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) root: Entry,
    pub(crate) height: u32,
}

impl Tree {
    /// Return its two words in the sidecar: root page | height << 32, checksum.
    pub(in crate::page) fn words(self) -> [u64; 2] {
        [
            u64::from(self.root.physical) | u64::from(self.height) << 32,
            self.root.sum,
        ]
    }
}

/// Return a page's place in the order in which a walk leaves a tree: after all pages below it. `last` is the last
/// logical page it covers, `level` 0 for a data page.
pub(crate) fn key(last: u64, level: u32) -> u64 {
    last << 3 | u64::from(level)
}

/// Return the number of logical pages that a tree of this height covers.
pub(crate) fn covers(height: u32) -> u64 {
    if height == 0 {
        0
    } else {
        FANOUT.pow(height.min(MAX_HEIGHT))
    }
}

/// One change of a checkpoint: logical page and new entry. Changes are sorted by page.
pub(crate) type Change = (u64, Entry);
