//! The read section: how it finds bytes, and whether they are still valid. Invariants: `section`.

use crate::error::{Error, Result};
use crate::ids::{Addr, ObjectId, PAGE_SIZE, PageNo, PhysicalPage};
use crate::page::access::{ABSENT as NO_PAGE, BEYOND, Pages, within_page};
use crate::page::lookups::Lookups;
use crate::page::pager::Pager;
use crate::page::section::committed::{Committed, Where};
use crate::page::section::moment::View;
use crate::page::section::pinned::Pinned;
use crate::page::shared::regions::dirty_set;
use crate::page::shared::regions::free_pages::ABSENT;
use crate::page::superblock as sb;
use crate::raw::fault;
use std::marker::PhantomData;

/// What keeps the bytes of a section from being changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protection {
    /// The thread's mark in the gate.
    Mark,
    /// Nothing: the section reads the committed state beside a writer, or a view.
    None,
    /// The latch: the section is a writer's.
    Latch,
}

/// A state other than the live one.
#[derive(Debug)]
pub(super) enum Shown<'p> {
    /// The state before the change that is in progress.
    Committed(Box<Committed<'p>>),
    /// The state of an earlier moment.
    View(&'p View),
}

/// The section of a reader, and the reading part of a writer's.
#[derive(Debug)]
pub struct ReadSection<'p> {
    pub(super) pager: &'p Pager,
    pub(in crate::page) slot: u32,
    pub(super) limit: u64,
    /// A transaction of another owner is open: check which containers are marked.
    pub(super) beside_transaction: bool,
    /// True for a write section that changed more than values, since entries may have moved already
    /// (`section::lookup`), and for a section of the committed state: neither caches lookups.
    pub(in crate::page) restructured: bool,
    protection: Protection,
    shown: Option<Shown<'p>>,
    pins: Pinned,
    /// Not `Send`, not `Sync`: the mark and the latch belong to this thread's slot (invariant 8).
    of_this_thread: PhantomData<*const ()>,
}

impl Drop for ReadSection<'_> {
    #[inline]
    fn drop(&mut self) {
        self.pager.shm().leave_gate(self.slot);
        if !self.pins.is_empty() {
            self.give_pins_back();
        }
    }
}

impl<'p> ReadSection<'p> {
    #[inline(always)]
    pub(super) fn new(
        pager: &'p Pager,
        slot: u32,
        protection: Protection,
        beside_transaction: bool,
    ) -> ReadSection<'p> {
        ReadSection {
            pager,
            slot,
            limit: pager.shm().live().logical(),
            beside_transaction,
            restructured: false,
            protection,
            shown: None,
            pins: Pinned::default(),
            of_this_thread: PhantomData,
        }
    }

    /// Show the state before the transaction that another thread has open.
    pub(crate) fn show_committed(&mut self) -> Result<()> {
        if self.beside_transaction {
            let committed = self.pager.committed().ok_or(Error::Busy(ObjectId(0)))?;
            self.show(Shown::Committed(Box::new(committed)));
        }
        Ok(())
    }

    pub(super) fn show(&mut self, shown: Shown<'p>) {
        self.shown = Some(shown);
        self.beside_transaction = false;
        self.restructured = true;
        self.limit = 0;
    }
}

impl ReadSection<'_> {
    #[inline(always)]
    pub(super) fn entry(&self, page: PageNo, addr: Addr) -> Result<u64> {
        if page.0 >= self.limit {
            return Err(Error::corrupt(BEYOND, addr));
        }
        match self.pager.shm().entry(page.0) {
            0 => self.pager.fill(page.0, || self.holds()),
            entry => Ok(entry),
        }
    }

    /// Return whether everything read so far is consistent. The caller asks after the last access and before it uses
    /// the result.
    #[inline(always)]
    pub(crate) fn holds(&self) -> bool {
        match self.protection {
            Protection::Mark => self.pager.shm().reader_holds(self.slot),
            Protection::None => self.shown_holds(),
            Protection::Latch => true,
        }
    }

    #[cold]
    fn shown_holds(&self) -> bool {
        match self.shown.as_ref() {
            Some(Shown::Committed(committed)) => committed.holds(),
            Some(Shown::View(view)) => view.holds(self.pager),
            None => false,
        }
    }

    pub(super) fn protection(&self) -> Protection {
        self.protection
    }

    /// Return whether this is the live state beside a transaction of another owner.
    pub(crate) fn is_beside_transaction(&self) -> bool {
        self.beside_transaction
    }

    /// Return whether this is the state before a transaction that is open.
    pub(crate) fn shows_committed(&self) -> bool {
        matches!(self.shown.as_ref(), Some(Shown::Committed(_)))
    }

    fn is_of_view(&self) -> bool {
        matches!(self.shown.as_ref(), Some(Shown::View(_)))
    }

    /// Return bytes of a page that this section does not read in place.
    #[cold]
    #[inline(never)]
    fn bytes_shown(&self, page: PageNo, addr: Addr, len: usize) -> Result<&[u8]> {
        let found = match self.shown.as_ref() {
            None => return Err(Error::corrupt(BEYOND, addr)),
            Some(Shown::View(view)) => view.page(self.pager, page, addr)?,
            Some(Shown::Committed(committed)) => {
                let excludes = self.protection == Protection::Mark;
                committed.page(page, addr, excludes, || self.pager.fill(page.0, || self.holds()))?
            }
        };
        let bytes = match found {
            Where::Copy(bytes) => bytes,
            // SAFETY: this section keeps writers out (invariant 1) for as long as the borrow lives; or the page is that
            // of a view, which is not written while the view is alive, and no result is used otherwise (invariant 5).
            Where::InPlace(physical) => unsafe { self.pager.map().page(physical) }?,
        };
        Ok(&bytes[addr.offset()..addr.offset() + len])
    }

    #[inline(always)]
    fn translate(&self, page: PageNo, addr: Addr) -> Result<PhysicalPage> {
        let entry = self.entry(page, addr)?;
        if entry & ABSENT != 0 {
            return Err(Error::corrupt(NO_PAGE, addr));
        }
        Ok(PhysicalPage(entry as u32))
    }

    /// Return whether the superblock is complete: its magic is stored last.
    pub(crate) fn has_superblock(&self) -> Result<bool> {
        if self.limit == 0 || self.entry(PageNo(0), Addr(0))? & ABSENT != 0 {
            return Ok(false);
        }
        Ok(self.u64_at(sb::MAGIC)? == sb::MAGIC_VALUE)
    }

    /// Return the page manager this section belongs to.
    #[must_use]
    pub(crate) fn pager(&self) -> &Pager {
        self.pager
    }

    /// Return an error if the disk failed an access of this section. The caller asks before it uses the result.
    #[inline]
    pub(crate) fn whole(&self) -> Result<()> {
        self.pager.whole()
    }

    /// Return whether the disk has served every access of this process so far (one load).
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        !fault::any()
    }

    /// Pin a container for this process, in the section that found it, so that it cannot be freed in between.
    #[doc(hidden)]
    pub fn pin_id(&self, id: ObjectId) -> Result<()> {
        if self.is_of_view() {
            // Nothing that a view shows is freed before its end.
            return Ok(());
        }
        self.pager.pin(id)?;
        if self.protection != Protection::Latch {
            self.pins.add(id);
        }
        Ok(())
    }

    /// Keep the pins: the section's result is valid.
    #[inline]
    pub(crate) fn keep_pins(&self) {
        self.pins.keep();
    }

    #[cold]
    fn give_pins_back(&self) {
        for id in self.pins.take() {
            self.pager.unpin(id);
        }
    }
}

impl Pages for ReadSection<'_> {
    #[inline(always)]
    fn bytes(&self, addr: Addr, len: usize) -> Result<&[u8]> {
        let (page, offset) = within_page(addr, len)?;
        if page.0 >= self.limit {
            return self.bytes_shown(page, addr, len);
        }
        let physical = self.translate(page, addr)?;
        // SAFETY: this section keeps writers out (invariant 1) for as long as the borrow lives, or it is revoked and no
        // result of its reads is used (invariant 5).
        Ok(&unsafe { self.pager.map().page(physical) }?[offset..offset + len])
    }

    #[inline(always)]
    fn prefetch(&self, addr: Addr) {
        if let Ok((page, offset)) = within_page(addr, 1)
            && let Ok(physical) = self.translate(page, addr)
        {
            self.pager.map().prefetch(physical, offset);
        }
    }

    #[inline]
    fn hash_seed(&self) -> u64 {
        self.pager.seed()
    }

    #[inline]
    fn words(&self) -> u64 {
        let limit = match self.shown.as_ref() {
            Some(Shown::Committed(committed)) => committed.limit(),
            Some(Shown::View(view)) => view.limit(),
            None => self.limit,
        };
        limit.saturating_mul((PAGE_SIZE / 8) as u64)
    }

    #[inline(always)]
    fn holds(&self) -> bool {
        ReadSection::holds(self)
    }

    #[inline(always)]
    fn lookups(&self) -> Lookups<'_> {
        self.lookups_here()
    }

    #[inline]
    fn reading(&self, id: ObjectId) -> Result<()> {
        if self.beside_transaction && dirty_set::contains(self.pager.shm(), id) {
            return Err(Error::Busy(id));
        }
        Ok(())
    }
}

impl Pager {
    /// Return the first page that was never used (`superblock::NEXT_PAGE`). The thread is about to make a write
    /// section: it holds the latch and has raised the gate. `limit` is the number of logical pages.
    #[inline]
    pub(super) fn first_new_page(&self, limit: u64) -> Result<u64> {
        if limit == 0 {
            return Ok(0);
        }
        let at = sb::NEXT_PAGE;
        let entry = match self.shm().entry(0) {
            0 => self.fill(0, || true)?,
            entry => entry,
        };
        if entry & ABSENT != 0 {
            return Err(Error::corrupt(NO_PAGE, at));
        }
        // SAFETY: the caller keeps every other section out (invariant 1 of `section`).
        let page = unsafe { self.map().page(PhysicalPage(entry as u32)) }?;
        let mut word = [0; 8];
        word.copy_from_slice(&page[at.offset()..at.offset() + 8]);
        Ok(u64::from_le_bytes(word))
    }
}
