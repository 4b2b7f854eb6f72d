//! Bells: what wakes an event loop when a change was reported, a lock may be granted, or a transaction may begin. One
//! thread for each open store rings them all.
//!
//! 1. A loop arms its bell, looks whether there is something for it, and only then waits for the bell: what comes after
//!    the look finds the bell armed.
//! 2. A change ends the thread's sleep at once. Locks and the end of transactions of other processes have signals of
//!    their own: while a task waits for one, the thread looks at them from time to time, one load each.
//! 3. The thread runs while the store has bells. It knows nothing of Python, so the interpreter can end beside it.
//! 4. A forked child has neither the thread nor, in its own loops, the bells of its parent.

use persist_core::store::Store;
use persist_core::store::door::Pending;
use pyo3::prelude::*;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::python::error;
use crate::python::ffi;

/// The longest time in which the thread does not look whether it is still needed.
const SLICE: Duration = Duration::from_millis(500);
/// The time between two looks at locks and transactions: it grows while nothing happens.
const SHORTEST: Duration = Duration::from_micros(200);
const LONGEST: Duration = Duration::from_millis(4);

#[derive(Debug)]
struct Clapper {
    event: File,
    armed: AtomicBool,
}

impl Clapper {
    fn ring(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            // The counter of an eventfd is never full here: each write follows an arming.
            let _ = (&self.event).write_all(&1_u64.to_ne_bytes());
        }
    }
}

/// A descriptor that becomes readable when something may have changed, for one event loop.
#[pyclass(frozen, name = "_Bell", module = "persist")]
pub struct Bell(Arc<Clapper>);

#[pymethods]
impl Bell {
    #[new]
    fn new() -> PyResult<Bell> {
        Ok(Bell(Arc::new(Clapper {
            event: ffi::event()?,
            armed: AtomicBool::new(false),
        })))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(error::not_pickled("_Bell"))
    }

    /// Return the descriptor.
    fn fileno(&self) -> i32 {
        self.0.event.as_raw_fd()
    }

    /// Let the bell ring once.
    fn arm(&self) {
        self.0.armed.store(true, Ordering::SeqCst);
    }

    /// Let the descriptor be unreadable until the bell rings again.
    fn clear(&self) {
        let _ = (&self.0.event).read(&mut [0; 8]);
    }
}

/// What a loop waits for.
pub(crate) enum Awaited<'a> {
    /// A change of a watched container.
    Change,
    /// The lock that was asked for.
    Lock(&'a Arc<Pending>),
    /// The end of a transaction.
    Transaction,
}

/// The bells of a store.
#[derive(Debug, Default)]
pub(crate) struct Bells(Mutex<Rack>);

#[derive(Debug, Default)]
struct Rack {
    changes: Vec<Weak<Clapper>>,
    locks: Vec<(Weak<Pending>, Weak<Clapper>)>,
    transactions: Vec<Weak<Clapper>>,
    /// The process that has the thread.
    runs_in: Option<u32>,
}

impl Bells {
    fn lock(&self) -> MutexGuard<'_, Rack> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ring a bell, if it is armed, when what is awaited may be there. Return false if no bell rings, because the
    /// process can start no thread.
    pub(crate) fn add(self: &Arc<Self>, store: &Store, bell: &Bell, awaited: &Awaited<'_>) -> bool {
        let mut rack = self.lock();
        let me = std::process::id();
        let runs = rack.runs_in == Some(me);
        if !runs {
            *rack = Rack::default();
        }
        let polled = rack.polls();
        let clapper = Arc::downgrade(&bell.0);
        let is_new = |all: &[Weak<Clapper>]| !all.iter().any(|there| there.ptr_eq(&clapper));
        match awaited {
            Awaited::Change if is_new(&rack.changes) => rack.changes.push(clapper),
            Awaited::Transaction if is_new(&rack.transactions) => rack.transactions.push(clapper),
            Awaited::Lock(pending) => {
                let lock = Arc::downgrade(pending);
                if rack.locks.iter().all(|(there, _)| !there.ptr_eq(&lock)) {
                    rack.locks.push((lock, clapper));
                }
            }
            Awaited::Change | Awaited::Transaction => {}
        }
        if !runs {
            let (all, store, seen) = (Arc::clone(self), store.clone(), store.feed_end());
            let thread = thread::Builder::new().name("persist-bells".to_owned());
            rack.runs_in = thread.spawn(move || all.follow(&store, seen)).ok().map(|_| me);
        } else if rack.polls() && !polled {
            // It sleeps for long.
            store.stir_feeds();
        }
        rack.runs_in.is_some()
    }

    /// Ring every bell that is armed.
    pub(crate) fn ring(&self) {
        self.lock().ring_all();
    }

    /// The thread.
    fn follow(&self, store: &Store, mut seen: u64) {
        let mut pause = SHORTEST;
        let mut is_polling = false;
        loop {
            let found = store.await_changes(seen, if is_polling { pause } else { SLICE });
            let mut rack = self.lock();
            let is_over = match found {
                Ok(now) => {
                    if now != seen {
                        Rack::ring(&rack.changes);
                    }
                    seen = now;
                    let rang = rack.look(store);
                    rack.is_empty() && !rang
                }
                // Closed.
                Err(_) => {
                    rack.ring_all();
                    true
                }
            };
            if is_over {
                *rack = Rack::default();
                return;
            }
            let polled = std::mem::replace(&mut is_polling, rack.polls());
            pause = if polled {
                (pause * 5 / 4).min(LONGEST)
            } else {
                SHORTEST
            };
        }
    }
}

impl Rack {
    fn ring(bells: &[Weak<Clapper>]) {
        for bell in bells.iter().filter_map(Weak::upgrade) {
            bell.ring();
        }
    }

    fn ring_all(&self) {
        Rack::ring(&self.changes);
        Rack::ring(&self.transactions);
        for bell in self.locks.iter().filter_map(|(_, bell)| bell.upgrade()) {
            bell.ring();
        }
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.polls()
    }

    /// Return whether there are signals to be looked at.
    fn polls(&self) -> bool {
        !self.locks.is_empty() || !self.transactions.is_empty()
    }

    /// Forget the bells of loops that are gone. Ring for locks and transactions. Return whether any bell rang.
    fn look(&mut self, store: &Store) -> bool {
        self.changes.retain(|bell| bell.strong_count() > 0);
        let mut rang = false;
        self.locks.retain(|(pending, bell)| {
            let (Some(pending), Some(bell)) = (pending.upgrade(), bell.upgrade()) else {
                return false;
            };
            let is_stirred = store.lock_is_stirred(&pending);
            if is_stirred {
                bell.ring();
                rang = true;
            }
            !is_stirred
        });
        if !self.transactions.is_empty() && !store.is_latched() {
            Rack::ring(&self.transactions);
            self.transactions.clear();
            rang = true;
        }
        rang
    }
}
