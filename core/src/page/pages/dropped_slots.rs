//! The slots of dropped snapshots in the sidecar: which of them may still hold pages, and how far the walk that frees
//! these pages has come (`checkpoint::dropped`).
//!
//! A slot, 64 bytes:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | checkpoint (0: the slot is free; written last) |
//! | 8 | 8 | root page, height << 32 |
//! | 16 | 8 | checksum of the root |
//! | 24 | 8 | `since` |
//! | 32 | 8 | cursor |

use crate::page::format::page_table::{Entry, Tree};
use crate::page::shared::layout::{self, DROPPED_SLOTS};
use crate::page::shared::shm::Shm;
use std::sync::atomic::Ordering;

/// A dropped snapshot that may still hold pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped {
    pub(crate) slot: usize,
    pub(crate) checkpoint: u64,
    pub(crate) tree: Tree,
    pub(crate) since: u64,
    pub(crate) cursor: u64,
}

impl Shm {
    fn dropped_words(&self, slot: usize) -> &[std::sync::atomic::AtomicU64] {
        self.words(layout::DROPPED + slot * 64, 5)
    }

    /// Move the cursor of the walk that frees a dropped snapshot's pages.
    pub(crate) fn set_dropped_cursor(&self, slot: usize, cursor: u64) {
        self.dropped_words(slot)[4].store(cursor, Ordering::Release);
    }

    /// Fill a free slot.
    pub(in crate::page) fn set_dropped(&self, slot: usize, checkpoint: u64, tree: Tree, since: u64) {
        let words = self.dropped_words(slot);
        words[1].store(
            u64::from(tree.root.physical) | u64::from(tree.height) << 32,
            Ordering::Relaxed,
        );
        words[2].store(tree.root.sum, Ordering::Relaxed);
        words[3].store(since, Ordering::Relaxed);
        words[4].store(0, Ordering::Relaxed);
        words[0].store(checkpoint, Ordering::Release);
    }

    /// Forget a dropped snapshot.
    pub(crate) fn forget_dropped(&self, slot: usize) {
        self.dropped_words(slot)[0].store(0, Ordering::Release);
    }

    /// Return the dropped snapshots.
    pub(crate) fn dropped(&self) -> Vec<Dropped> {
        (0..DROPPED_SLOTS)
            .filter_map(|slot| {
                let word = |i: usize| self.dropped_words(slot)[i].load(Ordering::Acquire);
                (word(0) != 0).then(|| Dropped {
                    slot,
                    checkpoint: word(0),
                    tree: Tree {
                        root: Entry {
                            physical: word(1) as u32,
                            birth: word(0) as u32,
                            sum: word(2),
                        },
                        height: (word(1) >> 32) as u32,
                    },
                    since: word(3),
                    cursor: word(4),
                })
            })
            .collect()
    }
}
