//! One open file in this process: the engine's handle, and what all openings of the file share.
//!
//! 1. A handle that is dropped without `close()` keeps the store open for the proxies that may be left: it is closed
//!    with the last of them, or at exit.

use persist_core::store::{Durability, Options, Result, Store};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An open file.
pub(crate) struct Core {
    /// The engine's handle.
    pub(crate) store: Store,
    /// Opened for reading only.
    pub(crate) read_only: bool,
    /// The durability that the first opening asked for.
    pub(crate) durability: Durability,
    handles: AtomicUsize,
    closed: AtomicBool,
    /// Objects that became persistent in the open transaction.
    pub(crate) newborn: Newborn,
    /// Blocks of transactions and levels of locks that were not left yet: while there are any, operations say as which
    /// task they are done.
    pub(crate) open_scopes: AtomicUsize,
    /// Tasks of this process that wait without blocking their thread (`persist._aio`), once there were any.
    waiters: PyOnceLock<Py<PyAny>>,
}

impl Core {
    /// An opened store without a handle yet.
    pub(crate) fn new(store: Store, options: &Options) -> Arc<Core> {
        Arc::new(Core {
            store,
            read_only: options.read_only,
            durability: options.durability,
            handles: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            newborn: Newborn::default(),
            open_scopes: AtomicUsize::new(0),
            waiters: PyOnceLock::new(),
        })
    }

    /// One handle more.
    pub(crate) fn retain(&self) {
        self.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the engine's handle was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn close(&self) -> Result<()> {
        self.close_by(Store::close)
    }

    /// Closes the engine's handle in a way of the caller's, unless it is closed.
    pub(crate) fn close_by(&self, how: impl FnOnce(&Store) -> Result<()>) -> Result<()> {
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
}

impl Drop for Core {
    fn drop(&mut self) {
        // Nobody is left to hear of an error; the engine keeps its promises without a close, too.
        let _ = self.close();
    }
}

/// The instances that became persistent in the open transaction, in the order of time.
#[derive(Default)]
pub(crate) struct Newborn(Mutex<Vec<Py<PyAny>>>);

impl Newborn {
    fn lock(&self) -> MutexGuard<'_, Vec<Py<PyAny>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Adds one.
    pub(crate) fn push(&self, object: Py<PyAny>) {
        self.lock().push(object);
    }

    /// Takes those that came after the first `n`.
    pub(crate) fn take(&self, n: usize) -> Vec<Py<PyAny>> {
        let mut all = self.lock();
        let n = n.min(all.len());
        all.split_off(n)
    }
}
