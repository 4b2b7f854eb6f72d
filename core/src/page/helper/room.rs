//! Room in the file for the next large change (P7): the file stays below twice the live data plus 64 MiB although
//! checkpoints hold older versions of what large changes replace.
//!
//! Two checkpoints on disk, the one being made and the present state may each hold another version. A free logical page
//! may also have a physical page whose content no state needs.
//!
//! 1. After a large change its process computes whether another change of that size, in addition to what checkpoints
//!    hold, would bring the file above the bound (`is_crowded`). If so it asks its helper for room and waits for the
//!    answer, outside sections. Small changes neither ask nor wait.
//! 2. The helper makes a checkpoint and releases the physical pages under free logical pages. After two more
//!    checkpoints no state on disk reaches those, nor what was replaced before (`make_room`). The steps are not a
//!    protocol of their own: a process may die between any two.
//! 3. A request is answered even if it failed (a full disk, a poisoned store, a store that is being closed). Then the
//!    file grows beyond the bound: no change is refused for it. The wait is also bounded by the change's own bound.
//! 4. Each process asks its own helper, so a stopped process delays no other process.

use crate::error::Result;
use crate::page::access::Pages;
use crate::page::pager::Pager;
use crate::page::pages::alloc::GROWTH;
use crate::page::superblock as sb;
use crate::page::sync::wait::{Wait, WaitLoop};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pages that the file may have beyond twice the live ones (64 MiB).
const ALLOWED: u64 = 16384;
/// Pages of the page table and others that the count of live pages does not contain.
const OTHERS: u64 = 1024;
/// Number of pages held by checkpoints for which it is not worth to make three of them.
const LEAST: u64 = 1024;
/// How long the helper waits to see whether it may grow the file ahead of need.
const LATCH: Duration = Duration::from_millis(20);

impl Pager {
    /// Return whether the file would leave its bound if a change took `pages` more: `used` logical pages are in use,
    /// `free` are not. Called inside a section.
    pub(crate) fn is_crowded(&self, used: u64, free: u64, pages: u64) -> bool {
        let kept = self.kept_free();
        let unused = self.shm().space().free();
        if unused >= kept + pages {
            // The file would not grow.
            return false;
        }
        // Pages of snapshots are neither live nor ever freed by a checkpoint: the lists name what can become free.
        let listed: u64 = (0..3).map(|list| self.shm().list_len(list)).sum();
        let taken = self.shm().space().file_pages().saturating_sub(unused);
        let held = taken.saturating_sub(used).min(listed + free);
        let spare = ALLOWED.saturating_sub(GROWTH + OTHERS + kept);
        held >= LEAST && held + pages > used + spare
    }

    /// Ask this process's helper for room. Return the number of the request, or None if there is no helper to ask.
    #[cold]
    pub(crate) fn ask_for_room(&self) -> Option<u32> {
        self.start_helper(true);
        if !self.has_helper() {
            return None;
        }
        let number = self.helper().room().ask();
        self.shm().call_helpers();
        Some(number)
    }

    /// Wait until a request for room is answered, or the wait ends.
    #[cold]
    pub(crate) fn await_room(&self, number: u32, wait: &mut Wait<'_>) {
        let mut waiting = WaitLoop::new(wait, self.bound());
        while let Ok(slice) = waiting.slice("room in the file", || "the helper".to_owned()) {
            if self.helper().room().await_answer(number, slice) || !self.has_helper() {
                return;
            }
        }
    }

    fn has_helper(&self) -> bool {
        let state = self.helper().state();
        state.thread.as_ref().is_some_and(|t| !JoinHandle::is_finished(t))
    }

    /// Make room if any thread of this process has asked for it. Return whether one had. Called by the helper.
    pub(super) fn make_room_if_asked(&self) -> bool {
        let Some(number) = self.helper().room().wanted() else {
            return false;
        };
        if self.shm().poison() == 0 {
            let shared = self.helper().shared().clone();
            let ends = Box::new(move || shared.is_ending());
            if let Err(e) = Wait::interruptible(self.bound(), ends, || self.make_room()) {
                log::debug!("{}: no room was made in the file: {e}", self.path().display());
            }
        }
        self.helper().room().answer(number);
        true
    }

    /// Answer requests that come too late: the helper ends.
    pub(super) fn refuse_room(&self) {
        if let Some(number) = self.helper().room().wanted() {
            self.helper().room().answer(number);
        }
    }

    /// Free what older checkpoints hold, and what lies under free logical pages.
    fn make_room(&self) -> Result<()> {
        self.checkpoint(&mut Wait::default())?;
        // Pages of the epoch that has ended can be released now.
        self.release_free_pages()?;
        for _ in 0..2 {
            self.checkpoint_always()?;
        }
        Ok(())
    }

    /// Return whether the file may be grown ahead of need. Where pages are changed in place, each epoch copies them,
    /// and a change would have to grow the file. Where changes replace what they free, they wait for room instead.
    pub(super) fn may_grow_ahead(&self) -> bool {
        // With the latch, no change is half done.
        self.write(&mut Wait::at_most(LATCH))
            .and_then(|section| {
                let free = section.u64_at(sb::FREE_PAGES)?;
                let used = section.u64_at(sb::NEXT_PAGE)?.saturating_sub(free);
                let waits = section.u64_at(sb::BLOBS)? | section.u64_at(sb::ORPHANS)? != 0;
                Ok(!waits && free < used / 8)
            })
            .unwrap_or(false)
    }
}
