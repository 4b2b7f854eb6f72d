//! Signature and seal of a sidecar, which distinguish a complete sidecar from a torn or changed one (`sidecar`,
//! `takeover`).
//!
//! 1. The signature is a checksum of the words before it, which never change. It is written when the sidecar is made.
//! 2. The seal is set while no process uses the sidecar and a checkpoint holds every change. It covers the header and
//!    the beginnings of the regions, so its cost is bounded for any size of the store.

use crate::page::shared::at;
use crate::page::shared::layout::{
    DROPPED, DROPPED_SLOTS, FREEMAP, LIST_SIZE, LIST_STEP, LISTS, MAX_PAGES, META_IMAGE, TABLE, in_file,
};
use crate::page::shared::shm::Shm;
use std::sync::atomic::Ordering;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Number of bytes of a region that the seal covers.
const SEALED: usize = 256 << 10;

/// Return the signature of a header.
pub(crate) fn signature(head: &[u8]) -> u64 {
    xxh3_64(&head[..at::IDENTITY]) | 1
}

impl Shm {
    /// Sign the header, when the sidecar is made.
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

    /// Compute the seal's checksum. The cost is bounded for any size of the store.
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

    /// Set the seal: a checkpoint holds every change, and no process uses the sidecar.
    pub(crate) fn seal(&self) {
        self.set(at::CLEAN, self.sealed_sum());
    }

    /// Remove the seal. Return whether it was set and matches.
    pub(crate) fn unseal(&self) -> bool {
        let seal = self.get(at::CLEAN);
        let fits = seal != 0 && seal == self.sealed_sum();
        self.set(at::CLEAN, 0);
        fits
    }
}
