//! A disk that reports an error while the store is being flushed: the error is final for all openings of the store,
//! reading continues, and the last checkpoint stays valid.

mod common;
mod support;

use common::{Model, Rng, compare, scratch, step};
use persist_core::raw::observe::{Moment, observe};
use persist_core::store::{Durability, Error, Options, Store, Wait};
use std::cell::Cell;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::plain::{self, get, set, wait_for};
use support::{again, worker_task};

/// Let the `n`-th moment of this kind from now on fail.
fn fail(kind: Moment, n: usize) -> Rc<Cell<usize>> {
    let left = Rc::new(Cell::new(n));
    let counter = left.clone();
    observe(Some(Box::new(move |moment| {
        if moment == kind && counter.get() > 0 {
            counter.set(counter.get() - 1);
            if counter.get() == 0 {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
        }
        Ok(())
    })));
    left
}

fn is_poisoned<T: std::fmt::Debug>(done: Result<T, Error>, what: &str) {
    assert!(matches!(done, Err(Error::Poisoned { .. })), "{what}: {done:?}");
}

#[test]
fn a_failed_flush_is_final_and_the_last_checkpoint_remains() {
    let mut rng = Rng(5);
    let moments = [
        Moment::Flushing,
        Moment::Flushed,
        Moment::Writing,
        Moment::Written,
    ];
    for (kind, n) in moments.into_iter().flat_map(|m| [(m, 1), (m, 2)]) {
        let what = format!("{kind:?} {n}");
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = Store::open(
            &path,
            &Options {
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap();
        let second = Store::open(
            &path,
            &Options {
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap();
        let mut model = Model::read(&store).unwrap();
        for _ in 0..40 {
            step(&store, &mut model, &mut rng, 200_000).unwrap();
        }
        store.sync().unwrap();
        let synced = model.clone();
        for _ in 0..40 {
            step(&store, &mut model, &mut rng, 200_000).unwrap();
        }
        let left = fail(kind, n);
        let first = store.sync();
        if left.get() > 0 {
            // A checkpoint writes a meta page once: the next one fails.
            first.unwrap();
            step(&store, &mut model, &mut rng, 200_000).unwrap();
            is_poisoned(store.sync(), &what);
        } else {
            is_poisoned(first, &what);
        }
        observe(None);
        // For all openings, whatever the disk reports next.
        for s in [&store, &second] {
            is_poisoned(s.sync(), &what);
            let mut unchanged = model.clone();
            is_poisoned(step(s, &mut unchanged, &mut rng, 200_000), &what);
            compare(s, &model, &what);
        }
        let _ = second.close();
        let _ = store.close();
        drop((store, second));
        // Opened again, on a disk that works again: a checkpoint, whole. The failed one may have succeeded.
        let store = Store::open(
            &path,
            &Options {
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap();
        let found = Model::read(&store).unwrap();
        assert!(
            [synced.text(), model.text()].contains(&found.text()) || n == 2,
            "{what}"
        );
        let mut model = found;
        for _ in 0..3 {
            for _ in 0..20 {
                step(&store, &mut model, &mut rng, 200_000).unwrap();
            }
            store.sync().unwrap();
            compare(&store, &model, &what);
        }
        store.close().unwrap();
    }
}

#[test]
fn a_meta_page_that_the_disk_refused_is_written_again_before_it_is_built_on() {
    let mut rng = Rng(6);
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    let mut model = Model::read(&store).unwrap();
    step(&store, &mut model, &mut rng, 200_000).unwrap();
    // The second flush of a checkpoint: the meta page is in the page cache and may be nowhere else.
    fail(Moment::Flushing, 2);
    is_poisoned(store.sync(), "sync");
    let _ = store.close();
    drop(store);
    let seen = Rc::new(Cell::new(Vec::new()));
    let log = seen.clone();
    observe(Some(Box::new(move |moment| {
        let mut all = log.take();
        all.push(moment);
        log.set(all);
        Ok(())
    })));
    let store = Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    observe(None);
    assert_eq!(
        seen.take(),
        [
            Moment::Writing,
            Moment::Written,
            Moment::Flushing,
            Moment::Flushed
        ]
    );
    compare(&store, &model, "the checkpoint got through");
    store.close().unwrap();
    drop(store);

    // If the disk still fails, opening fails too.
    let store = Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    step(&store, &mut model, &mut rng, 200_000).unwrap();
    fail(Moment::Flushing, 2);
    is_poisoned(store.sync(), "sync");
    let _ = store.close();
    drop(store);
    fail(Moment::Flushing, 1);
    is_poisoned(
        Store::open(
            &path,
            &Options {
                max_age: None,
                ..Options::default()
            },
        ),
        "opening",
    );
    observe(None);
    Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap()
    .close()
    .unwrap();
}

fn durable(path: &Path) -> Store {
    let options = Options {
        durability: Durability::Commit,
        lock_timeout: Duration::from_secs(60),
        max_age: None,
        ..Options::default()
    };
    Store::open(path, &options).unwrap()
}

/// Every write is refused; reading continues.
fn is_refused_everywhere(store: &Store, what: &str) {
    is_poisoned(set(store, "x", 1), what);
    is_poisoned(store.sync(), what);
    is_poisoned(
        store.begin(&mut Wait::default()).and_then(|_| set(store, "x", 1)),
        what,
    );
    let _ = store.rollback();
    is_poisoned(store.snapshot("s"), what);
    assert_eq!(get(store, "synced").unwrap(), Some(7), "{what}");
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn neighbour() {
    let Some((path, task)) = worker_task("PERSIST_STORE") else {
        return;
    };
    let path = Path::new(&path);
    match task.as_str() {
        "idle" => {
            let store = plain::open(path, 5);
            set(&store, "neighbour", 1).unwrap();
            eprintln!("ready");
            wait_for(&path.with_file_name("failed"));
            is_refused_everywhere(&store, "the other process");
            eprintln!("refused");
            let _ = store.close();
        }
        "commit" => {
            let store = durable(path);
            eprintln!("ready");
            let mut n = 0;
            let e = loop {
                match set(&store, "neighbour", n) {
                    Ok(()) => n += 1,
                    Err(e) => break e,
                }
            };
            // The change that waited for the flush is made, and its durability is unknown.
            assert!(
                matches!(e, Error::Poisoned { .. } | Error::DurabilityUnknown { .. }),
                "{e}"
            );
            eprintln!("acknowledged {n}");
            let _ = store.close();
        }
        other => panic!("{other}"),
    }
}

fn neighbour_at(path: &Path, task: &str) -> (Child, impl Iterator<Item = String>) {
    let mut child = again("neighbour")
        .env("PERSIST_STORE", path)
        .env("PERSIST_DO", task)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.any(|l| l == "ready"));
    (child, lines)
}

#[test]
fn a_flush_that_fails_is_an_error_in_every_thread_and_process() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = plain::open(&path, 5);
    set(&store, "synced", 7).unwrap();
    store.sync().unwrap();
    let (mut child, mut lines) = neighbour_at(&path, "idle");
    let counted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // These threads are running when the error occurs.
        let workers: Vec<_> = (0..3)
            .map(|t| {
                let (store, counted) = (&store, &counted);
                scope.spawn(move || {
                    for n in 0.. {
                        let done = set(store, &format!("thread {t}"), n).and_then(|()| {
                            counted.fetch_add(1, Ordering::Relaxed);
                            if n % 50 == 49 { store.sync() } else { Ok(()) }
                        });
                        match done {
                            Ok(()) => {}
                            Err(Error::Poisoned { .. } | Error::DurabilityUnknown { .. }) => return,
                            Err(e) => panic!("thread {t}: {e}"),
                        }
                    }
                })
            })
            .collect();
        while counted.load(Ordering::Relaxed) < 300 {
            std::thread::yield_now();
        }
        fail(Moment::Flushing, 1);
        let until = Instant::now() + Duration::from_secs(120);
        while store.sync().is_ok() {
            assert!(Instant::now() < until, "it never flushed");
            set(&store, "main", 1).unwrap();
        }
        observe(None);
        for worker in workers {
            worker.join().unwrap();
        }
    });
    is_refused_everywhere(&store, "this process");
    std::fs::write(dir.path().join("failed"), "").unwrap();
    assert_eq!(lines.next().as_deref(), Some("refused"));
    assert!(child.wait().unwrap().success());
    // A later opening, while another process has the store open.
    if let Ok(late) = plain::try_open(&path, 5) {
        is_refused_everywhere(&late, "a later opening");
        let _ = late.close();
    }
    let _ = store.close();
    drop(store);
    let store = plain::open(&path, 5);
    assert_eq!(get(&store, "synced").unwrap(), Some(7));
    store.check().unwrap();
    set(&store, "after", 1).unwrap();
    store.close().unwrap();
}

/// The failed flush was for all waiting threads: none of them gets a success, and changes that were acknowledged
/// earlier are present.
#[test]
fn a_flush_of_the_log_that_fails_is_an_error_for_all_waiters() {
    for (round, kind) in [Moment::LogFlushing, Moment::LogFlushed]
        .into_iter()
        .cycle()
        .take(6)
        .enumerate()
    {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = durable(&path);
        set(&store, "synced", 7).unwrap();
        let (mut child, lines) = neighbour_at(&path, "commit");
        let (flushes, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let acknowledged: Vec<i64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|t| {
                    let (store, flushes, failed) = (&store, flushes.clone(), failed.clone());
                    scope.spawn(move || {
                        let flag = failed.clone();
                        // The disk fails once, for the current leader, and then works again.
                        observe(Some(Box::new(move |moment| {
                            let n = flushes.fetch_add(usize::from(moment == kind), Ordering::SeqCst);
                            if moment == kind && n == 60 + 7 * round {
                                flag.store(true, Ordering::SeqCst);
                                return Err(io::Error::from_raw_os_error(libc::EIO));
                            }
                            Ok(())
                        })));
                        let mut n = 0;
                        let e = loop {
                            let late = failed.load(Ordering::SeqCst);
                            match set(store, &format!("thread {t}"), n) {
                                Ok(()) => {
                                    assert!(!late, "thread {t}: acknowledged after the failure");
                                    n += 1;
                                }
                                Err(e) => break e,
                            }
                        };
                        let met = matches!(e, Error::Poisoned { .. } | Error::DurabilityUnknown { .. });
                        assert!(met, "thread {t}: {e}");
                        observe(None);
                        n
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let said: Vec<i64> = lines
            .filter_map(|l| l.strip_prefix("acknowledged ")?.parse().ok())
            .collect();
        assert!(child.wait().unwrap().success());
        is_refused_everywhere(&store, "this process");
        let _ = store.close();
        drop(store);
        let store = plain::open(&path, 5);
        for (key, n) in acknowledged
            .into_iter()
            .enumerate()
            .map(|(t, n)| (format!("thread {t}"), n))
            .chain(said.into_iter().map(|n| ("neighbour".to_owned(), n)))
        {
            // One more change may be durable without an acknowledgement.
            let found = get(&store, &key).unwrap().map_or(0, |found| found + 1);
            assert!(
                found == n || found == n + 1,
                "round {round}: {key}: {n} acknowledged, {found} found"
            );
        }
        assert_eq!(get(&store, "synced").unwrap(), Some(7));
        store.check().unwrap();
        store.close().unwrap();
    }
}
