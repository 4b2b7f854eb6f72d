//! One store as the proxies of a process see it: its settings, and sections that wait without the interpreter.
//!
//! 1. Inside the closures given to the store there is no Python: the `Send` bounds keep bound
//!    references out. What a closure found is turned into objects after it.
//! 2. The first try never waits. Only a wait detaches from the interpreter; signals are checked while waiting.

use persist_core::store::{Actor, Error, Obj, Reader, Result, Store, Wait, Writer};
use pyo3::prelude::*;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::class_names::Names;
use super::core::Core;
use super::identity::Cache;
use super::tasks;
use crate::python::error;

/// A store, its settings in this process, and the identity cache.
pub(crate) struct Shared {
    /// The engine's handle, by value: the hot path goes through it.
    pub(crate) store: Store,
    /// What all handles of the file have in common.
    pub(crate) core: Arc<Core>,
    /// Container id -> proxy.
    pub(crate) cache: Cache,
    /// Of its classes.
    pub(crate) names: Names,
    /// Opened with mode "r".
    pub(crate) read_only: bool,
    timeout: Duration,
}

impl Shared {
    /// The parts together.
    pub(crate) fn new(core: &Arc<Core>, read_only: bool, timeout: Duration) -> Shared {
        Shared {
            store: core.store.clone(),
            core: Arc::clone(core),
            cache: Cache::default(),
            names: Names::default(),
            read_only,
            timeout,
        }
    }

    /// How long an operation waits.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Says as which task of its thread the caller acts, where that matters.
    #[inline(always)]
    pub(crate) fn set_task_if_needed(&self, py: Python<'_>) {
        if self.core.open_scopes.load(Ordering::Relaxed) != 0 {
            tasks::set_running(py);
        }
    }

    /// The same before something that has an owner begins.
    pub(crate) fn set_task(&self, py: Python<'_>) {
        tasks::set_running(py);
    }

    /// A transaction of this process has ended, or a lock was released: tasks that wait may look again.
    #[inline]
    pub(crate) fn wake_tasks(&self, py: Python<'_>) {
        self.core.wake_tasks(py);
    }

    /// An error in a store that was opened for reading only.
    pub(crate) fn check_writable(&self, py: Python<'_>) -> PyResult<()> {
        match self.read_only {
            true => Err(error::to_py(py, Error::ReadOnly)),
            false => Ok(()),
        }
    }

    /// Raise what a change of the object would raise, for a change that turns out to be empty.
    pub(crate) fn check_change(&self, py: Python<'_>, obj: Obj) -> PyResult<()> {
        self.check_writable(py)?;
        self.read(py, |r| r.kind(obj)).map(drop)
    }

    /// True if both stand for the same file in this process.
    pub(crate) fn same_store(&self, other: &Shared) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// The exception for an error; what is gone leaves the cache.
    #[cold]
    pub(crate) fn fail(&self, py: Python<'_>, e: Error) -> PyErr {
        if let Error::Gone(id) = e {
            self.cache.forget(id);
        }
        error::to_py(py, e)
    }

    /// A read section.
    #[inline]
    pub(crate) fn read<R: Send>(
        &self,
        py: Python<'_>,
        mut f: impl FnMut(&Reader<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        self.set_task_if_needed(py);
        match self.store.read(&mut Wait::never(), &mut f) {
            Ok(found) => Ok(found),
            Err(e) => self.retry(py, e, |wait| self.store.read(wait, &mut f)),
        }
    }

    /// A write section: an operation, or a part of this thread's transaction.
    #[inline]
    pub(crate) fn write<R: Send>(
        &self,
        py: Python<'_>,
        mut f: impl FnMut(&mut Writer<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        if self.read_only {
            return Err(error::to_py(py, Error::ReadOnly));
        }
        self.set_task_if_needed(py);
        // An error of these means that nothing was changed: only then it may be tried again.
        let done = match self
            .store
            .write_unsettled(Actor::Thread, &mut Wait::never(), &mut f)
        {
            Ok(done) => done,
            Err(e) => self.retry(py, e, |wait| {
                self.store.write_unsettled(Actor::Thread, wait, &mut f)
            })?,
        };
        if self.store.must_settle() {
            self.settle(py)?;
        }
        Ok(done)
    }

    /// Waits, without the interpreter, until completed changes survive a power cut, if that is wanted. They are done
    /// whatever comes of it: `DurabilityUnknown`, or what a signal handler raises.
    #[cold]
    pub(crate) fn settle(&self, py: Python<'_>) -> PyResult<()> {
        self.wait(py, None, |wait| self.store.settle(wait))
    }

    /// What follows when the first try did not succeed.
    #[cold]
    pub(crate) fn retry<R: Send>(
        &self,
        py: Python<'_>,
        e: Error,
        f: impl FnMut(&mut Wait<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        self.retry_or_undo(py, e, Some(self.timeout()), f, || Ok(()))
    }

    /// The same with a bound of the caller's; as `wait_or_undo`. A greenlet of gevent lets the others run.
    pub(crate) fn retry_or_undo<R: Send>(
        &self,
        py: Python<'_>,
        e: Error,
        timeout: Option<Duration>,
        mut f: impl FnMut(&mut Wait<'_>) -> Result<R> + Send,
        undo: impl FnOnce() -> Result<()>,
    ) -> PyResult<R> {
        let waits = |e: &Error| {
            matches!(
                e,
                Error::WouldBlock { .. } | Error::Timeout { .. } | Error::OtherTask { .. }
            )
        };
        if !waits(&e) {
            return Err(self.fail(py, e));
        }
        let Some(mut pause) = tasks::Pause::find(py) else {
            return match e {
                Error::OtherTask { .. } => Err(self.fail(py, e)),
                _ => self.wait_or_undo(py, timeout, f, undo),
            };
        };
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut last = e;
        while deadline.is_none_or(|end| Instant::now() < end) {
            pause.pause(py)?;
            self.set_task(py);
            match f(&mut Wait::never()) {
                Err(e) if waits(&e) => last = e,
                Err(e) => return Err(self.fail(py, e)),
                Ok(done) => return Ok(done),
            }
        }
        Err(self.fail(py, last))
    }

    /// Runs `f` without the interpreter, so that it may wait; a signal handler that raises ends it.
    pub(crate) fn wait<R: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        f: impl FnOnce(&mut Wait<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        self.wait_or_undo(py, timeout, f, || Ok(()))
    }

    /// As `wait`, for what the caller would own afterwards: `undo` gives it back if a signal handler raised
    /// although `f` succeeded.
    pub(crate) fn wait_or_undo<R: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        f: impl FnOnce(&mut Wait<'_>) -> Result<R> + Send,
        undo: impl FnOnce() -> Result<()>,
    ) -> PyResult<R> {
        let mut raised: Option<PyErr> = None;
        let result = py.detach(|| {
            let mut poll = || match Python::attach(|py| py.check_signals()) {
                Ok(()) => false,
                Err(e) => {
                    raised = Some(e);
                    true
                }
            };
            f(&mut Wait {
                timeout,
                interrupted: Some(&mut poll),
            })
        });
        match (result, raised) {
            (Ok(_), Some(e)) => match undo() {
                Ok(()) => Err(e),
                Err(undoing) => {
                    let undoing = self.fail(py, undoing);
                    undoing.set_cause(py, Some(e));
                    Err(undoing)
                }
            },
            (Err(_), Some(e)) => Err(e),
            (Ok(done), None) => Ok(done),
            (Err(e), None) => Err(self.fail(py, e)),
        }
    }

    /// Runs a long operation without the interpreter; a signal handler that raises ends its waits.
    pub(crate) fn interruptible<R: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce() -> Result<R> + Send,
    ) -> PyResult<R> {
        self.set_task(py);
        let (result, raised) = py.detach(|| {
            let raised = Arc::new(Mutex::new(None));
            let note = Arc::clone(&raised);
            let ask = move || match Python::attach(|py| py.check_signals()) {
                Ok(()) => false,
                Err(e) => {
                    *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    true
                }
            };
            let result = Wait::interruptible(self.timeout(), Box::new(ask), f);
            let raised = raised.lock().unwrap_or_else(PoisonError::into_inner).take();
            (result, raised)
        });
        match raised {
            Some(e) => Err(e),
            None => result.map_err(|e| self.fail(py, e)),
        }
    }
}
