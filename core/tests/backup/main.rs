//! Backups: the restored state is the state that was backed up, despite concurrent changes, and a chain of incremental
//! backups restores every state on its way (here). `beside`: during writes of others. `refused`: truncated input, the
//! wrong order, existing files. `faults`: damage, killed processes, pipes, full disks.
//!
//! PERSIST_TORTURE_SECONDS makes it longer; PERSIST_SEED selects the seed.

mod beside;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod refused;
#[allow(clippy::duplicate_mod)] // It reads the random numbers of `common` too.
#[path = "../shapes/mod.rs"]
mod shapes;
#[path = "../support/mod.rs"]
mod support;

use common::{Model, Rng, compare, scratch, seed, step, time};
use persist_core::backup::{self, Done, Input, Options, Restoring, backup_to, restore};
use persist_core::check;
use persist_core::store::{Actor, In, Key, Options as OpenOptions, Result, Store, Value, Wait};
use std::path::{Path, PathBuf};
use std::time::Instant;

fn open(path: &Path) -> Store {
    let options = OpenOptions {
        max_age: None,
        ..OpenOptions::default()
    };
    Store::open(path, &options).unwrap()
}

fn at(path: &Path, name: &str) -> Store {
    let options = OpenOptions {
        snapshot: Some(name.to_owned()),
        max_age: None,
        ..OpenOptions::default()
    };
    Store::open(path, &options).unwrap()
}

fn set(store: &Store, key: &str, value: &In<'_>) {
    let done = store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(store.root(), &Key::Str(key.as_bytes()), value)
    });
    done.unwrap();
}

fn get(store: &Store, key: &str) -> Option<Value> {
    let key = Key::Str(key.as_bytes());
    store
        .read(&mut Wait::default(), |r| r.get(store.root(), &key))
        .unwrap()
}

fn options(since: Option<&str>, keep: Option<&str>) -> Options {
    let mut options = Options::default();
    options.since = since.map(str::to_owned);
    options.keep = keep.map(str::to_owned);
    options
}

fn full(store: &Path, to: &Path) -> backup::Done {
    backup_to(store, to, &Options::default(), &mut ()).unwrap()
}

fn put_back(backups: &[PathBuf], to: &Path) -> Result<Done> {
    let inputs = backups.iter().map(Input::file).collect();
    restore(inputs, to, &Restoring::default(), &mut ())
}

/// Snapshots that belong to backups.
fn temporary(store: &Store) -> usize {
    let all = store.snapshots().unwrap();
    all.iter().filter(|s| s.name.starts_with(".backup-")).count()
}

fn sound(path: &Path, what: &str) {
    let report = check::check(path, &mut ()).unwrap();
    assert!(report.is_sound(), "{what}: {:?}", report.findings);
}

/// Assert that the store opens, equals the model, can be changed, and is sound afterwards.
fn is_store_of(path: &Path, model: &Model, what: &str) {
    let store = open(path);
    compare(&store, model, what);
    set(&store, "changed", &In::Bytes(&[5; 9000]));
    store.sync().unwrap();
    set(&store, "changed", &In::None);
    store.close().unwrap();
    sound(path, what);
}

#[test]
fn a_backup_is_a_store_of_its_own_and_compact() {
    let dir = scratch();
    let (a, b, c) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
    let store = open(&a);
    for i in 0..600 {
        set(&store, &format!("k{i}"), &In::Bytes(&[i as u8; 3000]));
    }
    for i in 0..600 {
        set(&store, &format!("k{i}"), &In::Bytes(&[!i as u8; 3000]));
        if i % 100 == 0 {
            store.sync().unwrap();
        }
    }
    let model = Model::read(&store).unwrap();
    let done = full(&a, &b);
    assert_eq!(temporary(&store), 0);
    let len = std::fs::metadata(&b).unwrap().len();
    assert_eq!(len, done.bytes);
    // Two meta pages, the pages, a leaf for 256 of them, one page above.
    assert_eq!(len / 4096, 2 + done.pages + done.pages.div_ceil(256) + 1);
    assert!(len * 3 < std::fs::metadata(&a).unwrap().len() * 2);
    sound(&b, "the backup");
    // The original changes further; neither the backup nor the copy made from it is affected.
    put_back(std::slice::from_ref(&b), &c).unwrap();
    assert_eq!(std::fs::metadata(&c).unwrap().len(), len);
    set(&store, "k0", &In::Int(0));
    is_store_of(&c, &model, "restored");
    // When it is opened and changed, the backup is an ordinary store; its new content can be restored too.
    is_store_of(&b, &model, "the backup, opened");
    let changed = open(&b);
    set(&changed, "more", &In::Int(1));
    let model = Model::read(&changed).unwrap();
    changed.close().unwrap();
    std::fs::remove_file(&c).unwrap();
    put_back(std::slice::from_ref(&b), &c).unwrap();
    is_store_of(&c, &model, "restored from a changed backup");
    assert_eq!(get(&store, "k0"), Some(Value::Int(0)));
}

/// An incremental backup leads from the state before to the state after, over any change.
#[test]
fn chains_of_incremental_backups_lead_to_every_state() {
    let seed = seed(4711);
    let mut rng = Rng(seed);
    let (begun, long) = (Instant::now(), time(4));
    let mut chains = 0;
    while begun.elapsed() < long || chains == 0 {
        chains += 1;
        let dir = scratch();
        let path = dir.path().join("a");
        let file = |n: usize| dir.path().join(format!("backup {n}"));
        let mut store = open(&path);
        let mut model = Model::empty(store.root());
        let (mut files, mut models) = (Vec::new(), Vec::new());
        for n in 0..8 {
            let what = format!("seed {seed}, chain {chains}, link {n}");
            for _ in 0..rng.below(60) {
                step(
                    &store,
                    &mut model,
                    &mut rng,
                    if n == 5 { 20_000 } else { 400_000 },
                )
                .unwrap();
            }
            if rng.one_in(3) {
                set(&store, "large", &In::Bytes(&vec![n as u8; rng.below(3_000_000)]));
                model = Model::read(&store).unwrap();
            }
            if rng.one_in(4) {
                store.gc().unwrap();
                store.release_free_pages().unwrap();
                model = Model::read(&store).unwrap();
            }
            if rng.one_in(3) {
                store.close().unwrap();
                store = open(&path);
            }
            let since = (n > 0).then(|| format!("s{}", n - 1));
            let options = options(since.as_deref(), Some(&format!("s{n}")));
            let done = backup_to(&path, &file(n), &options, &mut ()).unwrap();
            assert_eq!(done.bytes, std::fs::metadata(file(n)).unwrap().len(), "{what}");
            if n > 0 {
                // The next backup is based on the last snapshot; earlier ones are no longer needed.
                store.drop_snapshot(&format!("s{}", n - 1)).unwrap();
            }
            files.push(file(n));
            models.push(model.clone());
            compare(&at(&path, &format!("s{n}")), &model, &what);
        }
        for n in 0..files.len() {
            let what = format!("seed {seed}, chain {chains}, up to {n}");
            let to = dir.path().join(format!("restored {n}"));
            put_back(&files[..=n], &to).unwrap_or_else(|e| panic!("{what}: {e}"));
            // A restored store without changes can replace the backups from which it was restored.
            if n + 1 < files.len() {
                let on = dir.path().join(format!("on {n}"));
                put_back(&[to.clone(), files[n + 1].clone()], &on).unwrap_or_else(|e| panic!("{what}: {e}"));
                is_store_of(&on, &models[n + 1], &what);
            }
            is_store_of(&to, &models[n], &what);
        }
        let _ = store.close();
    }
    println!("{chains} chains");
}

fn chain(dir: &Path, n: usize) -> (PathBuf, Vec<PathBuf>) {
    let path = dir.join("a");
    let store = open(&path);
    let mut files = Vec::new();
    for i in 0..n {
        for k in 0..40 {
            set(&store, &format!("k{k}"), &In::Bytes(&[(i * 40 + k) as u8; 2000]));
        }
        set(&store, "n", &In::Int(i as i64));
        let since = (i > 0).then(|| format!("s{}", i - 1));
        let file = dir.join(format!("{i}.backup"));
        backup_to(
            &path,
            &file,
            &options(since.as_deref(), Some(&format!("s{i}"))),
            &mut (),
        )
        .unwrap();
        files.push(file);
    }
    store.close().unwrap();
    (path, files)
}

/// A snapshot can be backed up with read permission only; so can a store that no process has open.
#[test]
fn a_snapshot_is_backed_up_as_it_is() {
    let dir = scratch();
    let path = dir.path().join("a");
    let store = open(&path);
    set(&store, "n", &In::Int(1));
    store.snapshot("one").unwrap();
    set(&store, "n", &In::Int(2));
    store.snapshot("two").unwrap();
    set(&store, "n", &In::Int(3));
    let files: Vec<PathBuf> = ["one", "two"].iter().map(|n| dir.path().join(n)).collect();
    for (i, file) in files.iter().enumerate() {
        let mut options = options((i == 1).then_some("one"), None);
        options.at = Some(["one", "two"][i].to_owned());
        backup_to(&path, file, &options, &mut ()).unwrap();
    }
    for n in 1..=2 {
        let to = dir.path().join(format!("restored {n}"));
        put_back(&files[..n], &to).unwrap();
        assert_eq!(get(&open(&to), "n"), Some(Value::Int(n as i64)));
    }
    assert_eq!(store.snapshots().unwrap().len(), 2);
}

/// Durable commits: the backup contains the state of its checkpoint and needs no log. The log of a store that was
/// replaced is ignored.
#[test]
fn stores_with_durable_commits() {
    let dir = scratch();
    let (path, file, to) = (
        dir.path().join("a"),
        dir.path().join("a.backup"),
        dir.path().join("b"),
    );
    let durable = OpenOptions {
        durability: persist_core::store::Durability::Commit,
        max_age: None,
        ..OpenOptions::default()
    };
    let store = Store::open(&path, &durable).unwrap();
    let log = dir.path().join("a-wal");
    for n in 0..50 {
        set(&store, "n", &In::Int(n));
    }
    assert!(log.exists());
    full(&path, &file);
    for n in 50..60 {
        set(&store, "n", &In::Int(n));
    }
    // A single file whose log is elsewhere is not accepted as a backup.
    std::fs::copy(&path, dir.path().join("copy")).unwrap();
    let e = put_back(&[dir.path().join("copy")], &to).unwrap_err();
    assert!(e.to_string().contains("redo log"), "{e}");
    std::fs::copy(&log, dir.path().join("b-wal")).unwrap();
    put_back(std::slice::from_ref(&file), &to).unwrap();
    for n in 0..2 {
        let copy = Store::open(&to, &durable).unwrap();
        assert_eq!(get(&copy, "n"), Some(Value::Int(if n == 0 { 49 } else { 100 })));
        set(&copy, "n", &In::Int(100));
        copy.close().unwrap();
    }
    sound(&to, "restored");
    assert_eq!(get(&store, "n"), Some(Value::Int(59)));
}

/// Compaction moves every page; incremental backups continue across it.
#[test]
fn incremental_backups_continue_after_a_compaction() {
    let dir = scratch();
    let (path, mut files) = chain(dir.path(), 2);
    open(&path).compact(&mut |_| {}).unwrap();
    let store = open(&path);
    set(&store, "n", &In::Int(2));
    files.push(dir.path().join("2.backup"));
    backup_to(&path, &files[2], &options(Some("s1"), None), &mut ()).unwrap();
    let to = dir.path().join("restored");
    put_back(&files, &to).unwrap();
    is_store_of(&to, &Model::read(&store).unwrap(), "after a compaction");
}
