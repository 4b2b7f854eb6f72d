//! The part of the leases (`sync::leases`) that belongs to one opening: whether it is a holder.

use crate::page::shared::layout::LEASE_HOLDERS;
use std::sync::atomic::{AtomicUsize, Ordering};

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
