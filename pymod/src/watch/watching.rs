//! `persist.Watch`, what `watch()` of a Dict, a List, an Object or a Store returns.
//!
//! 1. It has a reader of the change feed of its own, from before `watch()` returned. Closing or collecting it drops the
//!    reader; a process that is killed is forgotten by the store.
//! 2. Its mutex is held while the feed is read, not while anything waits, and no Python runs under it.
//! 3. A sleeping thread sleeps on the feed of the store, without the interpreter. `close` wakes all sleepers.
//! 4. To watch a container, the latch is needed. In a task, which must not block its thread, `watch()` does not wait
//!    for it: the watch begins when it is read, and reports first that changes may be missing. So does one that begins
//!    inside a transaction.

use persist_core::store::door::{Change as Reported, Changes, Feed};
use persist_core::store::{Error, LockTarget, Obj, Result, Wait};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::change::{Change, Seen};
use crate::engine::bells::{Awaited, Bell};
use crate::engine::shared::{Shared, waits};
use crate::engine::tasks::{Pause, is_in_task};
use crate::proxies::found::find;
use crate::proxies::proxy::Proxy;
use crate::python::arguments::duration;
use crate::python::error;

/// The longest sleep without a look at signals.
const SLICE: Duration = Duration::from_millis(100);

/// The changes of a container, or of a whole store, since `watch()`: an iterator that waits for the next one, also for
/// `async for`. The loop ends when no change comes for `timeout` seconds, and after `close()`, which the end of `with`
/// calls.
///
/// >>> with root.watch(timeout=0.1) as changes:
/// ...     root['x'] = 2
/// ...     for change in changes:
/// ...         print(change.kind, change.key)
/// update x
#[pyclass(frozen, weakref, generic, module = "persist")]
pub struct Watch {
    shared: Arc<Shared>,
    /// What is watched; None for the whole store.
    target: Option<(Py<PyAny>, Obj)>,
    timeout: Option<Duration>,
    state: Mutex<State>,
    /// The thread that calls the callback.
    thread: Mutex<Option<Py<PyAny>>>,
}

struct State {
    /// None: closed.
    feed: Option<Feed>,
    /// Whether the feed watches already (invariant 4).
    begun: bool,
    ready: VecDeque<Seen>,
}

/// What is there without waiting.
enum Look {
    Change(Seen),
    /// Nothing up to this position of the feed.
    Nothing(u64),
    Closed,
}

fn begin(feed: &mut Feed, obj: Option<Obj>, wait: &mut Wait<'_>) -> Result<()> {
    match obj {
        Some(obj) => feed.watch(obj, wait),
        None => feed.watch_all(wait),
    }
}

/// Read changes for a container, or for all; from now on. False: not yet, because this is a task and another owner,
/// maybe another task of this thread, has the right to change the store.
pub(super) fn feed(py: Python<'_>, shared: &Arc<Shared>, obj: Option<Obj>) -> PyResult<(Feed, bool)> {
    shared.set_task_if_needed(py);
    let mut feed = shared.store.feed().map_err(|e| shared.fail(py, e))?;
    if shared.store.is_latched() && is_in_task(py) {
        return Ok((feed, false));
    }
    match begin(&mut feed, obj, &mut Wait::never()) {
        Ok(()) => {}
        Err(e) if waits(&e) && is_in_task(py) => return Ok((feed, false)),
        Err(e) => shared.retry(py, e, |wait| begin(&mut feed, obj, wait))?,
    }
    Ok((feed, true))
}

/// The exception for a wait for changes inside a transaction, which would keep other owners from making any.
#[cold]
pub(super) fn not_in_a_transaction(py: Python<'_>) -> PyErr {
    error::general(
        py,
        "a wait for changes inside a transaction never ends, because the others wait for its end: wait outside it",
    )
}

/// `watch` of a container or a store.
pub(crate) fn watch<'py>(
    py: Python<'py>,
    shared: &Arc<Shared>,
    target: Option<(&Bound<'py, PyAny>, &Proxy)>,
    callback: Option<&Bound<'py, PyAny>>,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, Watch>> {
    let timeout = duration(timeout)?;
    let obj = target.map(|(_, proxy)| proxy.obj);
    let (feed, begun) = feed(py, shared, obj)?;
    // What this transaction has changed before is committed later, and was not announced.
    let amid = begun && shared.store.in_transaction();
    let made = Watch {
        shared: Arc::clone(shared),
        target: target.map(|(it, proxy)| (it.clone().unbind(), proxy.obj)),
        timeout,
        state: Mutex::new(State {
            feed: Some(feed),
            begun,
            ready: amid.then_some(Seen::Lost).into_iter().collect(),
        }),
        thread: Mutex::new(None),
    };
    let made = Bound::new(py, made)?;
    if let Some(callback) = callback {
        let thread = py
            .import("persist._watch")?
            .call_method1("follow", (&made, callback))?;
        *made.get().thread() = Some(thread.unbind());
    }
    Ok(made)
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn thread(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Return the next change that is there.
    fn look(&self) -> Result<Look> {
        let mut state = self.state();
        let State { feed, begun, ready } = &mut *state;
        let Some(feed) = feed else {
            return Ok(Look::Closed);
        };
        if !*begun {
            if self.shared.store.is_latched() {
                return Ok(Look::Nothing(feed.position()));
            }
            match begin(
                feed,
                self.target.as_ref().map(|(_, obj)| *obj),
                &mut Wait::never(),
            ) {
                Ok(()) => {
                    *begun = true;
                    ready.push_back(Seen::Lost);
                }
                Err(e) if waits(&e) => return Ok(Look::Nothing(feed.position())),
                Err(e) => return Err(e),
            }
        }
        if ready.is_empty() {
            read(feed, ready)?;
        }
        Ok(match ready.pop_front() {
            Some(seen) => Look::Change(seen),
            None => Look::Nothing(feed.position()),
        })
    }

    /// Return the next change, after a wait as `wait` says. None: there is none, or the watch was closed.
    fn wait_for_one(&self, wait: &mut Wait<'_>) -> Result<Option<Seen>> {
        let begun = Instant::now();
        loop {
            let at = match self.look()? {
                Look::Change(seen) => return Ok(Some(seen)),
                Look::Closed => return Ok(None),
                Look::Nothing(at) => at,
            };
            let left = wait
                .timeout
                .map_or(SLICE, |timeout| timeout.saturating_sub(begun.elapsed()));
            if left.is_zero() {
                return Ok(None);
            }
            if wait.interrupted.as_mut().is_some_and(|ask| ask()) {
                return Err(Error::Interrupted);
            }
            self.shared.store.await_changes(at, left.min(SLICE))?;
        }
    }

    fn next_seen(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Option<Seen>> {
        self.shared.set_task_if_needed(py);
        let look = |py| self.look().map_err(|e| self.shared.fail(py, e));
        match look(py)? {
            Look::Change(seen) => return Ok(Some(seen)),
            Look::Closed => return Ok(None),
            Look::Nothing(_) if timeout == Some(Duration::ZERO) => return Ok(None),
            Look::Nothing(_) => {}
        }
        if self.shared.store.in_transaction() {
            return Err(not_in_a_transaction(py));
        }
        let Some(mut pause) = Pause::find(py) else {
            return self.shared.wait(py, timeout, |wait| self.wait_for_one(wait));
        };
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        loop {
            pause.pause(py)?;
            match look(py)? {
                Look::Change(seen) => return Ok(Some(seen)),
                Look::Nothing(_) if deadline.is_none_or(|end| Instant::now() < end) => {}
                Look::Nothing(_) | Look::Closed => return Ok(None),
            }
        }
    }

    /// Return what a change was seen in; None if it is gone.
    fn container<'py>(&self, py: Python<'py>, seen: &Seen) -> PyResult<Option<Bound<'py, PyAny>>> {
        match (&self.target, seen) {
            (Some((target, _)), _) => Ok(Some(target.bind(py).clone())),
            (None, Seen::Lost) => Ok(None),
            (None, Seen::Made(_, obj, _)) => {
                let found = self.shared.read(py, |r| match find(&self.shared, r, *obj) {
                    Ok(found) => Ok(Some(found)),
                    Err(Error::Gone(_)) => Ok(None),
                    Err(e) => Err(e),
                })?;
                found.map(|found| self.shared.wrap(py, found)).transpose()
            }
        }
    }

    fn next(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Option<Change>> {
        loop {
            let Some(seen) = self.next_seen(py, timeout)? else {
                return Ok(None);
            };
            let container = self.container(py, &seen)?.map(Bound::unbind);
            if container.is_some() || matches!(seen, Seen::Lost) {
                return Change::new(py, &self.shared, seen, container).map(Some);
            }
        }
    }
}

/// Append what the feed reports now.
fn read(feed: &mut Feed, ready: &mut VecDeque<Seen>) -> Result<()> {
    match feed.next(&mut Wait::never())? {
        Some(Changes::These(all)) => {
            let about = feed.containers().iter().zip(feed.own());
            for (change, (obj, own)) in all.into_iter().zip(about) {
                // Modes and times, which tools set through the mount, are not shown to Python.
                if !matches!(change, Reported::Metadata { .. }) {
                    ready.push_back(Seen::Made(change, *obj, *own));
                }
            }
        }
        Some(Changes::Lost) => {
            log::warn!(
                "a watch fell behind: the changes that it missed are one change of the kind \"overflow\""
            );
            ready.clear();
            ready.push_back(Seen::Lost);
        }
        None => {}
    }
    Ok(())
}

#[pymethods]
impl Watch {
    fn __reduce__(&self) -> PyResult<()> {
        Err(error::not_pickled("Watch"))
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Change>> {
        self.next(py, self.timeout)
    }

    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("persist._aio")?.call_method1("Changes", (slf,))
    }

    /// Return the next change; wait for it, timeout seconds at most (None: without a limit), and then return None.
    ///
    /// >>> with root.watch() as changes:
    /// ...     root['x'] = 2
    /// ...     print(changes.poll().key, changes.poll())
    /// x None
    #[pyo3(signature = (timeout = Some(0.0)), text_signature = "($self, timeout=0)")]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Change>> {
        self.next(py, duration(timeout)?)
    }

    /// Report no more changes; a thread that waits for one, or calls the callback, ends.
    ///
    /// >>> changes = root.watch(print)
    /// >>> changes.close()
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let feed = self.state().feed.take();
        py.detach(|| drop(feed));
        self.shared.store.stir_feeds();
        self.shared.core.bells.ring();
        let thread = self.thread().take();
        if let Some(thread) = thread {
            py.import("persist._watch")?.call_method1("join", (thread,))?;
        }
        Ok(())
    }

    /// True after `close()`.
    #[getter]
    fn closed(&self) -> bool {
        self.state().feed.is_none()
    }

    /// Ring a bell at a change, for the asynchronous form. False: it never rings.
    fn _ring(&self, py: Python<'_>, bell: &Bell) -> PyResult<bool> {
        self.shared.set_task_if_needed(py);
        if self.shared.store.in_transaction() {
            return Err(not_in_a_transaction(py));
        }
        let (bells, store) = (&self.shared.core.bells, &self.shared.store);
        let awaited = match self.state().begun {
            true => Awaited::Change,
            false => Awaited::Transaction,
        };
        Ok(bells.add(store, bell, &awaited))
    }

    /// Whether there may be a change.
    #[getter]
    fn _ready(&self) -> bool {
        let state = self.state();
        let is_behind = |feed: &Feed| feed.has_more();
        if !state.begun {
            return !self.shared.store.is_latched();
        }
        // The feed of a closed store has no end.
        !state.ready.is_empty() || self.shared.core.is_closed() || state.feed.as_ref().is_none_or(is_behind)
    }

    /// How long to wait for a change, in seconds.
    #[getter]
    fn _timeout(&self) -> Option<f64> {
        self.timeout.map(|t| t.as_secs_f64())
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, py: Python<'_>, _exc: &Bound<'_, PyTuple>) -> PyResult<bool> {
        self.close(py)?;
        Ok(false)
    }

    fn __repr__(&self) -> String {
        let path = |obj| self.shared.store.path_of(LockTarget { obj, key: None });
        let what = match &self.target {
            None => "the store".to_owned(),
            Some((_, obj)) => path(*obj).unwrap_or_else(|| "what is not in the graph".to_owned()),
        };
        let state = if self.closed() { ", closed" } else { "" };
        format!("<persist.Watch of {what}{state}>")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let feed = self.state().feed.take();
        // This may wait for the latch, which another thread of the interpreter may have.
        Python::try_attach(|py| py.detach(|| drop(feed)));
    }
}
