//! Views of a moment: a state of the store that stays readable while others change it. Taking one copies nothing, at
//! any size of the store, and flushes nothing.
//!
//! 1. A view is a position in the dirty lists, published in the sidecar (`shared::regions::views`, which says why no
//!    page that it reaches is written). A page that changes afterwards is named by an entry after that position, with
//!    the physical page before. So a page of the view is where its first such entry says, and otherwise where the live
//!    table says.
//! 2. A reader loads the entry of the live table before it looks for new entries of the lists. A writer adds to the
//!    list before it replaces the entry. So a reader that finds the new entry also finds its place in the list.
//! 3. The lists are read without a lock. What was read of them counts only if the epoch is then the same: the list of
//!    an epoch is emptied two epochs later. Before that a checkpoint keeps what a view needs (`checkpoint::kept`), and
//!    a view that has missed a list reads what is kept. Recovery may take the last entry off a list: its page was not
//!    replaced, so its old place is right, and the list is read again (`Shm::list_cuts`).
//! 4. A section of a view excludes no writer, and waits for none. Its result counts if the view is alive at the end
//!    (`Shm::is_view`).
//! 5. A view shows the state before a transaction that is open. The pages that the transaction had changed at the
//!    moment are copied to private memory, as the undo log shows them (`committed`). So it is beside a writer that is
//!    stopped in the middle of a change: that writer does not know of the view, so all pages of the epoch are copied.
//! 6. The view belongs to the process that took it. A forked child may read it as long as its parent keeps it.

use crate::error::{Error, Result};
use crate::ids::{Addr, ObjectId, PAGE_SIZE, PageNo, PhysicalPage};
use crate::page::pager::Pager;
use crate::page::pager::state::undo_index::Tag;
use crate::page::section::committed::{Committed, Where};
use crate::page::shared::header::next_checkpoint::SWITCHING;
use crate::page::shared::layout::MAX_PAGES;
use crate::page::shared::regions::free_pages::{ABSENT, LIST_MAX};
use crate::page::shared::regions::views::Moment;
use crate::raw::process;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Number of attempts to find the lists at rest.
const ATTEMPTS: usize = 16;
/// Largest number of pages that a view copies to memory when it is taken (256 MiB).
const IMAGES_MAX: usize = 65536;

/// Pages that a change in progress had changed, in their committed state.
pub(super) type Images = HashMap<u64, Box<[u8; PAGE_SIZE]>>;

/// A view of a moment.
#[derive(Debug)]
pub(crate) struct View {
    started: Started,
    forks: u32,
    images: Images,
    replaced: Mutex<Replaced>,
    ended: AtomicBool,
}

/// What taking a view has found.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) slot: usize,
    pub(super) number: u64,
    /// The process that takes it (`owner_word`).
    pub(super) owner: u64,
    pub(super) moment: Moment,
    /// Number of logical pages.
    pub(super) limit: u64,
    /// Where the ring of kept pages ends.
    pub(super) kept: u64,
    pub(super) cuts: u64,
}

/// The pages that were replaced since the moment, and how far the lists have been read.
#[derive(Debug)]
struct Replaced {
    /// Logical page -> its entry at the moment.
    pages: HashMap<u64, u64>,
    epoch: u64,
    entries: u64,
    kept: u64,
    cuts: u64,
}

impl Replaced {
    /// Read what the lists have got since the last time. Return false if they changed too quickly.
    fn catch_up(&mut self, pager: &Pager, view: &View) -> Result<bool> {
        let shm = pager.shm();
        let (epoch, cuts) = (shm.live().epoch(), shm.list_cuts());
        let list = |epoch: u64| (epoch % 3) as usize;
        if epoch == self.epoch && cuts == self.cuts && shm.list_len(list(epoch)) == self.entries {
            return Ok(true);
        }
        if cuts != self.cuts {
            self.entries = view.first_of(self.epoch);
        }
        let mut found: Vec<(u64, u64)> = Vec::new();
        let mut read = |of: u64, from: u64| -> u64 {
            let len = shm.list_len(list(of)).min(LIST_MAX as u64);
            for i in from..len {
                let [page, _, old] = shm.list_entry(list(of), i);
                if page < MAX_PAGES {
                    found.push((page, if old == 0 { ABSENT } else { old }));
                }
            }
            len.max(from)
        };
        let missed = epoch > self.epoch + 1;
        let mut entries = self.entries;
        if !missed {
            entries = read(self.epoch, entries);
            if epoch > self.epoch {
                entries = read(epoch, 0);
            }
        } else {
            for of in [epoch - 2, epoch - 1, epoch] {
                if of >= view.started.moment.epoch {
                    entries = read(of, view.first_of(of));
                }
            }
        }
        let mut kept = self.kept;
        let mut older: Vec<(u64, u64)> = Vec::new();
        if missed {
            let range = shm.kept_range();
            for number in range.start.max(kept)..range.end {
                let one = shm.kept(number);
                older.extend(
                    one.filter(|k| view.started.moment.is_before(k.epoch, k.i))
                        .map(|k| (k.page, k.old)),
                );
            }
            kept = range.end;
        }
        std::sync::atomic::fence(Ordering::Acquire);
        if shm.live().epoch() != epoch || shm.list_cuts() != cuts {
            return Ok(false);
        }
        for (page, old) in older.into_iter().chain(found) {
            self.pages.entry(page).or_insert(old);
        }
        (self.epoch, self.entries, self.kept, self.cuts) = (epoch, entries, kept, cuts);
        Ok(true)
    }
}

impl View {
    pub(super) fn new(started: Started, images: Images) -> View {
        let replaced = Replaced {
            pages: HashMap::new(),
            epoch: started.moment.epoch,
            entries: started.moment.entries,
            kept: started.kept,
            cuts: started.cuts,
        };
        View {
            started,
            forks: process::forks(),
            images,
            replaced: Mutex::new(replaced),
            ended: AtomicBool::new(false),
        }
    }

    /// End this process's use of the view. Return its slot and owner, if the view is to be ended now.
    pub(super) fn end(&self) -> Option<(usize, u64)> {
        let was = self.ended.swap(true, Ordering::AcqRel);
        (!was && self.forks == process::forks()).then_some((self.started.slot, self.started.owner))
    }

    /// Return the first entry of an epoch's list that came after the moment.
    fn first_of(&self, epoch: u64) -> u64 {
        if epoch == self.started.moment.epoch {
            self.started.moment.entries
        } else {
            0
        }
    }

    /// Return the number of the view, which no other has.
    pub(crate) fn number(&self) -> u64 {
        self.started.number
    }

    /// Return an error if the view has ended.
    pub(super) fn check(&self, pager: &Pager) -> Result<()> {
        if self.ended.load(Ordering::Acquire) {
            return Err(Error::ViewEnded { why: "it was left" });
        }
        if !pager.shm().is_view(self.started.slot, self.started.number) {
            return Err(Error::ViewEnded {
                why: "its pages took too much space, or the process that took it has ended; take another view",
            });
        }
        Ok(())
    }

    /// Return whether what was read is the view's.
    pub(super) fn holds(&self, pager: &Pager) -> bool {
        pager.shm().is_view(self.started.slot, self.started.number)
    }

    /// Return the number of logical pages that may be looked up.
    pub(super) fn limit(&self) -> u64 {
        self.started.limit
    }

    /// Return where to read a page.
    pub(super) fn page(&self, pager: &Pager, page: PageNo, addr: Addr) -> Result<Where<'_>> {
        if page.0 >= self.started.limit {
            return Err(Error::corrupt(crate::page::access::BEYOND, addr));
        }
        if let Some(image) = self.images.get(&page.0) {
            return Ok(Where::Copy(image));
        }
        for _ in 0..ATTEMPTS {
            let entry = match pager.shm().entry(page.0) {
                0 => pager.fill_beside(page.0)?,
                entry => entry,
            };
            let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
            if !replaced.catch_up(pager, self)? {
                continue;
            }
            let entry = replaced.pages.get(&page.0).copied().unwrap_or(entry);
            if entry & ABSENT != 0 || u64::from(entry as u32) >= pager.shm().space().file_pages() {
                return Err(Error::corrupt(crate::page::access::ABSENT, addr));
            }
            return Ok(Where::InPlace(PhysicalPage(entry as u32)));
        }
        Err(Error::Busy(ObjectId(0)))
    }
}

impl Pager {
    /// Return the committed state of the pages that the undo log names, and of those that were copied in an epoch.
    /// Return None if the state is no longer that of the tag.
    pub(super) fn images_of(&self, tag: Tag, epoch: Option<u64>) -> Result<Option<Images>> {
        let Some(committed) = self.committed() else {
            return Ok(None);
        };
        let mut pages = committed.changed_pages();
        if let Some(epoch) = epoch {
            let list = (epoch % 3) as usize;
            let listed = (0..self.shm().list_len(list).min(LIST_MAX as u64))
                .map(|i| self.shm().list_entry(list, i)[0]);
            pages.extend(listed.filter(|page| *page < committed.limit()));
            pages.sort_unstable();
            pages.dedup();
        }
        if pages.len() > IMAGES_MAX {
            return Err(Error::TransactionTooLarge {
                what: "more changed pages than a view of a moment copies: take it when the transaction has ended",
            });
        }
        let mut images = HashMap::with_capacity(pages.len());
        for page in pages {
            let (no, addr) = (PageNo(page), PageNo(page).addr());
            match committed.page(no, addr, false, || self.fill_beside(page)) {
                Ok(Where::Copy(bytes)) => {
                    images.insert(page, Box::new(*bytes));
                }
                // A page that the committed state does not have.
                Ok(Where::InPlace(_)) | Err(Error::Corrupt { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok((committed.holds() && committed.is_of(tag)).then_some(images))
    }

    /// Fill an entry of the live table in a section that excludes no writer.
    fn fill_beside(&self, page: u64) -> Result<u64> {
        let state = || {
            let last = self.shm().last_checkpoint();
            (
                self.shm().next_checkpoint().phase() == SWITCHING,
                last.number(),
                last.root(),
            )
        };
        let before = state();
        let done = self.fill(page, || state() == before);
        match done {
            // The checkpoint that the table is read from was being replaced.
            Err(_) if before.0 || state() != before => Err(Error::Busy(ObjectId(0))),
            done => done,
        }
    }
}

impl Committed<'_> {
    /// Return whether this is the state of a tag.
    fn is_of(&self, tag: Tag) -> bool {
        self.tag() == tag
    }
}
