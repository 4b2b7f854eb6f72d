//! Copy on first write: the first write to a page in an epoch copies it to a free physical page and replaces its entry
//! in the live table (the swing). Later writes in the epoch are in place. So no page of the last checkpoint is ever
//! overwritten (I1). While a view of a moment is alive, the first write after it was taken copies the page too
//! (`shared::regions::views`): the dirty list then names the page again, and the later entry counts.
//!
//! Steps, after each of which the process may die (all under the latch):
//! 1. intent {logical, old entry, new entry, list}; 2. the new page's bit; 3. the copy; 4. the dirty list entry; 5. the
//!    swing; 6. intent cleared.
//!
//! Recovery completes the intent if the swing happened, and otherwise frees the new page (`finish_intent`). The
//! checkpointer allocates a page-table page by the same steps without copy and swing; there the list entry decides.
//! Freeing a page also writes an intent (`give_back`), so that a page is freed once even if the process dies between
//! clearing the bit and recording that.

use crate::error::{Error, Result};
use crate::ids::{PAGE_SIZE, PhysicalPage};
use crate::page::pager::Pager;
use crate::page::shared::header::poison::UNDOABLE;
use crate::page::shared::layout::Region;
use crate::page::shared::regions::free_pages::{ABSENT, NODE_NEW};
use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use crate::raw::failpoint::fail_point;
use std::sync::atomic::{Ordering, compiler_fence};

pub(crate) const NONE: u64 = 0;
pub(crate) const DATA: u64 = 1;
pub(crate) const NODE: u64 = 2;
pub(crate) const GIVE_OLD: u64 = 3;
pub(crate) const GIVE_NODE: u64 = 4;
pub(crate) const RELEASE: u64 = 5;
pub(crate) const GIVE_DROPPED: u64 = 6;
pub(crate) const GIVE_KEPT: u64 = 7;

/// Copy-on-write intent: state, logical page, old entry, new entry, list, length of the list.
const INTENT: Word = Word::at(512); // 6 words

impl Shm {
    /// Return the intent's words.
    pub(in crate::page) fn intent(&self) -> [u64; 6] {
        [0, 1, 2, 3, 4, 5].map(|i| self.get(INTENT.nth(i)))
    }

    /// Clear the intent.
    pub(in crate::page) fn forget_intent(&self) {
        self.set(INTENT, NONE);
    }
}

impl Pager {
    fn intend(&self, kind: u64, page: u64, old: u64, new: u64, list: usize) {
        let values = [page, old, new, list as u64, self.shm().list_len(list)];
        for (i, value) in values.into_iter().enumerate() {
            self.shm().word(INTENT.nth(i + 1)).store(value, Ordering::Relaxed);
        }
        self.shm().set(INTENT, kind);
        compiler_fence(Ordering::SeqCst);
    }

    fn intent_done(&self) {
        compiler_fence(Ordering::SeqCst);
        self.shm().forget_intent();
    }

    /// Make a logical page writable in this epoch. Return its physical page. `copy`: keep its content; otherwise it
    /// becomes zeros. Called inside a write section.
    #[inline]
    pub(crate) fn writable(&self, page: u64, entry: u64, copy: bool, removing: bool) -> Result<PhysicalPage> {
        let is_of_epoch = entry >> 32 == self.shm().live().epoch() && entry & ABSENT == 0;
        if is_of_epoch && self.shm().is_younger_than_views(page) {
            return Ok(PhysicalPage(entry as u32));
        }
        self.copy_page(page, entry, copy, removing)
    }

    #[cold]
    fn copy_page(&self, page: u64, old: u64, copy: bool, removing: bool) -> Result<PhysicalPage> {
        self.reserve_lists()?;
        let copied = self.copy_to(page, old, copy, self.alloc_physical(removing)?)?;
        self.shm().note_copied(page);
        Ok(copied)
    }

    /// As `writable`, for the superblock and with pages reserved for checkpoints: for a checkpoint that is made to free
    /// what older ones hold. Called inside a write section.
    pub(crate) fn touch_superblock(&self) -> Result<()> {
        let entry = match self.shm().entry(0) {
            0 => self.fill(0, || true)?,
            entry => entry,
        };
        if entry >> 32 == self.shm().live().epoch() {
            return Ok(());
        }
        self.shm().list_room(self.shm().live().list(), 1)?;
        self.copy_to(0, entry, true, self.alloc_reserved()?).map(|_| ())
    }

    fn copy_to(&self, page: u64, old: u64, copy: bool, physical: PhysicalPage) -> Result<PhysicalPage> {
        // If the free map or the epoch could not be read, the result could be a page that is in use.
        self.whole()?;
        let epoch = self.shm().live().epoch();
        let list = epoch as usize % 3;
        let new = u64::from(physical.0) | epoch << 32;
        let old_entry = if old & ABSENT != 0 { 0 } else { old };
        let first = self.shm().list_len(list) == 0;
        self.intend(DATA, page, old, new, list);
        fail_point!("cow.intended");
        self.set_used(physical);
        // SAFETY: the new page is free (I3): nothing reaches it before the swing below.
        let to = unsafe { self.map().page_mut(physical) }?;
        if copy && old_entry != 0 {
            // SAFETY: the old page is frozen (I1): its epoch has ended, or a view reaches it. Only the latch's holder,
            // this section, could write it.
            to.copy_from_slice(unsafe { self.map().page(PhysicalPage(old_entry as u32)) }?);
        } else {
            to.fill(0);
        }
        fail_point!("cow.copied");
        self.shm().list_push(list, [page, new, old_entry])?;
        fail_point!("cow.listed");
        compiler_fence(Ordering::SeqCst);
        self.shm().set_entry(page, new);
        fail_point!("cow.replaced");
        self.intent_done();
        if first {
            self.shm().note_first_change(list);
        }
        Ok(physical)
    }

    /// Take the physical page from a logical page whose content is not needed. Return false if it has none, or one of
    /// this epoch (which the dirty list counts on). Called inside a write section.
    pub(crate) fn release(&self, page: u64, old: u64) -> Result<bool> {
        let epoch = self.shm().live().epoch();
        if old & ABSENT != 0 || old >> 32 == epoch {
            return Ok(false);
        }
        self.reserve_lists()?;
        let list = epoch as usize % 3;
        let first = self.shm().list_len(list) == 0;
        self.intend(RELEASE, page, old, 0, list);
        self.finish_release(page, old, list)?;
        if first {
            self.shm().note_first_change(list);
        }
        Ok(true)
    }

    /// Finish a release. It can be repeated: the list is first cut to its previous length.
    fn finish_release(&self, page: u64, old: u64, list: usize) -> Result<()> {
        self.shm().list_push(list, [page, 0, old])?;
        compiler_fence(Ordering::SeqCst);
        self.shm().set_entry(page, ABSENT);
        self.intent_done();
        Ok(())
    }

    /// Allocate a page-table page for the checkpointer: both its bit and its list entry are set, or neither.
    pub(crate) fn intend_node(&self, physical: PhysicalPage, list: usize) -> Result<()> {
        self.shm().list_room(list, 1)?;
        self.intend(NODE, 0, 0, u64::from(physical.0), list);
        self.set_used(physical);
        self.shm().list_push(list, [NODE_NEW, u64::from(physical.0), 0])?;
        self.intent_done();
        Ok(())
    }

    /// Free entry `i` of the list of replaced pages, and record that. Called under the latch.
    pub(crate) fn give_back_old(&self, i: u64, physical: PhysicalPage, list: usize) {
        self.intend(GIVE_OLD, i, 0, u64::from(physical.0), list);
        self.finish_giving(GIVE_OLD, i, physical, list);
    }

    /// Free the page-table page in the last entry, `i`, of a list, and remove the entry. Called under the latch.
    pub(crate) fn give_back_node(&self, i: u64, physical: PhysicalPage, list: usize) {
        self.intend(GIVE_NODE, i, 0, u64::from(physical.0), list);
        self.finish_giving(GIVE_NODE, i, physical, list);
    }

    /// Finish freeing a page. It can be repeated as long as the latch was not released in between, because the page was
    /// not reallocated then.
    fn finish_giving(&self, kind: u64, i: u64, physical: PhysicalPage, list: usize) {
        if kind == GIVE_OLD {
            self.shm().next_checkpoint().set_freed(i + 1);
        } else {
            self.shm().set_list_len(list, i);
        }
        fail_point!("checkpoint.giving");
        if physical.0 != 0 {
            self.set_free(physical);
        }
        self.intent_done();
    }

    /// Free a page that only a dropped snapshot held, and move that snapshot's cursor to `next`. Called under the
    /// latch.
    pub(crate) fn give_back_dropped(&self, slot: usize, next: u64, physical: PhysicalPage) {
        self.intend(GIVE_DROPPED, slot as u64, next, u64::from(physical.0), 0);
        self.finish_dropped(slot, next, physical);
    }

    /// Finish freeing a page of a dropped snapshot. It can be repeated, as `finish_giving`.
    fn finish_dropped(&self, slot: usize, next: u64, physical: PhysicalPage) {
        self.shm().set_dropped_cursor(slot, next);
        fail_point!("snapshot.giving");
        self.set_free(physical);
        self.intent_done();
    }

    /// Free a page that was kept for views. Called under the latch.
    pub(crate) fn give_back_kept(&self, number: u64, physical: PhysicalPage) {
        self.intend(GIVE_KEPT, number, 0, u64::from(physical.0), 0);
        self.finish_kept(number, physical);
    }

    /// Finish freeing a page that was kept. It can be repeated, as `finish_giving`.
    fn finish_kept(&self, number: u64, physical: PhysicalPage) {
        self.shm().forget_kept(number);
        fail_point!("view.giving");
        self.set_free(physical);
        self.intent_done();
    }

    /// Complete or undo the intent of a dead process. Called under the latch; it can be repeated.
    pub(crate) fn finish_intent(&self) -> Result<()> {
        let [kind, page, old, new, list, len] = self.shm().intent();
        let list = list as usize;
        if kind == NONE {
            return Ok(());
        }
        if list > 2 || page >= self.shm().live().logical() && kind == DATA {
            return Err(Error::Corrupt {
                what: "the copy intent in the sidecar (page)",
                at: page,
            });
        }
        if kind == GIVE_DROPPED && (page as usize) < crate::page::shared::layout::DROPPED_SLOTS {
            self.finish_dropped(page as usize, old, PhysicalPage(new as u32));
            return Ok(());
        }
        if kind == GIVE_KEPT {
            self.finish_kept(page, PhysicalPage(new as u32));
            return Ok(());
        }
        if kind == GIVE_OLD || kind == GIVE_NODE {
            self.finish_giving(kind, page, PhysicalPage(new as u32), list);
            return Ok(());
        }
        if kind == RELEASE {
            if page >= self.shm().live().logical() {
                return Err(Error::Corrupt {
                    what: "the copy intent in the sidecar (page)",
                    at: page,
                });
            }
            self.shm().cut_list(list, len);
            return self.finish_release(page, old, list);
        }
        let happened = match kind {
            DATA => self.shm().entry(page) == new,
            _ => self.shm().list_len(list) > len,
        };
        if !happened {
            self.shm().cut_list(list, len);
            self.set_free(PhysicalPage(new as u32));
        }
        self.intent_done();
        Ok(())
    }

    /// Make room in the live table for logical pages up to `page`, and allow them to be looked up.
    pub(crate) fn extend_logical(&self, page: u64) -> Result<()> {
        if page < self.shm().live().logical() {
            return Ok(());
        }
        if page >= crate::page::shared::layout::MAX_PAGES {
            return Err(Error::NoSpace {
                what: "the store has reached its largest size",
                source: std::io::Error::from_raw_os_error(libc::EFBIG),
            });
        }
        self.shm().ensure(Region::Table, (page as usize + 1) * 8)?;
        self.shm().live().set_logical(page + 1);
        Ok(())
    }

    /// Undo the log down to `to` bytes. Called inside a write section, or in recovery.
    pub(crate) fn undo_to(&self, to: u64) -> Result<()> {
        let mut buf = [0u8; PAGE_SIZE];
        self.shm().live().restructured();
        while self.shm().undo_len() > to {
            let Some((start, addr, old)) = self.shm().last_undo(&mut buf)? else {
                break;
            };
            let (page, offset) = crate::page::access::within_page(addr, old.len())?;
            if page.0 >= self.shm().live().logical() {
                return Err(Error::Corrupt {
                    what: "the undo log in the sidecar (address)",
                    at: addr.0,
                });
            }
            let entry = self.shm().entry(page.0);
            if entry & ABSENT != 0 || entry as u32 == 0 {
                return Err(Error::Corrupt {
                    what: "the undo log in the sidecar (address)",
                    at: addr.0,
                });
            }
            let physical = PhysicalPage(entry as u32);
            self.shm().change_era();
            // A logged page was copied in this epoch before it was logged, and an epoch does not end with a transaction
            // open. So the entry's page is the one that was changed.
            if old.len() == 8 && offset.is_multiple_of(8) {
                let mut b = [0; 8];
                b.copy_from_slice(old);
                // SAFETY: write section or recovery, under the latch with the gate raised (`section`, invariant 1).
                unsafe { self.map().store_u64(physical, offset, u64::from_le_bytes(b)) }?;
            } else {
                // SAFETY: as above.
                unsafe { self.map().page_mut(physical) }?[offset..offset + old.len()].copy_from_slice(old);
            }
            compiler_fence(Ordering::SeqCst);
            fail_point!("undo.step");
            self.shm().cut_undo(start);
        }
        Ok(())
    }

    /// Undo the log down to `to` bytes, when a section ends without a commit. Return false if that failed: then the
    /// gate stays raised.
    pub(crate) fn undo_or_poison(&self, to: u64) -> bool {
        self.transactions().forget_touch();
        if self.undo_to(to).is_err() {
            // Only a damaged sidecar causes this: the state must not be used further.
            self.poison_once(UNDOABLE);
        }
        if self.whole().is_err() {
            self.after_fault();
        }
        !self.is_unreadable()
    }
}
