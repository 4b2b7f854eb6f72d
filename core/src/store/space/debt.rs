//! The debt of a change: how many of the waiting entries it frees at its end, in return for the memory that
//! it allocated. See `freeing` for the rules.

use crate::object::graph;
use crate::page::access::Pages;
use crate::page::superblock as sb;
use crate::store::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Entries that a change frees from what it left itself.
pub(in crate::store) const OWN_ENTRIES: u64 = 64;
/// Entries that a small change frees, where required, from what earlier changes left: about half a microsecond of
/// work. Small changes that allocate more than they free become large ones (`is_large`).
const PORTION: u64 = 1;
/// The number of allocated pages that makes a change a large one.
pub(in crate::store) const LARGE: u64 = 64;
/// The number of pages that small changes may allocate, while entries wait to be freed, before each of them
/// frees a portion: this fraction of the store's pages, within the bounds of `PAGES_BOUNDS`. So a small store stays
/// small, and its snapshots hold little garbage.
const PAGES_SHARE: u64 = 64;
const PAGES_BOUNDS: std::ops::RangeInclusive<u64> = 4..=1024;
/// The upper bound of the recorded debt.
const MOST: u64 = 4 * *PAGES_BOUNDS.end();

/// The state of the store when a change begins.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Before {
    /// Logical pages in use.
    pub(in crate::store) used: u64,
    pub(in crate::store) waits: bool,
}

impl Before {
    #[inline]
    pub(in crate::store) fn of<P: Pages>(p: &P) -> Result<Before> {
        Ok(Before {
            used: used(p)?,
            waits: graph::has_pending_frees(p)?,
        })
    }
}

/// Logical pages in use.
#[inline]
pub(in crate::store) fn used<P: Pages>(p: &P) -> Result<u64> {
    Ok(p.u64_at(sb::NEXT_PAGE)?.saturating_sub(p.u64_at(sb::FREE_PAGES)?))
}

/// The pages that changes of this process allocated while entries waited to be freed, less those that they
/// freed. Also the state that its open transaction found when it began.
#[derive(Debug, Default)]
pub(in crate::store) struct Debt {
    pages: AtomicU64,
    begun_used: AtomicU64,
    begun_waits: AtomicBool,
    /// A transaction of this process ran out of space.
    pub(in crate::store) starved: AtomicBool,
    /// Number of threads of this process that have asked for room and have not waited for it yet (`room`).
    pub(in crate::store) asked_for_room: Arc<AtomicU32>,
}

/// What a large change owes: the number of pages it allocated, and the number of pages in use before it.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Owed {
    pub(in crate::store) pages: u64,
    pub(in crate::store) used: u64,
    /// It has not freed as many yet, and something waits to be freed.
    pub(in crate::store) waits: bool,
}

impl Debt {
    /// Record the state at the start of a transaction. Only one transaction is open at a time.
    pub(in crate::store) fn begin(&self, found: Before) {
        self.begun_used.store(found.used, Ordering::Relaxed);
        self.begun_waits.store(found.waits, Ordering::Relaxed);
    }

    pub(in crate::store) fn begun(&self) -> Before {
        Before {
            used: self.begun_used.load(Ordering::Relaxed),
            waits: self.begun_waits.load(Ordering::Relaxed),
        }
    }

    /// Make the next transaction free entries before it begins.
    pub(in crate::store) fn starve(&self) {
        self.starved.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(in crate::store) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    pub(in crate::store) fn get(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    pub(in crate::store) fn set(&self, pages: u64) {
        self.pages.store(pages.min(MOST), Ordering::Relaxed);
    }
}

/// Return the allowance of pages for a store that uses `used` pages. Twice the allowance counts as many.
fn some(used: u64) -> u64 {
    (used / PAGES_SHARE).clamp(*PAGES_BOUNDS.start(), *PAGES_BOUNDS.end())
}

/// Return how many entries a change that allocated `taken` pages frees at its end.
pub(in crate::store) fn budget(before: Before, taken: u64, debt: u64, helped: bool) -> u64 {
    if !before.waits || is_large(before, taken, debt) {
        OWN_ENTRIES
    } else if debt >= some(before.used) || !helped {
        PORTION
    } else {
        0
    }
}

/// Return whether a change that allocated `taken` pages continues to free after it is complete.
pub(in crate::store) fn is_large(before: Before, taken: u64, debt: u64) -> bool {
    taken >= LARGE || taken > 0 && debt >= 2 * some(before.used)
}
