//! One open file in this process: the engine's handle, and the state that all openings of the file share.
//!
//! 1. A handle that is dropped without `close()` keeps the store open for remaining proxies: the store is closed with
//!    the last of them, or at exit.

use persist_core::store::{Durability, Options, Result, Store};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bells::Bells;
use super::contents::Contents;

/// An open file.
pub(crate) struct Core {
    /// The engine's handle.
    pub(crate) store: Store,
    /// True if opened for reading only.
    pub(crate) read_only: bool,
    /// The durability of the first opening.
    pub(crate) durability: Durability,
    /// The `max_age` of the first opening.
    pub(crate) max_age: Option<Duration>,
    handles: AtomicUsize,
    closed: AtomicBool,
    /// Objects that became persistent in the open transaction.
    pub(crate) new_instances: NewInstances,
    /// The number of open transaction blocks and lock levels. While it is above 0, operations name their task to the
    /// engine.
    pub(crate) open_scopes: AtomicUsize,
    /// Tasks of this process that wait without blocking their thread (`persist._aio`). Created at the first use.
    waiters: PyOnceLock<Py<PyAny>>,
    /// Event loops that wait for changes.
    pub(crate) bells: Arc<Bells>,
    /// Contents of large values that Python objects hold.
    pub(crate) contents: Contents,
}

impl Core {
    /// An opened store without a handle.
    pub(crate) fn new(store: Store, options: &Options) -> Arc<Core> {
        Arc::new(Core {
            store,
            read_only: options.read_only,
            durability: options.durability,
            max_age: options.max_age,
            handles: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            new_instances: NewInstances::default(),
            open_scopes: AtomicUsize::new(0),
            waiters: PyOnceLock::new(),
            bells: Arc::default(),
            contents: Contents::default(),
        })
    }

    /// Count one more handle.
    pub(crate) fn retain(&self) {
        self.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// True if the engine's handle is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn close(&self) -> Result<()> {
        self.close_by(Store::close)
    }

    /// Close the engine's handle by calling `how`, unless it is closed.
    pub(crate) fn close_by(&self, how: impl FnOnce(&Store) -> Result<()>) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            Ok(())
        } else {
            how(&self.store)
        }
    }

    /// Count one handle less. The last one closes the store.
    pub(crate) fn release(&self) -> Result<()> {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close()
        } else {
            Ok(())
        }
    }

    /// The waiting tasks that do not block their thread.
    pub(crate) fn waiters(&self, py: Python<'_>) -> Py<PyAny> {
        let make = || PyList::empty(py).into_any().unbind();
        self.waiters.get_or_init(py, make).clone_ref(py)
    }

    /// Wake waiting tasks: a transaction of this process has ended, or a lock was released.
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
        // An error cannot be reported here. The engine keeps its guarantees without a close.
        let _ = self.close();
    }
}

/// The instances that became persistent in the open transaction, in order of time.
#[derive(Default)]
pub(crate) struct NewInstances(Mutex<Vec<Py<PyAny>>>);

impl NewInstances {
    fn lock(&self) -> MutexGuard<'_, Vec<Py<PyAny>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of instances.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Add an instance.
    pub(crate) fn push(&self, object: Py<PyAny>) {
        self.lock().push(object);
    }

    /// Remove and return all instances after the first `n`.
    pub(crate) fn take(&self, n: usize) -> Vec<Py<PyAny>> {
        let mut all = self.lock();
        let n = n.min(all.len());
        all.split_off(n)
    }
}
