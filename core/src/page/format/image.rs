//! An image: a checkpoint read from the file alone, without a sidecar or a section, and without writing. It serves the
//! checker, salvage from a file that does not open, and compaction.
//!
//! 1. Nothing in the file is trusted. The page table is walked once when an image is made. Every page of it, and every
//!    data page before its first byte is returned, is compared with the checksum in its parent.
//! 2. A physical page belongs to the first entry that names it; a second entry that names it is a fault. So a file has
//!    no more logical pages than physical ones, however its pages are linked, and walks over an image are bounded by
//!    the file's size.
//! 3. A page is read by a system call before it is accessed through the map, so that a disk that cannot read it causes
//!    an error and not a signal.
//! 4. The creator of an image ensures that its pages are not reused during its life: it keeps all users from the file
//!    (`Source::exclusive`), prevents checkpoints (`Pager::with_image`), or keeps a snapshot (`Source::snapshot`).

use crate::error::{Error, Result};
use crate::ids::{Addr, PAGE_SIZE, PageNo, PhysicalPage};
use crate::page::access::{ABSENT, BEYOND, Pages, within_page};
use crate::page::format::catalogue::{self, Snapshot};
use crate::page::format::claim::claim;
use crate::page::format::keep::keep;
use crate::page::format::meta::{Bad, Meta};
use crate::page::format::newest::{file_length, not_a_store};
use crate::page::format::page_table::{Entry, FANOUT, covers};
use crate::page::shared::layout::MAX_PAGES;
use crate::raw::map::Map;
use crate::raw::process::Unshared;
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Message for a page whose content differs from what was written.
pub const DAMAGED: &str = "a page that does not match its checksum";
/// Number of faults of a page table that are stored; further ones are only counted.
const FAULTS_KEPT: usize = 1000;

/// The file of a store.
#[derive(Debug)]
pub struct Source {
    file: Unshared,
    path: PathBuf,
    map: Map,
    pages: u64,
    metas: [std::result::Result<Meta, String>; 2],
    /// The locks that keep all users from the store, if they are held.
    _locks: Vec<Unshared>,
}

/// Keeps a snapshot from being dropped.
#[derive(Debug)]
pub struct Claim {
    _lock: Unshared,
}

/// A fault of a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Description of the fault.
    pub what: &'static str,
    /// Its offset in the file.
    pub offset: u64,
    /// The affected logical page, or the first of them.
    pub page: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Good,
    Bad,
}

/// A data page: its place, and whether its content is valid.
struct Mapped {
    page: u32,
    entry: Entry,
    state: Cell<State>,
}

/// One checkpoint.
pub struct Image<'s> {
    source: &'s Source,
    meta: Meta,
    pages: Vec<Mapped>,
    /// Maps a logical page to its index in `pages`.
    index: HashMap<u32, u32>,
    /// The most recently used page, and its index.
    last: Cell<(u64, u32)>,
    /// Physical pages that the tree uses, including those of the table itself.
    used: Vec<u64>,
    faults: Vec<Fault>,
    fault_count: u64,
}

impl std::fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

/// Refuse a file written by another version of persist, whatever else it holds.
fn of_this_version(file: &File, path: &Path) -> Result<()> {
    for i in 0..2 {
        let mut page = [0; PAGE_SIZE];
        if file.read_exact_at(&mut page, i * PAGE_SIZE as u64).is_ok()
            && let Err(bad) = Meta::decode(&page)
            && let Some(why) = bad.refuses()
        {
            return Err(Error::Refused {
                path: path.to_owned(),
                why,
            });
        }
    }
    Ok(())
}

pub(crate) fn read_meta(file: &File, i: u64) -> std::result::Result<Meta, String> {
    let mut page = [0; PAGE_SIZE];
    file.read_exact_at(&mut page, i * PAGE_SIZE as u64)
        .map_err(|e| format!("it cannot be read: {e}"))?;
    match Meta::decode(&page) {
        Ok(m) if m.checkpoint % 2 != i => Err("it is in the wrong place".into()),
        Ok(m) if !m.is_possible() => Err("it holds impossible numbers".into()),
        Ok(m) => Ok(m),
        Err(Bad::Blank) => Err("it was never written".into()),
        Err(Bad::Magic) => Err("it does not begin as one of a persist store does".into()),
        Err(Bad::Checksum) => Err("it does not match its checksum".into()),
        Err(other) => Err(other.refuses().unwrap_or_default()),
    }
}

impl Source {
    /// Return the file of a store that no process uses, and keep all users from it as long as the result lives.
    pub fn exclusive(path: &Path) -> Result<Source> {
        let path = std::path::absolute(path).map_err(|e| Error::io("cannot find the store", e))?;
        let kept = keep(&path)?;
        let mut source = Source::of(kept.file, path)?;
        source._locks = kept.locks;
        Ok(source)
    }

    /// Return the file of a store without locking it: its newest checkpoint may be replaced while it is read.
    pub fn unlocked(path: &Path) -> Result<Source> {
        let path = std::path::absolute(path).map_err(|e| Error::io("cannot find the store", e))?;
        let file = File::open(&path).map_err(|e| Error::io(format!("cannot open {}", path.display()), e))?;
        Source::of(Unshared::new(file), path)
    }

    /// Return whether the checkpoints found at opening can still be read, because no writer has replaced them.
    #[must_use]
    pub fn is_still_there(&self) -> bool {
        let numbers = |metas: &[std::result::Result<Meta, String>; 2]| {
            [0, 1].map(|i: usize| metas[i].as_ref().map_or(0, |m: &Meta| m.checkpoint))
        };
        numbers(&[read_meta(&self.file, 0), read_meta(&self.file, 1)]) == numbers(&self.metas)
    }

    /// Check that there is a checkpoint to read; `Error::NotAStore` gives the reason if not. It locks nothing.
    pub fn look(path: &Path) -> Result<()> {
        let path = std::path::absolute(path).map_err(|e| Error::io("cannot find the store", e))?;
        let file = File::open(&path).map_err(|e| Error::io(format!("cannot open {}", path.display()), e))?;
        Source::of(Unshared::new(file), path)?.newest().map(|_| ())
    }

    /// Return the number of the newest checkpoint.
    pub fn newest(&self) -> Result<u64> {
        self.checkpoints().first().copied().ok_or_else(|| {
            let fault = |i| self.meta_fault(i).unwrap_or_default();
            not_a_store(
                &self.path,
                format!("meta page 0: {}; meta page 1: {}", fault(0), fault(1)),
            )
        })
    }

    pub(in crate::page) fn of(file: Unshared, path: PathBuf) -> Result<Source> {
        let pages = (file_length(&file, &path)? / PAGE_SIZE as u64).min(MAX_PAGES);
        if pages < 2 {
            return Err(not_a_store(&path, "the file is too short"));
        }
        let map = Map::read_only(&file, pages as usize * PAGE_SIZE, false)?;
        of_this_version(&file, &path)?;
        let metas = [read_meta(&file, 0), read_meta(&file, 1)];
        Ok(Source {
            file,
            path,
            map,
            pages,
            metas,
            _locks: Vec::new(),
        })
    }

    /// Return the file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Return the number of pages of the file.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Return the path it was opened by, made absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Return the fault of meta page 0 or 1.
    #[must_use]
    pub fn meta_fault(&self, i: usize) -> Option<&str> {
        self.metas[i % 2].as_ref().err().map(String::as_str)
    }

    /// Return the existing checkpoints, newest first.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<u64> {
        let mut found: Vec<u64> = self.metas.iter().flatten().map(|m| m.checkpoint).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    /// Return whether the newest checkpoint continues in a redo log, which is not read here.
    #[must_use]
    pub fn has_log(&self) -> bool {
        let newest = self.metas.iter().flatten().max_by_key(|m| m.checkpoint);
        newest.is_some_and(|m| m.log.generation != 0)
    }

    /// Return the image of one of the existing checkpoints.
    pub(crate) fn image(&self, checkpoint: u64) -> Result<Image<'_>> {
        match &self.metas[(checkpoint % 2) as usize] {
            Ok(meta) if meta.checkpoint == checkpoint => Ok(Image::of(self, *meta)),
            _ => Err(not_a_store(
                &self.path,
                format!("it has no checkpoint {checkpoint}"),
            )),
        }
    }

    /// Read a physical page, which may fail, and compare it with its checksum.
    fn verify(&self, entry: Entry) -> bool {
        let mut page = [0; PAGE_SIZE];
        let at = u64::from(entry.physical) * PAGE_SIZE as u64;
        self.file.read_exact_at(&mut page, at).is_ok() && xxh3_64(&page) == entry.sum
    }

    /// Return a page of one of its trees, compared with its checksum.
    pub(crate) fn checked(&self, entry: Entry) -> Result<&[u8; PAGE_SIZE]> {
        let at = u64::from(entry.physical) * PAGE_SIZE as u64;
        let inside = (2..self.pages).contains(&u64::from(entry.physical));
        if !inside || !self.verify(entry) {
            let what = "a page that does not match its checksum (file offset)";
            return Err(Error::Corrupt { what, at });
        }
        self.page(entry.physical)
    }

    /// Return the snapshots of the newest checkpoint.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let newest = self.newest()?;
        match &self.metas[(newest % 2) as usize] {
            Ok(meta) => catalogue::read(&self.file, meta.catalogue),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Return the image of a snapshot, with the claim that keeps it from being dropped, or None if it is being dropped.
    pub(crate) fn snapshot(&self, snapshot: &Snapshot) -> Result<Option<(Image<'_>, Claim)>> {
        let Some(meta) = self.metas.iter().flatten().max_by_key(|m| m.checkpoint) else {
            return Ok(None);
        };
        let Some(lock) = claim(&self.file, snapshot.checkpoint)? else {
            return Ok(None);
        };
        let meta = Meta {
            checkpoint: snapshot.checkpoint,
            root: snapshot.tree.root.physical,
            height: snapshot.tree.height,
            root_sum: snapshot.tree.root.sum,
            logical: snapshot.pages,
            next_id: snapshot.next_id,
            ..*meta
        };
        Ok(Some((Image::of(self, meta), Claim { _lock: lock })))
    }

    fn page(&self, physical: u32) -> Result<&[u8; PAGE_SIZE]> {
        // SAFETY: the page belongs to a checkpoint. Such a page is not written (I1) while the checkpoint is kept, which
        // rule 4 ensures.
        unsafe { self.map.page(PhysicalPage(physical)) }
    }
}

impl<'s> Image<'s> {
    fn of(source: &'s Source, meta: Meta) -> Image<'s> {
        let mut image = Image {
            source,
            meta,
            pages: Vec::new(),
            index: HashMap::new(),
            last: Cell::new((u64::MAX, 0)),
            used: vec![0; (source.pages as usize).div_ceil(64)],
            faults: Vec::new(),
            fault_count: 0,
        };
        let root = Entry {
            physical: meta.root,
            birth: 0,
            sum: meta.root_sum,
        };
        image.walk(root, meta.height, 0);
        image
    }

    fn fault(&mut self, what: &'static str, physical: u32, page: u64) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(Fault {
                what,
                offset: u64::from(physical) * PAGE_SIZE as u64,
                page,
            });
        }
    }

    /// Depth is bounded by `MAX_HEIGHT`, and the number of steps by the pages of the file.
    fn walk(&mut self, entry: Entry, level: u32, base: u64) {
        if entry.physical == 0 || base >= self.meta.logical {
            return;
        }
        if entry.physical < 2 || u64::from(entry.physical) >= self.source.pages {
            return self.fault("a page beyond the file", entry.physical, base);
        }
        let (word, bit) = (entry.physical as usize / 64, 1 << (entry.physical % 64));
        if self.used[word] & bit != 0 {
            return self.fault("a page of the file that is used twice", entry.physical, base);
        }
        self.used[word] |= bit;
        if level == 0 {
            self.index.insert(base as u32, self.pages.len() as u32);
            self.pages.push(Mapped {
                page: base as u32,
                entry,
                state: Cell::new(State::Unknown),
            });
            return;
        }
        if !self.source.verify(entry) {
            return self.fault(
                "a page of the page table that does not match its checksum",
                entry.physical,
                base,
            );
        }
        let Ok(&page) = self.source.page(entry.physical) else {
            return self.fault("a page beyond the file", entry.physical, base);
        };
        for i in 0..FANOUT {
            let below = covers(level - 1).max(1);
            self.walk(Entry::read(&page, i as usize), level - 1, base + i * below);
        }
    }

    /// Return the number of the checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> u64 {
        self.meta.checkpoint
    }

    /// Return the number of logical pages that its table covers.
    #[must_use]
    pub fn logical(&self) -> u64 {
        self.meta.logical
    }

    /// Return the id that the next container would have received.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.meta.next_id
    }

    /// Return the number of existing logical pages.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Return the n-th existing logical page, in order of their numbers.
    #[must_use]
    pub fn nth(&self, n: u64) -> Option<PageNo> {
        self.pages.get(n as usize).map(|m| PageNo(u64::from(m.page)))
    }

    /// Return whether such a page exists, readable or not.
    #[must_use]
    pub fn has(&self, page: PageNo) -> bool {
        u32::try_from(page.0).is_ok_and(|p| self.index.contains_key(&p))
    }

    /// Return the faults of the page table: the stored ones, and their total number.
    #[must_use]
    pub fn faults(&self) -> (&[Fault], u64) {
        (&self.faults, self.fault_count)
    }

    /// Return the number of physical pages that the checkpoint uses, including its page table.
    #[must_use]
    pub fn physical(&self) -> u64 {
        self.used.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// Read the n-th page and compare it with its checksum. If it is damaged, return its offset in the file.
    #[must_use]
    pub fn damaged(&self, n: u64) -> Option<u64> {
        let mapped = self.pages.get(n as usize)?;
        (!self.is_good(mapped)).then(|| u64::from(mapped.entry.physical) * PAGE_SIZE as u64)
    }

    /// Return whether the n-th page of another image belongs to this one too, as the same bytes of the file.
    #[must_use]
    pub fn shares(&self, other: &Image<'_>, n: u64) -> bool {
        other.pages.get(n as usize).is_some_and(|theirs| {
            let mine = self.index.get(&theirs.page).map(|&i| &self.pages[i as usize]);
            mine.is_some_and(|mine| mine.entry == theirs.entry)
        })
    }

    fn is_good(&self, mapped: &Mapped) -> bool {
        if mapped.state.get() == State::Unknown {
            let good = self.source.verify(mapped.entry);
            mapped.state.set(if good { State::Good } else { State::Bad });
        }
        mapped.state.get() == State::Good
    }

    fn find(&self, page: PageNo, addr: Addr) -> Result<&Mapped> {
        let (last, place) = self.last.get();
        let place = if last == page.0 {
            place
        } else {
            if page.0 >= self.meta.logical {
                return Err(Error::corrupt(BEYOND, addr));
            }
            let Some(&place) = self.index.get(&(page.0 as u32)) else {
                return Err(Error::corrupt(ABSENT, addr));
            };
            self.last.set((page.0, place));
            place
        };
        Ok(&self.pages[place as usize])
    }
}

impl Pages for Image<'_> {
    #[inline]
    fn bytes(&self, addr: Addr, len: usize) -> Result<&[u8]> {
        let (page, offset) = within_page(addr, len)?;
        let mapped = self.find(page, addr)?;
        if !self.is_good(mapped) {
            return Err(Error::corrupt(DAMAGED, addr));
        }
        Ok(&self.source.page(mapped.entry.physical)?[offset..offset + len])
    }

    #[inline]
    fn hash_seed(&self) -> u64 {
        self.meta.seed
    }
}
