//! The open stores of this process: one engine handle for each file, independent of the path and mode of the opening.
//!
//! 1. A file (device and inode) has at most one `Core` that is not closed. So has each of its snapshots: an open
//!    snapshot is a separate store with separate objects.
//! 2. `Store.close()` counts; the last one closes the engine.
//! 3. The lock timeout belongs to the opening that set it, and to the objects reached through it.
//! 4. No Python runs under the registry's mutex; it is taken without the interpreter only.

use persist_core::store::{Durability, Error, Options, Result, Store, Wait};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::engine::core::Core;
use crate::engine::shared::Shared;

/// Device, inode, and the snapshot. An open snapshot cannot be dropped, so its name does not change its meaning.
type FileId = (u64, u64, Option<String>);

/// A file in the table: its engine handle, and the `Shared` of its openings, one for each mode and lock timeout.
struct Opened {
    core: Weak<Core>,
    views: Vec<Weak<Shared>>,
}

impl Opened {
    fn new(core: &Arc<Core>) -> Opened {
        Opened {
            core: Arc::downgrade(core),
            views: Vec::new(),
        }
    }

    /// Count one handle of the file, and return its `Shared`.
    fn handle(&mut self, core: &Arc<Core>, options: &Options) -> Arc<Shared> {
        core.retain();
        self.view(core, options)
    }

    /// The `Shared` of the file, without a handle.
    fn view(&mut self, core: &Arc<Core>, options: &Options) -> Arc<Shared> {
        let (read_only, timeout) = (options.read_only, options.lock_timeout);
        self.views.retain(|view| view.strong_count() > 0);
        let fits = |view: &Arc<Shared>| view.read_only == read_only && view.timeout() == timeout;
        if let Some(there) = self.views.iter().filter_map(Weak::upgrade).find(fits) {
            return there;
        }
        let made = Arc::new(Shared::new(core, read_only, timeout));
        self.views.push(Arc::downgrade(&made));
        made
    }
}

static OPEN: Mutex<Option<Table>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file_id(path: &Path, options: &Options) -> Option<FileId> {
    let snapshot = options.snapshot.clone();
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino(), snapshot))
}

fn strictness(d: Durability) -> u8 {
    match d {
        Durability::None => 0,
        Durability::Checkpoint => 1,
        Durability::Commit => 2,
    }
}

type Table = HashMap<FileId, Opened>;

fn pruned(open: &mut Option<Table>) -> &mut Table {
    let open = open.get_or_insert_default();
    open.retain(|_, there| there.core.upgrade().is_some_and(|core| !core.is_closed()));
    open
}

/// Count a handle of a file that was just opened, and add the file to the table.
fn opened(open: &mut Table, id: Option<FileId>, core: &Arc<Core>, options: &Options) -> Arc<Shared> {
    let mut opened = Opened::new(core);
    let shared = opened.handle(core, options);
    if let Some(id) = id {
        open.insert(id, opened);
    }
    shared
}

/// Open a file, or use the existing opening. Called without the interpreter.
pub(crate) fn open(path: &Path, options: &Options) -> Result<Arc<Shared>> {
    let mut open = lock(&OPEN);
    let open = pruned(&mut open);
    let there = file_id(path, options).and_then(|id| open.get_mut(&id));
    if let Some((there, core)) = there.and_then(|there| there.core.upgrade().map(|core| (there, core))) {
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
        return Ok(there.handle(&core, options));
    }
    let core = Core::new(Store::open(path, options)?, options);
    Ok(opened(open, file_id(path, options), &core, options))
}

/// Open a snapshot of an open store, or use the existing opening. Called without the interpreter.
pub(crate) fn open_snapshot(of: &Store, name: &str, lock_timeout: Duration) -> Result<Arc<Shared>> {
    let options = Options {
        read_only: true,
        create: false,
        lock_timeout,
        snapshot: Some(name.to_owned()),
        ..Options::default()
    };
    let mut open = lock(&OPEN);
    let open = pruned(&mut open);
    // Open the snapshot first: this detects that another file has replaced the open one.
    let snapshot = of.open_snapshot(name)?;
    let id = file_id(of.path(), &options);
    let there = id.as_ref().and_then(|id| open.get_mut(id));
    if let Some((there, core)) = there.and_then(|there| there.core.upgrade().map(|core| (there, core))) {
        snapshot.close()?;
        return Ok(there.handle(&core, &options));
    }
    let core = Core::new(snapshot, &options);
    Ok(opened(open, id, &core, &options))
}

/// Take a view of this moment: a store with separate objects, which is in no table. A store that never changes is its
/// own view.
pub(crate) fn frozen(py: Python<'_>, of: &Arc<Shared>) -> PyResult<Arc<Shared>> {
    if of.store.is_view() || of.store.opened_snapshot().is_some() {
        of.core.retain();
        return Ok(Arc::clone(of));
    }
    of.set_task_if_needed(py);
    let view = match of.store.frozen(&mut Wait::never()) {
        Ok(view) => view,
        Err(e) => of.retry(py, e, |wait| of.store.frozen(wait))?,
    };
    let options = Options {
        read_only: true,
        lock_timeout: of.timeout(),
        ..Options::default()
    };
    let core = Core::new(view, &options);
    core.retain();
    Ok(Arc::new(Shared::new(&core, true, of.timeout())))
}

/// Open the store that a pickle names, or use the existing opening as it is; None if it is another one. With `handle`,
/// a handle is counted. Without, only a store that nothing else has open is kept open, by its last proxy. Called
/// without the interpreter.
pub(crate) fn reopen(
    path: &Path,
    options: &Options,
    is_it: impl Fn(&Store) -> bool,
    handle: bool,
) -> Result<Option<Arc<Shared>>> {
    let mut open = lock(&OPEN);
    let open = pruned(&mut open);
    let there = file_id(path, options).and_then(|id| open.get_mut(&id));
    if let Some((there, core)) = there.and_then(|there| there.core.upgrade().map(|core| (there, core))) {
        if !is_it(&core.store) {
            return Ok(None);
        }
        let options = Options {
            read_only: options.read_only || core.read_only,
            ..options.clone()
        };
        return Ok(Some(match handle {
            true => there.handle(&core, &options),
            false => there.view(&core, &options),
        }));
    }
    let store = Store::open(path, options)?;
    if !is_it(&store) {
        store.close()?;
        return Ok(None);
    }
    let core = Core::new(store, options);
    Ok(Some(opened(open, file_id(path, options), &core, options)))
}

/// Close everything, at exit: the last process to close a store checkpoints it. Return the first error, and the path of
/// its store.
pub(crate) fn close_all() -> std::result::Result<(), (Error, PathBuf)> {
    let cores: Vec<_> = lock(&OPEN)
        .take()
        .into_iter()
        .flatten()
        .filter_map(|(_, there)| there.core.upgrade())
        .collect();
    let close = |core: &Arc<Core>| {
        core.close_by(Store::close_at_exit)
            .map_err(|e| (e, core.store.path().to_owned()))
    };
    let mut result = Ok(());
    for core in &cores {
        // Each is closed, also after an error.
        result = result.and(close(core));
    }
    result
}
