//! A process is stopped before every system call, and at random instructions, of opening, recovery, changing and
//! closing, with the files that a killed process has left. Others open the store, or get an error that names the
//! stopped process within their bound; those that have it open continue; when the stopped process continues, nothing is
//! lost.

use super::calls::{ALL, NEW};
use super::{Image, LEFT, found, get, left_by_the_dead, open, share};
use crate::common::{Rng, scratch, seed};
use crate::support::plain::set;
use crate::support::process::Stop;
use crate::support::ptrace::{Event, Tracee};
use crate::support::{again, torture};
use persist_core::store::{Error, Options, Store};
use std::path::Path;
use std::time::{Duration, Instant};

/// The bound of the others' waits.
const BOUND: Duration = Duration::from_millis(200);
/// No attempt takes longer, on any machine.
const AT_MOST: Duration = Duration::from_secs(30);

fn try_open(path: &Path) -> Result<Store, Error> {
    let options = Options {
        lock_timeout: BOUND,
        ..Options::default()
    };
    Store::open(path, &options)
}

/// Stop the worker before its system call `n`, or this many instructions after it. None if it makes fewer.
fn stopped_at(path: &Path, n: usize, instructions: usize) -> Option<Tracee> {
    let mut command = again("worker");
    command.env("PERSIST_STORE", path).env("PERSIST_DO", "calls");
    let mut worker = Tracee::spawn(&mut command, Path::new("/no file is watched"));
    for _ in 0..n {
        worker.about_to_call()?;
        worker.answer(None).then_some(())?;
    }
    worker.about_to_call()?;
    if instructions > 0 {
        worker.answer(None).then_some(())?;
    }
    for _ in 0..instructions {
        if let Event::Ended(_) = worker.step() {
            return None;
        }
    }
    Some(worker)
}

/// The error of an operation that a stopped process prevents: it names the process.
fn names(e: &Error, worker: &Tracee, what: &str) {
    let text = e.to_string();
    assert!(text.contains(&worker.pid().to_string()), "{what}: {text}");
}

/// In this time every attempt is over.
fn soon<R>(what: &str, act: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let result = act();
    assert!(begun.elapsed() < AT_MOST, "{what}: {:?}", begun.elapsed());
    result
}

/// What the others met.
#[derive(Default, Debug)]
struct Met {
    opened: u32,
    refused: u32,
    delayed: u32,
}

/// Stop the worker there, and use the store. False if it ended before.
fn stop(path: &Path, image: &Image, (n, instructions): (usize, usize), beside: bool, met: &mut Met) -> bool {
    image.restore();
    let present = beside.then(|| try_open(path).unwrap());
    let Some(worker) = stopped_at(path, n, instructions) else {
        return false;
    };
    let what = format!("call {n} and {instructions} instructions, beside another process: {beside}");
    let mut acknowledged = -1;
    if let Some(store) = &present {
        assert_eq!(soon(&what, || found(store)), LEFT, "{what}: reads go on");
        match soon(&what, || set(store, "present", 1)) {
            Ok(()) => acknowledged = 1,
            Err(e) => {
                names(&e, &worker, &what);
                met.delayed += 1;
            }
        }
    }
    match soon(&what, || try_open(path)) {
        Ok(store) => {
            met.opened += 1;
            assert_eq!(found(&store), LEFT, "{what}");
            match soon(&what, || set(&store, "other", n as i64)) {
                Ok(()) => acknowledged = acknowledged.max(0),
                Err(e) => names(&e, &worker, &what),
            }
            soon(&what, || store.close()).unwrap_or_else(|e| names(&e, &worker, &what));
        }
        Err(e) => {
            met.refused += 1;
            assert!(present.is_none(), "{what}: {e}");
            names(&e, &worker, &what);
        }
    }
    let other = acknowledged >= 0;
    assert_eq!(worker.run_out(), Stop::Exited(ALL), "{what}");
    if let Some(store) = present {
        assert_eq!(get(&store, "present"), (acknowledged == 1).then_some(1), "{what}");
        store.close().unwrap();
    }
    let store = open(path);
    assert_eq!(found(&store), LEFT, "{what}");
    for k in 0..NEW {
        assert_eq!(get(&store, &format!("new {k}")), Some(k), "{what}");
    }
    if other && !beside {
        assert_eq!(get(&store, "other"), Some(n as i64), "{what}");
    }
    store.close().unwrap();
    true
}

fn every_stop(beside: bool) {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    let image = Image::take(&path);
    let mut met = Met::default();
    let mut calls = 0;
    while stop(&path, &image, (calls, 0), beside, &mut met) {
        calls += 1;
    }
    println!("beside another process: {beside}: {met:?}");
    assert!(met.opened > 20 && (met.refused > 20) != beside, "{met:?}");
    let seed = seed(if torture() { std::process::id().into() } else { 1 });
    println!("seed {seed}");
    let (mut rng, begun) = (Rng(seed), Instant::now());
    for i in 0.. {
        if i >= 40 && begun.elapsed() > share(0) {
            break;
        }
        let at = (rng.below(calls), 1 + rng.below(4000));
        stop(&path, &image, at, beside, &mut met);
    }
    println!("with random instructions: {met:?}");
}

#[test]
fn stopped_at_every_call_of_a_single_process() {
    every_stop(false);
}

#[test]
fn stopped_at_every_call_beside_another_process() {
    every_stop(true);
}
