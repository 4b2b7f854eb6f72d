//! One store as seen by the proxies of a process: its settings, and sections that wait without the interpreter.
//!
//! 1. The closures passed to the store contain no Python: the `Send` bounds exclude bound references. The results of a
//!    closure are turned into Python objects after it.
//! 2. The first try does not wait. Only a wait detaches from the interpreter. Signals are checked while waiting.

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
    /// The engine's handle, by value, because the fast path goes through it.
    pub(crate) store: Store,
    /// The state that all handles of the file share.
    pub(crate) core: Arc<Core>,
    /// Container id -> proxy.
    pub(crate) cache: Cache,
    /// The names of its classes.
    pub(crate) names: Names,
    /// Opened with mode "r".
    pub(crate) read_only: bool,
    timeout: Duration,
}

/// Return whether an error says that another owner is in the way, and nothing was done.
pub(crate) fn waits(e: &Error) -> bool {
    matches!(
        e,
        Error::WouldBlock { .. } | Error::Timeout { .. } | Error::OtherTask { .. }
    )
}

/// `tasks::set_running`, outside the code of the fast paths.
#[cold]
#[inline(never)]
fn set_running_task(py: Python<'_>) {
    let _ = tasks::set_running(py);
}

impl Shared {
    /// Combine the parts.
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

    /// The longest wait of an operation.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Name the caller's running task to the engine if any transaction block or lock level is open.
    #[inline(always)]
    pub(crate) fn set_task_if_needed(&self, py: Python<'_>) {
        if self.core.open_scopes.load(Ordering::Relaxed) != 0 {
            set_running_task(py);
        }
    }

    /// Name the caller's running task to the engine, before a transaction or lock begins.
    pub(crate) fn set_task(&self, py: Python<'_>) {
        let number = tasks::set_running(py);
        if number != 0 && self.store.lacks_task_name() {
            self.store.name_task(&tasks::name(py, number));
        }
    }

    /// Wake waiting tasks: a transaction of this process has ended, or a lock was released.
    #[inline]
    pub(crate) fn wake_tasks(&self, py: Python<'_>) {
        self.core.wake_tasks(py);
    }

    /// Raise an error if the store was opened for reading only.
    pub(crate) fn check_writable(&self, py: Python<'_>) -> PyResult<()> {
        match self.read_only {
            true => Err(self.fail(py, Error::ReadOnly)),
            false => Ok(()),
        }
    }

    /// Raise the exception of a change of the object, for a change that turns out to be empty.
    pub(crate) fn check_change(&self, py: Python<'_>, obj: Obj) -> PyResult<()> {
        self.check_writable(py)?;
        self.read(py, |r| r.kind(obj)).map(drop)
    }

    /// True if both belong to the same file in this process.
    pub(crate) fn same_store(&self, other: &Shared) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// The exception for an error. A deleted container is removed from the cache.
    #[cold]
    pub(crate) fn fail(&self, py: Python<'_>, e: Error) -> PyErr {
        match e {
            Error::Gone(id) => self.cache.forget(id),
            Error::OtherTask { ref what } => {
                let advice = "wait without blocking the thread (`async with store.transaction_async()`, \
                              `async with obj.lock_async()`)";
                return error::other_task(py, what, tasks::advice_or(py, advice));
            }
            _ => {}
        }
        error::to_py(py, e, self.store.path())
    }

    /// Run `f` in a read section.
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

    /// Run `f` in a write section: an operation, or a part of this thread's transaction.
    #[inline]
    pub(crate) fn write<R: Send>(
        &self,
        py: Python<'_>,
        mut f: impl FnMut(&mut Writer<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        if self.read_only {
            return Err(self.fail(py, Error::ReadOnly));
        }
        self.set_task_if_needed(py);
        // Each of these errors means that nothing was changed: only then may the operation run again.
        let done = match self
            .store
            .write_without_wait(Actor::Thread, &mut Wait::never(), &mut f)
        {
            Ok(done) => done,
            Err(e) => self.retry(py, e, |wait| {
                self.store.write_without_wait(Actor::Thread, wait, &mut f)
            })?,
        };
        if self.store.must_await_durability() {
            self.await_durability(py)?;
        }
        Ok(done)
    }

    /// Run `f` in a write section as `write` does, but return None instead of a wait for other owners.
    pub(crate) fn try_write<R: Send>(
        &self,
        py: Python<'_>,
        f: impl FnMut(&mut Writer<'_>) -> Result<R> + Send,
    ) -> PyResult<Option<R>> {
        self.check_writable(py)?;
        self.set_task_if_needed(py);
        match self
            .store
            .write_without_wait(Actor::Thread, &mut Wait::never(), f)
        {
            Ok(done) => {
                if self.store.must_await_durability() {
                    self.await_durability(py)?;
                }
                Ok(Some(done))
            }
            Err(e) if waits(&e) => Ok(None),
            Err(e) => Err(self.fail(py, e)),
        }
    }

    /// Wait, without the interpreter, until completed changes survive a power failure, if the durability requires it.
    /// The changes are done even if this raises `DurabilityUnknown` or the exception of a signal handler.
    #[cold]
    pub(crate) fn await_durability(&self, py: Python<'_>) -> PyResult<()> {
        self.wait(py, None, |wait| self.store.await_durability(wait))
    }

    /// Continue after the first try has failed.
    #[cold]
    pub(crate) fn retry<R: Send>(
        &self,
        py: Python<'_>,
        e: Error,
        f: impl FnMut(&mut Wait<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        self.retry_or_undo(py, e, Some(self.timeout()), f, || Ok(()))
    }

    /// Like `retry`, with a time limit of the caller; see `wait_or_undo`. A greenlet of gevent lets other greenlets
    /// run.
    pub(crate) fn retry_or_undo<R: Send>(
        &self,
        py: Python<'_>,
        e: Error,
        timeout: Option<Duration>,
        mut f: impl FnMut(&mut Wait<'_>) -> Result<R> + Send,
        undo: impl FnOnce() -> Result<()>,
    ) -> PyResult<R> {
        if !waits(&e) {
            return Err(self.fail(py, e));
        }
        let Some(mut pause) = tasks::Pause::find(py) else {
            return match e {
                Error::OtherTask { .. } => Err(self.fail(py, e)),
                _ => self.wait_or_undo(py, timeout, f, undo),
            };
        };
        let begun = Instant::now();
        loop {
            pause.pause(py)?;
            self.set_task(py);
            match f(&mut Wait::never()) {
                Err(e) if waits(&e) && timeout.is_none_or(|t| begun.elapsed() < t) => {}
                Err(Error::OtherTask { what }) => {
                    return Err(error::late_of_other_task(py, &what, begun.elapsed()));
                }
                Err(e) => return Err(self.fail(py, e)),
                Ok(done) => return Ok(done),
            }
        }
    }

    /// Run `f` without the interpreter, so that it may wait. An exception of a signal handler ends the wait.
    pub(crate) fn wait<R: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        f: impl FnOnce(&mut Wait<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        self.wait_or_undo(py, timeout, f, || Ok(()))
    }

    /// Like `wait`, for an `f` that acquires something: `undo` gives it back if a signal handler raised although `f`
    /// succeeded.
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
            (Err(unknown @ Error::DurabilityUnknown { .. }), Some(e)) => {
                // The caller learns that the change is done.
                e.set_cause(py, Some(self.fail(py, unknown)));
                Err(e)
            }
            (Err(_), Some(e)) => Err(e),
            (Ok(done), None) => Ok(done),
            (Err(e), None) => Err(self.fail(py, e)),
        }
    }

    /// Run a long operation without the interpreter. An exception of a signal handler ends its waits. A greenlet of
    /// gevent lets other greenlets run while one of them has a transaction.
    pub(crate) fn interruptible<R: Send>(
        &self,
        py: Python<'_>,
        mut f: impl FnMut() -> Result<R> + Send,
    ) -> PyResult<R> {
        let begun = Instant::now();
        let mut pause = None;
        loop {
            match self.interruptible_once(py, &mut f)? {
                Ok(done) => return Ok(done),
                Err(Error::OtherTask { what }) => {
                    if pause.is_none() {
                        pause = tasks::Pause::find(py);
                    }
                    match &mut pause {
                        Some(pause) if begun.elapsed() < self.timeout() => pause.pause(py)?,
                        Some(_) => return Err(error::late_of_other_task(py, &what, begun.elapsed())),
                        None => {
                            // These have no asynchronous form.
                            let advice = "call it in another thread (`await asyncio.to_thread(...)`)";
                            return Err(error::other_task(py, &what, tasks::advice_or(py, advice)));
                        }
                    }
                }
                Err(e) => return Err(self.fail(py, e)),
            }
        }
    }

    fn interruptible_once<R: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce() -> Result<R> + Send,
    ) -> PyResult<Result<R>> {
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
            None => Ok(result),
        }
    }
}
