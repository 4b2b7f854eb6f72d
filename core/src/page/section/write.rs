//! Sections: one operation's access to the shared memory, and the only way to access bytes of the map.
//!
//! 1. A `ReadSection` holds its thread's mark in the gate. A `WriteSection` holds the latch, has raised the gate, and
//!    has seen every mark gone or revoked. So bytes reached through a read section do not change while it holds
//!    (`ReadSection::holds`), and no valid result depends on bytes reached through a write section.
//! 2. A write section ends by `commit` or by undoing everything since it began (drop).
//! 3. Inside a section: no blocking call, no lock, no other section of the same store (checked).
//! 4. Pages allocated since the section began need no undo: they are unreachable after a rollback.
//! 5. A section that no longer holds may have read torn bytes, and may return any result or an error. Its user calls
//!    `holds` after the last access and before using the result, and otherwise enters again (`store::run`). The memory
//!    that it reads is mapped and stays mapped (I5); numbers are checked before use (S3), on the value that is used. In
//!    the terms of the language such a read is a race; it is a race on plain bytes whose result is discarded.
//! 6. A section of the committed state (`committed`) reads copies of pages. Its limit is 0, so that every access goes
//!    through the copies.
//! 7. Pins of a read section remain when its result is valid (`keep_pins`); otherwise they are released when it ends.
//!    Pins of a write section belong to its user, whether or not it commits.
//! 8. A section stays in the thread that entered it, and only this crate ends one, by `commit`, which consumes it, or
//!    by `complete` before it drops it; the closures of `store` get references.

use crate::error::{Error, Result};
use crate::ids::{Actor, Addr, Obj, ObjectId, PAGE_SIZE, PageNo, PhysicalPage};
use crate::page::access::{Notice, Pages, PagesMut, Savepoint, within_page};
use crate::page::lookups::Lookups;
use crate::page::pager::state::transaction::Turn;
use crate::page::section::read::ReadSection;
use crate::page::section::touched::Touched;
use crate::page::shared::header::gate::RaisedGate;
use crate::page::shared::layout;
use crate::page::shared::regions::dirty_set;
use crate::page::shared::regions::free_pages::ABSENT;
use crate::page::superblock as sb;
use crate::raw::failpoint::fail_point;
use crate::raw::process;
use std::sync::atomic::{Ordering, fence};

/// The section of a writer.
#[derive(Debug)]
pub struct WriteSection<'p> {
    pub(in crate::page) read: ReadSection<'p>,
    pub(super) gate: RaisedGate<'p>,
    /// Length of the undo log when the section began.
    pub(super) undo: u64,
    /// Logical pages from this number on were allocated in this section.
    pub(in crate::page) fresh_from: u64,
    pub(super) deferred: Vec<Addr>,
    /// Freed pages of older epochs, whose physical pages are released after the commit (`trunks`).
    pub(super) retired: Vec<PageNo>,
    pub(super) epoch: u64,
    pub(super) now: u64,
    /// The section is part of an open transaction: leaving it does not commit.
    pub(super) transaction: bool,
    /// The section took the latch and releases it.
    pub(super) owned: bool,
    pub(super) removing: bool,
    /// What it changes, and whether it waits for leases instead of leaving (`leases`).
    pub(super) touched: Touched,
    pub(super) insists: bool,
    pub(super) actor: Actor,
    pub(super) done: bool,
    /// Where the records begin that the section has staged for the change feed; whether it has published some
    /// (`notices`).
    pub(super) announced: Option<u64>,
    pub(super) publishes: bool,
    /// The turn, in a transaction. It is released after the latch, if the section releases that (the order of fields
    /// and `drop`).
    pub(super) _turn: Option<Turn<'p>>,
}

impl WriteSection<'_> {
    /// Log the time of change at an address.
    #[cold]
    fn log_time(&self, addr: Addr, physical: PhysicalPage, offset: usize) -> Result<()> {
        let pager = self.read.pager;
        // SAFETY: this write section is the only one in the store (invariant 1).
        let old = word_in(&unsafe { pager.map().page(physical) }?[offset..offset + 8]);
        pager.shm().log_word(addr, old)
    }

    /// Set the actor that changes the store in this section (by default the thread).
    pub(crate) fn act_as(&mut self, actor: Actor) {
        self.actor = actor;
    }

    /// Return whether the section is part of an open transaction.
    #[must_use]
    pub(crate) fn in_transaction(&self) -> bool {
        self.transaction
    }

    /// Tell the allocator that this operation removes something, so that it may use the last free pages.
    pub(crate) fn removing(&mut self) {
        self.removing = true;
    }

    /// Put back the frees that the transaction's operations have deferred, so that they can be applied.
    pub(crate) fn take_transaction_frees(&mut self) {
        if let Some(kept) = self.read.pager.transactions().blocks().frees() {
            self.deferred.append(kept);
        }
    }

    /// Return whether segments wait to be freed at the commit.
    #[inline]
    #[must_use]
    pub(crate) fn has_frees(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// Complete the section and leave it.
    #[inline]
    pub(crate) fn commit(mut self) {
        self.complete();
    }

    /// Complete the section, which its user then drops without using it again. A single operation commits here: its
    /// frees must have been applied. In a transaction the frees are kept for the transaction's own commit.
    #[inline]
    pub(crate) fn complete(&mut self) {
        let pager = self.read.pager;
        self.done = true;
        if self.read.restructured {
            pager.shm().live().restructured();
        }
        if self.transaction {
            if let Some(kept) = pager.transactions().blocks().frees() {
                kept.append(&mut self.deferred);
            }
        } else {
            debug_assert!(self.deferred.is_empty(), "commit with frees not applied");
            // The commit is one store. Before it the operation can only be undone; after it the operation is complete.
            fail_point!("commit.operation");
            if pager.shm().log_mode() != 0 {
                pager.commit_logged();
            } else {
                pager.shm().forget_undo();
            }
            fail_point!("commit.done");
            pager.shm().live().count_change();
            if self.announced.is_some() {
                self.publish_notices();
            }
            self.release_retired();
        }
    }

    #[inline]
    fn write_page(&mut self, page: PageNo, addr: Addr) -> Result<PhysicalPage> {
        let entry = self.read.entry(page, addr)?;
        if entry & ABSENT != 0 {
            return Err(Error::corrupt(crate::page::access::ABSENT, addr));
        }
        if entry >> 32 == self.epoch {
            return Ok(PhysicalPage(entry as u32));
        }
        self.read.pager.writable(page.0, entry, true, self.removing)
    }

    #[inline]
    fn needs_undo(&self, page: PageNo) -> bool {
        page.0 < self.fresh_from
    }

    /// Allocate a page of zeros for `page`, which is free or was never used.
    fn fresh_page(&mut self, page: PageNo) -> Result<()> {
        let entry = self.read.entry(page, page.addr())?;
        let physical = self.read.pager.writable(page.0, entry, false, self.removing)?;
        if self.read.pager.shm().log_mode() != 0 && self.needs_undo(page) {
            self.read.pager.shm().log_note(page.addr(), PAGE_SIZE)?;
        }
        // SAFETY: this is a write section (invariant 1), and the new page is not in use.
        unsafe { self.read.pager.map().page_mut(physical) }?.fill(0);
        Ok(())
    }

    /// Create the superblock of a new store.
    pub(crate) fn create_superblock(&mut self) -> Result<()> {
        self.read.pager.extend_logical(0)?;
        self.read.limit = self.read.pager.shm().live().logical();
        let entry = self.read.entry(PageNo(0), Addr(0))?;
        self.read.pager.writable(0, entry, true, false)?;
        self.fresh_from = 1;
        self.set_u64(sb::NEXT_PAGE, 1)?;
        self.set_u64(sb::MAGIC, sb::MAGIC_VALUE)
    }
}

impl<'p> std::ops::Deref for WriteSection<'p> {
    type Target = ReadSection<'p>;

    /// A writer can do everything that a reader can.
    fn deref(&self) -> &ReadSection<'p> {
        &self.read
    }
}

impl Drop for WriteSection<'_> {
    fn drop(&mut self) {
        let pager = self.read.pager;
        if let Some(at) = self.announced.filter(|_| !self.done) {
            self.discard_notices(at);
        }
        if !self.done {
            pager.undo_or_poison(self.undo);
        }
        // A single operation holds the latch alone: no transaction is open.
        let marked = (self.transaction || !self.owned) && pager.shm().is_gate_marked();
        let lowered = self.gate.lower_late(marked, self.done);
        // One full barrier serves both words (releasing the latch is one). A sleeper counts itself before it checks the
        // words, so either it sees them changed or it is counted here.
        if self.owned {
            pager.latch().release();
        } else {
            fence(Ordering::SeqCst);
        }
        drop(lowered);
        if self.publishes {
            pager.wake_feeds();
        }
        // The read part's own drop then lowers a mark that was never raised, which is harmless.
    }
}

impl Pages for WriteSection<'_> {
    #[inline]
    fn bytes(&self, addr: Addr, len: usize) -> Result<&[u8]> {
        self.read.bytes(addr, len)
    }

    #[inline]
    fn hash_seed(&self) -> u64 {
        self.read.pager.seed()
    }

    #[inline]
    fn words(&self) -> u64 {
        self.read.words()
    }

    #[inline(always)]
    fn lookups(&self) -> Lookups<'_> {
        self.read.lookups_here()
    }
}

impl PagesMut for WriteSection<'_> {
    #[inline]
    fn set_u64(&mut self, addr: Addr, value: u64) -> Result<()> {
        self.read.restructured = true;
        self.set_value(addr, value)
    }

    #[inline]
    fn set_value(&mut self, addr: Addr, value: u64) -> Result<()> {
        let (page, offset) = within_page(addr, 8)?;
        if offset & 7 != 0 {
            return Err(Error::corrupt("misaligned word", addr));
        }
        let physical = self.write_page(page, addr)?;
        let pager = self.read.pager;
        if self.needs_undo(page) {
            // SAFETY: this write section is the only one in the store (invariant 1).
            let old = word_in(&unsafe { pager.map().page(physical) }?[offset..offset + 8]);
            pager.shm().log_word(addr, old)?;
            fail_point!("undo.logged");
        }
        // SAFETY: as above; the borrow of the old bytes has ended.
        unsafe { pager.map().store_u64(physical, offset, value) }
    }

    #[inline]
    fn set_time(&mut self, addr: Addr, now: u64) -> Result<()> {
        let (page, offset) = within_page(addr, 8)?;
        if offset & 7 != 0 {
            return Err(Error::corrupt("misaligned word", addr));
        }
        let physical = self.write_page(page, addr)?;
        let pager = self.read.pager;
        if self.needs_undo(page) {
            // The committed state beside a transaction is read for long: its times must be those of its contents. A
            // single operation may leave the new time when it is undone.
            if !self.transaction {
                if pager.shm().log_mode() != 0 {
                    pager.shm().log_note(addr, 8)?;
                }
            } else if pager.transactions().is_first_touch(addr) {
                self.log_time(addr, physical, offset)?;
            }
        }
        // SAFETY: this write section is the only one in the store (invariant 1).
        unsafe { pager.map().store_time(physical, offset, now) }
    }

    fn set_bytes(&mut self, addr: Addr, bytes: &[u8]) -> Result<()> {
        self.read.restructured = true;
        let (page, offset) = within_page(addr, bytes.len())?;
        let physical = self.write_page(page, addr)?;
        let pager = self.read.pager;
        // SAFETY: this write section is the only one in the store (invariant 1).
        let target = &mut unsafe { pager.map().page_mut(physical) }?[offset..offset + bytes.len()];
        if self.needs_undo(page) {
            pager.shm().log_bytes(addr, target)?;
        }
        target.copy_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn init(&mut self, addr: Addr, len: usize) -> Result<&mut [u8]> {
        let (page, offset) = within_page(addr, len)?;
        let physical = self.write_page(page, addr)?;
        // A page that could not be read may only seem free. It must not be filled, because the fill is not logged.
        self.whole()?;
        if self.read.pager.shm().log_mode() != 0 && self.needs_undo(page) {
            self.read.pager.shm().log_note(addr, len)?;
        }
        // SAFETY: this write section is the only one in the store (invariant 1).
        Ok(&mut unsafe { self.read.pager.map().page_mut(physical) }?[offset..offset + len])
    }

    fn alloc_page(&mut self) -> Result<PageNo> {
        let trunk = PageNo(self.u64_at(sb::FREE_PAGE)?);
        if trunk.0 != 0 {
            let free = self.u64_at(sb::FREE_PAGES)?;
            let page = match self.trunk_count(trunk)? {
                0 => {
                    let next = self.u64_at(trunk.addr())?;
                    self.set_u64(sb::FREE_PAGE, next)?;
                    // Log the whole page: a rollback may restore the page numbers that this transaction took from it.
                    self.set_bytes(trunk.addr(), &[0; PAGE_SIZE])?;
                    trunk
                }
                n => {
                    let page = self.trunk_name(trunk, n - 1)?;
                    self.set_u64(trunk.addr() + sb::TRUNK_COUNT, n - 1)?;
                    page
                }
            };
            self.set_u64(sb::FREE_PAGES, free.saturating_sub(1))?;
            self.retired.retain(|retired| *retired != page);
            self.fresh_page(page)?;
            return Ok(page);
        }
        let page = PageNo(self.u64_at(sb::NEXT_PAGE)?);
        self.read.pager.extend_logical(page.0)?;
        self.read.limit = self.read.pager.shm().live().logical();
        self.fresh_page(page)?;
        self.set_u64(sb::NEXT_PAGE, page.0 + 1)?;
        Ok(page)
    }

    fn free_page(&mut self, page: PageNo) -> Result<()> {
        if page.0 == 0 || page.0 >= self.u64_at(sb::NEXT_PAGE)? {
            return Err(Error::corrupt("freeing a page that is not in use", page.addr()));
        }
        let trunk = PageNo(self.u64_at(sb::FREE_PAGE)?);
        let free = self.u64_at(sb::FREE_PAGES)?;
        let named = if trunk.0 == 0 {
            sb::TRUNK_MAX
        } else {
            self.trunk_count(trunk)?
        };
        if named < sb::TRUNK_MAX {
            self.set_u64(trunk.addr() + (sb::TRUNK_NAMES + 8 * named), page.0)?;
            self.set_u64(trunk.addr() + sb::TRUNK_COUNT, named + 1)?;
        } else {
            self.set_u64(page.addr() + sb::TRUNK_COUNT, 0)?;
            self.set_u64(page.addr(), trunk.0)?;
            self.set_u64(sb::FREE_PAGE, page.0)?;
        }
        let Some(free) = free.checked_add(1) else {
            return Err(Error::Corrupt {
                what: "an impossible count of free pages in the superblock",
                at: free,
            });
        };
        self.set_u64(sb::FREE_PAGES, free)
    }

    fn retire_page(&mut self, page: PageNo) -> Result<()> {
        let entry = self.read.entry(page, page.addr())?;
        let is_old = entry & ABSENT == 0 && entry >> 32 != self.epoch;
        if !is_old {
            self.set_u64(page.addr(), 0)?;
        }
        self.free_page(page)?;
        // If it has become a trunk page, it has content.
        if is_old && self.u64_at(sb::FREE_PAGE)? != page.0 {
            self.retired.push(page);
        }
        Ok(())
    }

    fn defer_free(&mut self, addr: Addr) -> Result<()> {
        self.deferred.push(addr);
        Ok(())
    }

    fn take_deferred(&mut self) -> Vec<Addr> {
        std::mem::take(&mut self.deferred)
    }

    fn changing(&mut self, obj: Obj, key: Option<u64>) -> Result<()> {
        let pager = self.read.pager;
        if let Some(hooks) = pager.hooks() {
            hooks.check_change(pager, self.read.slot, self.actor, obj, key)?;
        }
        self.look_for_leases(obj.id, key)?;
        if self.transaction {
            dirty_set::insert(pager.shm(), obj.id);
            self.gate.set_marked();
        }
        Ok(())
    }

    #[inline(always)]
    fn is_watched(&self, id: ObjectId) -> bool {
        self.read.pager.shm().is_watched(id)
    }

    fn announce(&mut self, notice: &Notice<'_>) {
        self.stage_notice(notice);
    }

    fn changing_all(&mut self) -> Result<()> {
        self.look_for_all_leases(true)
    }

    fn rehomed(&mut self) -> Result<()> {
        self.look_for_all_leases(false)
    }

    fn is_pinned(&self, id: ObjectId) -> bool {
        self.read.pager.has_pin(id)
    }

    fn yield_to_readers(&mut self) -> Result<()> {
        // The caller promises that this operation has changed nothing a reader can reach. Earlier operations of a
        // transaction have marked what they changed.
        self.read.pager.let_readers_in(&mut self.gate, self.read.slot)?;
        self.epoch = self.read.pager.writable_epoch();
        self.look_again_for_leases()
    }

    fn savepoint(&mut self) -> Result<Savepoint> {
        self.fresh_from = self.u64_at(sb::NEXT_PAGE)?;
        Ok(Savepoint {
            undo: self.read.pager.shm().undo_len(),
            deferred: self.deferred.len(),
        })
    }

    fn back_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.deferred.truncate(savepoint.deferred);
        // Pages are retired by the commit, after the last savepoint. A page in the list would be in use again.
        self.retired.clear();
        self.read.pager.undo_to(savepoint.undo)
    }

    fn next_id(&mut self) -> Result<ObjectId> {
        let live = self.read.pager.shm().live();
        let id = live.next_id();
        // This is never undone: an id is never issued twice.
        let Some(next) = id.checked_add(1) else {
            return Err(Error::Corrupt {
                what: "a store that has no ids left (next id)",
                at: id,
            });
        };
        live.set_next_id(next);
        Ok(ObjectId(id))
    }

    fn now(&mut self) -> u64 {
        if self.now == 0 {
            self.now = process::coarse_now();
        }
        self.now
    }
}

#[inline(always)]
fn word_in(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// A page consists of whole words, and `dirty_set` reduces a hash modulo a power of two.
const _: () = assert!(PAGE_SIZE.is_multiple_of(8) && layout::MARK_WORDS.is_power_of_two());
