//! The checkpoint in progress: its phase, the values that it took at the flip, and the image of its meta page.
//! `checkpoint::phases` states what the phases mean.

use crate::ids::PAGE_SIZE;
use crate::page::shared::header::last_checkpoint::Reference;
use crate::page::shared::layout::META_IMAGE;
use crate::page::shared::shm::Shm;
use crate::page::shared::word::{Word, Words};
use std::sync::atomic::Ordering;

const CK_PHASE: Word = Word::at(648);
const CK_EPOCH: Word = Word::at(656);
const CK_LOGICAL: Word = Word::at(664);
const CK_NEXT_ID: Word = Word::at(672);
const CK_ROOT: Word = Word::at(680); // 2 words
/// Number of entries of the old list whose pages are already free.
const CK_FREED: Word = Word::at(696);
/// Number of dirty entries of the ended epoch that are data pages (the checkpointer added the others).
const CK_DIRTY: Word = Word::at(728);
const CK_CATALOGUE: Word = Word::at(1040); // 2 words
/// The last word of the image of the meta page: the page's checksum.
const IMAGE_SUM: Word = Word::at(META_IMAGE + PAGE_SIZE - 8);

/// The phases (`checkpoint`).
pub(in crate::page) const IDLE: u64 = 0;
pub(in crate::page) const BUILDING: u64 = 1;
pub(in crate::page) const WRITING: u64 = 2;
pub(in crate::page) const FREEING: u64 = 3;
pub(in crate::page) const SWITCHING: u64 = 4;
pub(in crate::page) const WRITTEN: u64 = 5;

/// A view of the words of the checkpoint in progress.
pub(in crate::page) struct NextCheckpoint<'a, W = Shm>(&'a W);

impl<'a, W: Words> NextCheckpoint<'a, W> {
    pub(in crate::page) fn of(words: &'a W) -> NextCheckpoint<'a, W> {
        NextCheckpoint(words)
    }

    pub(in crate::page) fn phase(&self) -> u64 {
        self.0.value(CK_PHASE)
    }

    /// Return the ended epoch, which is the checkpoint's number.
    pub(in crate::page) fn epoch(&self) -> u64 {
        self.0.value(CK_EPOCH)
    }

    /// Return the checksum of its meta page.
    pub(in crate::page) fn image_sum(&self) -> u64 {
        self.0.value(IMAGE_SUM)
    }
}

impl NextCheckpoint<'_> {
    /// Return its number of logical pages.
    pub(in crate::page) fn logical(&self) -> u64 {
        self.0.get(CK_LOGICAL)
    }

    pub(in crate::page) fn next_id(&self) -> u64 {
        self.0.get(CK_NEXT_ID)
    }

    /// Return the number of entries of its dirty list that are data pages.
    pub(in crate::page) fn dirty(&self) -> u64 {
        self.0.get(CK_DIRTY)
    }

    /// Return the number of entries of the old list whose pages are already free.
    pub(in crate::page) fn freed(&self) -> u64 {
        self.0.get(CK_FREED)
    }

    /// Return the root of its page table.
    pub(in crate::page) fn root(&self) -> Reference {
        [self.0.get(CK_ROOT), self.0.get(CK_ROOT.nth(1))]
    }

    /// Return its snapshot catalogue.
    pub(in crate::page) fn catalogue(&self) -> Reference {
        [self.0.get(CK_CATALOGUE), self.0.get(CK_CATALOGUE.nth(1))]
    }

    /// Take the values of the flip. The phase begins later (`set_phase`).
    pub(in crate::page) fn flip(&self, epoch: u64, logical: u64, next_id: u64, dirty: u64) {
        self.0.set(CK_EPOCH, epoch);
        self.0.set(CK_LOGICAL, logical);
        self.0.set(CK_NEXT_ID, next_id);
        self.0.set(CK_DIRTY, dirty);
        self.0.set(CK_FREED, 0);
    }

    pub(in crate::page) fn set_phase(&self, phase: u64) {
        self.0.set(CK_PHASE, phase);
    }

    pub(in crate::page) fn set_next_id(&self, id: u64) {
        self.0.set(CK_NEXT_ID, id);
    }

    pub(in crate::page) fn set_freed(&self, entries: u64) {
        self.0.set(CK_FREED, entries);
    }

    /// Record its tree and its catalogue.
    pub(in crate::page) fn set_built(&self, root: Reference, catalogue: Reference) {
        self.0.set(CK_ROOT, root[0]);
        self.0.set(CK_ROOT.nth(1), root[1]);
        self.0.set(CK_CATALOGUE, catalogue[0]);
        self.0.set(CK_CATALOGUE.nth(1), catalogue[1]);
    }

    /// Store the image of its meta page.
    pub(in crate::page) fn set_image(&self, page: &[u8; PAGE_SIZE]) {
        let words = self.0.words(META_IMAGE, PAGE_SIZE / 8);
        for (word, bytes) in words.iter().zip(page.chunks_exact(8)) {
            let mut b = [0; 8];
            b.copy_from_slice(bytes);
            word.store(u64::from_le_bytes(b), Ordering::Relaxed);
        }
    }

    /// Return the image of its meta page.
    pub(in crate::page) fn image(&self) -> [u8; PAGE_SIZE] {
        let mut page = [0u8; PAGE_SIZE];
        let words = self.0.words(META_IMAGE, PAGE_SIZE / 8);
        for (bytes, word) in page.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        page
    }
}

impl Shm {
    /// Return the words of the checkpoint in progress.
    #[inline]
    pub(in crate::page) fn next_checkpoint(&self) -> NextCheckpoint<'_> {
        NextCheckpoint(self)
    }
}
