//! `persist.Lock`: the result of `lock()`, `lockExcl()` and `lockShared()`.
//!
//! 1. A lock that `lock()` took is released when its `Lock` is collected, with a ResourceWarning. An exception of a
//!    signal handler before the `with` block begins therefore leaves no lock behind.
//! 2. `lockExcl()` and `lockShared()` behave as in the original persist: a result that is dropped without `with` keeps
//!    the lock until `unlock()`.
//! 3. Collection may run on another thread (`levels`).

use persist_core::store::{Actor, Error, LockHandle, LockMode, LockTarget, Obj, Wait};
use pyo3::exceptions::PyResourceWarning;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::levels::{Level, lock};
use crate::engine::shared::Shared;
use crate::engine::tasks;
use crate::python::error;
use crate::python::scalars::Scalar;

/// When a lock ends that is neither released nor used in `with`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// With `unlock()` (`lockExcl`, `lockShared`).
    Unlock,
    /// When its `Lock` is collected (`lock`).
    Dropped,
}

/// The arguments of a lock.
pub(crate) struct Terms {
    pub(crate) obj: Obj,
    pub(crate) key: Option<Py<PyAny>>,
    pub(crate) mode: LockMode,
    pub(crate) timeout: Option<Duration>,
    pub(crate) until: Until,
}

/// A lock on a container or one entry of it. `with` returns the locked object and releases the lock at the end;
/// it takes the lock again if it was released. A lock that `lock()` took and that is neither released nor used in
/// `with` is released when it is collected, with a ResourceWarning. See `Dict.lock`.
#[pyclass(frozen, name = "Lock", module = "persist")]
pub struct Held {
    owner: Py<PyAny>,
    shared: Arc<Shared>,
    terms: Terms,
    /// True if used in `with`: dropping it then releases the lock, whichever method took it.
    entered: AtomicBool,
    level: Mutex<Option<Level>>,
}

impl Held {
    /// A lock that is not taken yet.
    pub(crate) fn new(owner: Py<PyAny>, shared: &Arc<Shared>, terms: Terms) -> Held {
        Held {
            owner,
            shared: Arc::clone(shared),
            terms,
            entered: AtomicBool::new(false),
            level: Mutex::new(None),
        }
    }

    /// Take the lock.
    pub(crate) fn taken(mut self, py: Python<'_>) -> PyResult<Held> {
        let handle = self.wait(py)?;
        let level = self.note(handle);
        *self.level.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(level);
        Ok(self)
    }

    /// Record that the running task was granted the lock without waiting (`lock_async`).
    pub(crate) fn granted(self, py: Python<'_>) -> PyResult<Held> {
        let handle = self.handle(py)?;
        *lock(&self.level) = Some(self.note(handle));
        Ok(self)
    }

    /// Call `f` with the target of the lock.
    fn with_target<R>(&self, py: Python<'_>, f: impl FnOnce(LockTarget<'_>) -> PyResult<R>) -> PyResult<R> {
        let key = self.terms.key.as_ref().map(|k| k.bind(py));
        let scalar = key.map(Scalar::named).transpose()?;
        f(LockTarget {
            obj: self.terms.obj,
            key: scalar.as_ref().map(Scalar::key),
        })
    }

    fn handle(&self, py: Python<'_>) -> PyResult<LockHandle> {
        self.with_target(py, |target| {
            let handle = self.shared.store.lock_handle(Actor::Thread, target);
            handle.map_err(|e| self.shared.fail(py, e))
        })
    }

    fn take(&self, py: Python<'_>) -> PyResult<()> {
        let handle = self.wait(py)?;
        *lock(&self.level) = Some(self.note(handle));
        Ok(())
    }

    fn wait(&self, py: Python<'_>) -> PyResult<LockHandle> {
        let key = self.terms.key.as_ref().map(|k| k.bind(py));
        self.with_target(py, |target| self.take_target(py, target))
            .map_err(|e| error::with_key(py, e, key))
    }

    /// Record a level that the running task has just acquired.
    fn note(&self, handle: LockHandle) -> Level {
        self.shared.core.open_scopes.fetch_add(1, Ordering::Relaxed);
        tasks::note_lock(&self.shared.core, handle.owner());
        Level::noted(&self.shared, handle)
    }

    fn take_target(&self, py: Python<'_>, target: LockTarget<'_>) -> PyResult<LockHandle> {
        let (shared, terms) = (&self.shared, &self.terms);
        shared.set_task(py);
        shared.read(py, |r| r.kind(terms.obj))?; // a deleted container cannot be locked
        let store = &shared.store;
        match store.try_acquire(Actor::Thread, target, terms.mode) {
            Ok(Some(handle)) => return Ok(handle),
            Ok(None) => {}
            Err(e) => return Err(shared.fail(py, e)),
        }
        if terms.timeout == Some(Duration::ZERO) {
            let tried = store.lock(Actor::Thread, target, terms.mode, &mut Wait::never());
            return tried.map_err(|e| shared.fail(py, e));
        }
        shared.retry_or_undo(
            py,
            Error::WouldBlock { what: "a lock" },
            terms.timeout,
            |wait| store.lock(Actor::Thread, target, terms.mode, wait),
            || store.unlock(Actor::Thread, target).map(drop),
        )
    }

    fn is_held(&self) -> bool {
        let level = lock(&self.level);
        level.as_ref().is_some_and(Level::is_held) && !self.shared.core.is_closed()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let level = self
            .level
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(level) = level else { return };
        let managed = self.entered.load(Ordering::Acquire);
        if (self.terms.until == Until::Unlock && !managed) || !level.is_held() {
            return;
        }
        // The engine keeps the lock table consistent if this fails. A collection has no caller that could receive the
        // error.
        let released = level.release(&self.shared, self.terms.mode);
        if managed || released.is_err() || !level.is_ours() || self.shared.core.is_closed() {
            return;
        }
        Python::try_attach(|py| {
            // The code that dropped the lock may be raising an exception.
            let current = PyErr::take(py);
            let what = c"a persist.Lock was collected while it was held, and is released now: use it in a with block";
            if let Err(e) = PyErr::warn(py, &py.get_type::<PyResourceWarning>(), what, 1) {
                e.write_unraisable(py, None);
            }
            self.shared.wake_tasks(py);
            if let Some(current) = current {
                current.restore(py);
            }
        });
    }
}

#[pymethods]
impl Held {
    fn __reduce__(&self) -> PyResult<()> {
        Err(error::not_pickled("Lock"))
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if !self.is_held() {
            self.take(py)?;
        }
        self.entered.store(true, Ordering::Release);
        Ok(self.owner.clone_ref(py))
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, py: Python<'_>, _exc: &Bound<'_, PyTuple>) -> PyResult<bool> {
        self.release(py)?;
        Ok(false)
    }

    /// Release the lock; a second call does nothing. Raise NotLocked on another thread than the one that took it.
    ///
    /// >>> lock = root.lock(key='x')
    /// >>> lock.release()
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let fail = |e| self.shared.fail(py, e);
        let mut place = lock(&self.level);
        let Some(level) = place.as_ref().filter(|level| level.is_held()) else {
            return Ok(());
        };
        if self.shared.core.is_closed() {
            return Ok(());
        }
        // Any task of the thread may release it: another task may close an asynchronous generator.
        self.shared.set_task(py);
        if !self.handle(py)?.same_thread(&level.handle) {
            return Err(fail(Error::NotLocked {
                what: "a lock that another thread took".to_owned(),
            }));
        }
        let Some(level) = place.take() else { return Ok(()) };
        drop(place);
        let done = level.release(&self.shared, self.terms.mode).map_err(fail);
        self.shared.wake_tasks(py);
        done
    }

    /// Whether the lock is shared.
    #[getter]
    fn shared(&self) -> bool {
        self.terms.mode == LockMode::Shared
    }

    fn __repr__(&self) -> String {
        let mode = if self.shared() { "shared" } else { "exclusive" };
        let state = if self.is_held() { "held" } else { "released" };
        format!("<persist.Lock {mode}, {state}>")
    }
}
