//! Views of a moment (`Store::frozen`) against a model (here): random changes, transactions that are open when a view
//! is taken, checkpoints, snapshots and reopening, with several views alive. Every view shows the graph of its moment
//! until it is closed, and afterwards no page is lost.
//!
//! `ends`: how a view ends, also because it takes too much space. `processes`: holders and writers that are killed,
//! stopped or forked. PERSIST_TORTURE_SECONDS makes it longer; PERSIST_SEED selects the seed.

#[path = "../common/mod.rs"]
mod common;
mod ends;
mod processes;
#[path = "../support/mod.rs"]
mod support;

use common::{Model, Rng, compare, scratch, seed, step, time};
use persist_core::store::{Actor, In, Key, Options, Store, Value, Wait};
use std::time::Instant;

/// A child process of `processes`.
#[test]
fn the_child() {
    processes::play();
}

fn options() -> Options {
    Options::default()
}

fn set(store: &Store, key: &str, value: &In<'_>) {
    let done = store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(store.root(), &Key::Str(key.as_bytes()), value)
    });
    done.unwrap();
}

fn get(store: &Store, key: &str) -> persist_core::Result<Option<Value>> {
    store.read(&mut Wait::default(), |r| {
        r.get(store.root(), &Key::Str(key.as_bytes()))
    })
}

fn take(store: &Store) -> Store {
    store.frozen(&mut Wait::default()).unwrap()
}

/// The view is sound and shows exactly this graph.
fn shows(view: &Store, model: &Model, what: &str) {
    let found = Model::read(view).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(
        found.text() == model.text(),
        "{what}: the view shows another graph"
    );
    view.check().unwrap_or_else(|e| panic!("{what}: check: {e}"));
}

/// No page is lost, and none is kept for a view: checkpoints free everything that is not reached. Each frees the pages
/// of one dropped snapshot, and they waited for the views.
fn nothing_lost(store: &Store, what: &str) {
    for n in 0..300 {
        set(store, "nothing lost", &In::Int(n));
        store.sync().unwrap();
        let report = store.check_pages().unwrap_or_else(|e| panic!("{what}: {e}"));
        let stat = store.stat().unwrap();
        assert_eq!(report.lost, 0, "{what}: {report:?}");
        if n > 3 && stat.free_pages + report.reached + 2 == stat.file_pages {
            return;
        }
    }
    let (report, stat) = (store.check_pages().unwrap(), store.stat().unwrap());
    panic!("{what}: pages never become free: {report:?} {stat:?}");
}

#[test]
fn every_view_is_what_the_store_was_at_its_moment() {
    let seed = seed(2026);
    let mut rng = Rng(seed);
    let dir = scratch();
    let path = dir.path().join("a.store");
    let mut store = Store::open(&path, &options()).unwrap();
    let mut model = Model::empty(store.root());
    let mut views: Vec<(Store, Model)> = Vec::new();
    let (begun, long) = (Instant::now(), time(4));
    let (mut rounds, mut taken) = (0u64, 0);
    while begun.elapsed() < long || rounds < 500 {
        rounds += 1;
        let what = format!("seed {seed}, round {rounds}");
        match rng.below(16) {
            0..=5 => {
                for _ in 0..1 + rng.below(6) {
                    step(&store, &mut model, &mut rng, 200_000).unwrap();
                }
            }
            6 => store.sync().unwrap(),
            7..=9 if views.len() < 6 => {
                views.push((take(&store), model.clone()));
                taken += 1;
            }
            7..=10 if !views.is_empty() => {
                let (view, was) = views.swap_remove(rng.below(views.len()));
                shows(&view, &was, &what);
                view.close().unwrap();
            }
            11 | 12 => {
                // A transaction is open when views are taken; it is committed or rolled back.
                let mut inside = model.clone();
                store.begin(&mut Wait::default()).unwrap();
                for _ in 0..1 + rng.below(4) {
                    step(&store, &mut inside, &mut rng, 200_000).unwrap();
                    if views.len() < 8 && rng.one_in(2) {
                        views.push((take(&store), model.clone()));
                        taken += 1;
                    }
                    if let Some((view, was)) = views.last() {
                        let found = Model::read(view).unwrap_or_else(|e| panic!("{what}: {e}"));
                        assert!(found.text() == was.text(), "{what}: inside");
                    }
                }
                if rng.one_in(2) {
                    store.commit().unwrap();
                    model = inside;
                } else {
                    store.rollback().unwrap();
                }
            }
            13 => {
                let name = format!("s{rounds}");
                store.snapshot(&name).unwrap();
                step(&store, &mut model, &mut rng, 200_000).unwrap();
                store.drop_snapshot(&name).unwrap();
            }
            14 => {
                for (view, was) in &views {
                    shows(view, was, &what);
                }
                compare(&store, &model, &what);
            }
            _ if rng.one_in(4) => {
                store.close().unwrap();
                for (view, _) in views.drain(..) {
                    assert!(get(&view, "x").is_err(), "{what}: the store is closed");
                }
                drop(store);
                store = Store::open(&path, &options()).unwrap();
                compare(&store, &model, &what);
            }
            _ => {}
        }
        if rounds % 7 == 0 {
            let report = store.check_pages().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(report.lost, 0, "{what}");
        }
    }
    for (view, was) in &views {
        shows(view, was, "at the end");
    }
    compare(&store, &model, "at the end");
    while !views.is_empty() {
        let (view, _) = views.swap_remove(rng.below(views.len()));
        drop(view);
    }
    println!("{rounds} rounds, {taken} views");
    nothing_lost(&store, "at the end");
    store.check().unwrap();
}

/// A view is taken without a look at the store: it copies no page and adds nothing to the dirty list.
#[test]
fn taking_a_view_does_the_same_work_at_any_size() {
    let dir = scratch();
    let store = Store::open(dir.path().join("a.store"), &options()).unwrap();
    let mut before = 0;
    for size in [10, 3000] {
        for i in before..size {
            set(&store, &format!("k{i}"), &In::Bytes(&[1; 500]));
        }
        before = size;
        let stat = store.stat().unwrap();
        let view = take(&store);
        let now = store.stat().unwrap();
        assert_eq!(
            (
                stat.dirty_pages,
                stat.free_pages,
                stat.checkpoint,
                stat.file_pages
            ),
            (now.dirty_pages, now.free_pages, now.checkpoint, now.file_pages)
        );
        // The first change copies a page, the second does not.
        set(&store, "k1", &In::Int(1));
        let once = store.stat().unwrap().dirty_pages;
        assert!(once > now.dirty_pages);
        set(&store, "k1", &In::Int(2));
        assert_eq!(store.stat().unwrap().dirty_pages, once);
        view.close().unwrap();
        set(&store, "k2", &In::Int(1));
        set(&store, "k1", &In::Int(3));
    }
}

/// Threads change the store and make checkpoints. Views of other threads are whole, and do not change.
#[test]
fn views_are_whole_beside_busy_writers() {
    let dir = scratch();
    let store = Store::open(dir.path().join("a.store"), &options()).unwrap();
    let keys: Vec<String> = (0..40).map(|i| format!("k{i}")).collect();
    let all = |n: i64| {
        store.write(Actor::Thread, &mut Wait::default(), |w| {
            for key in &keys {
                w.set(store.root(), &Key::Str(key.as_bytes()), &In::Int(n))?;
            }
            w.set(store.root(), &Key::Str(b"s"), &In::Bytes(&vec![n as u8; 5000]))
        })
    };
    all(0).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(order) {
                n += 1;
                if n % 5 == 0 {
                    store.begin(&mut Wait::default()).unwrap();
                    all(-n).unwrap();
                    all(n).unwrap();
                    store.commit().unwrap();
                } else {
                    all(n).unwrap();
                }
                if n % 50 == 0 {
                    store.sync().unwrap();
                }
            }
        });
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut last, begun) = (0, Instant::now());
                    let mut views = 0;
                    while begun.elapsed() < time(2) || views < 20 {
                        views += 1;
                        let view = take(&store);
                        let mut found = Vec::new();
                        for _ in 0..3 {
                            for key in &keys {
                                match get(&view, key).unwrap() {
                                    Some(Value::Int(n)) => found.push(n),
                                    other => panic!("{other:?}"),
                                }
                            }
                            std::thread::yield_now();
                        }
                        assert!(found.iter().all(|n| *n == found[0]), "{found:?}");
                        assert!(found[0] >= last, "{} after {last}", found[0]);
                        last = found[0];
                        view.check().unwrap();
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.join().unwrap();
        }
        stop.store(true, order);
    });
    nothing_lost(&store, "after all");
}
