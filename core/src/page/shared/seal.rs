//! Signature and seal of a sidecar: what tells a whole one from a torn or a changed one (`sidecar`, `takeover`).
//!
//! 1. The signature is a checksum of the words before it, which never change: it is made with the sidecar.
//! 2. The seal is there while no process uses the sidecar and a checkpoint holds everything. It covers the header and
//!    the beginnings of the regions: its cost is bounded, whatever the store's size.

use crate::page::shared::at;
use crate::page::shared::layout::{
    DROPPED, DROPPED_SLOTS, FREEMAP, LIST_SIZE, LIST_STEP, LISTS, MAX_PAGES, META_IMAGE, TABLE, in_file,
};
use crate::page::shared::shm::Shm;
use std::sync::atomic::Ordering;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// So much of a region is under the seal.
const SEALED: usize = 256 << 10;

/// The signature of a header.
pub(crate) fn signature(head: &[u8]) -> u64 {
    xxh3_64(&head[..at::IDENTITY]) | 1
}

impl Shm {
    /// Signs the header, when the sidecar is made.
    pub(crate) fn sign(&self) {
        let head = self.bytes(0, at::IDENTITY);
        self.set(at::IDENTITY, signature(&head));
    }

    fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        let words = self.words(at, len / 8).iter();
        words
            .flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes())
            .collect()
    }

    /// What the seal says. Bounded, whatever the store's size.
    fn sealed_sum(&self) -> u64 {
        let mut sum = Xxh3::new();
        sum.update(&self.bytes(0, at::CLEAN));
        sum.update(&self.bytes(at::CLEAN + 8, META_IMAGE - at::CLEAN - 8));
        sum.update(&self.bytes(DROPPED, DROPPED_SLOTS * 64));
        let mut beginning = |start: usize, len: usize| {
            for (at, len) in in_file(start, len.min(SEALED) / 8 * 8) {
                sum.update(&self.bytes(at as usize, len as usize));
            }
        };
        for list in 0..3 {
            let len = (self.get(at::LIST_LEN + 8 * list) as usize).min(LIST_SIZE / 24) * 24;
            beginning(LISTS + list * LIST_STEP, len);
        }
        beginning(
            FREEMAP,
            (self.get(at::FILE_PAGES) as usize)
                .min(MAX_PAGES as usize)
                .div_ceil(64)
                * 8,
        );
        beginning(
            TABLE,
            (self.get(at::LOGICAL) as usize).min(MAX_PAGES as usize) * 8,
        );
        sum.digest() | 1
    }

    /// Says that a checkpoint holds everything, and that no process uses the sidecar.
    pub(crate) fn seal(&self) {
        self.set(at::CLEAN, self.sealed_sum());
    }

    /// Takes the seal off. Whether it was there and fits.
    pub(crate) fn unseal(&self) -> bool {
        let seal = self.get(at::CLEAN);
        let fits = seal != 0 && seal == self.sealed_sum();
        self.set(at::CLEAN, 0);
        fits
    }
}
