//! The fast path of a writer: a single operation that replaces one value in place.
//!
//! 1. Like a write section it holds the latch and has raised the gate (`section`, invariant 1).
//! 2. Its one aligned store is the whole operation, so it needs no undo. The time that it stamps first may remain
//!    without it (`PagesMut::set_time`).
//! 3. A store to a page that the disk cannot provide is not a change: the store file is poisoned (`damage`).
//! 4. It never waits and never copies a page. If the caller cannot enter it, or cannot complete the operation in it,
//!    nothing has changed and the caller enters a write section instead.

use crate::ids::{Addr, ObjectId, PageNo, PhysicalPage};
use crate::page::access::within_page;
use crate::page::pager::Pager;
use crate::page::section::read::{Protection, ReadSection};
use crate::page::shared::header::gate::RaisedGate;
use crate::page::shared::regions::free_pages::ABSENT;
use crate::raw::failpoint::fail_point;
use crate::raw::process;
use std::ops::Deref;

/// The section of a writer that replaces one value.
#[derive(Debug)]
pub(crate) struct InPlaceSection<'p> {
    read: ReadSection<'p>,
    gate: RaisedGate<'p>,
}

impl Pager {
    /// Enter to replace one value, if nothing prevents it: no open transaction of any thread (including this one), no
    /// other writer, no section of this thread, and no process that requires durable commits.
    #[inline(always)]
    pub(crate) fn try_in_place(&self) -> Option<InPlaceSection<'_>> {
        let slot = self.known_slot()?;
        if self.helper().is_absent()
            || self.is_read_only()
            || self.wants_commit()
            || self.shm().is_reading(slot)
        {
            return None;
        }
        let latch = self.latch();
        if !latch.try_take(slot) {
            return None;
        }
        // A closing thread sets `closed` under the latch. With the redo log on, every change goes through the log; it
        // is also turned on and off under the latch.
        let refused = self.is_closed() || self.shm().poison() | self.shm().log_mode() != 0;
        let raised = if refused || self.whole().is_err() {
            None
        } else {
            self.raise_gate(slot).ok()
        };
        let Some(gate) = raised else {
            latch.release_late(slot);
            return None;
        };
        Some(InPlaceSection {
            gate,
            read: ReadSection::new(self, slot, Protection::Latch, false),
        })
    }
}

impl<'p> Deref for InPlaceSection<'p> {
    type Target = ReadSection<'p>;

    #[inline]
    fn deref(&self) -> &ReadSection<'p> {
        &self.read
    }
}

impl InPlaceSection<'_> {
    /// Return the page manager this section belongs to.
    #[inline]
    #[must_use]
    pub(crate) fn pager(&self) -> &Pager {
        self.read.pager
    }

    /// Return whether any process watches the container: its changes are to be announced.
    #[inline(always)]
    pub(crate) fn is_watched(&self, id: ObjectId) -> bool {
        self.read.pager.shm().is_watched(id)
    }

    /// Replace the word at `at`, after stamping the time at `time_at`. Return false if this is not possible here
    /// because one of the pages must be copied first.
    #[inline(always)]
    #[must_use]
    pub(crate) fn replace(&mut self, at: Addr, value: u64, time_at: Addr) -> bool {
        let (Some((time_page, time_offset)), Some((page, offset))) = (self.place(time_at), self.place(at))
        else {
            return false;
        };
        let map = self.read.pager.map();
        // SAFETY: this section is the only one in the store (invariant 1), and the pages are those of
        // this epoch (`place`).
        let stamped = unsafe { map.store_time(time_page, time_offset, process::coarse_now()) };
        fail_point!("in_place.stamped");
        // SAFETY: as above.
        if stamped.is_err() || unsafe { map.store_u64(page, offset, value) }.is_err() {
            return false;
        }
        if !self.read.is_whole() && self.read.whole().is_err() {
            self.read.pager.after_fault();
            return false;
        }
        fail_point!("in_place.stored");
        self.read.pager.shm().live().count_change();
        true
    }

    /// Return the place of a word in a page that may be written in place.
    #[inline(always)]
    fn place(&self, addr: Addr) -> Option<(PhysicalPage, usize)> {
        let (page, offset): (PageNo, usize) = within_page(addr, 8).ok()?;
        if offset & 7 != 0 || page.0 >= self.read.limit {
            return None;
        }
        let entry = self.read.pager.shm().entry(page.0);
        let writable = entry & ABSENT == 0 && entry >> 32 == self.read.pager.shm().live().epoch();
        // A page of this epoch that a view may reach is copied first.
        let writable = writable && self.read.pager.shm().is_younger_than_views(page.0);
        writable.then_some((PhysicalPage(entry as u32), offset))
    }
}

impl Drop for InPlaceSection<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // As at the end of a write section of a single operation.
        let lowered = self.gate.lower_late(false, self.read.is_whole());
        self.read.pager.latch().release();
        drop(lowered);
    }
}
