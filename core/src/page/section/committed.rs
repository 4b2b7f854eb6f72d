//! Reading the committed state beside a writer that is running or has a transaction open.
//!
//! 1. The committed state is the state that recovery would restore if the writer died now: the live pages with the undo
//!    log's records applied, newest first. A reader does the same in private copies, for each page it needs, and
//!    changes nothing shared.
//! 2. A reader copies a page first and then reads the log's length. A record is visible before the store that it covers
//!    (I2), so each change in the copy has its record below that length. A change without a record is in memory that
//!    the committed state does not reach, or is a time of change that a single operation has set.
//! 3. Undoing a change that the copied page does not have yet leaves the page as it is: undoing twice is harmless.
//! 4. A copied page does not change, so one section returns the same answer for the same read.
//! 5. `Tag` is read before everything else and compared at the end. It changes with each commit (before and after it),
//!    with each record that is undone (before and after), and with each epoch. If the tag at the end is the same, all
//!    records used were complete and counted, the committed state did not change since the beginning, and no physical
//!    page in it was reused. A single value that was replaced without undo (`section::in_place_store`) is one word in
//!    one page: both with and without it, the state is one that existed.
//! 6. Beside a transaction whose writer is between two operations, the reader has its mark in the gate
//!    (`gate::INSIDE`): nothing moves, and pages without records are read in place. Beside a raised gate it has no mark
//!    (`gate::BESIDE`) and relies on the tag alone.
//! 7. The lookup cache is not filled here (`section::lookup`): it describes the live state.

use crate::error::{Error, Result};
use crate::ids::{Addr, PAGE_SIZE, PageNo, PhysicalPage};
use crate::page::pager::Pager;
use crate::page::pager::state::undo_index::{Index, Tag};
use crate::page::shared::regions::free_pages::ABSENT;
use std::cell::{OnceCell, RefCell};
use std::sync::atomic::{Ordering, fence};

/// Number of hash chains of copied pages.
const CHAINS: usize = 64;
/// Number of attempts to find the writer at rest.
const ATTEMPTS: usize = 4;

/// A copy of a page in its committed state.
#[derive(Debug)]
struct Copied {
    page: u64,
    bytes: Box<[u8; PAGE_SIZE]>,
    next: OnceCell<Box<Copied>>,
}

/// The committed state for the duration of a section.
#[derive(Debug)]
pub(crate) struct Committed<'p> {
    pager: &'p Pager,
    tag: Tag,
    limit: u64,
    index: RefCell<Index>,
    chains: [OnceCell<Box<Copied>>; CHAINS],
}

/// Where to read the bytes of a page.
pub(crate) enum Where<'a> {
    Copy(&'a [u8; PAGE_SIZE]),
    /// The physical page holds the committed state. Only for a reader that keeps writers out.
    InPlace(PhysicalPage),
}

impl Pager {
    /// Return the committed state, or None if the writer was not at rest for long enough.
    pub(crate) fn committed(&self) -> Option<Committed<'_>> {
        if self.following().is_some() {
            // A following view has no undo log. It raises its gate only to move to another checkpoint
            // (`session::follow`), and the reader waits for that.
            return None;
        }
        let mut index = self.kept_index().take();
        for _ in 0..ATTEMPTS {
            let tag = Tag::now(self.shm());
            // A commit in progress may have cut the log. A later reader never finds an older state than an earlier one.
            if index.tag != tag || index.len > self.shm().undo_len() as usize {
                index = Index::of(tag);
            }
            let done = index.catch_up(self.shm());
            fence(Ordering::Acquire);
            if Tag::now(self.shm()) != tag {
                continue;
            }
            if done.is_err() {
                break;
            }
            return Some(Committed {
                pager: self,
                tag,
                limit: self.shm().live().logical(),
                index: RefCell::new(index),
                chains: [const { OnceCell::new() }; CHAINS],
            });
        }
        None
    }

    /// Return whether a reader has read the committed state recently and the writer has completed nothing since. There
    /// is then no need to wait for the writer again.
    pub(crate) fn writer_is_stopped(&self) -> bool {
        self.kept_index().is_of(Tag::now(self.shm()))
    }
}

impl<'p> Committed<'p> {
    /// Return whether the state is still the one at the beginning of the section.
    pub(crate) fn holds(&self) -> bool {
        fence(Ordering::Acquire);
        Tag::now(self.pager.shm()) == self.tag
    }

    /// Return the tag of the state.
    pub(super) fn tag(&self) -> Tag {
        self.tag
    }

    /// Return the pages that the undo log names.
    pub(super) fn changed_pages(&self) -> Vec<u64> {
        self.index.borrow().pages()
    }

    /// Return the number of logical pages that may be looked up.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Return where to read a page. `fill` fills its entry in the live table. `excludes`: writers are kept out.
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
        let entry = match self.pager.shm().entry(page.0) {
            0 => fill()?,
            entry => entry,
        };
        if entry & ABSENT != 0 {
            return Err(Error::corrupt(crate::page::access::ABSENT, addr));
        }
        let physical = PhysicalPage(entry as u32);
        if excludes && self.index.borrow().records(page.0).next().is_none() {
            return Ok(Where::InPlace(physical));
        }
        let mut bytes = Box::new([0; PAGE_SIZE]);
        self.pager.map().copy_page(physical, &mut bytes)?;
        // The page is copied before the log's length is loaded.
        fence(Ordering::Acquire);
        let mut index = self.index.borrow_mut();
        index.catch_up(self.pager.shm())?;
        for end in index.records(page.0) {
            self.pager.shm().undo_in_copy(end, &mut bytes)?;
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
    /// Return the index for the next reader.
    fn drop(&mut self) {
        self.pager.kept_index().leave(self.index.get_mut());
    }
}
