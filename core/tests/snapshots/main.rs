//! Snapshots against a model (here): random changes, checkpoints, snapshots and drops, with reopening and lost
//! sidecars. Every living snapshot equals the store at the moment when it was taken, and the space of a dropped one is
//! reused. `reading`: reading a snapshot, and what a reader holds. `dropping`: droppers that die, and large snapshots.
//! `doors`: without write permission, and from the shell.
//!
//! PERSIST_TORTURE_SECONDS makes it longer; PERSIST_SEED selects the seed.

#[path = "../common/mod.rs"]
mod common;
mod doors;
mod dropping;
mod reading;
#[path = "../support/mod.rs"]
mod support;

use common::{Model, Rng, compare, scratch, seed, step, time};
use persist_core::store::{Actor, In, Key, Options, Store, Value, Wait};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

fn set(store: &Store, key: &str, value: &In<'_>) {
    let done = store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(store.root(), &Key::Str(key.as_bytes()), value)
    });
    done.unwrap();
}

fn get(store: &Store, key: &str) -> Option<Value> {
    store
        .read(&mut Wait::default(), |r| {
            r.get(store.root(), &Key::Str(key.as_bytes()))
        })
        .unwrap()
}

fn options() -> Options {
    Options::default()
}

fn at(name: &str) -> Options {
    Options {
        snapshot: Some(name.to_owned()),
        ..options()
    }
}

fn forget_sidecar(path: &Path) {
    std::fs::remove_file(format!("{}-shm", path.display())).unwrap();
}

/// The free map is complete, and no page is lost.
fn nothing_lost(store: &Store, what: &str) {
    for _ in 0..3 {
        store.sync().unwrap();
    }
    let report = store.check_pages().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(report.lost, 0, "{what}: {report:?}");
}

fn judge(store: &Store, living: &BTreeMap<String, Model>, rng: &mut Rng, what: &str) {
    let names: Vec<String> = store.snapshots().unwrap().into_iter().map(|s| s.name).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert!(sorted.iter().eq(living.keys()), "{what}: {names:?}");
    for (name, model) in living {
        if rng.one_in(3) {
            let opened = store
                .open_snapshot(name)
                .unwrap_or_else(|e| panic!("{what}: {name}: {e}"));
            compare(&opened, model, &format!("{what}: snapshot {name}"));
            opened.check().unwrap();
            opened.check_pages().unwrap();
            opened.close().unwrap();
        }
    }
}

#[test]
fn every_snapshot_is_what_the_store_was_and_dropped_ones_give_their_space_back() {
    against_the_model(false);
}

/// The free map is rebuilt from the trees of all snapshots: in these tests so slowly that it is rarely complete.
#[test]
fn every_snapshot_is_what_the_store_was_though_sidecars_are_lost() {
    against_the_model(true);
}

fn against_the_model(losses: bool) {
    let seed = seed(4711);
    let mut rng = Rng(seed);
    let dir = scratch();
    let path = dir.path().join("a.store");
    let mut store = Store::open(&path, &options()).unwrap();
    let mut model = Model::empty(store.root());
    let mut living: BTreeMap<String, Model> = BTreeMap::new();
    let (begun, long) = (Instant::now(), time(4));
    let (mut rounds, mut taken, mut dropped, mut early) = (0u64, 0, 0, 0);
    // There are many snapshots for a while, then few: the space of the many must then be reused.
    let most = 12;
    while begun.elapsed() < long || rounds < 600 {
        rounds += 1;
        let what = format!("seed {seed}, round {rounds}");
        match rng.below(16) {
            0..=6 => {
                for _ in 0..1 + rng.below(6) {
                    step(&store, &mut model, &mut rng, 200_000).unwrap();
                }
            }
            7 | 8 => store.sync().unwrap(),
            9..=11 if living.len() < most => {
                let name = format!("s{rounds}");
                let s = store.snapshot(&name).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(s.name, name);
                assert_eq!(s.checkpoint, store.stat().unwrap().checkpoint);
                living.insert(name, model.clone());
                taken += 1;
            }
            9..=13 => {
                let Some(name) = living.keys().nth(rng.below(living.len())).cloned() else {
                    continue;
                };
                store
                    .drop_snapshot(&name)
                    .unwrap_or_else(|e| panic!("{what}: {e}"));
                living.remove(&name);
                dropped += 1;
            }
            14 => judge(&store, &living, &mut rng, &what),
            _ => {
                store.close().unwrap();
                drop(store);
                if losses && rng.one_in(2) {
                    forget_sidecar(&path);
                }
                store = Store::open(&path, &options()).unwrap();
                compare(&store, &model, &what);
            }
        }
        if rounds % 7 == 0 {
            store.check_pages().unwrap_or_else(|e| panic!("{what}: {e}"));
        }
        let pages = store.stat().unwrap().file_pages;
        if rounds == 300 {
            early = pages;
        }
        // A store of some hundred pages, and a dozen snapshots of it.
        assert!(losses || pages < 2000, "{what}: {pages} pages");
    }
    judge(&store, &living, &mut rng, "at the end");
    let mut turns = 0;
    let is_learned = |store: &Store| {
        let (stat, report) = (store.stat().unwrap(), store.check_pages().unwrap());
        stat.free_pages + report.reached + 2 == stat.file_pages
    };
    while losses && !is_learned(&store) {
        turns += 1;
        assert!(turns < 20_000, "the free map is never learned");
        set(&store, "x", &In::Int(turns));
        store.sync().unwrap();
        model = Model::read(&store).unwrap();
    }
    compare(&store, &model, "at the end");
    nothing_lost(&store, "at the end");
    for name in living.keys() {
        store.drop_snapshot(name).unwrap();
    }
    nothing_lost(&store, "with all dropped");
    let stat = store.stat().unwrap();
    let report = store.check_pages().unwrap();
    println!(
        "{rounds} rounds, {taken} taken, {dropped} dropped; {early} pages early, {} at the end, {} of them free",
        stat.file_pages, stat.free_pages
    );
    assert_eq!(
        stat.free_pages + report.reached + 2,
        stat.file_pages,
        "{report:?} {stat:?}"
    );
    store.check().unwrap();
}

/// The same amount of change under one snapshot at a time: the file stops growing.
#[test]
fn space_is_bounded_over_thousands_of_snapshots() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    let mut rng = Rng(99);
    for i in 0..200 {
        set(&store, &format!("k{i}"), &In::Bytes(&[1; 3000]));
    }
    let mut after = Vec::new();
    for round in 0..2000u32 {
        for _ in 0..10 {
            let key = format!("k{}", rng.below(200));
            set(&store, &key, &In::Bytes(&[round as u8; 3000]));
        }
        store.snapshot(&format!("r{round}")).unwrap();
        if round >= 3 {
            store.drop_snapshot(&format!("r{}", round - 3)).unwrap();
        }
        if round % 500 == 499 {
            after.push(store.stat().unwrap().file_pages);
        }
    }
    assert!(after[3] <= after[0] + after[0] / 4, "{after:?}");
    nothing_lost(&store, "after thousands");
    assert_eq!(store.snapshots().unwrap().len(), 3);
}

#[test]
fn many_snapshots_and_a_lost_sidecar() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    for n in 0..300 {
        set(&store, "n", &In::Int(n));
        store.snapshot(&format!("the snapshot number {n}")).unwrap();
    }
    store.close().unwrap();
    drop(store);
    forget_sidecar(&path);
    let store = Store::open(&path, &options()).unwrap();
    for n in (0..300).step_by(7) {
        let s = store.open_snapshot(&format!("the snapshot number {n}")).unwrap();
        assert_eq!(get(&s, "n"), Some(Value::Int(n)));
    }
    // Rebuilt in steps, which are small in tests.
    for n in 0..40 {
        set(&store, "m", &In::Int(n));
        store.sync().unwrap();
        store.check_pages().unwrap();
    }
    for n in (0..300).rev() {
        store.drop_snapshot(&format!("the snapshot number {n}")).unwrap();
    }
    nothing_lost(&store, "dropped from the newest on");
}
