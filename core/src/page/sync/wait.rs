//! Bounded, interruptible waiting. This module alone decides when a wait has lasted long enough.

use crate::error::{Error, Result};
use std::cell::{Cell, RefCell};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// Called about every 20 ms; true ends the wait.
type Ask = Box<dyn FnMut() -> bool>;

thread_local! {
    /// An additional interrupt check for every wait of this thread (`Wait::interruptible`).
    static ASK: RefCell<Option<Ask>> = const { RefCell::new(None) };
    /// The bound of every wait of this thread that has none itself, instead of the store's (`Wait::interruptible`).
    static BOUND: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// How long, and how, to wait.
pub struct Wait<'a> {
    /// None: the store's own bound. Some(0): do not wait, but return `Error::WouldBlock`/`Error::Timeout` at once.
    pub timeout: Option<Duration>,
    /// Called about every 20 ms while waiting; true ends the wait with `Error::Interrupted`.
    pub interrupted: Option<&'a mut dyn FnMut() -> bool>,
}

impl std::fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wait")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Wait<'static> {
    /// Wait at most this long.
    #[must_use]
    pub fn at_most(timeout: Duration) -> Wait<'static> {
        Wait {
            timeout: Some(timeout),
            interrupted: None,
        }
    }

    /// Do not wait: return `Error::WouldBlock` where a wait would be needed.
    #[must_use]
    pub fn never() -> Wait<'static> {
        Wait::at_most(Duration::ZERO)
    }
}

impl Default for Wait<'_> {
    /// Wait as long as the store's own bound.
    fn default() -> Self {
        Wait {
            timeout: None,
            interrupted: None,
        }
    }
}

/// Restores the previous check and bound, however the scope ends.
struct Scope(Option<Ask>, Option<Duration>);

impl Drop for Scope {
    fn drop(&mut self) {
        let outer = self.0.take();
        let _ = ASK.try_with(|ask| ask.replace(outer));
        let _ = BOUND.try_with(|bound| bound.set(self.1));
    }
}

impl Wait<'static> {
    /// Run `f` with all its waits interruptible by `ask`, including those of internal steps: for long operations that
    /// wait in several places, such as a checkpoint. An interrupted operation fails with `Error::Interrupted` and
    /// leaves the same state as a timeout at the same place. Each of the waits lasts at most `bound`: a process may
    /// have opened the store several times, each time with its own bound.
    pub fn interruptible<R>(bound: Duration, ask: Box<dyn FnMut() -> bool>, f: impl FnOnce() -> R) -> R {
        let outer = BOUND.with(|place| place.replace(Some(bound)));
        let _scope = Scope(ASK.with(|place| place.replace(Some(ask))), outer);
        f()
    }

    /// End a long operation between two of its steps, if its caller requested that.
    ///
    /// # Errors
    /// `Error::Interrupted`.
    pub(crate) fn check_interrupt() -> Result<()> {
        if asks_to_stop() {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}

/// Return whether the scope of this thread requests a stop. A wait inside the check itself is not checked.
fn asks_to_stop() -> bool {
    // A thread that is ending may wait too: its thread-local storage may be gone.
    let asked = ASK.try_with(|place| {
        place
            .try_borrow_mut()
            .is_ok_and(|mut ask| ask.as_mut().is_some_and(|ask| ask()))
    });
    asked.unwrap_or(false)
}

/// One wait in progress. It costs nothing until the first `pause`.
pub(crate) struct WaitLoop<'w, 'a> {
    wait: &'w mut Wait<'a>,
    bound: Duration,
    started: Option<Instant>,
    asked: Option<Instant>,
}

/// How often a waiter checks for signals and for the liveness of the owner it waits for.
pub(crate) const SLICE: Duration = Duration::from_millis(20);

impl<'w, 'a> WaitLoop<'w, 'a> {
    /// Create it. `bound` is used if the wait itself has none.
    pub(crate) fn new(wait: &'w mut Wait<'a>, bound: Duration) -> Self {
        let bound = wait.timeout.unwrap_or(bound);
        WaitLoop {
            wait,
            bound,
            started: None,
            asked: None,
        }
    }

    /// Continue a wait that `started` then, if it has started.
    pub(crate) fn since(wait: &'w mut Wait<'a>, bound: Duration, started: &mut Option<Instant>) -> Self {
        let mut wait_loop = WaitLoop::new(wait, bound);
        wait_loop.started = Some(*started.get_or_insert_with(Instant::now));
        wait_loop
    }

    /// Return whether the caller asked not to wait at all.
    pub(crate) fn is_never(&self) -> bool {
        self.bound.is_zero()
    }

    /// Return the longest duration of the wait: its own bound, that of the scope, or the store's.
    pub(crate) fn bound(&self) -> Duration {
        let scope = BOUND.try_with(Cell::get).unwrap_or(None);
        match (self.wait.timeout, scope) {
            (None, Some(bound)) => bound,
            _ => self.bound,
        }
    }

    /// Return how long to sleep now, or the error that ends the wait. `what` and `holder` describe it.
    pub(crate) fn slice(&mut self, what: &'static str, holder: impl FnOnce() -> String) -> Result<Duration> {
        if self.is_never() {
            return Err(Error::WouldBlock { what });
        }
        let now = Instant::now();
        let started = *self.started.get_or_insert(now);
        let waited = now - started;
        let bound = self.bound();
        if waited >= bound {
            return Err(Error::timeout(what, waited, holder()));
        }
        let due = self.asked.is_none_or(|t| now - t >= SLICE);
        if due {
            self.asked = Some(now);
            if self.wait.interrupted.as_mut().is_some_and(|ask| ask()) || asks_to_stop() {
                return Err(Error::Interrupted);
            }
        }
        Ok((bound - waited).min(SLICE))
    }
}

/// How long a fork waits for each of these: a running writer (then the child copies the pins itself), or a store that
/// is being closed (then the child registers itself).
pub(in crate::page) const FORK_WAIT: Duration = Duration::from_millis(500);

/// Lock a mutex that may be held for long (of a store that is being closed).
pub(in crate::page) fn lock_soon<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    let until = Instant::now() + FORK_WAIT;
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(p)) => return Some(p.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_micros(50)),
        }
    }
}
