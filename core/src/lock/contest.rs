//! The contended phase of a request: it tries several times before it queues.
//!
//! A queued request is granted by the release that makes room for it, and its thread is woken: a release under
//! contention would cost a wake-up each time. So a request contends first. While it does, the lock stays open to the
//! thread that has released it last, which takes it again at once. After `CONTEND` the request queues, is granted in
//! order, and overtaken by no later one.
//!
//! Invariants:
//! 1. A contending request holds nothing and stands in no queue: it blocks no other request and needs no clean-up.
//! 2. `CONTEND` bounds the phase. Deadlocks, dead holders and other tasks of the thread are found in the queue.
//! 3. `COLLISIONS` is advice of the thread to itself; its value decides only between spinning and napping.

use super::Table;
use super::env::Env;
use crate::ids::ObjectId;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long a request contends before it queues.
const CONTEND: Duration = Duration::from_micros(1000);

/// The pause between two tries where the lock is contended. The kernel adds its timer slack of 50 us.
const NAP: Duration = Duration::from_micros(50);

/// How long to spin: waking a thread costs more than most locks are held.
const SPIN: Duration = Duration::from_micros(30);

/// Looks at a word between two looks at the clock.
const LOOKS: u32 = 50;

/// What one collision adds to `COLLISIONS`, from where on a thread naps instead of spinning, and the most.
const COLLISION: u8 = 4;
const CONTENDED: u8 = 5;
const MOST: u8 = 8;

thread_local! {
    /// How contended the locks of this thread are: up with each collision, down with each request granted at once.
    static COLLISIONS: Cell<u8> = const { Cell::new(0) };
}

/// Spin until `done`, for `SPIN` at most. Return whether it is done. The processor is yielded in between, since the
/// holder may need it.
pub(super) fn spin<E: Env>(env: &E, done: impl Fn(&Table<'_>) -> bool) -> bool {
    if !env.barges() {
        return false;
    }
    let begun = Instant::now();
    loop {
        for _ in 0..LOOKS {
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

/// One request's contended phase.
pub(super) struct Contest {
    /// Whether a request of this kind has such a phase.
    contends: bool,
    may_wait: bool,
    /// The first collision.
    begun: Option<Instant>,
}

impl Contest {
    pub(super) fn new(contends: bool, may_wait: bool) -> Contest {
        Contest {
            contends,
            may_wait,
            begun: None,
        }
    }

    /// Whether the request is to queue at its next try.
    pub(super) fn is_over(&self) -> bool {
        !self.contends || !self.may_wait || self.begun.is_some_and(|begun| begun.elapsed() >= CONTEND)
    }

    /// Note that the request was granted.
    pub(super) fn granted(&self) {
        if self.contends && self.begun.is_none() {
            COLLISIONS.set(COLLISIONS.get().saturating_sub(1));
        }
    }

    /// Pause before the next try, for `left` at most: spin where collisions are rare, else sleep a little.
    pub(super) fn pause<E: Env>(&mut self, env: &E, id: ObjectId, left: Option<Duration>) {
        if self.begun.is_none() {
            self.begun = Some(Instant::now());
            COLLISIONS.set(COLLISIONS.get().saturating_add(COLLISION).min(MOST));
        }
        if COLLISIONS.get() >= CONTENDED || !spin(env, |table| !table.may_concern(id)) {
            std::thread::sleep(left.unwrap_or(NAP).min(NAP));
        }
    }
}
