//! The application's locks, as methods of the proxies (`held` is what they return).
//!
//! 1. A lock belongs to the running task of the thread that took it (`tasks`).
//! 2. The first try never waits; a wait detaches from the interpreter and can be interrupted.

use persist_core::store::{Actor, LockMode, LockTarget};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyEllipsis;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cache::Proxy;
use crate::convert::Scalar;
use crate::held::{self, Held, Terms};

/// The `key` argument of the lock methods: `...` stands for the whole container, since None is a key.
pub(crate) struct LockKey<'py>(pub(crate) Option<Bound<'py, PyAny>>);

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

/// Takes a lock. `kept`: in the original's manner, until `unlock()`.
pub(crate) fn acquire(
    owner: &Bound<'_, PyAny>,
    proxy: &Proxy,
    key: &LockKey<'_>,
    mode: LockMode,
    timeout: Option<f64>,
    kept: bool,
) -> PyResult<Held> {
    let terms = Terms {
        obj: proxy.obj,
        key: key.0.as_ref().map(|k| k.clone().unbind()),
        mode,
        timeout: duration(timeout)?,
        kept,
    };
    Held::taken(owner.py(), owner.clone().unbind(), &proxy.shared, terms)
}

/// Shared or exclusive.
pub(crate) fn mode(shared: bool) -> LockMode {
    if shared {
        LockMode::Shared
    } else {
        LockMode::Exclusive
    }
}

/// Releases one level of a lock.
pub(crate) fn release(py: Python<'_>, proxy: &Proxy, key: &LockKey<'_>) -> PyResult<()> {
    let scalar = key.0.as_ref().map(Scalar::key_of).transpose()?;
    let target = LockTarget {
        obj: proxy.obj,
        key: scalar.as_ref().map(Scalar::key),
    };
    let (shared, store) = (&proxy.shared, &proxy.shared.store);
    shared.tell_always(py);
    let handle = store
        .lock_handle(Actor::Thread, target)
        .and_then(|handle| store.unlock(Actor::Thread, target).map(|()| handle))
        .map_err(|e| shared.fail(py, e))?;
    if held::unlocked(shared, &handle) {
        shared.core.heed.fetch_sub(1, Ordering::Relaxed);
    }
    shared.wake_tasks(py);
    Ok(())
}
