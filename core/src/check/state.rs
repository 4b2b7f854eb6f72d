//! Check the state of a checkpoint: superblock, free pages, the heap's pages and lists. Also `State`, which
//! the other parts of the check share.

use super::report::{Report, Watch};
use super::sparse::{Marks, PerContainer, Queue};
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::{Addr, PageNo};
use crate::object::path;
use crate::object::salvage::TWICE;
use crate::page::access::Pages;
use crate::page::format::image::Image;
use crate::page::superblock as sb;

/// Steps between two calls of the watch.
const STEP: u64 = 1024;

/// The note about a container.
#[derive(Clone, Copy, Default)]
pub(super) struct Note {
    /// It was found.
    pub(super) found: bool,
    /// Its content was walked.
    pub(super) done: bool,
    /// The number of words that refer to it.
    pub(super) refs: u32,
    /// The sum of a hash of the parents that refer to it.
    pub(super) parents: u64,
}

/// Return how many of an image's pages are in use: those below `NEXT_PAGE`. Pages behind them were allocated
/// by changes that were undone; nothing reaches them, and they are overwritten when they are allocated again.
/// Return all pages if the superblock is damaged.
pub(super) fn pages_in_use(p: &Image<'_>) -> u64 {
    let next = match p.u64_at(sb::NEXT_PAGE) {
        Ok(next) if next != 0 && next <= p.logical() => next,
        _ => return p.count(),
    };
    let (mut from, mut to) = (0, p.count());
    while from < to {
        let middle = from + (to - from) / 2;
        if p.nth(middle).is_some_and(|page| page.0 < next) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    from
}

/// A check in progress.
pub(super) struct State<'a, 's> {
    pub(super) p: &'a Image<'s>,
    pub(super) report: &'a mut Report,
    watch: &'a mut dyn Watch,
    steps: u64,
    /// The number of pages in use; these come first.
    pub(super) in_use: u64,
    /// Pages of the heap.
    pub(super) heap: Marks,
    /// Segments that have an owner.
    pub(super) claimed: Marks,
    /// Segments whose content was walked.
    pub(super) walked: Marks,
    /// Containers on one of the two lists.
    pub(super) listed: Marks,
    /// Class records.
    pub(super) classes: Marks,
    pub(super) containers: PerContainer<Note>,
    /// Containers to be walked.
    pub(super) waiting: Queue,
    /// True if something could not be read, so that segments and references are missing for this reason.
    pub(super) torn: bool,
    pub(super) root: Addr,
}

impl<'a, 's> State<'a, 's> {
    pub(super) fn new(p: &'a Image<'s>, report: &'a mut Report, watch: &'a mut dyn Watch) -> State<'a, 's> {
        State {
            p,
            report,
            watch,
            steps: 0,
            in_use: pages_in_use(p),
            heap: Marks::default(),
            claimed: Marks::default(),
            walked: Marks::default(),
            listed: Marks::default(),
            classes: Marks::default(),
            containers: PerContainer::new(),
            waiting: Queue::default(),
            torn: false,
            root: Addr::NULL,
        }
    }

    /// Check all of the state.
    pub(super) fn check(mut self) {
        if self.p.logical() == 0 {
            self.report.find(
                "heap",
                "the store was never completed: it has no root",
                None,
                None,
            );
            return;
        }
        match self.superblock() {
            Ok(root) => self.root = root,
            Err(e) => {
                self.report.fault("heap", &e, None);
                return;
            }
        }
        let free = self.free_pages();
        self.heap_pages(&free);
        self.heap_lists();
        self.begin("objects", self.report.segments);
        self.graph();
        self.end();
        self.counts();
    }

    pub(super) fn begin(&mut self, part: &'static str, steps: u64) {
        self.watch.begin(part, steps);
        self.steps = 0;
    }

    pub(super) fn advance(&mut self) {
        self.steps += 1;
        if self.steps == STEP {
            self.end();
        }
    }

    pub(super) fn end(&mut self) {
        self.watch.advance(self.steps);
        self.steps = 0;
    }

    /// Report a finding about a container.
    pub(super) fn find(&mut self, part: &'static str, what: impl Into<String>, h: Addr) {
        let path = path::of(self.p, h);
        self.report.find(part, what, Some(h.0), path);
    }

    /// Report an error that occurred at a container as a finding.
    pub(super) fn fault(&mut self, part: &'static str, e: &Error, h: Addr) {
        let path = path::of(self.p, h);
        self.report.fault(part, e, path);
    }

    /// Mark a segment, of which `used` bytes are used, as owned. Return an error if it is not a segment, or
    /// has an owner already.
    pub(super) fn claim(&mut self, at: Addr, used: usize) -> Result<()> {
        if self.behind(at) {
            return Err(Error::corrupt("an address behind the pages in use", at));
        }
        if heap::size_of(self.p, at)? < used {
            return Err(Error::corrupt(
                "a segment that is too small for what it holds",
                at,
            ));
        }
        if !self.claimed.add(at) {
            return Err(Error::corrupt(TWICE, at));
        }
        self.advance();
        Ok(())
    }

    /// Return whether an address lies behind the pages in use.
    fn behind(&self, at: Addr) -> bool {
        self.p.nth(self.in_use).is_some_and(|first| at.page() >= first)
    }

    /// Check the superblock. Return the root's address.
    fn superblock(&mut self) -> Result<Addr> {
        let p = self.p;
        if p.u64_at(sb::MAGIC)? != sb::MAGIC_VALUE {
            return Err(Error::corrupt("no superblock in logical page 0", Addr(0)));
        }
        let next = p.u64_at(sb::NEXT_PAGE)?;
        if next == 0 || next > p.logical() {
            let what = format!("a superblock with {next} pages where there are {}", p.logical());
            self.report.find("heap", what, Some(sb::NEXT_PAGE.0), None);
        }
        let root = Addr(p.u64_at(sb::ROOT)?);
        if root.is_null() {
            return Err(Error::corrupt("a superblock without a root", sb::ROOT));
        }
        Ok(root)
    }

    /// Walk the list of free pages. Return the pages on it.
    fn free_pages(&mut self) -> Marks {
        let mut free = Marks::default();
        let mut count = 0;
        let done = self.walk_free_pages(&mut free, &mut count);
        if let Err(e) = done {
            self.report.fault("heap", &e, None);
        } else if self.p.u64_at(sb::FREE_PAGES).is_ok_and(|n| n != count) {
            let what = format!("the superblock counts its free pages wrong: there are {count}");
            self.report.find("heap", what, Some(sb::FREE_PAGES.0), None);
        }
        self.report.free_pages = count;
        free
    }

    /// Walk the list. Terminates, because every page is accepted once.
    fn walk_free_pages(&mut self, free: &mut Marks, count: &mut u64) -> Result<()> {
        let p = self.p;
        let next_page = p.u64_at(sb::NEXT_PAGE)?.min(p.logical());
        let mut add = |page: u64, at: Addr| {
            if page == 0 || page >= next_page {
                return Err(Error::corrupt("a free page that does not exist", at));
            }
            if !free.add(PageNo(page).addr()) {
                return Err(Error::corrupt("a page that is free twice", at));
            }
            *count += 1;
            Ok(())
        };
        let mut trunk = p.u64_at(sb::FREE_PAGE)?;
        let mut from = sb::FREE_PAGE;
        while trunk != 0 {
            add(trunk, from)?;
            let at = PageNo(trunk).addr();
            let n = p.u64_at(at + sb::TRUNK_COUNT)?;
            if n > sb::TRUNK_MAX {
                return Err(Error::corrupt(
                    "a list of free pages that is too long for its page",
                    at,
                ));
            }
            for i in 0..n {
                add(p.u64_at(at + sb::TRUNK_NAMES + i * 8)?, at)?;
            }
            (from, trunk) = (at, p.u64_at(at)?);
        }
        Ok(())
    }

    /// Check that every page is free or belongs to the heap, and that heap pages are valid.
    fn heap_pages(&mut self, free: &Marks) {
        let p = self.p;
        let (mut absent, mut lost) = (0u64, Vec::new());
        self.begin("heap", self.in_use);
        for n in 0..self.in_use {
            self.advance();
            let Some(page) = p.nth(n).filter(|page| page.0 != 0) else {
                continue;
            };
            if free.has(page.addr()) {
                // It may look like a heap page: an allocation that was undone leaves its bytes.
                absent += 1;
                continue;
            }
            match heap::page_segments(p, page) {
                Ok(segments) => {
                    self.heap.add(page.addr());
                    self.report.segments += segments.iter().filter(|s| s.allocated).count() as u64;
                }
                Err(_) if p.bytes(page.addr(), 1).is_err() => self.torn = true,
                Err(Error::Corrupt {
                    what: heap::NOT_A_PAGE,
                    ..
                }) => lost.push(page),
                Err(e) => self.report.fault("heap", &e, None),
            }
        }
        self.end();
        // `absent` free pages are among the pages in use too: count them once. The other free pages need no
        // place in the file.
        let next = p.u64_at(sb::NEXT_PAGE).unwrap_or(0);
        let known = self.in_use + self.report.free_pages.saturating_sub(absent);
        if known < next && !self.torn {
            let what = format!("{} pages are missing: neither free nor there", next - known);
            self.report.find("heap", what, None, None);
        }
        for page in &lost {
            let what = "a page that is neither the heap's nor free";
            self.report.find("heap", what, Some(page.addr().0), None);
        }
    }

    /// Check that the lists of pages with room agree with the pages.
    fn heap_lists(&mut self) {
        let p = self.p;
        let mut listed = Marks::default();
        let mut whole = true;
        for class in 0..heap::class_count() {
            match heap::list(p, class, p.count() as usize) {
                Ok(pages) => {
                    for page in pages {
                        if self.behind(page.addr()) {
                            let what = "a heap page on a list that is behind the pages in use";
                            self.report.find("heap", what, Some(page.addr().0), None);
                        }
                        if !listed.add(page.addr()) {
                            let what = "a heap page that is on two lists";
                            self.report.find("heap", what, Some(page.addr().0), None);
                        }
                    }
                }
                Err(e) => {
                    whole = false;
                    self.report.fault("heap", &e, None);
                }
            }
        }
        for n in 0..self.in_use {
            let Some(page) = p.nth(n).filter(|page| self.heap.has(page.addr())) else {
                continue;
            };
            match heap::is_listed(p, page) {
                Ok(says) if whole && says != listed.has(page.addr()) => {
                    let what = "a heap page that is not on the list it says it is on";
                    self.report.find("heap", what, Some(page.addr().0), None);
                }
                Ok(_) => {}
                Err(e) => self.report.fault("heap", &e, None),
            }
        }
    }
}
