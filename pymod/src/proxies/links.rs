//! The stored containers that an instance of `Dict`, `List` or `Object` stands for, one after the other.
//!
//! 1. An instance that the program makes is transient: it stands for nothing, and keeps its content itself. When it is
//!    stored, it becomes the proxy of the stored container.
//! 2. One that became persistent in an open transaction keeps its content until the end. After a rollback it is dead
//!    (`Gone`), but can be stored again, as a new container: then it has a further link.
//! 3. While it is being stored, its content cannot be changed.

use persist_core::store::Error;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::proxy::Proxy;

/// A stored container, and what is remembered of it.
pub(crate) struct Link<M> {
    pub(crate) proxy: Proxy,
    pub(crate) known: M,
    next: OnceLock<Box<Link<M>>>,
}

/// See the module header. `M`: what is remembered of a container; `K`: the content that is kept.
pub(crate) struct Links<M, K> {
    first: OnceLock<Link<M>>,
    busy: AtomicBool,
    kept: Mutex<Option<Py<K>>>,
}

impl<M, K> Default for Links<M, K> {
    fn default() -> Links<M, K> {
        Links {
            first: OnceLock::new(),
            busy: AtomicBool::new(false),
            kept: Mutex::new(None),
        }
    }
}

impl<M, K> Links<M, K> {
    /// Let the instance stand for a stored container. Return its record; None if another thread was faster.
    pub(crate) fn add(&self, proxy: Proxy, known: M) -> Option<&Proxy> {
        let made = Link {
            proxy,
            known,
            next: OnceLock::new(),
        };
        let Some(mut link) = self.first.get() else {
            return self.first.set(made).ok().and_then(|()| self.proxy());
        };
        while let Some(next) = link.next.get() {
            link = next;
        }
        link.next.set(Box::new(made)).ok().and_then(|()| self.proxy())
    }

    /// The newest link.
    #[inline]
    pub(crate) fn last(&self) -> Option<&Link<M>> {
        let mut link = self.first.get()?;
        while let Some(next) = link.next.get() {
            link = next;
        }
        Some(link)
    }

    /// The record of the newest stored container.
    #[inline]
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.last().map(|link| &link.proxy)
    }

    /// Like `proxy`, unless the container died in a rollback and can be stored again.
    pub(crate) fn live(&self, py: Python<'_>) -> PyResult<Option<&Proxy>> {
        let Some(proxy) = self.proxy() else {
            return Ok(None);
        };
        if self.kept().is_none() {
            return Ok(Some(proxy));
        }
        let there = proxy.shared.read(py, |r| match r.kind(proxy.obj) {
            Ok(_) => Ok(true),
            Err(Error::Gone(_)) => Ok(false),
            Err(e) => Err(e),
        })?;
        Ok(there.then_some(proxy))
    }

    /// The content that is kept.
    pub(crate) fn kept(&self) -> MutexGuard<'_, Option<Py<K>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Like `kept`, unless another thread is using it: for the cyclic collector.
    pub(crate) fn try_kept(&self) -> Option<MutexGuard<'_, Option<Py<K>>>> {
        self.kept.try_lock().ok()
    }

    /// Forget the kept content: the transaction in which the instance became persistent is committed.
    pub(crate) fn forget(&self) {
        let old = self.kept().take();
        drop(old);
    }

    /// Fail while another thread is storing the instance, a `what`.
    pub(crate) fn check_idle(&self, what: &str) -> PyResult<()> {
        match self.busy.load(Ordering::Acquire) {
            true => Err(is_being_stored(what)),
            false => Ok(()),
        }
    }

    /// Begin storing the instance, a `what`. Fail if another thread is storing it.
    pub(crate) fn begin_storing(&self, what: &str) -> PyResult<()> {
        match self.busy.swap(true, Ordering::AcqRel) {
            true => Err(is_being_stored(what)),
            false => Ok(()),
        }
    }

    /// The instance is not being stored any more.
    pub(crate) fn end_storing(&self) {
        self.busy.store(false, Ordering::Release);
    }
}

#[cold]
fn is_being_stored(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!("another thread is storing this {what}"))
}
