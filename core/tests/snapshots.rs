//! Snapshots against a model: random changes, checkpoints, snapshots and drops, with reopening and lost
//! sidecars; every living snapshot is what the store was when it was taken, and what a dropped one held is
//! used again. Beside that what is refused, and what is held while somebody reads.
//!
//! PERSIST_TORTURE_SECONDS makes it longer, PERSIST_SEED starts it elsewhere.

mod common;
mod support;

use common::{Model, Rng, compare, scratch, step, time};
use persist_core::Error;
use persist_core::store::{Actor, In, Key, LockMode, LockTarget, Options, Store, Value, Wait};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{plain::wait_for, sys};

fn set(store: &Store, key: &str, value: &In<'_>) {
    let done = store.write(Actor::Thread, &mut Wait::forever(), |w| {
        w.set(store.root(), &Key::Str(key.as_bytes()), value)
    });
    done.unwrap();
}

fn get(store: &Store, key: &str) -> Option<Value> {
    store
        .read(&mut Wait::forever(), |r| {
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

/// What is free is known, and nothing is lost.
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

/// The free map is learned anew from the trees of all snapshots: in tests so slowly that it is hardly ever whole.
#[test]
fn every_snapshot_is_what_the_store_was_though_sidecars_are_lost() {
    against_the_model(true);
}

fn against_the_model(losses: bool) {
    let seed: u64 = std::env::var("PERSIST_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(4711);
    let mut rng = Rng(seed);
    let dir = scratch();
    let path = dir.path().join("a.store");
    let mut store = Store::open(&path, &options()).unwrap();
    let mut model = Model::empty(store.root());
    let mut living: BTreeMap<String, Model> = BTreeMap::new();
    let (begun, long) = (Instant::now(), time(4));
    let (mut rounds, mut taken, mut dropped, mut early) = (0u64, 0, 0, 0);
    // Snapshots are many for a while, then few: the space of the many must serve afterwards.
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
    while losses && store.stat().unwrap().free_pages < 16 {
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
    // Rebuilt in steps of which the tests make small ones.
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

#[test]
fn what_is_refused_says_why() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    for wrong in ["", ".", "..", "a/b", "a\nb", "a\0b", &"x".repeat(256)] {
        assert!(
            matches!(store.snapshot(wrong), Err(Error::Invalid { .. })),
            "{wrong:?}"
        );
    }
    store.snapshot("one").unwrap();
    let e = store.snapshot("one").unwrap_err();
    assert!(
        matches!(e, Error::SnapshotExists { .. }) && e.to_string().contains("\"one\""),
        "{e}"
    );
    let e = store.drop_snapshot("two").unwrap_err();
    assert!(
        matches!(e, Error::NoSnapshot { .. }) && e.to_string().contains("persist snapshots"),
        "{e}"
    );
    for name in ["two", "", "a/b"] {
        assert!(matches!(store.open_snapshot(name), Err(Error::NoSnapshot { .. })));
        assert!(matches!(
            Store::open(&path, &at(name)),
            Err(Error::NoSnapshot { .. })
        ));
    }
    store.begin(&mut Wait::forever()).unwrap();
    assert!(matches!(store.snapshot("three"), Err(Error::Invalid { .. })));
    assert!(matches!(store.drop_snapshot("one"), Err(Error::Invalid { .. })));
    store.rollback().unwrap();
    let reader = Store::open(
        &path,
        &Options {
            read_only: true,
            ..options()
        },
    )
    .unwrap();
    assert!(matches!(reader.snapshot("three"), Err(Error::ReadOnly)));
    assert!(matches!(reader.drop_snapshot("one"), Err(Error::ReadOnly)));
    assert_eq!(reader.snapshots().unwrap().len(), 1);
    assert!(matches!(reader.pages(None), Err(Error::Invalid { .. })));
    store.close().unwrap();
    assert!(matches!(store.snapshot("three"), Err(Error::Closed)));
    assert!(matches!(store.snapshots(), Err(Error::Closed)));
}

#[test]
fn an_open_snapshot_is_for_reading_and_cannot_be_dropped() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    set(&store, "a", &In::Int(1));
    let taken = store.snapshot("s").unwrap();
    set(&store, "a", &In::Int(2));
    let s = store.open_snapshot("s").unwrap();
    let again = Store::open(&path, &at("s")).unwrap();
    for s in [&s, &again] {
        assert!(s.is_frozen());
        assert_eq!(s.opened_snapshot(), Some(&taken));
        assert_eq!(s.stat().unwrap().checkpoint, taken.checkpoint);
        assert_eq!(get(s, "a"), Some(Value::Int(1)));
        let root = s.root();
        let e = s.write(Actor::Thread, &mut Wait::forever(), |w| {
            w.set(root, &Key::Str(b"a"), &In::Int(3))
        });
        assert!(matches!(e, Err(Error::ReadOnly)));
        assert!(matches!(s.begin(&mut Wait::forever()), Err(Error::ReadOnly)));
        assert!(matches!(s.sync(), Err(Error::ReadOnly)));
        assert!(matches!(s.snapshot("t"), Err(Error::ReadOnly)));
        let target = LockTarget { obj: root, key: None };
        let e = s.lock(Actor::Thread, target, LockMode::Shared, &mut Wait::forever());
        assert!(matches!(e, Err(Error::Invalid { .. })), "{e:?}");
        s.read(&mut Wait::forever(), |r| r.pin(root)).unwrap();
        s.unpin(root);
        s.unlock_all(Actor::Thread).unwrap();
        assert!(s.locks().unwrap().is_empty());
        assert_eq!(s.snapshots().unwrap().len(), 1);
        s.check().unwrap();
        s.check_pages().unwrap();
    }
    for closed in 0..2 {
        let e = store.drop_snapshot("s").unwrap_err();
        assert!(e.to_string().contains("this process"), "{e}");
        assert!(matches!(e, Error::InUse { .. }), "{closed}");
        if closed == 0 { s.close() } else { again.close() }.unwrap();
    }
    assert!(matches!(get_closed(&s), Err(Error::Closed)));
    store.drop_snapshot("s").unwrap();
    assert_eq!(get(&store, "a"), Some(Value::Int(2)));
    nothing_lost(&store, "dropped");
}

fn get_closed(s: &Store) -> persist_core::Result<Option<Value>> {
    s.read(&mut Wait::forever(), |r| r.get(s.root(), &Key::Str(b"a")))
}

/// The child opens a snapshot, says so, and waits to be killed.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_reader() {
    let Ok(path) = std::env::var("PERSIST_STORE") else {
        return;
    };
    let s = Store::open(&path, &at("s")).unwrap();
    assert_eq!(get(&s, "a"), Some(Value::Int(1)));
    std::fs::write(format!("{path}.open"), "").unwrap();
    loop {
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(get(&s, "a"), Some(Value::Int(1)));
    }
}

#[test]
fn a_dead_reader_keeps_nothing() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    set(&store, "a", &In::Int(1));
    store.snapshot("s").unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_reader",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("PERSIST_STORE", &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for(Path::new(&format!("{}.open", path.display())));
    let e = store.drop_snapshot("s").unwrap_err();
    assert!(e.to_string().contains(&format!("process {}", child.id())), "{e}");
    for n in 0..20 {
        set(&store, "a", &In::Int(n));
        store.sync().unwrap();
    }
    assert!(
        child.try_wait().unwrap().is_none(),
        "the reader saw something else"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    store.drop_snapshot("s").unwrap();
    nothing_lost(&store, "after its reader died");
}

/// The child drops the snapshot `s` and dies at a failpoint meanwhile.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn a_dropper() {
    let Ok(path) = std::env::var("PERSIST_STORE") else {
        return;
    };
    let store = Store::open(&path, &options()).unwrap();
    let _ = store.drop_snapshot("s");
}

fn die_dropping(path: &Path, step: &str) {
    use std::os::unix::process::ExitStatusExt;
    let ended = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_dropper", "--ignored", "--test-threads=1"])
        .env("PERSIST_STORE", path)
        .env("PERSIST_FAIL", format!("{step}=1"))
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(ended.signal(), Some(9), "{step}");
}

/// What a snapshot held is freed in steps between which the store changes, here and there, before and behind
/// what was looked at, and in the neighbours' trees.
#[test]
fn a_large_snapshot_is_taken_apart_while_the_store_changes() {
    let dir = scratch();
    for neighbours in [false, true] {
        let path = dir.path().join(format!("{neighbours}.store"));
        let store = Store::open(&path, &options()).unwrap();
        let mut rng = Rng(17);
        let mut change = |n: usize, with: u8| {
            for _ in 0..n {
                let key = format!("k{}", rng.below(2600));
                set(&store, &key, &In::Bytes(&[with; 3500]));
            }
        };
        for n in 0..2600 {
            set(&store, &format!("k{n}"), &In::Bytes(&[1; 3500]));
        }
        if neighbours {
            store.snapshot("older").unwrap();
            change(500, 2);
        }
        store.snapshot("s").unwrap();
        change(500, 3);
        store.sync().unwrap();
        change(200, 4);
        if neighbours {
            store.snapshot("younger").unwrap();
            change(300, 5);
        }
        let held: Vec<_> = store
            .snapshots()
            .unwrap()
            .into_iter()
            .filter(|s| s.name != "s")
            .map(|s| {
                (
                    Model::read(&store.open_snapshot(&s.name).unwrap()).unwrap(),
                    s.name,
                )
            })
            .collect();
        die_dropping(&path, "snapshot.apart");
        for round in 0..24 {
            change(60, round);
            store.sync().unwrap();
            store
                .check_pages()
                .unwrap_or_else(|e| panic!("neighbours {neighbours}, round {round}: {e}"));
        }
        for (model, name) in &held {
            let opened = store.open_snapshot(name).unwrap();
            compare(&opened, model, name);
            opened.check_pages().unwrap();
        }
        assert_eq!(store.snapshots().unwrap().len(), held.len());
        nothing_lost(&store, "taken apart");
        store.check().unwrap();
    }
}

/// Somebody opens a snapshot between the death of its dropper and the end of the checkpoint that drops it.
#[test]
fn who_came_in_time_keeps_what_he_reads() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    for n in 0..600 {
        set(&store, &format!("k{n}"), &In::Bytes(&[1; 3500]));
    }
    store.snapshot("s").unwrap();
    let model = Model::read(&store).unwrap();
    store.close().unwrap();
    drop(store);
    die_dropping(&path, "checkpoint.writing");
    let s = Store::open(&path, &at("s")).unwrap();
    let store = Store::open(&path, &options()).unwrap();
    for round in 0..6 {
        for n in 0..600 {
            set(&store, &format!("k{n}"), &In::Bytes(&[round; 3500]));
        }
        store.sync().unwrap();
    }
    assert!(store.snapshots().unwrap().is_empty());
    assert!(matches!(
        Store::open(&path, &at("s")),
        Err(Error::NoSnapshot { .. })
    ));
    compare(&s, &model, "in time");
    s.check_pages().unwrap();
    store.check_pages().unwrap();
    s.close().unwrap();
    for n in 0..6 {
        set(&store, "x", &In::Int(n));
        store.sync().unwrap();
    }
    nothing_lost(&store, "nobody reads it any more");
}

fn pages(store: &Store, since: Option<&Store>) -> BTreeMap<u64, Option<Vec<u8>>> {
    store
        .pages(since)
        .unwrap()
        .map(|v| v.map(|v| (v.page, v.bytes.map(|b| b.to_vec()))))
        .collect::<Result<_, _>>()
        .unwrap()
}

/// A full copy and the differences make the later one.
#[test]
fn pages_and_their_differences() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    let mut rng = Rng(3);
    store.snapshot("0").unwrap();
    for n in 1..12u32 {
        // Past one level of the page table, past two.
        let bytes = vec![n as u8; if n == 6 { 2_000_000 } else { 50_000 }];
        set(&store, &format!("big {n}"), &In::Bytes(&bytes));
        let mut model = Model::read(&store).unwrap();
        for _ in 0..30 {
            step(&store, &mut model, &mut rng, 200_000).unwrap();
        }
        store.snapshot(&n.to_string()).unwrap();
    }
    let all: Vec<Store> = (0..12)
        .map(|n| store.open_snapshot(&n.to_string()).unwrap())
        .collect();
    let full: Vec<_> = all.iter().map(|s| pages(s, None)).collect();
    for (i, a) in all.iter().enumerate() {
        assert!(pages(a, Some(a)).is_empty());
        for (j, b) in all.iter().enumerate() {
            let difference = pages(b, Some(a));
            let mut made = full[i].clone();
            for (page, bytes) in &difference {
                if bytes.is_none() {
                    made.remove(page);
                } else {
                    made.insert(*page, bytes.clone());
                }
            }
            assert!(made == full[j], "from {i} to {j}");
            if j == i + 1 && j != 6 {
                assert!(
                    difference.len() * 2 < full[j].len() + 100,
                    "{} of {}",
                    difference.len(),
                    full[j].len()
                );
            }
        }
    }
    let other = Store::open(dir.path().join("b.store"), &options()).unwrap();
    other.snapshot("0").unwrap();
    let other = other.open_snapshot("0").unwrap();
    assert!(matches!(other.pages(Some(&all[0])), Err(Error::Invalid { .. })));
}

/// Damage under a snapshot meets who reads it, and the walk goes on behind it; the store itself works on.
#[test]
fn a_damaged_snapshot_does_not_harm_the_store() {
    use std::os::unix::fs::FileExt;
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    for n in 0..400 {
        set(&store, &format!("k{n}"), &In::Bytes(&[1; 3500]));
    }
    store.snapshot("s").unwrap();
    let s = store.open_snapshot("s").unwrap();
    let victims: Vec<u64> = s.pages(None).unwrap().map(|v| v.unwrap().physical).collect();
    for n in 0..400 {
        set(&store, &format!("k{n}"), &In::Bytes(&[2; 3500]));
    }
    for _ in 0..3 {
        set(&store, "x", &In::Int(1));
        store.sync().unwrap();
    }
    let live: Vec<u64> = {
        store.snapshot("live").unwrap();
        let l = store.open_snapshot("live").unwrap();
        l.pages(None).unwrap().map(|v| v.unwrap().physical).collect()
    };
    store.drop_snapshot("live").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut hit = 0;
    for page in victims.iter().filter(|v| !live.contains(v)).step_by(9) {
        file.write_all_at(&[0xee; 64], page * 4096 + 100).unwrap();
        hit += 1;
    }
    assert!(hit > 10);
    let found: Vec<_> = s.pages(None).unwrap().collect();
    assert_eq!(found.iter().filter(|v| v.is_err()).count(), hit);
    assert_eq!(found.len(), victims.len());
    assert!(matches!(s.check_pages(), Err(Error::Corrupt { .. })));
    drop(s);
    // Everything that reads it: the check, the rebuild of the free map, the drop.
    assert!(matches!(store.check_pages(), Err(Error::Corrupt { .. })));
    store.close().unwrap();
    drop(store);
    forget_sidecar(&path);
    let store = Store::open(&path, &options()).unwrap();
    for n in 0..30 {
        set(&store, "x", &In::Int(n));
        store.sync().unwrap();
    }
    store.drop_snapshot("s").unwrap();
    for _ in 0..4 {
        set(&store, "x", &In::Int(1));
        store.sync().unwrap();
    }
    store.check_pages().unwrap();
    store.check().unwrap();
}

/// The child may only read: opens the store so, or at a snapshot; says how that went, and stays until it is killed.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn without_rights() {
    let Ok(path) = std::env::var("PERSIST_STORE") else {
        return;
    };
    // Here, and not by who starts it: that would be a fork, whose child has all stores of the other tests open until it
    // is this program.
    sys::become_nobody();
    let snapshot = std::env::var("PERSIST_SNAPSHOT").ok();
    let store = Store::open(
        &path,
        &Options {
            read_only: true,
            lock_timeout: Duration::from_millis(300),
            snapshot,
            ..options()
        },
    );
    match store {
        Ok(store) => {
            let n = get(&store, "a");
            store.check_pages().unwrap();
            println!("answer: {n:?} frozen {}", store.is_frozen());
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        Err(e) => println!("answer: {e}"),
    }
}

/// A process that can read the file and write nothing.
fn with_no_rights(path: &Path, snapshot: Option<&str>) -> (std::process::Child, String) {
    use std::io::BufRead;
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "without_rights",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("PERSIST_STORE", path)
        .stdout(std::process::Stdio::piped());
    if let Some(name) = snapshot {
        command.env("PERSIST_SNAPSHOT", name);
    }
    let mut child = command.spawn().unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let answer = out
        .lines()
        .map(|l| l.unwrap())
        .find_map(|l| l.split_once("answer: ").map(|(_, a)| a.to_owned()));
    let answer = answer.unwrap_or_else(|| panic!("no answer: {:?}", child.wait()));
    (child, answer)
}

fn end(mut child: std::process::Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// The last checkpoint is shown, writers are kept out meanwhile; with writers there, snapshots only.
#[test]
fn a_file_that_may_only_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = scratch();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = dir.path().join("a.store");
    let open = || {
        Store::open(
            &path,
            &Options {
                lock_timeout: Duration::from_millis(300),
                ..options()
            },
        )
    };
    let store = open().unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    set(&store, "a", &In::Int(1));
    store.snapshot("s").unwrap();
    set(&store, "a", &In::Int(2));
    // Writers are there.
    let (child, answer) = with_no_rights(&path, None);
    assert!(answer.contains("open a snapshot"), "{answer}");
    end(child);
    let (child, answer) = with_no_rights(&path, Some("s"));
    assert_eq!(answer, "Some(Int(1)) frozen true");
    let e = store.drop_snapshot("s").unwrap_err();
    assert!(matches!(e, Error::InUse { .. }), "{e}");
    end(child);
    store.close().unwrap();
    drop(store);
    // Nobody is there: the last checkpoint, with the sidecar of before and without.
    for sidecar in [true, false] {
        if !sidecar {
            forget_sidecar(&path);
        }
        let (one, answer) = with_no_rights(&path, None);
        assert_eq!(answer, "Some(Int(2)) frozen true");
        let (two, answer) = with_no_rights(&path, None);
        assert_eq!(answer, "Some(Int(2)) frozen true");
        let e = open().unwrap_err().to_string();
        assert!(
            e.contains("for reading without a sidecar") && e.contains(&one.id().to_string()),
            "{e}"
        );
        end(one);
        end(two);
    }
    let store = open().unwrap();
    set(&store, "a", &In::Int(3));
    store.sync().unwrap();
    nothing_lost(&store, "at last");
}

/// `persist snapshot`, `snapshots`, `drop-snapshot`, and `--at`.
#[test]
fn from_the_shell() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    set(&store, "a", &In::Int(1));
    let persist = |args: &[&str]| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_persist"))
            .arg(args[0])
            .arg(&path)
            .args(&args[1..])
            .output()
            .unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        match out.status.success() {
            true => Ok(text(&out.stdout)),
            false => Err(text(&out.stderr)),
        }
    };
    assert!(
        persist(&["snapshot", "before"])
            .unwrap()
            .starts_with("checkpoint ")
    );
    set(&store, "a", &In::Int(2));
    // In use or not.
    for open in [true, false] {
        if !open {
            store.close().unwrap();
        }
        assert_eq!(persist(&["get", "a"]).unwrap(), "2\n");
        assert_eq!(persist(&["get", "a", "--at", "before"]).unwrap(), "1\n");
        assert!(persist(&["ls", "--at", "before"]).unwrap().contains('1'));
        let list = persist(&["snapshots"]).unwrap();
        assert_eq!(list.lines().count(), 1);
        assert!(list.starts_with("before ") && list.contains('Z'), "{list}");
        let stat = persist(&["stat", "--at", "before"]).unwrap();
        assert!(stat.contains("entries of the root  1"), "{stat}");
        let e = persist(&["get", "a", "--at", "after"]).unwrap_err();
        assert!(e.contains("persist snapshots"), "{e}");
        assert!(persist(&["snapshot", "before"]).unwrap_err().contains("already"));
        assert!(persist(&["snapshot", "a/b"]).unwrap_err().contains("slash"));
    }
    persist(&["drop-snapshot", "before"]).unwrap();
    assert_eq!(persist(&["snapshots"]).unwrap(), "");
    assert!(
        persist(&["drop-snapshot", "before"])
            .unwrap_err()
            .contains("no snapshot")
    );
}
