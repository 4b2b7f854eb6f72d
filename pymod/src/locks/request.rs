//! Lock requests that do not block the thread: `lock_async` of the proxies. `persist._aio` does the waiting in Python,
//! because it knows the event loops.

use persist_core::store::door::{LockReply, Pending};
use persist_core::store::{Actor, Error, LockMode, LockTarget, Obj};
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::held::{Held, Terms, Until};
use super::take::{LockKey, mode};
use crate::engine::bells::{Awaited, Bell};
use crate::engine::shared::Shared;
use crate::proxies::proxy::Proxy;
use crate::python::arguments::duration;
use crate::python::error;
use crate::python::scalars::Scalar;

/// A lock that was asked for without waiting; for `lock_async`.
#[pyclass(frozen, name = "_LockRequest", module = "persist")]
pub struct LockRequest {
    owner: Py<PyAny>,
    key: Option<Py<PyAny>>,
    shared: Arc<Shared>,
    obj: Obj,
    mode: LockMode,
    timeout: Option<Duration>,
    pending: Mutex<Option<Arc<Pending>>>,
}

/// `lock_async`: the result requests the lock when it is awaited or entered.
pub(crate) fn lock_async<'py>(
    owner: &Bound<'py, PyAny>,
    proxy: &Proxy,
    key: &LockKey<'_>,
    shared: bool,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = owner.py();
    let wait = duration(timeout)?;
    key.0.as_ref().map(Scalar::named).transpose()?;
    let request = LockRequest {
        owner: owner.clone().unbind(),
        key: key.0.as_ref().map(|k| k.clone().unbind()),
        shared: Arc::clone(&proxy.shared),
        obj: proxy.obj,
        mode: mode(shared),
        timeout: wait,
        pending: Mutex::new(None),
    };
    py.import("persist._aio")?
        .call_method1("Lock", (Py::new(py, request)?, timeout))
}

impl LockRequest {
    fn pending(&self) -> MutexGuard<'_, Option<Arc<Pending>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn got(&self, py: Python<'_>) -> PyResult<Held> {
        let terms = Terms {
            obj: self.obj,
            key: self.key.as_ref().map(|k| k.clone_ref(py)),
            mode: self.mode,
            timeout: Some(Duration::ZERO),
            until: Until::Dropped,
        };
        Held::new(self.owner.clone_ref(py), &self.shared, terms).granted(py)
    }

    fn target<R>(&self, py: Python<'_>, f: impl FnOnce(LockTarget<'_>) -> R) -> PyResult<R> {
        let scalar = self.key.as_ref().map(|k| Scalar::named(k.bind(py))).transpose()?;
        Ok(f(LockTarget {
            obj: self.obj,
            key: scalar.as_ref().map(Scalar::key),
        }))
    }
}

#[pymethods]
impl LockRequest {
    fn __reduce__(&self) -> PyResult<()> {
        Err(error::not_pickled("_LockRequest"))
    }

    /// Return the lock if it is granted, else None. The first call puts the request into the queue.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Held>> {
        let store = &self.shared;
        store.set_task(py);
        let mut pending = self.pending();
        if let Some(there) = &*pending {
            let got = store.store.lock_poll(there).map_err(|e| store.fail(py, e))?;
            if got {
                *pending = None;
            }
            drop(pending);
            return got.then(|| self.got(py)).transpose();
        }
        store.read(py, |r| r.kind(self.obj))?;
        let asked = self.target(py, |target| {
            store
                .store
                .lock_later(Actor::Thread, target, self.mode, self.timeout)
        })?;
        let key = self.key.as_ref().map(|k| k.bind(py));
        match asked.map_err(|e| error::with_key(py, store.fail(py, e), key))? {
            LockReply::Held => {
                drop(pending);
                self.got(py).map(Some)
            }
            LockReply::Queued(made) => {
                *pending = Some(Arc::new(made));
                Ok(None)
            }
            LockReply::Later => Ok(None),
        }
    }

    /// Give the request up; return the lock if it was granted at that moment.
    fn cancel(&self, py: Python<'_>) -> PyResult<Option<Held>> {
        let store = &self.shared;
        store.set_task(py);
        let Some(there) = self.pending().take() else {
            return Ok(None);
        };
        let got = store.store.lock_cancel(&there).map_err(|e| store.fail(py, e))?;
        got.then(|| self.got(py)).transpose()
    }

    /// Return the exception for a wait that took too long.
    fn timeout(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (after, blocker) = match &*self.pending() {
            Some(there) => (
                there.waited(),
                self.shared.store.lock_awaited(there, self.mode).ok(),
            ),
            None => (Duration::ZERO, None),
        };
        let (held, holder) = blocker.unwrap_or_else(|| ("held by", "a transaction".to_owned()));
        let path = self.target(py, |target| self.shared.store.path_of(target))?;
        let e = Error::Timeout {
            what: path.unwrap_or_else(|| format!("object {}", self.obj.id.0)),
            after,
            held,
            holder,
        };
        let key = self.key.as_ref().map(|k| k.bind(py));
        let e = error::with_key(py, self.shared.fail(py, e), key);
        Ok(e.into_value(py).into_any())
    }

    /// Ring a bell when the lock may be granted. False: it never rings.
    fn _ring(&self, bell: &Bell) -> bool {
        let (bells, store) = (&self.shared.core.bells, &self.shared.store);
        let pending = self.pending().clone();
        let awaited = pending.as_ref().map_or(Awaited::Transaction, Awaited::Lock);
        bells.add(store, bell, &awaited)
    }

    /// Whether the lock may be granted.
    #[getter]
    fn _ready(&self) -> bool {
        let store = &self.shared.store;
        match &*self.pending() {
            Some(there) => store.lock_is_stirred(there),
            // The request is not in the queue: another owner has the right to change the store.
            None => !store.is_latched(),
        }
    }

    /// The waiting tasks of this process.
    #[getter]
    fn waiters(&self, py: Python<'_>) -> Py<PyAny> {
        self.shared.core.waiters(py)
    }
}

impl Drop for LockRequest {
    fn drop(&mut self) {
        if let Some(there) = self.pending().take() {
            let _ = self.shared.store.lock_cancel(&there);
        }
    }
}
