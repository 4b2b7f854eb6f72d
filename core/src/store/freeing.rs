//! Freeing at the rate at which memory is taken.
//!
//! What a change leaves to be freed (the content of containers, the pieces of large values) waits in the store itself.
//! A removal costs about 0.4 us an entry, and touches pages at random: so a change pays for memory that it takes, and
//! not for what an earlier one left.
//!
//! | A CHANGE | FREES |
//! | --- | --- |
//! | that begins with nothing waiting | what it left itself, up to `OWN` entries |
//! | a small one while something waits | nothing: a helper does when the store is quiet (`page::helper::frees`). Where there is none (`max_age` is None): `PORTION` entries |
//! | a small one, after small changes of this process took some pages meanwhile (`SOME`) | `PORTION` entries |
//! | one that takes a page, after they took twice as many | as a large one |
//! | a large one: it takes `LARGE` pages or more while something waits | until the store uses no more pages than before it, or nothing waits |
//! | one that finds no space on the disk | everything, and is tried again |
//!
//! A large change is complete before that freeing begins. Each step of it is a section of its own, so readers and other
//! writers go in between.

use super::{Error, Result, Store, Wait, Writer};
use crate::heap;
use crate::object::{graph, ops};
use crate::page::access::Pages;
use crate::page::superblock as sb;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Entries that a change frees of what it left itself.
const OWN: u64 = 64;
/// Entries that a small change frees of what waited before it, where it must: about a microsecond.
const PORTION: u64 = 2;
/// Entries that one section of a longer freeing frees.
const STEP: u64 = 128;
/// Pages that make a change a large one.
const LARGE: u64 = 64;
/// The most entries that a page holds: a freeing that takes more has freed so many pages, or cannot.
const DENSITY: u64 = 512;
/// Pages taken by small changes while something waits, from which on each frees a portion: this part of the store, and
/// between these. So a small store stays small, and its snapshots hold little garbage.
const SHARE: u64 = 64;
const SOME: std::ops::RangeInclusive<u64> = 4..=1024;
/// The most that is noted of them.
const MOST: u64 = 4 * *SOME.end();
/// How long a step waits for its turn. What it does not free then is a debt.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a change finds when it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// Logical pages in use.
    used: u64,
    waits: bool,
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
fn used<P: Pages>(p: &P) -> Result<u64> {
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
    starved: AtomicBool,
}

/// What a large change still has to free: it took so many pages, and before it the store used so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    pages: u64,
    used: u64,
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

    fn get(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    fn set(&self, pages: u64) {
        self.pages.store(pages.min(MOST), Ordering::Relaxed);
    }
}

/// Pages taken meanwhile that are some, for a store that uses so many; twice as many are many.
fn some(used: u64) -> u64 {
    (used / SHARE).clamp(*SOME.start(), *SOME.end())
}

/// Entries that a change frees at its end, which took so many pages.
fn budget(before: Before, taken: u64, debt: u64, helped: bool) -> u64 {
    if !before.waits || is_large(before, taken, debt) {
        OWN
    } else if debt >= some(before.used) || !helped {
        PORTION
    } else {
        0
    }
}

/// Whether a change that took so many pages goes on freeing after it is complete.
fn is_large(before: Before, taken: u64, debt: u64) -> bool {
    taken >= LARGE || taken > 0 && debt >= 2 * some(before.used)
}

/// Frees a bounded part of what waits. Whether more waits.
pub(super) fn step(w: &mut Writer<'_>, entries: u64) -> Result<bool> {
    let more = ops::end_operation(w, entries)?.more;
    heap::apply_frees(w)?;
    Ok(more)
}

/// The end of a change outside the store's operations: frees what it left, in bounded steps.
pub(super) fn finish_all(w: &mut Writer<'_>) -> Result<()> {
    step(w, OWN).map(drop)
}

impl Store {
    /// The end of every lone change, and of a transaction: a bounded part of what waits is freed. What it gives is to
    /// be given to `repay` when the change is complete.
    #[inline(never)]
    pub(super) fn finish(&self, w: &mut Writer<'_>, before: Before) -> Result<Option<Owed>> {
        let debt = &self.inner.debt;
        let pages = if before.waits { debt.get() } else { 0 };
        let taken = used(w)?.saturating_sub(before.used);
        let entries = budget(before, taken, pages, self.pager().frees_when_idle());
        if !step(w, entries)? {
            debt.set(0);
            return Ok(None);
        }
        if is_large(before, taken, pages) {
            return Ok(Some(Owed {
                pages: taken,
                used: before.used,
            }));
        }
        debt.set((pages + used(w)?).saturating_sub(before.used));
        Ok(None)
    }

    /// Frees in one section a bounded part of what waits to be freed, about `entries` entries of containers. Whether
    /// more waits. Not in a transaction.
    ///
    /// # Errors
    /// Those of any change.
    pub fn free_some(&self, entries: u64, wait: &mut Wait<'_>) -> Result<bool> {
        self.pager().outside_sections()?;
        if self.in_transaction() {
            return Err(Error::invalid("nothing is freed inside a transaction"));
        }
        Ok(self.free_step(entries, wait)?.0)
    }

    /// Whether more waits, and the pages in use.
    fn free_step(&self, entries: u64, wait: &mut Wait<'_>) -> Result<(bool, u64)> {
        let mut section = self.pager().write(wait)?;
        section.removing();
        let more = graph::frees_wait(&section)? && step(&mut section, entries.max(1))?;
        let used = used(&section)?;
        section.whole()?;
        section.commit();
        Ok((more, used))
    }

    /// Frees what a large change owes, in steps. The change is complete whatever becomes of this.
    #[cold]
    pub(super) fn repay(&self, owed: Owed) {
        let debt = &self.inner.debt;
        let mut left = owed.pages.saturating_mul(DENSITY);
        while left > 0 {
            match self.free_step(STEP, &mut Wait::at_most(PATIENCE)) {
                Ok((true, used)) if used > owed.used => left = left.saturating_sub(STEP),
                Ok(_) => return,
                Err(_) => break,
            }
            self.after_change();
        }
        debt.set(debt.get().saturating_add(owed.pages));
    }

    /// Frees everything that waits, in steps, where the disk is full. What fails here is left.
    ///
    /// Freeing takes a copy of each page that it changes, so that little room is freed at a time, and more each time.
    #[cold]
    pub(super) fn free_waiting(&self) {
        self.inner.debt.starved.store(false, Ordering::Relaxed);
        let (mut entries, mut stuck) = (STEP, false);
        loop {
            match self.free_some(entries, &mut Wait::at_most(PATIENCE)) {
                Ok(false) => return,
                Ok(true) => (entries, stuck) = ((2 * entries).min(STEP), false),
                Err(Error::NoSpace { .. }) if entries > 1 => entries = (entries / 4).max(1),
                Err(Error::NoSpace { .. }) if !stuck => {
                    stuck = true;
                    if self.sync_forcing().is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}
