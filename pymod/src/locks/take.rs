//! The application's locks, as methods of the proxies (`held` is their result).
//!
//! 1. A lock belongs to the running task of the thread that took it (`tasks`).
//! 2. The first try does not wait. A wait detaches from the interpreter and can be interrupted.

use persist_core::store::{Actor, LockMode, LockTarget};
use pyo3::prelude::*;
use pyo3::types::PyEllipsis;
use std::sync::atomic::Ordering;

use super::held::{Held, Terms, Until};
use super::levels;
use crate::proxies::proxy::Proxy;
use crate::python::arguments::duration;
use crate::python::scalars::Scalar;

/// The `key` argument of the lock methods: `...` stands for the whole container, since None is a key.
pub(crate) struct LockKey<'py>(pub(crate) Option<Bound<'py, PyAny>>);

impl LockKey<'_> {
    /// The default: the whole container.
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

/// Take a lock.
pub(crate) fn acquire(
    owner: &Bound<'_, PyAny>,
    proxy: &Proxy,
    key: &LockKey<'_>,
    shared: bool,
    timeout: Option<f64>,
    until: Until,
) -> PyResult<Held> {
    let terms = Terms {
        obj: proxy.obj,
        key: key.0.as_ref().map(|k| k.clone().unbind()),
        mode: mode(shared),
        timeout: duration(timeout)?,
        until,
    };
    Held::new(owner.clone().unbind(), &proxy.shared, terms).taken(owner.py())
}

/// The mode: shared or exclusive.
pub(crate) fn mode(shared: bool) -> LockMode {
    if shared {
        LockMode::Shared
    } else {
        LockMode::Exclusive
    }
}

/// Release one level of a lock.
pub(crate) fn release(py: Python<'_>, proxy: &Proxy, key: &LockKey<'_>) -> PyResult<()> {
    let scalar = key.0.as_ref().map(Scalar::named).transpose()?;
    let target = LockTarget {
        obj: proxy.obj,
        key: scalar.as_ref().map(Scalar::key),
    };
    let (shared, store) = (&proxy.shared, &proxy.shared.store);
    shared.set_task(py);
    let handle = store
        .unlock(Actor::Thread, target)
        .map_err(|e| shared.fail(py, e))?;
    if levels::unlocked(shared, &handle) {
        shared.core.open_scopes.fetch_sub(1, Ordering::Relaxed);
    }
    shared.wake_tasks(py);
    Ok(())
}
