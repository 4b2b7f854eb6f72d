//! The store: opens files, connects the layers, and is the public Rust API.
//!
//! ```
//! use persist_core::store::{Actor, In, Key, Options, Store, Value, Wait};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("visits.store");
//! let store = Store::open(&path, &Options::default())?;
//! let root = store.root();
//! store.write(Actor::Thread, &mut Wait::default(), |w| w.set(root, &Key::Str(b"visits"), &In::Int(1)))?;
//! let visits = store.read(&mut Wait::default(), |r| r.get(root, &Key::Str(b"visits")))?;
//! assert_eq!(visits, Some(Value::Int(1)));
//! store.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! 1. `Store::read` and `Store::write` run a closure in a section. A write commits if its closure returns Ok,
//!    and rolls back if it returns an error. The closure may run again: when a lock or a transaction of
//!    another owner is in the way, the operation leaves the section, waits, and enters a new one.
//! 2. Lock order: the latch, then mutexes of this process. No operation waits for an application's lock while
//!    it holds the latch: a transaction that needs a lock of another owner is rolled back first.
//! 3. An operation frees a bounded part of its garbage at its end. A helper, or later operations that
//!    allocate memory, free the rest (`space`).
//!
//! `run` has `read` and `write`, `fast` the reads and changes that need no closure, `reader` and `writer` the
//! operations inside a section, `transactions` and `snapshots` what their names say. `locks` has the
//! application's locks, `feed` reported changes, `frozen` views of a moment. `leases` and `door` are for the
//! mount and the Python module.

mod closing;
#[doc(hidden)]
pub mod door;
mod fast;
mod feed;
mod frozen;
mod leases;
mod locks;
mod reader;
mod rest;
mod run;
mod snapshots;
mod space;
mod transactions;
mod writer;

pub use crate::error::{Error, Result};
pub use crate::ids::{Actor, Obj, ObjectId};
pub use crate::lock::LockMode;
pub use crate::object::header::Kind;
#[doc(hidden)]
pub use crate::object::ops::Class;
pub use crate::object::value::{Entry, In, Key, Large, LargeKind, Step, Typed, Value};
pub use crate::page::sync::wait::Wait;
pub use crate::page::{Block, Snapshot};
pub use crate::page::{ReadSection as Reader, WriteSection as Writer};
pub use locks::handles::{LockHandle, LockInfo, LockTarget};

use crate::ids::Addr;
use crate::object::ops::HandleInfo;
use crate::object::word::Word;
use crate::object::{graph, header};
use crate::page::PageWalk;
use crate::page::access::Pages;
use crate::page::checkpoint::reading::verify::PageReport;
use crate::page::{Pager, Settings, View, superblock as sb};
use locks::hooks::LockHooks;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Which failures a completed operation survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Survive process death at once, and a power cut except for operations completed within
    /// `Options::max_age` (the default).
    #[default]
    Checkpoint,
    /// Survive a power cut too: every completed operation is in the redo log (`FILE-wal`), which is flushed
    /// before the operation returns.
    Commit,
    /// Survive process death only. Nothing is flushed unless another user of the store asks for more.
    None,
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Open for reading only.
    pub read_only: bool,
    /// Create the file if it is missing (ignored when reading only).
    pub create: bool,
    /// See `Durability`.
    pub durability: Durability,
    /// The age after which a completed operation survives a power cut, with `Durability::Checkpoint` and
    /// `Durability::Commit`. Default 1 s; None sets no bound. A thread of one process makes the checkpoints
    /// for all processes that have the store open; the shortest bound of all of them counts. The bound
    /// stretches while the disk cannot keep up or a transaction is open: see `Stat::undurable_age`.
    pub max_age: Option<Duration>,
    /// How long a change waits for a lock of another owner, and any operation for the latch. Default 30 s.
    pub lock_timeout: Duration,
    /// Open the snapshot of this name, read-only (regardless of `read_only`). Needs no write permission and
    /// blocks no other process; but the snapshot cannot be dropped while it is open.
    pub snapshot: Option<String>,
    /// Also open the store on a filesystem that is not known to share memory between all processes that use
    /// it (a network filesystem, FUSE). The caller is responsible for that property. The default is taken
    /// from the environment variable `PERSIST_ANY_FILESYSTEM` (1: yes).
    pub any_filesystem: bool,
}

/// Return the default of `any_filesystem` from the environment.
fn any_filesystem() -> bool {
    std::env::var_os("PERSIST_ANY_FILESYSTEM").is_some_and(|v| v == "1")
}

impl Default for Options {
    fn default() -> Self {
        Options {
            read_only: false,
            create: true,
            durability: Durability::Checkpoint,
            max_age: Some(Duration::from_secs(1)),
            lock_timeout: Duration::from_secs(30),
            snapshot: None,
            any_filesystem: any_filesystem(),
        }
    }
}

/// Statistics of a store.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stat {
    /// Number of the last checkpoint.
    pub checkpoint: u64,
    /// Pages of the file.
    pub file_pages: u64,
    /// Physical pages known to be free.
    pub free_pages: u64,
    /// Logical pages in use.
    pub logical_pages: u64,
    /// Pages changed since the last checkpoint.
    pub dirty_pages: u64,
    /// Processes that have the store open.
    pub processes: u64,
    /// Containers waiting to be freed.
    pub orphans: u64,
    /// The age of the oldest change that would not survive a power cut. None: all changes would.
    pub undurable_age: Option<Duration>,
}

#[derive(Debug)]
struct Inner {
    pager: Arc<Pager>,
    root: Obj,
    /// Containers that lost their last pin in this process. A later operation frees those that nothing refers
    /// to.
    unpinned: Mutex<Vec<Obj>>,
    /// True if `unpinned` is not empty. Every operation checks this flag.
    has_unpinned: AtomicBool,
    /// The freeing that changes of this process still owe.
    debt: space::debt::Debt,
    /// The moment that this handle shows (`frozen`).
    view: Option<View>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        match &self.view {
            Some(view) => self.pager.end_view(view),
            // Dropping the handle without `close` loses nothing, but closing leaves a checkpoint.
            None => drop(self.pager.close_dropped()),
        }
    }
}

/// An open store. Cheap to clone. All methods may be called from any thread.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

/// Unpinned containers that are processed together.
const UNPINNED_MAX: usize = 512;

impl Store {
    /// Open a store, and create it if it is missing. The cost does not depend on the size of the store.
    ///
    /// # Errors
    /// `Error::NotAStore`, `Error::Refused` (network filesystem, another sidecar in use), `Error::Io`.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Store> {
        Store::open_as(path.as_ref(), options, false)
    }

    /// As `open`, but leave damage as it is, because it is to be reported.
    pub(crate) fn open_to_examine(path: &Path, options: &Options) -> Result<Store> {
        Store::open_as(path, options, true)
    }

    fn open_as(path: &Path, options: &Options, examines: bool) -> Result<Store> {
        let settings = Settings {
            read_only: options.read_only,
            create: options.create,
            durability: match options.durability {
                Durability::None => 0,
                Durability::Checkpoint => 1,
                Durability::Commit => 2,
            },
            max_age: options.max_age,
            bound: options.lock_timeout,
            snapshot: options.snapshot.clone(),
            any_filesystem: options.any_filesystem,
            examines,
        };
        let pager = Pager::open(path, &settings, Box::new(LockHooks))?;
        let root = match find_root(&pager).map_err(|e| pager.with_kept_checkpoint(e)) {
            Ok(root) => root,
            Err(e) => {
                let _ = pager.close();
                return Err(e);
            }
        };
        if settings.durability > 1
            && !settings.read_only
            && let Err(e) = pager.start_log()
            && !matches!(e, Error::NoSpace { .. } | Error::Io { .. })
        {
            let _ = pager.close();
            return Err(e);
        }
        Ok(Store {
            inner: Arc::new(Inner {
                pager,
                root,
                unpinned: Mutex::new(Vec::new()),
                has_unpinned: AtomicBool::new(false),
                debt: space::debt::Debt::default(),
                view: None,
            }),
        })
    }

    /// Return the root dict.
    #[inline]
    #[must_use]
    pub fn root(&self) -> Obj {
        self.inner.root
    }

    /// Return the absolute path by which the store was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.inner.pager.path()
    }

    #[inline]
    pub(crate) fn pager(&self) -> &Pager {
        &self.inner.pager
    }

    /// Make all completed operations survive a power cut (a checkpoint).
    ///
    /// # Errors
    /// `Error::Poisoned` after a failed flush; `Error::Invalid` inside a transaction.
    pub fn sync(&self) -> Result<()> {
        self.expect_live()?;
        self.pager().outside_sections()?;
        self.pager().not_behind_another_task()?;
        self.pager().checkpoint(&mut Wait::default())
    }

    /// Lower this handle's bound on loss (`Options::max_age`) to at most `age`.
    ///
    /// # Errors
    /// `Error::Closed`.
    #[doc(hidden)]
    pub fn shorten_max_age(&self, age: Duration) -> Result<()> {
        self.pager().shorten_max_age(age)
    }

    /// Collect unreachable cycles and free what waits to be freed, in steps. Return the number of containers
    /// freed.
    ///
    /// # Errors
    /// Those of any change.
    pub fn gc(&self) -> Result<u64> {
        let mut collection = graph::Collection::default();
        while !collection.done {
            Wait::check_interrupt()?;
            let mut step = collection;
            collection = self.write(Actor::Thread, &mut Wait::default(), |w| {
                step = collection;
                step.step(w, 4096)?;
                Ok(step)
            })?;
        }
        Ok(collection.freed)
    }

    /// Return statistics.
    ///
    /// # Errors
    /// Those of any read.
    pub fn stat(&self) -> Result<Stat> {
        let page = self.pager().page_stat();
        let orphans = self.read(&mut Wait::default(), |r| r.u64_at(sb::ORPHAN_COUNT))?;
        Ok(Stat {
            checkpoint: page.checkpoint,
            file_pages: page.file_pages,
            free_pages: page.free_pages,
            logical_pages: page.logical_pages,
            dirty_pages: page.dirty_pages,
            processes: page.processes,
            orphans,
            undurable_age: self.pager().undurable_age(),
        })
    }

    /// Verify the object graph: every container's structure, reference counts, homes and lists. Reads
    /// everything; for tests and checks.
    ///
    /// # Errors
    /// `Error::Corrupt` says what is wrong and where.
    #[doc(hidden)]
    pub fn check(&self) -> Result<graph::GraphReport> {
        // The check takes longer than writers wait for a reader: it reads a view of the moment. If there can be none,
        // and in a transaction, writers wait.
        let pager = self.pager();
        let changes = self.inner.view.is_none() && !pager.is_frozen();
        if changes
            && !self.in_transaction()
            && let Ok(view) = self.frozen(&mut Wait::default())
        {
            match view.check() {
                Err(Error::ViewEnded { .. }) => {}
                done => return done,
            }
        }
        let _latch = changes.then(|| pager.hold_latch(pager.bound()));
        self.read(&mut Wait::default(), |r| graph::check_graph(r))
    }

    /// Verify the pages below the objects: both checkpoints on disk, the live pages, the free map. Blocks all
    /// other users and reads every page; for tests and checks.
    ///
    /// # Errors
    /// `Error::Corrupt` says what is wrong and where.
    #[doc(hidden)]
    pub fn check_pages(&self) -> Result<PageReport> {
        self.expect_live()?;
        self.pager().outside_sections()?;
        self.pager().check_pages()
    }

    /// Return freed space to the filesystem: write a copy of the store without it, and replace the file by
    /// the copy. At any moment the file is either the complete old one or the complete new one. Snapshots are
    /// kept. `progress` is called for every page written. Return the bytes of the file before and after.
    ///
    /// # Errors
    /// `Error::Refused` while the store is open elsewhere, another handle of this process included;
    /// `Error::Corrupt` if it is damaged; `Error::NoSpace`; those of `sync`. The store is closed in any case.
    pub fn compact(self, progress: &mut dyn FnMut(u64)) -> Result<(u64, u64)> {
        self.expect_live()?;
        let Some(inner) = Arc::into_inner(self.inner) else {
            return Err(Error::invalid(
                "a store is compacted by its only handle: drop the others",
            ));
        };
        let done = inner.pager.compact(progress);
        let closed = inner.pager.close();
        let (before, after) = done?;
        closed?;
        let page = crate::ids::PAGE_SIZE as u64;
        Ok((before * page, after * page))
    }

    /// Take the pages of the store's file out of this process's memory; the kernel keeps them in its cache. For a
    /// process through which large values pass.
    #[doc(hidden)]
    pub fn forget_pages(&self) {
        self.pager().forget_pages();
    }

    /// Release one pin (see `Reader::pin`). Callable outside a section, by any thread. Never waits: a later
    /// operation does what cannot be done at once.
    #[doc(hidden)]
    pub fn unpin(&self, obj: Obj) {
        if self.inner.view.is_some() || !self.pager().unpin(obj.id) || self.pager().is_frozen() {
            return;
        }
        let mut list = self.inner.unpinned.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(obj);
        self.inner.has_unpinned.store(true, Ordering::Relaxed);
        if list.len() < UNPINNED_MAX || !list.len().is_power_of_two() {
            return;
        }
        // A container still refers to most of them; those need no work.
        let all = std::mem::take(&mut *list);
        drop(list);
        let suspects = self.read(&mut Wait::never(), |r| {
            Ok(all.iter().copied().filter(|o| graph::is_suspect(r, *o)).collect())
        });
        let suspects: Vec<Obj> = suspects.unwrap_or(all);
        let some = !suspects.is_empty();
        self.inner
            .unpinned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(suspects);
        self.inner.has_unpinned.store(some, Ordering::Relaxed);
        if some {
            let _ = self.write(Actor::Thread, &mut Wait::never(), |_| Ok(()));
        }
    }

    /// Return a number that changes with every completed change of the store by any process (one load). For
    /// caches, and for a mount that must notice changes made elsewhere.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub fn change_count(&self) -> u64 {
        match &self.inner.view {
            Some(view) => view.number(),
            None => self.pager().changes(),
        }
    }

    /// Run `f` while no process makes a checkpoint. For comparison in benchmarks.
    ///
    /// # Errors
    /// Those of `f`.
    #[doc(hidden)]
    #[cfg(feature = "bench")]
    pub fn without_checkpoints<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        self.pager().with_image(|_| f())
    }
}

/// Return the root dict. Create it if the store is new.
fn find_root(pager: &Pager) -> Result<Obj> {
    let found = |p: &Reader<'_>| -> Result<Option<Obj>> {
        match p.u64_at(sb::ROOT)? {
            0 => Ok(None),
            at => header::obj(p, Addr(at)).map(Some),
        }
    };
    if let Some(root) = pager.read_held(found)? {
        return Ok(root);
    }
    let mut section = pager.write(&mut Wait::default())?;
    // Another process may have created it first.
    let root = match found(&section)? {
        Some(root) => root,
        None => graph::create_root(&mut section)?,
    };
    locks::hooks::finish_all(&mut section)?;
    section.whole()?;
    section.commit();
    Ok(root)
}
