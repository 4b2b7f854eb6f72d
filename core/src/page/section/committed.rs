//! The committed state, read beside a writer that is at work or has a transaction open.
//!
//! 1. What recovery would make of the store if the writer died now is the committed state: the live pages with the
//!    undo log's records over them, the newest first. A reader does the same in copies of its own: for each page
//!    that it needs, and changing nothing that is shared.
//! 2. A page is copied first, and then the log's length is read. A record is visible before the store that it
//!    covers (I2): so each change in the copy has its record below that length. A change without a record is in
//!    memory that nothing committed reaches, or a time of change: that one may be newer than the state.
//! 3. What is undone in a page that did not have the change yet stays what it was: undoing twice is harmless.
//! 4. A page once copied stays as it was copied: the same question has one answer in a section.
//! 5. `Tag` is read before everything else and compared after it. It changes with each commit (before it and
//!    after it), with each record that is undone (before and after), and with each epoch. So with the same tag at
//!    the end all records used were whole and counted, the committed state was one and the same from the beginning
//!    on, and no physical page in it was used again. A lone value that was replaced without undo
//!    (`section::in_place_store`) is one word in one page: with it or without it the state is one that was.
//! 6. Beside a transaction whose writer is between two operations the reader has its mark in the gate
//!    (`gate::INSIDE`): nothing moves, and pages without records are read in place. Beside a raised gate it has
//!    none (`gate::BESIDE`), and the tag is all there is.
//! 7. Nothing is noted here (`section::lookup`): notes tell of the live state.

use crate::error::{Error, Result};
use crate::ids::{Addr, PAGE_SIZE, PageNo, PhysNo};
use crate::page::pager::Pager;
use crate::page::pager::undo_index::{Index, Tag};
use crate::page::shared::at;
use crate::page::shared::free_pages::ABSENT;
use std::cell::{OnceCell, RefCell};
use std::sync::atomic::{Ordering, fence};

/// Chains of copied pages.
const CHAINS: usize = 64;
/// Attempts to find the writer standing still.
const ATTEMPTS: usize = 4;

/// A page as it was committed.
#[derive(Debug)]
struct Copied {
    page: u64,
    bytes: Box<[u8; PAGE_SIZE]>,
    next: OnceCell<Box<Copied>>,
}

/// The committed state for the time of a section.
#[derive(Debug)]
pub(crate) struct Committed<'p> {
    pager: &'p Pager,
    tag: Tag,
    limit: u64,
    index: RefCell<Index>,
    chains: [OnceCell<Box<Copied>>; CHAINS],
}

/// Where the bytes of a page are to be read.
pub(crate) enum Where<'a> {
    Copy(&'a [u8; PAGE_SIZE]),
    /// The physical page says what is committed. Of a reader that keeps writers out.
    InPlace(PhysNo),
}

impl Pager {
    /// The committed state; None if the writer did not stand still long enough.
    pub(crate) fn committed(&self) -> Option<Committed<'_>> {
        if self.following().is_some() {
            // It is between two checkpoints.
            return None;
        }
        let kept = self.committed.try_lock().ok().and_then(|mut kept| kept.take());
        let mut index = kept.unwrap_or_default();
        for _ in 0..ATTEMPTS {
            let tag = Tag::now(&self.shm);
            // A commit under way may have cut it: what the next finds is never older than what one has found.
            if index.tag != tag || index.len > self.shm.get(at::UNDO_LEN) as usize {
                index = Index::of(tag);
            }
            let done = index.catch_up(&self.shm);
            fence(Ordering::Acquire);
            if Tag::now(&self.shm) != tag {
                continue;
            }
            if done.is_err() {
                break;
            }
            return Some(Committed {
                pager: self,
                tag,
                limit: self.shm.get(at::LOGICAL),
                index: RefCell::new(index),
                chains: [const { OnceCell::new() }; CHAINS],
            });
        }
        None
    }

    /// Whether a reader has read the committed state lately, and the writer has completed nothing since: it need not
    /// be waited for once more.
    pub(crate) fn writer_stands_still(&self) -> bool {
        let kept = self.committed.try_lock();
        kept.is_ok_and(|kept| {
            kept.as_ref()
                .is_some_and(|index| index.tag == Tag::now(&self.shm))
        })
    }
}

impl<'p> Committed<'p> {
    /// Whether the state is still the one that it began with.
    pub(crate) fn holds(&self) -> bool {
        fence(Ordering::Acquire);
        Tag::now(&self.pager.shm) == self.tag
    }

    /// Logical pages that may be looked up.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Where a page is to be read. `fill` fills its entry in the live table. `excludes`: writers are kept out.
    pub(crate) fn page(
        &self,
        page: PageNo,
        addr: Addr,
        excludes: bool,
        fill: impl FnOnce() -> Result<u64>,
    ) -> Result<Where<'_>> {
        if page.0 >= self.limit {
            return Err(Error::corrupt(crate::page::access::BEYOND, addr));
        }
        let mut link = &self.chains[page.0 as usize % CHAINS];
        while let Some(copied) = link.get() {
            if copied.page == page.0 {
                return Ok(Where::Copy(&copied.bytes));
            }
            link = &copied.next;
        }
        let entry = match self.pager.shm.entry(page.0).load(Ordering::Acquire) {
            0 => fill()?,
            entry => entry,
        };
        if entry & ABSENT != 0 {
            return Err(Error::corrupt(crate::page::access::ABSENT, addr));
        }
        let phys = PhysNo(entry as u32);
        if excludes && self.index.borrow().records(page.0).next().is_none() {
            return Ok(Where::InPlace(phys));
        }
        let mut bytes = Box::new([0; PAGE_SIZE]);
        self.pager.map.copy_page(phys, &mut bytes)?;
        // The copy is loaded before the log's length.
        fence(Ordering::Acquire);
        let mut index = self.index.borrow_mut();
        index.catch_up(&self.pager.shm)?;
        for end in index.records(page.0) {
            self.pager.shm.undo_in_copy(end, &mut bytes)?;
        }
        let copied = link.get_or_init(|| {
            Box::new(Copied {
                page: page.0,
                bytes,
                next: OnceCell::new(),
            })
        });
        Ok(Where::Copy(&copied.bytes))
    }
}

impl Drop for Committed<'_> {
    /// Leaves the index to the next.
    fn drop(&mut self) {
        if let Ok(mut kept) = self.pager.committed.try_lock()
            && kept
                .as_ref()
                .is_none_or(|kept| kept.tag != self.tag || kept.len < self.index.get_mut().len)
        {
            *kept = Some(self.index.take());
        }
    }
}
