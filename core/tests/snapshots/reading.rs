//! Reading snapshots: what is refused, what a reader holds and for how long, and the pages of a snapshot.

use super::common::{Model, Rng, read_only, scratch, step};
use super::support::plain::wait_for;
use super::support::{again, process};
use super::{at, forget_sidecar, get, nothing_lost, options, set};
use persist_core::Error;
use persist_core::store::{Actor, In, Key, LockMode, LockTarget, Store, Value, Wait};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

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
    store.begin(&mut Wait::default()).unwrap();
    assert!(matches!(store.snapshot("three"), Err(Error::Invalid { .. })));
    assert!(matches!(store.drop_snapshot("one"), Err(Error::Invalid { .. })));
    store.rollback().unwrap();
    let reader = read_only(&path).unwrap();
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
        let e = s.write(Actor::Thread, &mut Wait::default(), |w| {
            w.set(root, &Key::Str(b"a"), &In::Int(3))
        });
        assert!(matches!(e, Err(Error::ReadOnly)));
        assert!(matches!(s.begin(&mut Wait::default()), Err(Error::ReadOnly)));
        assert!(matches!(s.sync(), Err(Error::ReadOnly)));
        assert!(matches!(s.snapshot("t"), Err(Error::ReadOnly)));
        let target = LockTarget { obj: root, key: None };
        let e = s.lock(Actor::Thread, target, LockMode::Shared, &mut Wait::default());
        assert!(matches!(e, Err(Error::Invalid { .. })), "{e:?}");
        s.read(&mut Wait::default(), |r| r.pin(root)).unwrap();
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
    s.read(&mut Wait::default(), |r| r.get(s.root(), &Key::Str(b"a")))
}

/// A file that grows each time the child has read.
fn looks(store: &Path) -> PathBuf {
    store.with_extension("looks")
}

/// The child opens a snapshot, and reads it repeatedly until it is killed.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_reader() {
    let Ok(path) = std::env::var("PERSIST_STORE") else {
        return;
    };
    process::die_with_parent();
    let s = Store::open(&path, &at("s")).unwrap();
    let mut looked = std::fs::File::create(looks(Path::new(&path))).unwrap();
    loop {
        assert_eq!(get(&s, "a"), Some(Value::Int(1)));
        looked.write_all(b".").unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_dead_reader_keeps_nothing() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    set(&store, "a", &In::Int(1));
    store.snapshot("s").unwrap();
    let mut child = again("reading::a_reader")
        .env("PERSIST_STORE", &path)
        .spawn()
        .unwrap();
    let looks = looks(&path);
    wait_for(&looks);
    let looked_on = |child: &mut Child| {
        let so_far = looks.metadata().unwrap().len();
        let until = Instant::now() + Duration::from_secs(120);
        while looks.metadata().unwrap().len() < so_far + 2 {
            assert!(child.try_wait().unwrap().is_none(), "it saw something else");
            assert!(Instant::now() < until, "it looks no more");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    looked_on(&mut child);
    let e = store.drop_snapshot("s").unwrap_err();
    assert!(e.to_string().contains(&format!("process {}", child.id())), "{e}");
    for n in 0..20 {
        set(&store, "a", &In::Int(n));
        store.sync().unwrap();
    }
    looked_on(&mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    store.drop_snapshot("s").unwrap();
    nothing_lost(&store, "after its reader died");
}

fn pages(store: &Store, since: Option<&Store>) -> BTreeMap<u64, Option<Vec<u8>>> {
    store
        .pages(since)
        .unwrap()
        .map(|v| v.map(|v| (v.page, v.bytes.map(|b| b.to_vec()))))
        .collect::<Result<_, _>>()
        .unwrap()
}

/// A full copy and the differences give the later one.
#[test]
fn pages_and_their_differences() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    let mut rng = Rng(3);
    store.snapshot("0").unwrap();
    for n in 1..12u32 {
        // More than one level of the page table, and more than two.
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

/// Damage in a snapshot is reported to its readers, and the walk continues behind it; the store itself works.
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
