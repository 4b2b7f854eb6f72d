//! The application's locks, as methods of the proxies and as values for `with`.
//!
//! 1. A lock belongs to the thread that took it.
//! 2. The first try never waits; a wait lets the interpreter go and can be interrupted.

use persist_core::store::{Actor, Error, LockMode, LockTarget, Obj, Wait};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyEllipsis, PyTuple};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cache::Proxy;
use crate::convert::Scalar;
use crate::shared::Shared;

/// The `key` argument of the lock methods: `...` stands for the whole container, since None is a key.
pub(crate) struct LockKey<'py>(Option<Bound<'py, PyAny>>);

impl LockKey<'_> {
    /// The default.
    pub(crate) fn whole() -> Self {
        LockKey(None)
    }
}

impl<'py> FromPyObject<'_, 'py> for LockKey<'py> {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyEllipsis>() {
            Ok(LockKey(None))
        } else {
            Ok(LockKey(Some(value.to_owned())))
        }
    }
}

/// A lock that is held. In `with` it gives the locked object and releases at the end.
#[pyclass(frozen, name = "Lock", module = "persist")]
pub struct Held {
    owner: Py<PyAny>,
    key: Option<Py<PyAny>>,
    shared: Arc<Shared>,
    obj: Obj,
    mode: LockMode,
    released: AtomicBool,
}

/// A timeout in seconds; None and infinity: for ever.
pub(crate) fn duration(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    match timeout {
        None => Ok(None),
        Some(f64::INFINITY) => Ok(None),
        Some(s) if s >= 0.0 => Ok(Some(Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX))),
        Some(_) => Err(PyValueError::new_err(
            "timeout must be a number of seconds, 0 or more",
        )),
    }
}

/// Takes a lock.
pub(crate) fn acquire(
    owner: &Bound<'_, PyAny>,
    proxy: &Proxy,
    key: LockKey<'_>,
    shared: bool,
    timeout: Option<f64>,
) -> PyResult<Held> {
    let (py, store) = (owner.py(), &proxy.shared);
    let timeout = duration(timeout)?;
    let mode = if shared {
        LockMode::Shared
    } else {
        LockMode::Exclusive
    };
    let scalar = key.0.as_ref().map(Scalar::key_of).transpose()?;
    let target = LockTarget {
        obj: proxy.obj,
        key: scalar.as_ref().map(Scalar::key),
    };
    store.read(py, |r| r.kind(proxy.obj))?; // what is gone cannot be locked
    match store.store.lock(Actor::Thread, target, mode, &mut Wait::never()) {
        Ok(()) => {}
        Err(Error::WouldBlock { .. } | Error::Timeout { .. }) if timeout != Some(Duration::ZERO) => {
            store.wait(py, timeout, |wait| {
                store.store.lock(Actor::Thread, target, mode, wait)
            })?;
        }
        Err(e) => return Err(store.fail(py, e)),
    }
    Ok(Held {
        owner: owner.clone().unbind(),
        key: key.0.as_ref().map(|k| k.clone().unbind()),
        shared: Arc::clone(store),
        obj: proxy.obj,
        mode,
        released: AtomicBool::new(false),
    })
}

fn unlock(py: Python<'_>, shared: &Shared, obj: Obj, key: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let scalar = key.map(Scalar::key_of).transpose()?;
    let target = LockTarget {
        obj,
        key: scalar.as_ref().map(Scalar::key),
    };
    shared
        .store
        .unlock(Actor::Thread, target)
        .map_err(|e| shared.fail(py, e))
}

/// Releases one level of a lock.
pub(crate) fn release(py: Python<'_>, proxy: &Proxy, key: &LockKey<'_>) -> PyResult<()> {
    unlock(py, &proxy.shared, proxy.obj, key.0.as_ref())
}

#[pymethods]
impl Held {
    fn __enter__(&self, py: Python<'_>) -> Py<PyAny> {
        self.owner.clone_ref(py)
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, py: Python<'_>, _exc: &Bound<'_, PyTuple>) -> PyResult<bool> {
        self.release(py)?;
        Ok(false)
    }

    /// Releases the lock; a second call does nothing.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        if self.released.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let done = unlock(py, &self.shared, self.obj, self.key.as_ref().map(|k| k.bind(py)));
        if done.is_err() {
            // Another thread than its owner's tried: the owner still has it to release.
            self.released.store(false, Ordering::Release);
        }
        done
    }

    /// True for a shared lock.
    #[getter]
    fn shared(&self) -> bool {
        self.mode == LockMode::Shared
    }

    fn __repr__(&self) -> String {
        let mode = if self.mode == LockMode::Shared {
            "shared"
        } else {
            "exclusive"
        };
        let state = if self.released.load(Ordering::Acquire) {
            "released"
        } else {
            "held"
        };
        format!("<persist.Lock {mode}, {state}>")
    }
}
