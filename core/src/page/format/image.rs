//! A checkpoint read from the file alone: no sidecar, no section, nothing written. For the checker, for
//! salvage from a file that does not open, and for compaction.
//!
//! 1. Nothing is believed: the page table is walked once when an image is made, and every page of it, and
//!    every data page before its first byte is handed out, is compared with the checksum above it.
//! 2. A physical page belongs to the first that names it; what names it again is a fault. So a file, however
//!    its pages are linked with each other, has no more logical pages than physical ones, and walks over an
//!    image are bounded by the file's size.
//! 3. A page is read by a system call before it is looked at through the map: a disk that cannot read it is
//!    an error and not a signal.
//! 4. Who makes an image sees to it that its pages are not reused meanwhile: the file is kept from everybody
//!    (`Source::alone`), or checkpoints are (`Pager::with_image`), or a snapshot is (`Source::snapshot`).

use crate::error::{Error, Result};
use crate::ids::{Addr, PAGE_SIZE, PageNo, PhysNo};
use crate::page::access::{ABSENT, BEYOND, Pages, within_page};
use crate::page::format::catalogue::{self, Snapshot};
use crate::page::format::claim::claim;
use crate::page::format::keep::keep;
use crate::page::format::meta::{Bad, Meta};
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

/// Said of a page whose content is not what was written.
pub const DAMAGED: &str = "a page that does not match its checksum";
/// Faults of a page table that are kept; more are counted.
const FAULTS_KEPT: usize = 1000;

/// The file of a store.
#[derive(Debug)]
pub struct Source {
    file: Unshared,
    path: PathBuf,
    map: Map,
    pages: u64,
    metas: [std::result::Result<Meta, String>; 2],
    /// What keeps the store from everybody, if that is so.
    _locks: Vec<Unshared>,
}

/// Keeps a snapshot.
#[derive(Debug)]
pub struct Claim {
    _lock: Unshared,
}

/// What is wrong with a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What.
    pub what: &'static str,
    /// The place in the file.
    pub offset: u64,
    /// The logical page concerned, or the first of those.
    pub page: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Good,
    Bad,
}

/// A data page: where it is, and whether it is what it should be.
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
    /// Logical page -> place in `pages`.
    index: HashMap<u32, u32>,
    /// The page used last, and its place.
    last: Cell<(u64, u32)>,
    /// Physical pages that the tree uses, itself included.
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

fn not_a_store(path: &Path, why: impl Into<String>) -> Error {
    Error::NotAStore {
        path: path.to_owned(),
        why: why.into(),
    }
}

/// Refuses a file that a persist of another version has written, whatever else it holds.
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
    /// The file of a store that nobody uses, kept from everybody for as long as this lives.
    pub fn alone(path: &Path) -> Result<Source> {
        let path = std::path::absolute(path).map_err(|e| Error::io("cannot find the store", e))?;
        let kept = keep(&path)?;
        let mut source = Source::of(kept.file, path)?;
        source._locks = kept.locks;
        Ok(source)
    }

    /// The file of a store that this process can keep from nobody: its newest checkpoint may go while it is read.
    pub fn unlocked(path: &Path) -> Result<Source> {
        let path = std::path::absolute(path).map_err(|e| Error::io("cannot find the store", e))?;
        let file = File::open(&path).map_err(|e| Error::io(format!("cannot open {}", path.display()), e))?;
        Source::of(Unshared::new(file), path)
    }

    /// Whether the checkpoints that were found when it was opened can be read still: writers have not gone on.
    #[must_use]
    pub fn is_still_there(&self) -> bool {
        let numbers = |metas: &[std::result::Result<Meta, String>; 2]| {
            [0, 1].map(|i: usize| metas[i].as_ref().map_or(0, |m: &Meta| m.checkpoint))
        };
        numbers(&[read_meta(&self.file, 0), read_meta(&self.file, 1)]) == numbers(&self.metas)
    }

    /// Whether there is a checkpoint to look at: `Error::NotAStore` says why not. Locks nothing.
    pub fn look(path: &Path) -> Result<()> {
        let path = std::path::absolute(path).map_err(|e| Error::io("cannot find the store", e))?;
        let file = File::open(&path).map_err(|e| Error::io(format!("cannot open {}", path.display()), e))?;
        Source::of(Unshared::new(file), path)?.newest().map(|_| ())
    }

    /// The newest checkpoint there is.
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
        let data = file.metadata().map_err(|e| Error::io("fstat", e))?;
        if !data.is_file() {
            return Err(not_a_store(&path, "not a regular file"));
        }
        let pages = (data.len() / PAGE_SIZE as u64).min(MAX_PAGES);
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

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Pages of the file.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The path it was opened by, made absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with meta page 0 or 1.
    #[must_use]
    pub fn meta_fault(&self, i: usize) -> Option<&str> {
        self.metas[i % 2].as_ref().err().map(String::as_str)
    }

    /// The checkpoints there are, the newest first.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<u64> {
        let mut found: Vec<u64> = self.metas.iter().flatten().map(|m| m.checkpoint).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    /// The newest checkpoint goes on in a redo log, which is not read here.
    #[must_use]
    pub fn has_log(&self) -> bool {
        let newest = self.metas.iter().flatten().max_by_key(|m| m.checkpoint);
        newest.is_some_and(|m| m.log.generation != 0)
    }

    /// The image of one of the checkpoints there are.
    pub(crate) fn image(&self, checkpoint: u64) -> Result<Image<'_>> {
        match &self.metas[(checkpoint % 2) as usize] {
            Ok(meta) if meta.checkpoint == checkpoint => Ok(Image::of(self, *meta)),
            _ => Err(not_a_store(
                &self.path,
                format!("it has no checkpoint {checkpoint}"),
            )),
        }
    }

    /// Reads a physical page, which the disk may refuse, and compares it.
    fn verify(&self, entry: Entry) -> bool {
        let mut page = [0; PAGE_SIZE];
        let at = u64::from(entry.phys) * PAGE_SIZE as u64;
        self.file.read_exact_at(&mut page, at).is_ok() && xxh3_64(&page) == entry.sum
    }

    /// A page of one of its trees, compared with its checksum.
    pub(crate) fn checked(&self, entry: Entry) -> Result<&[u8; PAGE_SIZE]> {
        let at = u64::from(entry.phys) * PAGE_SIZE as u64;
        let inside = (2..self.pages).contains(&u64::from(entry.phys));
        if !inside || !self.verify(entry) {
            let what = "a page that does not match its checksum (file offset)";
            return Err(Error::Corrupt { what, at });
        }
        self.page(entry.phys)
    }

    /// The snapshots of the newest checkpoint.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let newest = self.newest()?;
        match &self.metas[(newest % 2) as usize] {
            Ok(meta) => catalogue::read(&self.file, meta.catalogue),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The image of a snapshot, with what keeps it from being dropped meanwhile; None if it just is.
    pub(crate) fn snapshot(&self, snapshot: &Snapshot) -> Result<Option<(Image<'_>, Claim)>> {
        let Some(meta) = self.metas.iter().flatten().max_by_key(|m| m.checkpoint) else {
            return Ok(None);
        };
        let Some(lock) = claim(&self.file, snapshot.checkpoint)? else {
            return Ok(None);
        };
        let meta = Meta {
            checkpoint: snapshot.checkpoint,
            root: snapshot.tree.root.phys,
            height: snapshot.tree.height,
            root_sum: snapshot.tree.root.sum,
            logical: snapshot.pages,
            next_id: snapshot.next_id,
            ..*meta
        };
        Ok(Some((Image::of(self, meta), Claim { _lock: lock })))
    }

    fn page(&self, phys: u32) -> Result<&[u8; PAGE_SIZE]> {
        // SAFETY: the page belongs to a checkpoint, and such a page is written by nobody (I1) while the
        // checkpoint is kept; rule 4 sees to that.
        unsafe { self.map.page(PhysNo(phys)) }
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
            phys: meta.root,
            birth: 0,
            sum: meta.root_sum,
        };
        image.walk(root, meta.height, 0);
        image
    }

    fn fault(&mut self, what: &'static str, phys: u32, page: u64) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(Fault {
                what,
                offset: u64::from(phys) * PAGE_SIZE as u64,
                page,
            });
        }
    }

    /// Depth is bounded by `MAX_HEIGHT`, the number of steps by the pages of the file.
    fn walk(&mut self, entry: Entry, level: u32, base: u64) {
        if entry.phys == 0 || base >= self.meta.logical {
            return;
        }
        if entry.phys < 2 || u64::from(entry.phys) >= self.source.pages {
            return self.fault("a page beyond the file", entry.phys, base);
        }
        let (word, bit) = (entry.phys as usize / 64, 1 << (entry.phys % 64));
        if self.used[word] & bit != 0 {
            return self.fault("a page of the file that stands for two", entry.phys, base);
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
                entry.phys,
                base,
            );
        }
        let Ok(&page) = self.source.page(entry.phys) else {
            return self.fault("a page beyond the file", entry.phys, base);
        };
        for i in 0..FANOUT {
            let below = covers(level - 1).max(1);
            self.walk(Entry::read(&page, i as usize), level - 1, base + i * below);
        }
    }

    /// The number of the checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> u64 {
        self.meta.checkpoint
    }

    /// Logical pages that its table covers.
    #[must_use]
    pub fn logical(&self) -> u64 {
        self.meta.logical
    }

    /// The id that the next container would have had.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.meta.next_id
    }

    /// Logical pages that there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.pages.len() as u64
    }

    /// The n-th of the logical pages that there are, in order of their numbers.
    #[must_use]
    pub fn nth(&self, n: u64) -> Option<PageNo> {
        self.pages.get(n as usize).map(|m| PageNo(u64::from(m.page)))
    }

    /// Whether there is such a page, be it readable or not.
    #[must_use]
    pub fn has(&self, page: PageNo) -> bool {
        u32::try_from(page.0).is_ok_and(|p| self.index.contains_key(&p))
    }

    /// What is wrong with the page table: the first so many, and how many there are.
    #[must_use]
    pub fn faults(&self) -> (&[Fault], u64) {
        (&self.faults, self.fault_count)
    }

    /// Physical pages that the checkpoint uses, its page table included.
    #[must_use]
    pub fn physical(&self) -> u64 {
        self.used.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// Reads the n-th page and compares it with its checksum; if it is damaged, where it is in the file.
    #[must_use]
    pub fn damaged(&self, n: u64) -> Option<u64> {
        let mapped = self.pages.get(n as usize)?;
        (!self.is_good(mapped)).then(|| u64::from(mapped.entry.phys) * PAGE_SIZE as u64)
    }

    /// Whether the n-th page of another image is this one's too, the same bytes of the file.
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
        Ok(&self.source.page(mapped.entry.phys)?[offset..offset + len])
    }

    #[inline]
    fn hash_seed(&self) -> u64 {
        self.meta.seed
    }
}
