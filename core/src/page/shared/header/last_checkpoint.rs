//! The last durable checkpoint, and the one before it: what the page table is read from, and what recovery may have to
//! fall back to.
//!
//! Readers take root and checksum as a pair, so they change under the latch with the gate raised.

use crate::page::shared::shm::Shm;
use crate::page::shared::word::{Word, Words};
use crate::raw::failpoint::fail_point;

/// The last durable checkpoint, and its page table: root page | height << 32, checksum.
const DURABLE: Word = Word::at(136);
const ROOT: Word = Word::at(144); // 2 words
/// Checksum of the meta page of the last durable checkpoint.
const META_SUM: Word = Word::at(160);
/// 1: the last checkpoint may not have been flushed (no process present asked for it then).
const UNFLUSHED: Word = Word::at(824);
/// The snapshot catalogue of the last durable checkpoint: first page | pages << 32, checksum.
const CATALOGUE: Word = Word::at(1024); // 2 words
/// The checkpoint before the last durable one (while one is being made: the last): its page table and its catalogue.
const OLD_ROOT: Word = Word::at(1056); // 2 words
const OLD_CATALOGUE: Word = Word::at(1072); // 2 words

/// A place in the file, with a height or a number of pages in the upper half of the first word, and its checksum.
pub(in crate::page) type Reference = [u64; 2];

/// Return the checksum of the meta page that a sidecar builds on.
pub(in crate::page) fn meta_sum_of(words: &impl Words) -> u64 {
    words.value(META_SUM)
}

/// A view of the words of the last checkpoint.
pub(in crate::page) struct LastCheckpoint<'a>(&'a Shm);

impl LastCheckpoint<'_> {
    fn pair(&self, word: Word) -> Reference {
        [self.0.get(word), self.0.get(word.nth(1))]
    }

    fn set_pair(&self, word: Word, value: Reference) {
        self.0.set(word, value[0]);
        self.0.set(word.nth(1), value[1]);
    }

    /// Return the checkpoint's number.
    #[inline]
    pub(in crate::page) fn number(&self) -> u64 {
        self.0.get(DURABLE)
    }

    /// Return the root of its page table.
    pub(in crate::page) fn root(&self) -> Reference {
        self.pair(ROOT)
    }

    /// Return its snapshot catalogue.
    pub(in crate::page) fn catalogue(&self) -> Reference {
        self.pair(CATALOGUE)
    }

    /// Return the number of pages of its snapshot catalogue.
    pub(in crate::page) fn catalogue_pages(&self) -> u64 {
        self.0.get(CATALOGUE) >> 32
    }

    /// Return the root of the page table of the checkpoint before it.
    pub(in crate::page) fn old_root(&self) -> Reference {
        self.pair(OLD_ROOT)
    }

    /// Return the snapshot catalogue of the checkpoint before it.
    pub(in crate::page) fn old_catalogue(&self) -> Reference {
        self.pair(OLD_CATALOGUE)
    }

    /// Return whether it may not have been flushed.
    pub(in crate::page) fn is_unflushed(&self) -> bool {
        self.0.get(UNFLUSHED) != 0
    }

    pub(in crate::page) fn set_number(&self, number: u64) {
        self.0.set(DURABLE, number);
    }

    pub(in crate::page) fn set_root(&self, root: Reference) {
        self.set_pair(ROOT, root);
    }

    /// As `set_root`, in the switch to the checkpoint that has become durable.
    pub(in crate::page) fn switch_root(&self, root: Reference) {
        self.0.set(ROOT, root[0]);
        fail_point!("checkpoint.switching");
        self.0.set(ROOT.nth(1), root[1]);
    }

    pub(in crate::page) fn set_catalogue(&self, catalogue: Reference) {
        self.set_pair(CATALOGUE, catalogue);
    }

    pub(in crate::page) fn set_meta_sum(&self, sum: u64) {
        self.0.set(META_SUM, sum);
    }

    /// Record whether it may not have been flushed.
    pub(in crate::page) fn set_unflushed(&self, unflushed: bool) {
        self.0.set(UNFLUSHED, u64::from(unflushed));
    }

    /// Record the checkpoint before it.
    pub(in crate::page) fn set_old(&self, root: Reference, catalogue: Reference) {
        self.set_pair(OLD_ROOT, root);
        self.set_pair(OLD_CATALOGUE, catalogue);
    }

    /// Record it as the one before the last. Called before the switch to the next.
    pub(in crate::page) fn note_as_old(&self) {
        self.set_old(self.root(), self.catalogue());
    }
}

impl Shm {
    /// Return the words of the last durable checkpoint.
    #[inline]
    pub(in crate::page) fn last_checkpoint(&self) -> LastCheckpoint<'_> {
        LastCheckpoint(self)
    }
}
