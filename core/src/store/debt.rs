//! What a change owes: how much of what waits to be freed it frees at its end, for the memory that it took. The rules:
//! `freeing`.

use super::Result;
use crate::object::graph;
use crate::page::access::Pages;
use crate::page::superblock as sb;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Entries that a change frees of what it left itself.
pub(super) const OWN: u64 = 64;
/// Entries that a small change frees of what waited before it, where it must: about a microsecond.
const PORTION: u64 = 2;
/// Pages that make a change a large one.
const LARGE: u64 = 64;
/// Pages taken by small changes while something waits, from which on each frees a portion: this part of the store, and
/// between these. So a small store stays small, and its snapshots hold little garbage.
const SHARE: u64 = 64;
const SOME: std::ops::RangeInclusive<u64> = 4..=1024;
/// The most that is noted of them.
const MOST: u64 = 4 * *SOME.end();

/// What a change finds when it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// Logical pages in use.
    pub(super) used: u64,
    pub(super) waits: bool,
}

impl Before {
    #[inline]
    pub(super) fn of<P: Pages>(p: &P) -> Result<Before> {
        Ok(Before {
            used: used(p)?,
            waits: graph::frees_wait(p)?,
        })
    }
}

/// Logical pages in use.
#[inline]
pub(super) fn used<P: Pages>(p: &P) -> Result<u64> {
    Ok(p.u64_at(sb::NEXT_PAGE)?.saturating_sub(p.u64_at(sb::FREE_PAGES)?))
}

/// The pages that changes of this process took while something waited, less those that they freed; and what its open
/// transaction found when it began.
#[derive(Debug, Default)]
pub(super) struct Debt {
    pages: AtomicU64,
    begun_used: AtomicU64,
    begun_waits: AtomicBool,
    /// A transaction of this process found no space.
    pub(super) starved: AtomicBool,
}

/// What a large change still has to free: it took so many pages, and before it the store used so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    pub(super) pages: u64,
    pub(super) used: u64,
}

impl Debt {
    /// Notes what a transaction finds. Only one is open at a time.
    pub(super) fn begin(&self, found: Before) {
        self.begun_used.store(found.used, Ordering::Relaxed);
        self.begun_waits.store(found.waits, Ordering::Relaxed);
    }

    pub(super) fn begun(&self) -> Before {
        Before {
            used: self.begun_used.load(Ordering::Relaxed),
            waits: self.begun_waits.load(Ordering::Relaxed),
        }
    }

    /// The next transaction frees before it begins.
    pub(super) fn starve(&self) {
        self.starved.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    pub(super) fn get(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, pages: u64) {
        self.pages.store(pages.min(MOST), Ordering::Relaxed);
    }
}

/// Pages taken meanwhile that are some, for a store that uses so many; twice as many are many.
fn some(used: u64) -> u64 {
    (used / SHARE).clamp(*SOME.start(), *SOME.end())
}

/// Entries that a change frees at its end, which took so many pages.
pub(super) fn budget(before: Before, taken: u64, debt: u64, helped: bool) -> u64 {
    if !before.waits || is_large(before, taken, debt) {
        OWN
    } else if debt >= some(before.used) || !helped {
        PORTION
    } else {
        0
    }
}

/// Whether a change that took so many pages goes on freeing after it is complete.
pub(super) fn is_large(before: Before, taken: u64, debt: u64) -> bool {
    taken >= LARGE || taken > 0 && debt >= 2 * some(before.used)
}
