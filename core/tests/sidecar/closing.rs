//! The state of a store after processes close it, exit, or abandon it.

use super::common::scratch;
use super::support::again;
use super::support::plain::set;
use super::{FOREVER, get, open, run};
use persist_core::store::{Error, Options, Store, Wait};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_process_that_exits_without_closing_loses_nothing() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    open(&path).close().unwrap();
    run(&path, "exit");
    let store = open(&path);
    assert_eq!(get(&store, "neighbour"), Some(1));
    store.close().unwrap();
}

#[test]
fn closing_waits_for_a_transaction_of_another_thread() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let brief = Options {
        lock_timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let store = Store::open(&path, &brief).unwrap();
    let (begun, end) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            store.begin(&mut Wait::default()).unwrap();
            set(&store, "a", 1).unwrap();
            begun.wait();
            end.wait();
            set(&store, "b", 2).unwrap();
            store.commit().unwrap();
        });
        begun.wait();
        assert!(matches!(store.close(), Err(Error::Timeout { .. })));
        end.wait();
    });
    // The store is still open.
    set(&store, "c", 3).unwrap();
    store.close().unwrap();
    assert!(matches!(set(&store, "d", 4), Err(Error::Closed)));
    drop(store);
    let store = open(&path);
    assert_eq!(
        (get(&store, "a"), get(&store, "b"), get(&store, "c")),
        (Some(1), Some(2), Some(3))
    );
    store.close().unwrap();
}

/// Wherever the close falls between the steps of the others, nothing of this process is left behind.
#[test]
fn closing_while_threads_are_active_leaves_nothing_behind() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let other = open(&path);
    for round in 0..60u64 {
        let store = open(&path);
        std::thread::scope(|scope| {
            for t in 0..3 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0.. {
                        let done = if t == 0 {
                            store
                                .begin(&mut Wait::default())
                                .and_then(|_| set(store, "t", n).and_then(|()| store.commit()))
                        } else {
                            set(store, "x", n).and_then(|()| {
                                store.read(&mut Wait::default(), |r| r.len(store.root()).map(drop))
                            })
                        };
                        match done {
                            Ok(()) => {}
                            Err(Error::Closed) => return,
                            Err(e) => panic!("{e}"),
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(300 + 37 * (round % 30)));
            store.close().unwrap();
        });
        let begun = Instant::now();
        set(&other, "after", round as i64).unwrap();
        assert!(
            begun.elapsed() < FOREVER,
            "round {round}: waited {:?}",
            begun.elapsed()
        );
        assert_eq!(other.stat().unwrap().processes, 1, "round {round}");
    }
    other.check().unwrap();
    other.close().unwrap();
}

#[test]
fn an_abandoned_transaction_is_rolled_back_with_the_last_handle() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let other = open(&path);
    let store = open(&path);
    let begun = std::sync::Barrier::new(2);
    let end = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            {
                let mine = store.clone();
                mine.begin(&mut Wait::default()).unwrap();
                set(&mine, "a", 1).unwrap();
            }
            begun.wait();
            end.wait();
        });
        begun.wait();
        let mut all = Some(store.clone());
        all.take();
        end.wait();
    });
    drop(store);
    let since = Instant::now();
    set(&other, "b", 2).unwrap();
    assert!(since.elapsed() < FOREVER, "{:?}", since.elapsed());
    assert_eq!((get(&other, "a"), get(&other, "b")), (None, Some(2)));
    other.close().unwrap();
}

/// A long transaction of another process does not prevent this one from closing.
#[test]
fn closing_does_not_wait_for_other_processes() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    let third = open(&path);
    let mut child = again("neighbour")
        .env("PERSIST_STORE", &path)
        .env("PERSIST_DO", "transaction")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap() == "ready"));
    let begun = Instant::now();
    store.close().unwrap();
    assert!(begun.elapsed() < FOREVER, "{:?}", begun.elapsed());
    child.kill().unwrap();
    child.wait().unwrap();
    set(&third, "a", 1).unwrap();
    third.sync().unwrap();
    assert_eq!(get(&third, "neighbour"), Some(1));
    // The thread that makes checkpoints may be recovering one of the two at this moment.
    while third.stat().unwrap().processes != 1 {
        assert!(begun.elapsed() < FOREVER);
        third.sync().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    third.close().unwrap();
}
