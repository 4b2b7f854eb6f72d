//! `persist.open` and `Store`.
//!
//! 1. All handles of one file in this process share one engine handle (`registry`).
//! 2. A handle sets the running task (`Shared::set_task`) before it acts, because transactions and locks have owners.

use persist_core::store::{Durability, Error, Options};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyTuple};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::registry;
use super::snapshot::Snapshot;
use super::transaction::{self, Transaction};
use crate::engine::shared::Shared;
use crate::proxies::found::find;
use crate::proxies::reference::{self, Target};
use crate::python::arguments::duration;
use crate::python::{error, logs};
use crate::watch::watching::{Watch, watch};

/// An open store. Use it in `with`, or call `close()`; what was not closed is closed at exit. It is also a mapping, of
/// what its root has: `store['x']` is `store.root['x']`.
///
/// >>> with persist.open("my.store") as store:
/// ...     store.root['x'] = 1
#[pyclass(frozen, mapping, name = "Store", weakref, generic, module = "persist")]
pub struct Handle {
    shared: Arc<Shared>,
    closed: AtomicBool,
    /// The root as an instance of a class, if it was opened so.
    typed: OnceLock<Py<PyAny>>,
}

/// Open a store; create it if the mode is "rw" and it is missing.
///
/// mode: "rw", or "r" for reading only.
/// durability: "checkpoint" (the default: power loss takes at most what was completed in the last max_age), "commit"
///     (every completed operation or transaction survives power loss) or "none" (never flushed).
/// max_age: seconds after which a completed operation survives power loss; a thread makes checkpoints for that. None:
///     nothing is flushed until much has changed or the last process closes the store.
/// lock_timeout: seconds that a change waits for the lock or transaction of another owner.
/// snapshot: the name of a snapshot to open in place of the store, with mode "r".
/// root: a class that derives from persist.Object; the root is an instance of it, made by `root()` in an empty store.
///
/// >>> with persist.open("my.store", durability="commit", lock_timeout=5) as other:
/// ...     other.root['x'] = 1
#[pyfunction]
#[pyo3(
    signature = (path, mode = "rw", durability = "checkpoint", *, max_age = Some(1.0), lock_timeout = 30.0, snapshot = None, root = None),
    text_signature = "(path, mode='rw', durability='checkpoint', *, max_age=1.0, lock_timeout=30.0, snapshot=None, root=None)"
)]
#[expect(
    clippy::too_many_arguments,
    reason = "they are the keywords of a function of Python"
)]
pub(crate) fn open<'py>(
    py: Python<'py>,
    path: &Bound<'py, PyAny>,
    mode: &str,
    durability: &str,
    max_age: Option<f64>,
    lock_timeout: Option<f64>,
    snapshot: Option<String>,
    root: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, Handle>> {
    let path = py.import("os")?.call_method1("fsdecode", (path,))?;
    let path: PathBuf = path.extract()?;
    let read_only = match mode {
        "rw" => false,
        "r" => true,
        _ => {
            return Err(PyValueError::new_err(format!(
                "mode must be 'r' or 'rw', not '{mode}'"
            )));
        }
    };
    if snapshot.is_some() && !read_only {
        return Err(PyValueError::new_err(
            "a snapshot never changes: open it with mode 'r'",
        ));
    }
    let durability = match durability {
        "checkpoint" => Durability::Checkpoint,
        "commit" => Durability::Commit,
        "none" => Durability::None,
        _ => {
            let what = format!("durability must be 'checkpoint', 'commit' or 'none', not '{durability}'");
            return Err(PyValueError::new_err(what));
        }
    };
    // More than 500 years count as no limit.
    let forever = Duration::from_nanos(u64::MAX);
    let lock_timeout = duration(lock_timeout)?.unwrap_or(forever).min(forever);
    let max_age = duration(max_age)?;
    if max_age.is_some_and(|age| age.is_zero()) {
        return Err(PyValueError::new_err(
            "max_age must be above 0 (durability='commit' makes every operation durable)",
        ));
    }
    let options = Options {
        read_only,
        create: !read_only,
        durability,
        max_age,
        lock_timeout,
        snapshot,
        ..Options::default()
    };
    let opened = py.detach(|| registry::open(&path, &options));
    logs::deliver(py);
    let shared = opened.map_err(|e| error::to_py(py, e, &path))?;
    Handle::of(shared).typed(py, root)
}

/// Close every store of the process; called at exit.
#[pyfunction]
pub(crate) fn _close_all(py: Python<'_>) -> PyResult<()> {
    let closed = py.detach(registry::close_all);
    logs::end(py);
    closed.map_err(|(e, path)| error::to_py(py, e, &path))
}

impl Handle {
    /// A handle, which `registry` has counted.
    pub(crate) fn of(shared: Arc<Shared>) -> Handle {
        Handle {
            shared,
            closed: AtomicBool::new(false),
            typed: OnceLock::new(),
        }
    }

    /// Let the root be an instance of a class; close the handle if it cannot be.
    fn typed<'py>(self, py: Python<'py>, class: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, Handle>> {
        let handle = Bound::new(py, self)?;
        if let Some(class) = class {
            let open = || {
                let root = handle.get().dict(py)?;
                py.import("persist._typed_root")?
                    .call_method1("open_root", (&handle, root, class))
            };
            match open() {
                Ok(root) => drop(handle.get().typed.set(root.unbind())),
                Err(e) => {
                    handle.get().close(py)?;
                    return Err(e);
                }
            }
        }
        Ok(handle)
    }

    /// The root as the dict that it is in the store.
    fn dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let shared = self.shared()?;
        let obj = shared.store.root();
        let found = shared.read(py, |r| find(shared, r, obj))?;
        shared.wrap(py, found)
    }

    fn shared(&self) -> PyResult<&Arc<Shared>> {
        if self.is_closed() {
            Err(PyValueError::new_err(error::closed(self.shared.store.path())))
        } else {
            Ok(&self.shared)
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) || self.shared.core.is_closed()
    }
}

#[pymethods]
impl Handle {
    /// A pickle of a store is a reference: loading it opens the store again.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        reference::reduced(py, self.shared()?, &Target::Store)
    }

    /// The root: a Dict, or an instance of the class with which the store was opened.
    #[getter]
    fn root<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.shared()?;
        match self.typed.get() {
            Some(root) => Ok(root.bind(py).clone()),
            None => self.dict(py),
        }
    }

    /// The absolute path of the file.
    #[getter]
    fn path(&self) -> PathBuf {
        self.shared.store.path().to_owned()
    }

    /// True after `close()`.
    #[getter]
    fn closed(&self) -> bool {
        self.is_closed()
    }

    /// "r" or "rw".
    #[getter]
    fn mode(&self) -> &'static str {
        if self.shared.read_only { "r" } else { "rw" }
    }

    /// Return a transaction for `with`. Its operations happen completely or not at all; other writers wait for its
    /// end.
    ///
    /// A nested transaction is a savepoint: an exception that leaves the inner block undoes that block alone.
    /// After a Conflict the whole transaction is rolled back, and every operation in it raises until its outermost
    /// block is left.
    /// A transaction belongs to a thread's running task (asyncio, trio, greenlet).
    ///
    /// >>> with store.transaction():
    /// ...     store.root['a'] -= 10
    /// ...     store.root['b'] += 10
    fn transaction(&self, py: Python<'_>) -> PyResult<Transaction> {
        let shared = self.shared()?;
        if shared.read_only {
            return Err(shared.fail(py, Error::ReadOnly));
        }
        Ok(Transaction::new(shared))
    }

    /// Return the transaction for `async with`; waiting does not block the event loop (asyncio, trio).
    ///
    /// >>> async with store.transaction_async():
    /// ...     store.root['a'] -= 10
    fn transaction_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let transaction = self.transaction(py)?;
        py.import("persist._aio")?
            .call_method1("Transaction", (transaction,))
    }

    /// Await f(*args, **kwargs) in a transaction; see `run`.
    #[pyo3(signature = (f, /, *args, **kwargs))]
    fn run_async<'py>(
        slf: &Bound<'py, Self>,
        f: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let kwargs = kwargs.cloned().unwrap_or_else(|| PyDict::new(slf.py()));
        slf.py()
            .import("persist._aio")?
            .call_method1("run", (slf, f, args, kwargs))
    }

    /// True while the running thread or task is inside a transaction of this store.
    #[getter]
    fn in_transaction(&self, py: Python<'_>) -> PyResult<bool> {
        let shared = self.shared()?;
        shared.set_task_if_needed(py);
        Ok(shared.store.in_transaction())
    }

    /// Call f(*args, **kwargs) in a transaction and return its result. If the transaction conflicts with a lock of
    /// another owner, roll it back and call f again when the lock is free, for lock_timeout seconds.
    /// Inside a transaction, call f once, in a nested block.
    ///
    /// >>> def move(amount):
    /// ...     root['a'] -= amount
    /// ...     root['b'] += amount
    /// >>> store.run(move, 10)
    #[pyo3(signature = (f, /, *args, **kwargs))]
    fn run<'py>(
        &self,
        f: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        transaction::run(self.shared()?, f, args, kwargs)
    }

    /// Return a Watch of everything: each change of any container that is committed from now on; see `Dict.watch`.
    /// While it is open, each change of the store takes longer.
    ///
    /// >>> with store.watch(timeout=0.1) as changes:
    /// ...     root['Joe'].age += 1
    /// ...     for change in changes:
    /// ...         print(change.kind, change.path)
    /// update root['Joe'].age
    #[pyo3(signature = (callback = None, *, timeout = None))]
    fn watch<'py>(
        &self,
        py: Python<'py>,
        callback: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, Watch>> {
        watch(py, self.shared()?, None, callback, timeout)
    }

    /// Make everything completed so far survive power loss.
    ///
    /// >>> store.sync()
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        let shared = self.shared()?;
        shared.interruptible(py, || shared.store.sync())
    }

    /// Keep the present state under a name, for `at()`, and return the Snapshot. This makes a checkpoint and copies
    /// nothing: later changes take new space until `drop_snapshot()`. Not inside a transaction.
    ///
    /// >>> taken = store.snapshot('before')
    /// >>> store.root['x'] = 2
    /// >>> with store.at('before') as before:
    /// ...     store.root['x'] = before.root['x']
    fn snapshot(&self, py: Python<'_>, name: &str) -> PyResult<Snapshot> {
        let shared = self.shared()?;
        if shared.read_only {
            return Err(shared.fail(py, Error::ReadOnly));
        }
        let taken = shared.interruptible(py, || shared.store.snapshot(name))?;
        Ok(Snapshot::of(&taken))
    }

    /// Return the snapshots of the store, the oldest first; see `snapshot`.
    fn snapshots(&self, py: Python<'_>) -> PyResult<Vec<Snapshot>> {
        let shared = self.shared()?;
        let all = shared.interruptible(py, || shared.store.snapshots())?;
        Ok(all.iter().map(Snapshot::of).collect())
    }

    /// Delete a snapshot (see `snapshot`) and free what only it held. Raise InUse while a process has it open.
    fn drop_snapshot(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let shared = self.shared()?;
        if shared.read_only {
            return Err(shared.fail(py, Error::ReadOnly));
        }
        shared.interruptible(py, || shared.store.drop_snapshot(name))
    }

    /// Open a snapshot as a read-only Store that never changes. Use it in `with`: while it is open the snapshot
    /// cannot be dropped. Its objects are not those of the store; storing them there copies them. See `snapshot`.
    fn at<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, Handle>> {
        let shared = self.shared()?;
        let (store, timeout) = (&shared.store, shared.timeout());
        shared.set_task(py);
        let opened = py.detach(|| registry::open_snapshot(store, name, timeout));
        let opened = opened.map_err(|e| shared.fail(py, e))?;
        let class = self.typed.get().map(|root| root.bind(py).get_type());
        Handle::of(opened).typed(py, class.as_ref().map(|class| class.as_any()))
    }

    /// Return a read-only Store that shows this moment, while others change the store. It copies nothing and flushes
    /// nothing, at any size. Use it in `with`: the pages that are changed are kept until its end. If they take too much
    /// space, it raises ViewEnded. Its objects are not those of the store; storing them there copies them.
    ///
    /// >>> root['x'] = 1
    /// >>> with store.frozen() as view:
    /// ...     root['x'] = 2
    /// ...     print(view['x'], root['x'])
    /// 1 2
    fn frozen<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Handle>> {
        let opened = registry::frozen(py, self.shared()?)?;
        let class = self.typed.get().map(|root| root.bind(py).get_type());
        Handle::of(opened).typed(py, class.as_ref().map(|class| class.as_any()))
    }

    /// The Snapshot that this Store shows, or None.
    #[getter]
    fn opened_snapshot(&self) -> Option<Snapshot> {
        self.shared.store.opened_snapshot().map(Snapshot::of)
    }

    /// Free unreachable cycles and what waits to be freed; return the number of containers freed.
    ///
    /// >>> store.gc()
    /// 0
    fn gc(&self, py: Python<'_>) -> PyResult<u64> {
        let shared = self.shared()?;
        shared.interruptible(py, || shared.store.gc())
    }

    /// Return figures about the store. "undurable_age": seconds since the oldest change that would not survive power
    /// loss, or None.
    ///
    /// >>> store.stat()['processes']
    /// 1
    fn stat<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shared = self.shared()?;
        shared.set_task(py);
        let stat = shared.store.stat().map_err(|e| shared.fail(py, e))?;
        let figures = PyDict::new(py);
        for (name, value) in [
            ("checkpoint", stat.checkpoint),
            ("file_pages", stat.file_pages),
            ("free_pages", stat.free_pages),
            ("logical_pages", stat.logical_pages),
            ("dirty_pages", stat.dirty_pages),
            ("processes", stat.processes),
            ("orphans", stat.orphans),
        ] {
            figures.set_item(name, value)?;
        }
        let age = stat.undurable_age.map(|age| age.as_secs_f64());
        figures.set_item("undurable_age", age)?;
        Ok(figures)
    }

    /// Close this handle. The last handle of the process closes the store, and the last process makes a
    /// checkpoint; proxies then raise ValueError.
    ///
    /// >>> store.close()
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.shared.set_task(py);
        py.detach(|| self.shared.core.release())
            .map_err(|e| self.shared.fail(py, e))
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.dict(key.py())?.get_item(key)
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.dict(key.py())?.set_item(key, value)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.dict(key.py())?.del_item(key)
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.dict(key.py())?.contains(key)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.dict(py)?.try_iter()
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.dict(py)?.len()
    }

    /// An empty store is true, too: `if store:` asks whether there is one.
    fn __bool__(&self) -> bool {
        true
    }

    /// Return the value under key in the root, else default.
    #[pyo3(signature = (key, default = None, /))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let root = self.dict(key.py())?;
        root.call_method1(intern!(key.py(), "get"), (key, default))
    }

    /// Return a view of the keys of the root.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.dict(py)?.call_method0(intern!(py, "keys"))
    }

    /// Return a view of the values of the root.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.dict(py)?.call_method0(intern!(py, "values"))
    }

    /// Return a view of the entries of the root.
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.dict(py)?.call_method0(intern!(py, "items"))
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.shared()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, py: Python<'_>, _exc: &Bound<'_, PyTuple>) -> PyResult<bool> {
        self.close(py)?;
        Ok(false)
    }

    fn __repr__(&self) -> String {
        let state = if self.is_closed() { "closed" } else { self.mode() };
        let snapshot = match self.shared.store.opened_snapshot() {
            Some(s) => format!(" at {:?}", s.name),
            None => String::new(),
        };
        format!(
            "<persist.Store {:?}{snapshot}, {state}>",
            self.shared.store.path().display().to_string()
        )
    }
}
