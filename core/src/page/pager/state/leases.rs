//! The part of the leases (`sync::leases`) that belongs to one opening: whether it is a holder, and what it has found
//! not to be leased.

use crate::page::shared::layout::LEASE_HOLDERS;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Which holder of leases an opening is.
#[derive(Debug, Default)]
pub(in crate::page) struct LeaseHolder(AtomicUsize);

impl LeaseHolder {
    /// Return the holder that this opening is.
    #[inline]
    pub(in crate::page) fn get(&self) -> Option<usize> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            holder => Some((holder - 1) % LEASE_HOLDERS),
        }
    }

    pub(in crate::page) fn set(&self, holder: Option<usize>) {
        self.0.store(holder.map_or(0, |h| h + 1), Ordering::SeqCst);
    }
}

/// Number of entries of which an opening notes that they are not leased.
const ROWS: usize = 64;

/// Entries that a change has found not to be leased. Only the latch's holder uses them. A note has the address of the
/// entry's value, the number of the structure in which the entry has that address (`lookups`), and the number of
/// grants (`sync::leases`, 6): while both numbers stay, there is no lease of the entry.
#[derive(Debug)]
pub(in crate::page) struct Unleased([[AtomicU64; 3]; ROWS]);

impl Default for Unleased {
    fn default() -> Unleased {
        Unleased(std::array::from_fn(|_| Default::default()))
    }
}

impl Unleased {
    #[inline]
    fn row(&self, at: u64) -> &[AtomicU64; 3] {
        &self.0[(at >> 3) as usize % ROWS]
    }

    /// Return whether an entry is noted: address, structure, grants.
    #[inline]
    pub(in crate::page) fn has(&self, note: [u64; 3]) -> bool {
        let row = self.row(note[0]);
        (0..3).all(|i| row[i].load(Ordering::Relaxed) == note[i])
    }

    /// Note an entry.
    pub(in crate::page) fn note(&self, note: [u64; 3]) {
        for (word, value) in self.row(note[0]).iter().zip(note) {
            word.store(value, Ordering::Relaxed);
        }
    }
}
