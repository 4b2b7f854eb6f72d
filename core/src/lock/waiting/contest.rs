//! The contended phase of a request: it tries several times before it queues.
//!
//! The release that makes room for a queued request grants it and wakes its thread: a release under
//! contention would cost a wake-up each time. So a request contends first. During that phase the lock stays
//! free for the thread that released it last, which can take it again at once. After `CONTEND` the request
//! queues, is granted in order, and no later request overtakes it.
//!
//! During a try that must fail, the latch would be missing to the holder of the lock. So a request whose thin lock is
//! visibly held does not try (`Table::seems_blocked`).
//!
//! Invariants:
//! 1. A contending request holds nothing and is in no queue: it blocks no other request and needs no
//!    clean-up.
//! 2. `CONTEND` bounds the phase. Deadlocks, dead holders and other tasks of the thread are detected in the
//!    queue.
//! 3. `COLLISIONS` is a hint of the thread to itself; its value only decides between spinning and sleeping.

use crate::lock::waiting::env::Env;
use crate::lock::{Request, Table};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long a request contends before it queues.
const CONTEND: Duration = Duration::from_micros(1000);

/// The pause between two tries of a contended lock. The kernel adds its timer slack of 50 us.
const PAUSE: Duration = Duration::from_micros(50);

/// How long to spin: waking a thread costs more than the time that most locks are held.
const SPIN: Duration = Duration::from_micros(30);

/// Loads of a word between two reads of the clock.
const LOADS: u32 = 50;

/// The amount that one collision adds to `COLLISIONS`, the value from which a thread sleeps instead of
/// spinning, and the maximum. A thread that has a contended lock for a millisecond takes it a few thousand times. If
/// that made it forget the collisions, the threads would spin, and alternate at each operation.
const COLLISION: u16 = 10_000;
const CONTENDED: u16 = 12_000;
const MOST: u16 = 20_000;

thread_local! {
    /// How contended the locks of this thread are: it rises with each collision, and falls with each request
    /// that is granted at once.
    static COLLISIONS: Cell<u16> = const { Cell::new(0) };
}

/// Record that a request of this thread was granted at once.
#[inline]
pub(in crate::lock) fn granted_at_once() {
    COLLISIONS.set(COLLISIONS.get().saturating_sub(1));
}

/// Spin until `done`, for `SPIN` at most. Return whether it is done. Yields the processor between loads,
/// since the holder may need it.
pub(in crate::lock) fn spin<E: Env>(env: &E, done: impl Fn(&Table<'_>) -> bool) -> bool {
    if !env.barges() {
        return false;
    }
    let begun = Instant::now();
    loop {
        for _ in 0..LOADS {
            if env.unlatched(&done) {
                return true;
            }
            std::hint::spin_loop();
        }
        if begun.elapsed() >= SPIN {
            return false;
        }
        std::thread::yield_now();
    }
}

/// The contended phase of one request.
pub(in crate::lock) struct Contest {
    /// True if a request of this kind has such a phase.
    contends: bool,
    may_wait: bool,
    /// The time of the first collision.
    begun: Option<Instant>,
}

impl Contest {
    pub(in crate::lock) fn new(contends: bool, may_wait: bool) -> Contest {
        Contest {
            contends,
            may_wait,
            begun: None,
        }
    }

    /// Return whether the request must queue at its next try.
    pub(in crate::lock) fn is_over(&self) -> bool {
        !self.contends || !self.may_wait || self.begun.is_some_and(|begun| begun.elapsed() >= CONTEND)
    }

    /// Record that the request was granted.
    pub(in crate::lock) fn granted(&self) {
        if self.contends && self.begun.is_none() {
            granted_at_once();
        }
    }

    /// Pause before the next try, for `left` at most: spin if collisions are rare, otherwise sleep briefly.
    /// Without time left the phase ends, and the queue reports the timeout.
    pub(in crate::lock) fn pause<E: Env>(&mut self, env: &E, request: &Request, left: Option<Duration>) {
        if left == Some(Duration::ZERO) {
            self.contends = false;
            return;
        }
        if self.begun.is_none() {
            self.begun = Some(Instant::now());
            COLLISIONS.set(COLLISIONS.get().saturating_add(COLLISION).min(MOST));
        }
        if COLLISIONS.get() >= CONTENDED || !spin(env, |table| !table.may_concern(request.target.id)) {
            std::thread::sleep(left.unwrap_or(PAUSE).min(PAUSE));
        }
    }
}
