//! What the engine logs, as records of `logging.getLogger("persist")`.
//!
//! 1. A record is made where no Python may run: in a section, on a thread of the engine. It waits in a queue until the
//!    main thread runs Python code, or a call delivers it that takes time anyway.
//! 2. The queue is bounded, and logging never waits: a record that finds it full or in use is dropped and counted. The
//!    next delivery logs the count, after the records that came before.

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The most records that wait.
const MOST: usize = 256;
/// How often a record tries to get into the queue. It is in use for an instant only, but after a fork for ever.
const TRIES: usize = 100;

struct Logs;

static QUEUE: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());
/// Records that were dropped since the last delivery.
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// The program ends: nothing is delivered any more.
static ENDED: AtomicBool = AtomicBool::new(false);

impl Log for Logs {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        !ENDED.load(Ordering::Acquire)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let made = (record.level(), record.args().to_string());
        for _ in 0..TRIES {
            if let Ok(mut queue) = QUEUE.try_lock() {
                if queue.len() < MOST {
                    queue.push(made);
                } else {
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
                drop(queue);
                super::ffi::call_soon(deliver);
                return;
            }
            std::thread::yield_now();
        }
        DROPPED.fetch_add(1, Ordering::Relaxed);
        super::ffi::call_soon(deliver);
    }

    fn flush(&self) {}
}

/// Let the engine log to Python. There is one engine in the module, so no other logger can be set.
pub(crate) fn install() {
    static LOGS: Logs = Logs;
    if log::set_logger(&LOGS).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Give the records to `logging`. What its handlers raise is reported as that of a destructor is.
#[cold]
pub(crate) fn deliver(py: Python<'_>) {
    let Ok(mut records) = QUEUE.try_lock().map(|mut queue| std::mem::take(&mut *queue)) else {
        return;
    };
    match DROPPED.swap(0, Ordering::Relaxed) {
        0 => {}
        1 => records.push((Level::Warn, "1 record was dropped: too many waited".to_owned())),
        n => records.push((Level::Warn, format!("{n} records were dropped: too many waited"))),
    }
    for (level, text) in records {
        let level = match level {
            Level::Error => 40,
            Level::Warn => 30,
            _ => 20,
        };
        let log = || {
            py.import("logging")?
                .call_method1("getLogger", ("persist",))?
                .call_method1("log", (level, "%s", text))
        };
        if let Err(e) = log() {
            e.write_unraisable(py, None);
        }
    }
}

/// The program ends: deliver what there is, and nothing after that.
pub(crate) fn end(py: Python<'_>) {
    deliver(py);
    ENDED.store(true, Ordering::Release);
}
