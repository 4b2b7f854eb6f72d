//! Free memory at the rate at which changes allocate it.
//!
//! The entries that a change leaves to be freed (the content of containers, the pieces of large values) wait
//! in the store itself. Removing an entry costs about 0.4 us and touches random pages. So a change pays for
//! the memory that it allocates, and not for what an earlier change left.
//!
//! | A CHANGE | FREES |
//! | --- | --- |
//! | begins with nothing waiting | what it left itself, up to `OWN_ENTRIES` entries |
//! | a small one while something waits | nothing with a helper (`page::helper::frees`), otherwise `PORTION` entries |
//! | a small one, after small changes of this process allocated some pages (`SOME`) | `PORTION` entries |
//! | one that allocates a page, after they allocated twice as many | as a large one |
//! | a large one: it allocates `LARGE` pages or more, and something waits | until no more pages are used than before |
//! | one that finds no space on the disk | everything, and is retried |
//!
//! A helper frees when the store is quiet; there is none if `max_age` is None. A large change is complete
//! before that freeing begins; it ends early when nothing waits any more. Each step is a section of its own,
//! so readers and other writers run between steps.

use crate::object::graph;
use crate::store::locks::hooks::step;
use crate::store::space::debt::{Before, LARGE, Owed, budget, is_large, used};
use crate::store::{Error, Result, Store, Wait, Writer};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Entries that one section of a longer freeing frees.
const STEP: u64 = 128;
/// The most entries that a page holds. Freeing that many entries releases a page, or cannot release any.
const DENSITY: u64 = 512;
/// How long a step waits for the latch. What it does not free then remains as debt.
const MAX_WAIT: Duration = Duration::from_millis(100);

impl Store {
    /// Finish a single change or a transaction: free a bounded part of what waits. The caller passes the
    /// result to `repay` once the change is complete.
    #[inline(never)]
    pub(in crate::store) fn finish(&self, w: &mut Writer<'_>, before: Before) -> Result<Option<Owed>> {
        let debt = &self.inner.debt;
        let pages = if before.waits { debt.get() } else { 0 };
        let taken = used(w)?.saturating_sub(before.used);
        let entries = budget(before, taken, pages, self.pager().frees_when_idle());
        let waits = step(w, entries)?;
        if waits && is_large(before, taken, pages) || taken >= LARGE {
            return Ok(Some(Owed {
                pages: taken,
                used: before.used,
                waits,
            }));
        }
        if !waits {
            debt.set(0);
            return Ok(None);
        }
        debt.set((pages + used(w)?).saturating_sub(before.used));
        Ok(None)
    }

    /// Free a bounded part of what waits, about `entries` entries of containers, in one section. Return
    /// whether more waits. Not allowed in a transaction.
    ///
    /// # Errors
    /// Those of any change.
    #[doc(hidden)]
    pub fn free_some(&self, entries: u64, wait: &mut Wait<'_>) -> Result<bool> {
        self.pager().outside_sections()?;
        if self.in_transaction() {
            return Err(Error::invalid("nothing is freed inside a transaction"));
        }
        Ok(self.free_step(entries, wait)?.0)
    }

    /// Free one step. Return whether more waits, and the number of pages in use.
    fn free_step(&self, entries: u64, wait: &mut Wait<'_>) -> Result<(bool, u64)> {
        let mut section = self.pager().write(wait)?;
        section.removing();
        let more = graph::has_pending_frees(&section)? && step(&mut section, entries.max(1))?;
        let used = used(&section)?;
        section.whole()?;
        section.commit();
        Ok((more, used))
    }

    /// Repay what a large change owes: free in steps, then ask for room for the next one (`room`). The change is
    /// complete even if this fails.
    #[cold]
    pub(in crate::store) fn repay(&self, owed: Owed) {
        if owed.waits {
            self.free_owed(owed);
        } else {
            self.inner.debt.set(0);
        }
        self.look_for_room(owed.pages);
    }

    fn free_owed(&self, owed: Owed) {
        let debt = &self.inner.debt;
        let mut left = owed.pages.saturating_mul(DENSITY);
        while left > 0 {
            match self.free_step(STEP, &mut Wait::at_most(MAX_WAIT)) {
                Ok((true, used)) if used > owed.used => left = left.saturating_sub(STEP),
                Ok(_) => return,
                Err(_) => break,
            }
            self.after_change();
        }
        debt.set(debt.get().saturating_add(owed.pages));
    }

    /// Free everything that waits, in steps, when the disk is full. Entries whose freeing fails stay queued.
    ///
    /// Freeing copies each page that it changes, so it needs space itself: a step that finds none is retried
    /// with fewer entries, and each success doubles their number.
    #[cold]
    pub(in crate::store) fn free_waiting(&self) {
        self.inner.debt.starved.store(false, Ordering::Relaxed);
        let (mut entries, mut stuck) = (STEP, false);
        loop {
            match self.free_some(entries, &mut Wait::at_most(MAX_WAIT)) {
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
