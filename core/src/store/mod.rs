//! The store: opens files, ties the layers, and is the public Rust API.
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
//! 1. `Store::read` and `Store::write` run a closure in a section; a write commits or rolls back as
//!    its closure says. The closure may run again: when a foreign lock or transaction was in the way
//!    the section is left, waited, and entered anew.
//! 2. Lock order: latch, then nothing. No lock is waited for with the latch held: a transaction that
//!    meets one is rolled back first.
//! 3. What an operation frees is freed in bounded steps at its end, what is left by a helper or by later operations
//!    that take memory (`freeing`).

mod debt;
mod fast;
mod freeing;
mod hooks;
mod lock_handles;
mod locks;
mod names;
mod pending;
mod reader;
mod run;
mod snapshots;
mod transactions;
mod writer;

pub use crate::error::{Error, Result};
pub use crate::ids::{Actor, Addr, IdHasher, Obj, ObjectId, PAGE_SIZE};
pub use crate::lock::LockMode;
pub use crate::object::class::attr::Known;
pub use crate::object::graph::GraphReport;
pub use crate::object::header::Kind;
pub use crate::object::ops::{Class, Met};
pub use crate::object::value::{COPY_MAX, Entry, In, Key, Large, LargeKind, Short, Small, Step, Value};
pub use crate::object::word::Word;
pub use crate::page::checkpoint::verify::PageReport;
pub use crate::page::sync::task::{MAX_TASK, set_task};
pub use crate::page::sync::wait::Wait;
pub use crate::page::{Block, MAX_SNAPSHOTS, PageView, PageWalk, Snapshot};
pub use crate::page::{ReadSection as Reader, WriteSection as Writer};
pub use crate::raw::process::watch_forks as process_number;
pub use fast::Member;
pub use lock_handles::{LockHandle, LockInfo, LockOwner, LockTarget};
pub use pending::{Asked, Pending};

use crate::object::{graph, header};
use crate::page::access::Pages;
use crate::page::{Pager, Settings, superblock as sb};
use hooks::LockHooks;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How much a completed operation survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Process death at once; power loss but for what was completed within `Options::max_age` (the default).
    #[default]
    Checkpoint,
    /// Power loss too: every completed operation is in the redo log (`FILE-wal`), and that is flushed,
    /// before it returns.
    Commit,
    /// Process death only; nothing is flushed unless another user of the store asks for more.
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
    /// With `Durability::Checkpoint` and `Durability::Commit`: what was completed longer ago than this survives a
    /// power cut. A thread of this process makes checkpoints for that (one at a time for all that have the store open;
    /// the shortest bound of all present counts). Where the disk cannot keep up, and while a transaction is open, the
    /// bound stretches: `Stat::undurable_age` says how far. None: no such bound. Default 1 s.
    pub max_age: Option<Duration>,
    /// How long a change waits for a foreign lock, and anything for the latch. Default 30 s.
    pub lock_timeout: Duration,
    /// Open the snapshot of this name, for reading only (whatever `read_only` says). Needs no write permission,
    /// and nobody else is kept waiting; but the snapshot cannot be dropped meanwhile.
    pub snapshot: Option<String>,
    /// Open it also on a filesystem that is not known to share memory between all processes that use it (a network
    /// filesystem, FUSE), since the caller knows that it does. The default is what the environment variable
    /// `PERSIST_ANY_FILESYSTEM` says (1: yes).
    pub any_filesystem: bool,
}

/// What the environment says of filesystems that are not known to be local.
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

/// Figures about a store.
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
    /// How long ago the oldest change was made that would not survive a power cut; None: every change would.
    pub undurable_age: Option<Duration>,
}

#[derive(Debug)]
struct Inner {
    pager: Arc<Pager>,
    root: Obj,
    /// Containers whose last pin in this process went, to be looked at by an operation.
    unpinned: Mutex<Vec<Obj>>,
    /// Whether there are any: what every operation looks at.
    has_unpinned: AtomicBool,
    /// What changes of this process have yet to free for.
    debt: debt::Debt,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Leaving without `close` loses nothing, but closing leaves a checkpoint behind.
        let _ = self.pager.close_dropped();
    }
}

/// An open store. Cheap to clone; all methods may be called from any thread.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

/// Unpinned containers that are looked at together.
const UNPINNED_MAX: usize = 512;

impl Store {
    /// Opens a store, and creates it if it is missing. Costs the same whatever its size.
    ///
    /// # Errors
    /// `Error::NotAStore`, `Error::Refused` (network filesystem, another sidecar in use), `Error::Io`.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Store> {
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
        };
        let pager = Pager::open(path.as_ref(), &settings, Box::new(LockHooks))?;
        let root = match find_root(&pager).map_err(|e| pager.with_way_back(e)) {
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
                debt: debt::Debt::default(),
            }),
        })
    }

    /// The root dict.
    #[inline]
    #[must_use]
    pub fn root(&self) -> Obj {
        self.inner.root
    }

    /// The path the store was opened by, made absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.inner.pager.path()
    }

    #[inline]
    pub(crate) fn pager(&self) -> &Pager {
        &self.inner.pager
    }

    /// Makes everything completed so far survive power loss (a checkpoint).
    ///
    /// # Errors
    /// `Error::Poisoned` after a failed flush; `Error::Invalid` inside a transaction.
    pub fn sync(&self) -> Result<()> {
        self.pager().outside_sections()?;
        self.pager().checkpoint(&mut Wait::default())
    }

    /// From now on this opening wants a bound on loss (`Options::max_age`) that is no longer than this.
    ///
    /// # Errors
    /// `Error::Closed`.
    pub fn shorten_max_age(&self, age: Duration) -> Result<()> {
        self.pager().shorten_max_age(age)
    }

    /// Collects unreachable cycles and frees what waits to be freed, in steps. The number of
    /// containers freed.
    ///
    /// # Errors
    /// Those of any change.
    pub fn gc(&self) -> Result<u64> {
        let mut collection = graph::Collection::default();
        while !collection.done {
            Wait::go_on()?;
            let mut step = collection;
            collection = self.write(Actor::Thread, &mut Wait::default(), |w| {
                step = collection;
                step.step(w, 4096)?;
                Ok(step)
            })?;
        }
        Ok(collection.freed)
    }

    /// Figures.
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

    /// Verifies the object graph: every container's structure, reference counts, homes and lists.
    /// Reads everything; for tests and checks.
    ///
    /// # Errors
    /// `Error::Corrupt` says what is wrong and where.
    pub fn check(&self) -> Result<graph::GraphReport> {
        // It takes longer than writers wait for a reader.
        let pager = self.pager();
        let _latch = pager.hold_latch(pager.bound());
        self.read(&mut Wait::default(), |r| graph::check_graph(r))
    }

    /// Verifies the pages beneath: both checkpoints on disk, the live pages, the free map. Keeps everybody
    /// out and reads every page; for tests and checks.
    ///
    /// # Errors
    /// `Error::Corrupt` says what is wrong and where.
    pub fn check_pages(&self) -> Result<PageReport> {
        self.pager().outside_sections()?;
        self.pager().check_pages()
    }

    /// Gives freed space back to the filesystem: writes the store anew without it, and puts that in the place of
    /// the file. At any moment the one or the other stands under its name, whole; snapshots are kept. `progress` is
    /// told of every page written. Bytes of the file before and after.
    ///
    /// # Errors
    /// `Error::Refused` while anybody else has the store open, another handle of this process included;
    /// `Error::Corrupt` if it is damaged; `Error::NoSpace`; those of `sync`. The store is closed in any case.
    pub fn compact(self, progress: &mut dyn FnMut(u64)) -> Result<(u64, u64)> {
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

    /// Releases one pin (see `Reader::pin`). May be called anywhere outside a section, by any thread;
    /// never waits (what cannot be done at once is done by a later operation).
    pub fn unpin(&self, obj: Obj) {
        if !self.pager().unpin(obj.id) || self.pager().is_frozen() {
            return;
        }
        let mut list = self.inner.unpinned.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(obj);
        self.inner.has_unpinned.store(true, Ordering::Relaxed);
        if list.len() < UNPINNED_MAX || !list.len().is_power_of_two() {
            return;
        }
        // Most of them are still referred to by a container and need nothing.
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

    /// A number that changes with every completed change of the store by anyone (one load): for
    /// caches, and for a mount that has to notice changes from outside.
    #[inline]
    #[must_use]
    pub fn change_count(&self) -> u64 {
        self.pager().changes()
    }

    /// Runs `f` with no checkpoint made meanwhile, by any process: what a measurement compares with.
    ///
    /// # Errors
    /// Those of `f`.
    #[cfg(feature = "bench")]
    pub fn without_checkpoints<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        self.pager().with_image(|_| f())
    }

    /// Closes: further calls answer `Error::Closed`, on clones of this handle too. The last process
    /// to close checkpoints. Waits for transactions that are open on other threads. Descriptors and mappings are given
    /// back at once, whatever handles there are; a descriptor that another thread is just using goes with that use.
    ///
    /// # Errors
    /// Those of the checkpoint; the store is closed all the same. `Error::Timeout` if a transaction outlasts
    /// the lock timeout; then it is not.
    pub fn close(&self) -> Result<()> {
        self.pager().outside_sections()?;
        self.drop_kept();
        self.pager().close()
    }

    /// Drops the checkpoint before an inherited session (`page::checkpoint::before_recovery`) if the last user of the
    /// store is about to leave and finds it sound. A large store is not looked through: there it stays until it is
    /// dropped by name.
    fn drop_kept(&self) {
        let pager = self.pager();
        let figures = pager.page_stat();
        if figures.logical_pages > LOOKED_THROUGH
            || figures.processes != 1
            || self.in_transaction()
            || !pager.has_kept()
        {
            return;
        }
        // A transaction of another thread is open: closing decides how long that is waited for.
        let Some(latch) = pager.hold_latch(FOR_A_LOOK) else {
            return;
        };
        let sound = self.check().and_then(|graph| {
            self.read(&mut Wait::default(), |r| {
                graph
                    .containers
                    .iter()
                    .try_for_each(|h| graph::verify_body(r, *h))
            })
        });
        drop(latch);
        if let Err(e) = sound.and_then(|()| pager.drop_kept()) {
            log::warn!("{}: {e}", self.path().display());
        }
    }

    /// Closes at the end of the process. A transaction that another thread has open after half a second ends with
    /// the process, as after a kill: it is undone by the next user of the store.
    ///
    /// # Errors
    /// Those of the checkpoint.
    pub fn close_at_exit(&self) -> Result<()> {
        self.pager().outside_sections()?;
        self.drop_kept();
        match self.pager().close_dropped() {
            Err(Error::Timeout { .. }) => Ok(()),
            done => done,
        }
    }
}

/// How long the latch is waited for before a store is looked through when it is closed.
const FOR_A_LOOK: Duration = Duration::from_millis(50);

/// Pages of a store that is looked through when it is closed (64 MiB).
const LOOKED_THROUGH: u64 = 16384;

/// The root dict, made if the store is new.
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
    // Another process may have been quicker.
    let root = match found(&section)? {
        Some(root) => root,
        None => graph::create_root(&mut section)?,
    };
    hooks::finish_all(&mut section)?;
    section.whole()?;
    section.commit();
    Ok(root)
}
