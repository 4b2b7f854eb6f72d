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

use super::debt::{Before, Owed, budget, is_large, used};
use super::hooks::step;
use super::{Error, Result, Store, Wait, Writer};
use crate::object::graph;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Entries that one section of a longer freeing frees.
const STEP: u64 = 128;
/// The most entries that a page holds: a freeing that takes more has freed so many pages, or cannot.
const DENSITY: u64 = 512;
/// How long a step waits for its turn. What it does not free then is a debt.
const PATIENCE: Duration = Duration::from_millis(100);

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
