//! The levels of locks that each thread holds.
//!
//! 1. A level is released for its owner while the owner's thread lives (`Thread::ended`). The engine releases the locks
//!    of a thread that ended. A forked child does not release its parent's locks.
//! 2. A level is held while it is in the list of its thread. A `Lock` knows the number of its level, so it learns of
//!    the end whichever call ended it. A level outlives the `Lock` of `lockExcl()`.
//! 3. `unlock()` of a proxy ends the newest level of the same owner and target, whichever method took it. The engine
//!    does this too.

use persist_core::store::door::process_number;
use persist_core::store::{Error, LockHandle, LockMode};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::engine::core::Core;
use crate::engine::shared::Shared;

/// A thread that holds levels. Its slot may belong to another thread after it has ended.
#[derive(Default)]
struct Thread {
    /// Held during a release for the thread.
    ended: Mutex<bool>,
    levels: Mutex<Levels>,
}

/// The levels that a thread holds, the newest last, and the number of the newest one so far.
#[derive(Default)]
struct Levels {
    taken: Vec<Taken>,
    last: u64,
}

/// One level in the list.
struct Taken {
    number: u64,
    handle: LockHandle,
    store: Weak<Core>,
}

impl Taken {
    fn is(&self, shared: &Shared, handle: &LockHandle) -> bool {
        self.handle == *handle && std::ptr::eq(self.store.as_ptr(), Arc::as_ptr(&shared.core))
    }

    /// True unless the store is closed.
    fn is_needed(&self) -> bool {
        self.store.upgrade().is_some_and(|core| !core.is_closed())
    }
}

/// Ends the life of the thread that it belongs to when it is dropped.
struct Alive(Arc<Thread>);

impl Drop for Alive {
    fn drop(&mut self) {
        *lock(&self.0.ended) = true;
    }
}

thread_local! {
    static THREAD: Alive = Alive(Arc::default());
}

/// Lock a mutex. A panic of another thread leaves the data usable, so poisoning is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One level of a lock, for the `Lock` that took it.
pub(crate) struct Level {
    thread: Arc<Thread>,
    number: u64,
    pub(crate) handle: LockHandle,
    process: u32,
}

impl Level {
    /// Record a level that the running thread has just acquired.
    pub(crate) fn noted(shared: &Shared, handle: LockHandle) -> Level {
        let thread = THREAD.with(|alive| Arc::clone(&alive.0));
        let mut levels = lock(&thread.levels);
        levels.last += 1;
        let number = levels.last;
        if levels.taken.len() == levels.taken.capacity() {
            levels.taken.retain(Taken::is_needed);
        }
        levels.taken.push(Taken {
            number,
            handle,
            store: Arc::downgrade(&shared.core),
        });
        drop(levels);
        Level {
            thread,
            number,
            handle,
            process: process_number(),
        }
    }

    /// True if the level is not released yet.
    pub(crate) fn is_held(&self) -> bool {
        let levels = lock(&self.thread.levels);
        levels.taken.iter().rev().any(|taken| taken.number == self.number)
    }

    /// True if this process took the level: a forked child does not release its parent's locks.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == process_number()
    }

    /// End the level, which was acquired in this mode, and release it for its owner. Callable from any thread.
    pub(crate) fn release(&self, shared: &Shared, mode: LockMode) -> Result<(), Error> {
        if !self.end() || !self.is_ours() || shared.core.is_closed() {
            return Ok(());
        }
        let ended = lock(&self.thread.ended);
        let done = if *ended {
            Ok(())
        } else {
            shared.store.release(&self.handle, mode)
        };
        drop(ended);
        if done.is_ok() {
            shared.core.open_scopes.fetch_sub(1, Ordering::Relaxed);
        }
        done
    }

    /// Remove the level from the list of its thread. False if it is not there.
    fn end(&self) -> bool {
        let mut levels = lock(&self.thread.levels);
        let at = levels.taken.iter().rposition(|taken| taken.number == self.number);
        at.is_some_and(|at| {
            levels.taken.remove(at);
            true
        })
    }
}

/// Record that `unlock()` of a proxy released a level: the newest level of this thread with that handle ends. False if
/// none is known: no lock was held (the engine does not report this while another owner's transaction is open).
pub(crate) fn unlocked(shared: &Shared, handle: &LockHandle) -> bool {
    let known = THREAD.try_with(|alive| {
        let mut levels = lock(&alive.0.levels);
        let at = levels.taken.iter().rposition(|taken| taken.is(shared, handle));
        at.is_some_and(|at| {
            levels.taken.remove(at);
            true
        })
    });
    known.unwrap_or(false)
}
