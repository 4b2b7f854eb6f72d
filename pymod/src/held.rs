//! `persist.Lock`: what `lock()`, `lockExcl()` and `lockShared()` return.
//!
//! 1. A lock that `lock()` took is released when its `Lock` is collected, with a ResourceWarning. So an exception
//!    of a signal handler that arrives before the `with` block begins leaves no lock behind.
//! 2. `lockExcl()` and `lockShared()` keep the original's manner: a result that is dropped without `with` leaves the
//!    lock in place until `unlock()`.
//! 3. Collection may run on another thread. It releases for the owner while the owner's thread lives (`Life`);
//!    the engine releases the locks of a thread that ended. A forked child releases nothing of its parent.
//! 4. `unlock()` of a proxy ends the newest level of the same owner and target, whatever took it: the engine does so,
//!    and a `Lock` must know that its level has ended, and no other. So levels that outlive their `Lock` stay in the
//!    list.

use persist_core::store::{Actor, Error, LockHandle, LockMode, LockTarget, Obj, Wait};
use pyo3::exceptions::PyResourceWarning;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::convert::Scalar;
use crate::shared::Shared;
use crate::tasks;

/// Whether a thread has ended: its slot may be another thread's then. The mutex is held across a release for it.
struct Life {
    ended: Mutex<bool>,
}

/// Ends the life of the thread that it belongs to.
struct Alive(Arc<Life>);

impl Drop for Alive {
    fn drop(&mut self) {
        *lock(&self.0.ended) = true;
    }
}

thread_local! {
    static LIFE: Alive = Alive(Arc::new(Life { ended: Mutex::new(false) }));
    /// Levels that this thread took and still holds, the newest last.
    static LEVELS: RefCell<Vec<Taken>> = const { RefCell::new(Vec::new()) };
}

/// A level in the list of its thread.
enum Taken {
    /// With a `Lock` that releases it.
    Lock(Weak<Level>),
    /// In the original's manner: only `unlock()` releases it.
    Kept(Weak<Shared>, LockHandle),
}

impl Taken {
    fn is(&self, shared: &Arc<Shared>, handle: &LockHandle) -> bool {
        match self {
            Taken::Lock(level) => level.upgrade().is_some_and(|l| l.is(shared, handle)),
            Taken::Kept(there, kept) => {
                kept == handle && there.upgrade().is_some_and(|there| there.same_store(shared))
            }
        }
    }

    /// Whether it stands for this very level.
    fn stands_for(&self, level: &Arc<Level>) -> bool {
        matches!(self, Taken::Lock(l) if std::ptr::eq(l.as_ptr(), Arc::as_ptr(level)))
    }

    /// Whether it may be met again.
    fn lives(&self) -> bool {
        match self {
            Taken::Lock(level) => level.strong_count() > 0,
            Taken::Kept(there, _) => there.upgrade().is_some_and(|there| !there.core.is_closed()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One level of a lock that is held.
struct Level {
    shared: Arc<Shared>,
    handle: LockHandle,
    mode: LockMode,
    life: Arc<Life>,
    process: u32,
    held: AtomicBool,
}

impl Level {
    /// Release it for its owner, from any thread.
    fn release(&self) -> Result<(), Error> {
        if !self.held.swap(false, Ordering::AcqRel)
            || self.process != std::process::id()
            || self.shared.core.is_closed()
        {
            return Ok(());
        }
        let ended = lock(&self.life.ended);
        let done = if *ended {
            Ok(())
        } else {
            self.shared.store.release(&self.handle, self.mode)
        };
        drop(ended);
        if done.is_ok() {
            self.shared.core.heed.fetch_sub(1, Ordering::Relaxed);
        }
        done
    }

    fn is(&self, shared: &Arc<Shared>, handle: &LockHandle) -> bool {
        self.handle == *handle && self.shared.same_store(shared)
    }
}

/// Note that `unlock()` of a proxy released a level: the newest of this thread with that handle ends. False if none is
/// known: nothing was held (which beside another's transaction the engine says to nobody).
pub(crate) fn unlocked(shared: &Arc<Shared>, handle: &LockHandle) -> bool {
    let newest = LEVELS.try_with(|levels| {
        let mut levels = levels.borrow_mut();
        let at = levels.iter().rposition(|taken| taken.is(shared, handle))?;
        Some(levels.remove(at))
    });
    let Ok(Some(newest)) = newest else { return false };
    if let Taken::Lock(level) = newest
        && let Some(level) = level.upgrade()
    {
        level.held.store(false, Ordering::Release);
    }
    true
}

/// What to take, and how.
pub(crate) struct Terms {
    pub(crate) obj: Obj,
    pub(crate) key: Option<Py<PyAny>>,
    pub(crate) mode: LockMode,
    pub(crate) timeout: Option<Duration>,
    /// The lock outlives a `Lock` that is dropped without `with`.
    pub(crate) kept: bool,
}

/// A lock on a container or one entry of it. In `with` it gives the locked object and releases at the end;
/// `with` takes it again if it was released. One that `lock()` took and that is neither released nor used in
/// `with` is released when it is collected, with a ResourceWarning.
#[pyclass(frozen, name = "Lock", module = "persist")]
pub struct Held {
    owner: Py<PyAny>,
    shared: Arc<Shared>,
    terms: Terms,
    /// Used in `with`: dropping it releases, whatever took it.
    entered: AtomicBool,
    level: Mutex<Option<Arc<Level>>>,
}

impl Held {
    fn new(owner: Py<PyAny>, shared: &Arc<Shared>, terms: Terms) -> Held {
        Held {
            owner,
            shared: Arc::clone(shared),
            terms,
            entered: AtomicBool::new(false),
            level: Mutex::new(None),
        }
    }

    /// Takes the lock.
    pub(crate) fn taken(
        py: Python<'_>,
        owner: Py<PyAny>,
        shared: &Arc<Shared>,
        terms: Terms,
    ) -> PyResult<Held> {
        let held = Held::new(owner, shared, terms);
        held.take(py)?;
        Ok(held)
    }

    /// A lock that the running task was granted without waiting (`lock_async`).
    pub(crate) fn granted(
        py: Python<'_>,
        owner: Py<PyAny>,
        shared: &Arc<Shared>,
        terms: Terms,
    ) -> PyResult<Held> {
        let held = Held::new(owner, shared, terms);
        held.note(py)?;
        Ok(held)
    }

    /// Calls `f` with the target of the lock.
    fn with_target<R>(&self, py: Python<'_>, f: impl FnOnce(LockTarget<'_>) -> PyResult<R>) -> PyResult<R> {
        let key = self.terms.key.as_ref().map(|k| k.bind(py));
        let scalar = key.map(Scalar::key_of).transpose()?;
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
        self.with_target(py, |target| self.take_target(py, target))?;
        self.note(py)
    }

    /// Note a level that the running task has just got.
    fn note(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.core.heed.fetch_add(1, Ordering::Relaxed);
        tasks::note_lock(py, &self.shared)?;
        let level = Arc::new(Level {
            shared: Arc::clone(&self.shared),
            handle: self.handle(py)?,
            mode: self.terms.mode,
            life: LIFE.with(|alive| Arc::clone(&alive.0)),
            process: std::process::id(),
            held: AtomicBool::new(true),
        });
        LEVELS.with(|levels| {
            let mut levels = levels.borrow_mut();
            if levels.len() == levels.capacity() {
                levels.retain(Taken::lives);
            }
            levels.push(Taken::Lock(Arc::downgrade(&level)));
        });
        *lock(&self.level) = Some(level);
        Ok(())
    }

    fn take_target(&self, py: Python<'_>, target: LockTarget<'_>) -> PyResult<()> {
        let (shared, terms) = (&self.shared, &self.terms);
        shared.tell_always(py);
        shared.read(py, |r| r.kind(terms.obj))?; // what is gone cannot be locked
        let store = &shared.store;
        match store.lock(Actor::Thread, target, terms.mode, &mut Wait::never()) {
            Ok(()) => {}
            Err(e @ (Error::WouldBlock { .. } | Error::Timeout { .. }))
                if terms.timeout != Some(Duration::ZERO) =>
            {
                shared.again_or_undo(
                    py,
                    e,
                    terms.timeout,
                    |wait| store.lock(Actor::Thread, target, terms.mode, wait),
                    || store.unlock(Actor::Thread, target),
                )?;
            }
            Err(e) => return Err(shared.fail(py, e)),
        }
        Ok(())
    }

    fn is_held(&self) -> bool {
        let level = lock(&self.level);
        level.as_ref().is_some_and(|l| l.held.load(Ordering::Acquire))
    }

    fn forget(level: &Arc<Level>) {
        let _ = LEVELS.try_with(|levels| {
            let mut levels = levels.borrow_mut();
            if let Some(at) = levels.iter().rposition(|taken| taken.stands_for(level)) {
                levels.remove(at);
            }
        });
    }

    /// The level outlives its `Lock`.
    fn keep(level: &Arc<Level>) {
        let _ = LEVELS.try_with(|levels| {
            let mut levels = levels.borrow_mut();
            if let Some(taken) = levels.iter_mut().rfind(|taken| taken.stands_for(level)) {
                *taken = Taken::Kept(Arc::downgrade(&level.shared), level.handle);
            }
        });
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
        if self.terms.kept && !managed && level.held.load(Ordering::Acquire) {
            Held::keep(&level);
            return;
        }
        Held::forget(&level);
        if !level.held.load(Ordering::Acquire) {
            return;
        }
        // The engine keeps the lock table sound if this fails; a collection has no caller to report to.
        let released = level.release();
        if managed || released.is_err() || level.process != std::process::id() || self.shared.core.is_closed()
        {
            return;
        }
        Python::try_attach(|py| {
            // An exception may be on its way through the code that dropped it.
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

    /// Releases the lock; a second call does nothing. NotLocked on another thread than that which took it.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let fail = |e| self.shared.fail(py, e);
        let mut place = lock(&self.level);
        let Some(level) = place.as_ref().filter(|l| l.held.load(Ordering::Acquire)) else {
            return Ok(());
        };
        if self.shared.core.is_closed() {
            return Ok(());
        }
        // By any task of the thread: an asynchronous generator may be closed by another.
        self.shared.tell_always(py);
        if !self.handle(py)?.same_thread(&level.handle) {
            return Err(fail(Error::NotLocked {
                what: "a lock that another thread took".to_owned(),
            }));
        }
        let Some(level) = place.take() else { return Ok(()) };
        drop(place);
        Held::forget(&level);
        let done = level.release().map_err(fail);
        self.shared.wake_tasks(py);
        done
    }

    /// True for a shared lock.
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
