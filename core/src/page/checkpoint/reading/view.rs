//! Walking a frozen checkpoint page by page: for backups and checks.
//!
//! 1. Every page is compared with its checksum. A page that does not match gives one error at its place; a page of the
//!    page table gives one error for everything under it. The walk continues after it.
//! 2. Beside another checkpoint's tree it shows only the pages that differ.
//! 3. It takes only the memory of an `EntryWalk`.

use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::page::format::meta::Origin;
use crate::page::format::page_table::{Entry, Tree};
use crate::page::format::walk::{BAD_PAGE, EntryWalk, read_pages};
use crate::page::pager::Pager;

/// A logical page of a checkpoint.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PageView<'a> {
    /// The logical page.
    pub page: u64,
    /// The physical page (file offset / 4096).
    pub physical: u64,
    /// The epoch it was first written in.
    pub birth: u64,
    /// xxh3 checksum of its bytes.
    pub checksum: u64,
    /// Its bytes. None: the other checkpoint has the page and this one does not (the numbers above are 0).
    pub bytes: Option<&'a [u8; PAGE_SIZE]>,
}

/// An iterator over the pages of a frozen checkpoint, in order.
#[derive(Debug)]
pub struct PageWalk<'a> {
    pager: &'a Pager,
    entries: EntryWalk<'a>,
}

/// The numbers of a frozen opening's checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrozenState {
    pub(crate) origin: Origin,
    pub(crate) tree: Tree,
    pub(crate) logical: u64,
    pub(crate) next_id: u64,
    pub(crate) seed: u64,
    pub(crate) file_pages: u64,
}

impl Pager {
    /// Return all logical pages of a frozen opening; with `since`, those that differ from that other opening of the
    /// same store.
    pub fn pages<'a>(&'a self, since: Option<&'a Pager>) -> Result<PageWalk<'a>> {
        Ok(PageWalk {
            pager: self,
            entries: self.entries(since)?,
        })
    }

    /// As `pages`, without reading the pages themselves.
    pub(crate) fn entries<'a>(&'a self, since: Option<&'a Pager>) -> Result<EntryWalk<'a>> {
        let tree = |pager: &Pager| -> Result<Tree> {
            pager.slot()?;
            match pager.frozen() {
                Some(frozen) => Ok(pager.frozen_tree(frozen)),
                None => Err(Error::invalid(
                    "pages can be walked in a snapshot only: open the store at one",
                )),
            }
        };
        let (mine, other) = (tree(self)?, since.map_or(Ok(Tree::default()), tree)?);
        if since.is_some_and(|s| !self.is_same_file(s)) {
            return Err(Error::invalid(
                "only snapshots of one store file can be compared page by page",
            ));
        }
        Ok(EntryWalk::new(
            self.file().using()?,
            self.shm().space().file_pages(),
            mine,
            other,
        ))
    }

    /// Return the numbers of a frozen opening.
    pub(crate) fn frozen_state(&self) -> Option<FrozenState> {
        let tree = self.frozen_tree(self.frozen()?);
        Some(FrozenState {
            origin: Origin {
                uuid: self.shm().uuid(),
                checkpoint: self.shm().last_checkpoint().number(),
                time: self.snapshot().map_or(0, |s| s.time),
            },
            tree,
            logical: self.shm().live().logical(),
            next_id: self.shm().live().next_id(),
            seed: self.seed(),
            file_pages: self.shm().space().file_pages(),
        })
    }

    /// Read the pages that consecutive entries name, and compare them with their checksums.
    pub(crate) fn read_entries(&self, entries: &[(u64, Entry)], bytes: &mut [u8]) -> Result<()> {
        self.unless_stale(read_pages(
            &*self.file().using()?,
            self.shm().space().file_pages(),
            entries,
            bytes,
            BAD_PAGE,
        ))
    }

    /// Return whether both openings are of the same file, whatever its name.
    #[must_use]
    pub fn is_same_file(&self, other: &Pager) -> bool {
        self.file().id() == other.file().id()
    }
}

fn view(pager: &Pager, page: u64, entry: Entry) -> Result<PageView<'_>> {
    let bytes = if entry.physical == 0 {
        None
    } else {
        let bytes = pager.verified(entry, BAD_PAGE);
        // If the store was closed in between, the pages read as zeros.
        pager.check_open()?;
        Some(bytes?)
    };
    Ok(PageView {
        page,
        physical: u64::from(entry.physical),
        birth: u64::from(entry.birth),
        checksum: entry.sum,
        bytes,
    })
}

impl<'a> Iterator for PageWalk<'a> {
    type Item = Result<PageView<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.entries.next()?;
        Some(found.and_then(|(page, entry)| view(self.pager, page, entry)))
    }
}
