//! Commits: appending a record of the new content of the changed bytes, before the change is complete.
//!
//! The undo log holds every range that was changed in existing pages: as records to undo, and as notes (`log_note`) for
//! new memory in such a page. It does not hold new pages at the end of the store; those are the pages by which the
//! change raised `NEXT_PAGE`. The record contains the current content of both.

use crate::error::{Error, Result};
use crate::ids::{Addr, PAGE_SIZE, PageNo, PhysicalPage};
use crate::page::format::log_file::RING;
use crate::page::format::log_record::{Builder, Place, SECTOR};
use crate::page::pager::Pager;
use crate::page::pager::state::redo::{Scratch, Ticket};
use crate::page::shared::header::log_mode::{OFF, ON, PENDING};
use crate::page::shared::layout;
use crate::page::superblock as sb;
use crate::raw::failpoint::fail_point;
use std::sync::atomic::Ordering;

/// The longest record. A change that needs a longer one is written by a checkpoint.
const LONGEST: usize = RING as usize / 2;
/// An undo log longer than this cannot produce a record that is short enough.
const UNDO_MOST: u64 = 4 * RING;
/// Largest number of unchanged bytes between two ranges that are merged: a separate range costs as much.
const BRIDGE: u64 = 8;
/// Size of the memory for building records that is kept.
const KEPT: usize = 1 << 20;

impl Pager {
    /// Complete the current change while the log may be on: write the record, commit, then count the record. Called
    /// inside a write section, at its end.
    #[cold]
    pub(crate) fn commit_logged(&self) {
        let shm = self.shm();
        let mut ticket = Ticket::Nothing;
        if shm.undo_len() != 0 {
            if !self.any_process_wants_commits() {
                shm.set_log_mode(OFF);
            }
            match shm.log_mode() {
                ON => match self.append() {
                    Ok(Some(end)) => ticket = Ticket::Record(end),
                    // The undo log is damaged, or a page could not be read. The next operation that needs them reports
                    // it.
                    Ok(None) | Err(_) => {
                        shm.set_log_mode(PENDING);
                        ticket = Ticket::Epoch(shm.live().epoch());
                    }
                },
                PENDING => ticket = Ticket::Epoch(shm.live().epoch()),
                _ => {}
            }
        }
        fail_point!("log.appended");
        shm.forget_undo();
        fail_point!("log.committed");
        self.shm().log().count_record();
        if ticket != Ticket::Nothing {
            self.issue_ticket(ticket);
        }
    }

    /// Complete the commit of a dead process: its record counts if its change is complete, and is discarded otherwise.
    /// Called under the latch, before the undo log is undone.
    pub(crate) fn finish_log_commit(&self) {
        if self.shm().undo_len() == 0 {
            self.shm().log().count_record();
        } else {
            self.shm().log().discard_record();
        }
    }

    /// Write the record. Return its end, or None if the log has no room for it.
    fn append(&self) -> Result<Option<u64>> {
        let shm = self.shm();
        if shm.undo_len() > UNDO_MOST {
            return Ok(None);
        }
        let place = shm.log().place();
        let used = place.at.saturating_sub(shm.log().needed() / SECTOR * SECTOR);
        let room = LONGEST.min(RING.saturating_sub(used) as usize);
        let mut scratch = self.redo().scratch();
        let Scratch { ranges, record } = &mut *scratch;
        let first_new = self.changed_ranges(ranges)?;
        let builder = Builder::new(record, place, shm.live().next_id(), room);
        let Some(next) = self.fill_record(builder, ranges, first_new)? else {
            return Ok(None);
        };
        self.write_to_ring(place.at, record);
        // A page that could not be read must not become part of the change.
        self.whole()?;
        shm.log().announce_record(next);
        if record.capacity() > KEPT {
            *scratch = Scratch::default();
        }
        Ok(Some(next.at))
    }

    /// Return the ranges in the undo log, in order and merged, and the first new page.
    fn changed_ranges(&self, ranges: &mut Vec<(u64, u64)>) -> Result<Option<u64>> {
        ranges.clear();
        let mut first_new = None;
        self.shm().undo_ranges(|addr, len, old| {
            if len == 8 && addr == sb::NEXT_PAGE {
                // The oldest record comes last: it holds the number of pages before the change.
                first_new = Some(old);
            }
            ranges.push((addr.0, addr.0 + len as u64));
        })?;
        ranges.sort_unstable();
        let mut kept = 0;
        for i in 1..ranges.len() {
            let (from, to) = ranges[i];
            let last = &mut ranges[kept];
            if from <= last.1 + BRIDGE && Addr(last.0).page() == Addr(from).page() {
                last.1 = last.1.max(to);
            } else {
                kept += 1;
                ranges[kept] = (from, to);
            }
        }
        ranges.truncate(kept + 1);
        Ok(first_new)
    }

    fn fill_record(
        &self,
        mut builder: Builder<'_>,
        ranges: &[(u64, u64)],
        first_new: Option<u64>,
    ) -> Result<Option<Place>> {
        let from = first_new.unwrap_or(u64::MAX);
        for (start, end) in ranges {
            let (addr, len) = (Addr(*start), (end - start) as usize);
            if addr.page().0 >= from || len == 0 {
                continue;
            }
            let page = self.live_page(addr.page())?;
            let fits = if len == PAGE_SIZE {
                builder.whole(addr, page)
            } else {
                let bytes = page.get(addr.offset()..addr.offset() + len);
                builder.range(addr, bytes.ok_or_else(|| bad(addr))?)
            };
            if !fits {
                return Ok(None);
            }
        }
        if first_new.is_some() {
            let mut next = [0; 8];
            next.copy_from_slice(&self.live_page(PageNo(0))?[sb::NEXT_PAGE.0 as usize..][..8]);
            for page in from..u64::from_le_bytes(next) {
                if !builder.whole(PageNo(page).addr(), self.live_page(PageNo(page))?) {
                    return Ok(None);
                }
            }
        }
        Ok(builder.finish(self.redo().commit))
    }

    /// Return a page that was changed in this epoch.
    fn live_page(&self, page: PageNo) -> Result<&[u8; PAGE_SIZE]> {
        if page.0 >= self.shm().live().logical() {
            return Err(bad(page.addr()));
        }
        let entry = self.shm().entry(page.0);
        if entry >> 32 != self.shm().live().epoch() {
            return Err(bad(page.addr()));
        }
        // SAFETY: this is inside the write section that changed the page (`section`, invariant 1), which is its only
        // user.
        unsafe { self.map().page(PhysicalPage(entry as u32)) }
    }

    fn write_to_ring(&self, at: u64, record: &[u8]) {
        let mut at = at;
        for chunk in record.chunks_exact(8) {
            let mut b = [0; 8];
            b.copy_from_slice(chunk);
            self.shm()
                .cell::<{ layout::LOG }>((at % RING) as usize)
                .store(u64::from_ne_bytes(b), Ordering::Relaxed);
            at += 8;
        }
    }

    /// Copy whole words out of the ring.
    pub(in crate::page) fn read_ring(&self, at: u64, bytes: &mut [u8]) {
        let mut at = at;
        for chunk in bytes.chunks_exact_mut(8) {
            let word = self.shm().cell::<{ layout::LOG }>((at % RING) as usize);
            chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            at += 8;
        }
    }
}

fn bad(addr: Addr) -> Error {
    Error::Corrupt {
        what: "the undo log in the sidecar (address)",
        at: addr.0,
    }
}
