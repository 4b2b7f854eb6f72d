//! The levels of locks that this thread holds.
//!
//! 1. A level is released for its owner while the owner's thread lives (`Life`). The engine releases the locks of a
//!    thread that ended. A forked child does not release its parent's locks.
//! 2. `unlock()` of a proxy ends the newest level of the same owner and target, whichever method took it. The engine
//!    does this, and the `Lock` of exactly that level must learn that it ended. Levels that outlive their `Lock`
//!    therefore stay in the list.

use persist_core::store::door::process_number;
use persist_core::store::{Error, LockHandle, LockMode};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::engine::shared::Shared;

/// Whether a thread has ended, after which its slot may belong to another thread. The mutex is held during a release
/// for the thread.
struct Life {
    ended: Mutex<bool>,
}

/// Ends the life of the thread that it belongs to when it is dropped.
struct Alive(Arc<Life>);

impl Drop for Alive {
    fn drop(&mut self) {
        *lock(&self.0.ended) = true;
    }
}

thread_local! {
    static LIFE: Alive = Alive(Arc::new(Life { ended: Mutex::new(false) }));
    /// The levels that this thread took and still holds, the newest last.
    static LEVELS: RefCell<Vec<Taken>> = const { RefCell::new(Vec::new()) };
}

/// A level in the list of its thread.
enum Taken {
    /// A level whose `Lock` releases it.
    Lock(Weak<Level>),
    /// A level without a `Lock`: only `unlock()` releases it.
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

    /// True if it is this level.
    fn is_level(&self, level: &Arc<Level>) -> bool {
        matches!(self, Taken::Lock(l) if std::ptr::eq(l.as_ptr(), Arc::as_ptr(level)))
    }

    /// True if the entry is still needed.
    fn is_needed(&self) -> bool {
        match self {
            Taken::Lock(level) => level.strong_count() > 0,
            Taken::Kept(there, _) => there.upgrade().is_some_and(|there| !there.core.is_closed()),
        }
    }
}

/// Lock a mutex. A panic of another thread leaves the data usable, so poisoning is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One level of a lock that is held.
pub(crate) struct Level {
    shared: Arc<Shared>,
    pub(crate) handle: LockHandle,
    mode: LockMode,
    life: Arc<Life>,
    process: u32,
    held: AtomicBool,
}

impl Level {
    /// Record a level that the running thread has just acquired.
    pub(crate) fn noted(shared: &Arc<Shared>, handle: LockHandle, mode: LockMode) -> Arc<Level> {
        let level = Arc::new(Level {
            shared: Arc::clone(shared),
            handle,
            mode,
            life: LIFE.with(|alive| Arc::clone(&alive.0)),
            process: process_number(),
            held: AtomicBool::new(true),
        });
        LEVELS.with(|levels| {
            let mut levels = levels.borrow_mut();
            if levels.len() == levels.capacity() {
                levels.retain(Taken::is_needed);
            }
            levels.push(Taken::Lock(Arc::downgrade(&level)));
        });
        level
    }

    /// True if the level is not released yet.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// True if this process took the level: a forked child does not release its parent's locks.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == process_number()
    }

    /// Release the level for its owner, from any thread.
    pub(crate) fn release(&self) -> Result<(), Error> {
        if !self.held.swap(false, Ordering::AcqRel) || !self.is_ours() || self.shared.core.is_closed() {
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
            self.shared.core.open_scopes.fetch_sub(1, Ordering::Relaxed);
        }
        done
    }

    fn is(&self, shared: &Arc<Shared>, handle: &LockHandle) -> bool {
        self.handle == *handle && self.shared.same_store(shared)
    }

    /// Remove the level from the list of its thread.
    pub(crate) fn forget(level: &Arc<Level>) {
        let _ = LEVELS.try_with(|levels| {
            let mut levels = levels.borrow_mut();
            if let Some(at) = levels.iter().rposition(|taken| taken.is_level(level)) {
                levels.remove(at);
            }
        });
    }

    /// Keep the level after its `Lock` is dropped.
    pub(crate) fn keep(level: &Arc<Level>) {
        let _ = LEVELS.try_with(|levels| {
            let mut levels = levels.borrow_mut();
            if let Some(taken) = levels.iter_mut().rfind(|taken| taken.is_level(level)) {
                *taken = Taken::Kept(Arc::downgrade(&level.shared), level.handle);
            }
        });
    }
}

/// Record that `unlock()` of a proxy released a level: the newest level of this thread with that handle ends. False if
/// none is known: no lock was held (the engine does not report this while another owner's transaction is open).
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
