//! The stores that are open in this process: one engine handle for one file, whatever path or
//! mode it was opened by.
//!
//! 1. A file (device and inode) has at most one `Core` that is not closed, and so has each of its snapshots: what
//!    is open of them are stores of their own, with objects of their own.
//! 2. `Store.close()` counts; the last one closes the engine. A handle that is dropped without
//!    `close()` keeps the store open for the proxies that may be left: it is closed with the last
//!    of them, or at exit.
//! 3. The lock timeout belongs to the opening that named it, and to what was reached through it.
//! 4. No Python runs under the registry's mutex; it is taken without the interpreter only.

use persist_core::store::{Durability, Error, Options, Result, Store};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::object::Newborn;
use crate::shared::Shared;

/// Device, inode, and the snapshot: while one is open nobody drops it, so its name stays its own.
type FileId = (u64, u64, Option<String>);

/// An open file.
pub(crate) struct Core {
    /// The engine's handle.
    pub(crate) store: Store,
    read_only: bool,
    durability: Durability,
    handles: AtomicUsize,
    closed: AtomicBool,
    /// What its openings see, one for each mode and lock timeout.
    views: Mutex<Vec<Weak<Shared>>>,
    /// Objects that became persistent in the open transaction; see `object`.
    pub(crate) newborn: Newborn,
    /// Blocks of transactions and levels of locks that were not left yet: while there are any, operations say as which
    /// task they are done.
    pub(crate) heed: AtomicUsize,
    /// Tasks of this process that wait without blocking their thread (`persist._aio`), once there were any.
    waiters: PyOnceLock<Py<PyAny>>,
}

static OPEN: Mutex<Option<HashMap<FileId, Weak<Core>>>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file_id(path: &Path, options: &Options) -> Option<FileId> {
    let snapshot = options.snapshot.clone();
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino(), snapshot))
}

impl Core {
    /// Whether the engine's handle was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn close(&self) -> Result<()> {
        self.close_by(Store::close)
    }

    fn close_by(&self, how: impl FnOnce(&Store) -> Result<()>) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            Ok(())
        } else {
            how(&self.store)
        }
    }

    /// One handle less; the last closes the store.
    pub(crate) fn release(&self) -> Result<()> {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close()
        } else {
            Ok(())
        }
    }

    /// Where tasks that wait without blocking their thread stand.
    pub(crate) fn waiters(&self, py: Python<'_>) -> Py<PyAny> {
        let make = || PyList::empty(py).into_any().unbind();
        self.waiters.get_or_init(py, make).clone_ref(py)
    }

    /// A transaction of this process has ended, or a lock was released: tasks that wait may look again.
    #[inline]
    pub(crate) fn wake_tasks(&self, py: Python<'_>) {
        if let Some(waiters) = self.waiters.get(py) {
            let waiters = waiters.bind(py);
            if waiters.is_truthy().unwrap_or(false)
                && let Err(e) = py
                    .import("persist._aio")
                    .and_then(|aio| aio.call_method1("wake", (waiters,)))
            {
                e.write_unraisable(py, None);
            }
        }
    }

    fn view(self: &Arc<Self>, read_only: bool, timeout: Duration) -> Arc<Shared> {
        let mut views = lock(&self.views);
        views.retain(|view| view.strong_count() > 0);
        let fits = |view: &Arc<Shared>| view.read_only == read_only && view.timeout() == timeout;
        if let Some(there) = views.iter().filter_map(Weak::upgrade).find(fits) {
            return there;
        }
        let made = Arc::new(Shared::new(self, read_only, timeout));
        views.push(Arc::downgrade(&made));
        made
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Nobody is left to hear of an error; the engine keeps its promises without a close, too.
        let _ = self.close();
    }
}

fn strictness(d: Durability) -> u8 {
    match d {
        Durability::None => 0,
        Durability::Checkpoint => 1,
        Durability::Commit => 2,
    }
}

type Table = HashMap<FileId, Weak<Core>>;

fn tidied(open: &mut Option<Table>) -> &mut Table {
    let open = open.get_or_insert_default();
    open.retain(|_, core| core.upgrade().is_some_and(|c| !c.is_closed()));
    open
}

fn made(store: Store, options: &Options) -> Arc<Core> {
    Arc::new(Core {
        store,
        read_only: options.read_only,
        durability: options.durability,
        handles: AtomicUsize::new(0),
        closed: AtomicBool::new(false),
        views: Mutex::default(),
        newborn: Newborn::default(),
        heed: AtomicUsize::new(0),
        waiters: PyOnceLock::new(),
    })
}

fn handle(core: &Arc<Core>, read_only: bool, timeout: Duration) -> Arc<Shared> {
    core.handles.fetch_add(1, Ordering::AcqRel);
    core.view(read_only, timeout)
}

/// Opens a file, or finds it open. Called without the interpreter.
pub(crate) fn open(path: &Path, options: &Options) -> Result<Arc<Shared>> {
    let mut open = lock(&OPEN);
    let open = tidied(&mut open);
    let there = file_id(path, options)
        .and_then(|id| open.get(&id))
        .and_then(Weak::upgrade);
    let core = match there {
        Some(core) => {
            let refuse = |why: &str| {
                Err(Error::Refused {
                    path: path.to_owned(),
                    why: why.into(),
                })
            };
            if core.read_only && !options.read_only {
                return refuse("this process has the store open with mode \"r\": close that first");
            }
            if !options.read_only && strictness(options.durability) > strictness(core.durability) {
                return refuse("this process has the store open with a weaker durability: close that first");
            }
            if !options.read_only
                && let Some(age) = options.max_age
            {
                core.store.shorten_max_age(age)?;
            }
            core
        }
        None => {
            let core = made(Store::open(path, options)?, options);
            if let Some(id) = file_id(path, options) {
                open.insert(id, Arc::downgrade(&core));
            }
            core
        }
    };
    Ok(handle(&core, options.read_only, options.lock_timeout))
}

/// Opens a snapshot of an open store, or finds it open. Called without the interpreter.
pub(crate) fn open_snapshot(of: &Store, name: &str, lock_timeout: Duration) -> Result<Arc<Shared>> {
    let options = Options {
        read_only: true,
        create: false,
        lock_timeout,
        snapshot: Some(name.to_owned()),
        ..Options::default()
    };
    let mut open = lock(&OPEN);
    let open = tidied(&mut open);
    // Opened first: this is what finds that another file has taken the place of the open one.
    let opened = of.open_snapshot(name)?;
    let id = file_id(of.path(), &options);
    if let Some(core) = id.as_ref().and_then(|id| open.get(id)).and_then(Weak::upgrade) {
        opened.close()?;
        return Ok(handle(&core, true, lock_timeout));
    }
    let core = made(opened, &options);
    if let Some(id) = id {
        open.insert(id, Arc::downgrade(&core));
    }
    Ok(handle(&core, true, lock_timeout))
}

/// Closes everything, at exit: the last process to close a store checkpoints it.
pub(crate) fn close_all() -> Result<()> {
    let cores: Vec<_> = lock(&OPEN)
        .take()
        .into_iter()
        .flatten()
        .filter_map(|(_, core)| core.upgrade())
        .collect();
    let close = |core: &Arc<Core>| core.close_by(Store::close_at_exit);
    cores.iter().map(close).fold(Ok(()), Result::and)
}
