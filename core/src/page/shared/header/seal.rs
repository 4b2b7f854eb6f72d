//! Signature and seal of a sidecar, which distinguish a complete sidecar from a torn or changed one (`sidecar`,
//! `takeover`).
//!
//! 1. The signature is a checksum of the words before it, which never change. It is written when the sidecar is made.
//! 2. The seal is set while no process uses the sidecar and a checkpoint holds every change. It covers the header and
//!    the beginnings of the regions, so its cost is bounded for any size of the store.

use crate::page::shared::layout::{
    DROPPED, DROPPED_SLOTS, FREEMAP, LIST_SIZE, LIST_STEP, LISTS, MAX_PAGES, META_IMAGE, TABLE, VIEW_SLOTS,
    VIEWS, in_file,
};
use crate::page::shared::shm::Shm;
use crate::page::shared::word::{Word, Words};
use std::sync::atomic::Ordering;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The signature: checksum of the words before it, which never change.
const IDENTITY: Word = Word::at(80);
/// The seal: a checksum of the header and of the beginnings of the regions, if a checkpoint holds every completed
/// change and no process has used the sidecar since; else 0.
const CLEAN: Word = Word::at(88);

/// Number of bytes of a region that the seal covers.
const SEALED: usize = 256 << 10;

/// Return the signature that a header should have.
fn signature(head: &[u8]) -> u64 {
    xxh3_64(&head[..IDENTITY.offset()]) | 1
}

/// Return the signature in a header, and whether it matches the header's bytes.
pub(in crate::page) fn signature_of(words: &impl Words, head: &[u8]) -> (u64, bool) {
    let signed = words.value(IDENTITY);
    (signed, signed == signature(head))
}

/// Return whether a sidecar is sealed.
pub(in crate::page) fn is_sealed(words: &impl Words) -> bool {
    words.value(CLEAN) != 0
}

impl Shm {
    /// Sign the header, when the sidecar is made.
    pub(crate) fn sign(&self) {
        let head = self.bytes(0, IDENTITY.offset());
        self.set(IDENTITY, signature(&head));
    }

    fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        let words = self.words(at, len / 8).iter();
        words
            .flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes())
            .collect()
    }

    /// Compute the seal's checksum. The cost is bounded for any size of the store.
    fn sealed_sum(&self) -> u64 {
        let mut sum = Xxh3::new();
        let seal = CLEAN.offset();
        sum.update(&self.bytes(0, seal));
        sum.update(&self.bytes(seal + 8, META_IMAGE - seal - 8));
        sum.update(&self.bytes(DROPPED, DROPPED_SLOTS * 64));
        sum.update(&self.bytes(VIEWS, VIEW_SLOTS * 64));
        let mut beginning = |start: usize, len: usize| {
            for (at, len) in in_file(start, len.min(SEALED) / 8 * 8) {
                sum.update(&self.bytes(at as usize, len as usize));
            }
        };
        for list in 0..3 {
            let len = (self.list_len(list) as usize).min(LIST_SIZE / 24) * 24;
            beginning(LISTS + list * LIST_STEP, len);
        }
        beginning(
            FREEMAP,
            (self.space().file_pages() as usize)
                .min(MAX_PAGES as usize)
                .div_ceil(64)
                * 8,
        );
        beginning(
            TABLE,
            (self.live().logical() as usize).min(MAX_PAGES as usize) * 8,
        );
        sum.digest() | 1
    }

    /// Set the seal: a checkpoint holds every change, and no process uses the sidecar.
    pub(crate) fn seal(&self) {
        self.set(CLEAN, self.sealed_sum());
    }

    /// Remove the seal. Return whether it was set and matches.
    pub(crate) fn unseal(&self) -> bool {
        let seal = self.get(CLEAN);
        let fits = seal != 0 && seal == self.sealed_sum();
        self.set(CLEAN, 0);
        fits
    }
}
