//! The locks of commands on the mount (`table`), and the thread that serves the requests that wait.
//!
//! 1. One thread serves all waiting requests. It starts with the first and ends with the last.
//! 2. It sleeps on the signal of a request in the store's queue, or until a new one comes, for `SLICE` at most. Then it
//!    looks at the requests that wait in the store, and at signals for their callers: the kernel does not hand on
//!    interruptions here, and a caller with a pending signal ends only after its answer.
//! 3. Answers are sent without the mutex of the table.

mod cycles;
mod file;
pub(crate) mod moves;
pub(crate) mod ranges;
pub(crate) mod request;
mod table;

use crate::fs::context::lock;
use crate::kernel::processes;
use persist_core::store::Store;
use request::{Answers, Call, State};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use table::Table;

/// The longest sleep of the thread.
const SLICE: Duration = Duration::from_millis(20);
/// Its sleep while several requests wait in the store, of which it can sleep on one.
const SEVERAL: Duration = Duration::from_millis(2);
/// Its sleep while a request waits for the latch.
const LATCH: Duration = Duration::from_millis(1);
/// How often requests that wait in the store are checked for cycles that were closed later.
const CYCLES: Duration = Duration::from_millis(100);
/// How long the thread may take to end after the last request.
const ENDS: Duration = Duration::from_secs(1);
/// Looking for signals takes at most this part of the thread's time.
const SIGNALS_SHARE: u32 = 8;

/// The locks of a mounted filesystem.
#[derive(Clone, Default)]
pub(crate) struct Locks {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    table: Mutex<Table>,
    /// A request began to wait.
    came: Condvar,
}

impl Locks {
    /// Look at the table.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Table) -> R) -> R {
        f(&lock(&self.shared.table))
    }

    /// Change the table, and send the answers that result.
    pub(crate) fn change<R>(&self, store: &Store, f: impl FnOnce(&mut Table, &mut Answers) -> R) -> R {
        let mut answers = Answers::new();
        let (result, works, starts) = {
            let mut table = lock(&self.shared.table);
            let result = f(&mut table, &mut answers);
            let works = table.has_work();
            let starts = works && !table.watched;
            table.watched |= works;
            (result, works, starts)
        };
        for (answer, result) in answers {
            answer(result);
        }
        if starts {
            self.start(store);
        } else if works {
            self.shared.came.notify_one();
        }
        result
    }

    fn start(&self, store: &Store) {
        let (locks, theirs) = (self.clone(), store.clone());
        let started = std::thread::Builder::new()
            .name("locks".into())
            .spawn(move || locks.watch(&theirs));
        if let Err(e) = started {
            log::error!("starting the thread for requests that wait for locks: {e}");
            let mut answers = Answers::new();
            {
                let mut table = lock(&self.shared.table);
                table.watched = false;
                table.refuse_all(store, libc::ENOLCK, &mut answers);
            }
            for (answer, result) in answers {
                answer(result);
            }
        }
    }

    /// Serve waiting requests until none is left.
    fn watch(&self, store: &Store) {
        let mut pause = SLICE;
        let (mut signals, mut polls, mut cycles) = (Instant::now(), Instant::now(), Instant::now());
        while self.sleep(store) {
            if signals.elapsed() >= pause {
                let callers: Vec<(u64, u32)> =
                    self.with(|t| t.waiters.iter().map(|w| (w.number, w.ask.tid)).collect());
                let begun = Instant::now();
                let interrupted: Vec<u64> = callers
                    .into_iter()
                    .filter(|(_, tid)| processes::has_signal(*tid))
                    .map(|(number, _)| number)
                    .collect();
                pause = SLICE.max(begun.elapsed() * SIGNALS_SHARE);
                signals = Instant::now();
                self.change(store, |table, out| {
                    for number in interrupted {
                        table.cancel(store, number, libc::EINTR, out);
                    }
                });
            }
            let poll_all = polls.elapsed() >= SLICE;
            if poll_all {
                polls = Instant::now();
            }
            let check_cycles = cycles.elapsed() >= CYCLES;
            if check_cycles {
                cycles = Instant::now();
            }
            self.change(store, |table, out| {
                table.reduce_later(store);
                let in_store: Vec<u64> = table
                    .waiters
                    .iter()
                    .filter(|w| match &w.state {
                        State::Table => false,
                        State::Later => true,
                        State::Store(pending, _) => poll_all || store.lock_is_stirred(pending),
                    })
                    .map(|w| w.number)
                    .collect();
                for number in in_store {
                    table.look(store, number, out);
                    if check_cycles {
                        table.check_cycle(store, number, out);
                    }
                }
            });
        }
    }

    /// Sleep until there may be something to do. Return false, and end the service, if no request waits.
    fn sleep(&self, store: &Store) -> bool {
        let mut table = lock(&self.shared.table);
        if !table.has_work() {
            table.watched = false;
            return false;
        }
        let mut in_store = table.waiters.iter().filter_map(|w| match &w.state {
            State::Store(pending, _) => Some(pending),
            State::Table | State::Later => None,
        });
        let (first, several) = (in_store.next().cloned(), in_store.next().is_some());
        let at_most = if table.waits_for_latch() {
            LATCH
        } else if several {
            SEVERAL
        } else {
            SLICE
        };
        match first {
            Some(pending) => {
                drop(table);
                store.lock_sleep(&pending, at_most);
            }
            None => {
                let woken = self.shared.came.wait_timeout(table, at_most);
                drop(woken.unwrap_or_else(PoisonError::into_inner));
            }
        }
        true
    }

    /// Return whether nothing is locked and no request waits, also not the thread that served the last one.
    pub(crate) fn is_idle(&self) -> bool {
        let begun = Instant::now();
        loop {
            let (idle, watched) = self.with(|table| (table.is_idle(), table.watched));
            if !idle || !watched || begun.elapsed() >= ENDS {
                return idle && !watched;
            }
            std::thread::sleep(LATCH);
        }
    }

    /// A process closed a descriptor of a file: its fcntl locks there end. `owner` is its lock owner.
    pub(crate) fn flush(&self, store: &Store, ino: u64, owner: u64) {
        if self.with(|table| table.recorded(ino).is_some()) {
            self.change(store, |table, out| {
                table.release(store, ino, &[Call::Fcntl], |g| g.owner == owner, out);
            });
        }
    }

    /// An open file ended, and with it the locks that were taken through it.
    pub(crate) fn release(&self, store: &Store, fh: u64) {
        self.change(store, |table, out| table.release_handle(store, fh, out));
    }

    /// Release all locks at the end of the mount.
    pub(crate) fn release_all(&self, store: &Store) {
        self.change(store, |table, out| table.close(store, out));
    }
}
