//! Dropping snapshots: by processes that die during the drop, of large snapshots, and of snapshots that are being read.

use super::common::{Model, Rng, compare, scratch};
use super::support::again;
use super::{at, nothing_lost, options, set};
use persist_core::Error;
use persist_core::store::{In, Store};
use std::path::Path;

/// The child drops the snapshot `s` and dies at a failpoint.
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
    let ended = again("dropping::a_dropper")
        .env("PERSIST_STORE", path)
        .env("PERSIST_FAIL", format!("{step}=1"))
        .status()
        .unwrap();
    assert_eq!(ended.signal(), Some(9), "{step}");
}

/// The pages of a snapshot are freed in steps. Between these the store changes at several places, before and after the
/// current step, and in the trees of its neighbours.
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
        die_dropping(&path, "snapshot.separate");
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

/// A snapshot is opened between the death of its dropper and the end of the checkpoint that drops it. A living process
/// ends that checkpoint; without one, the snapshot was not dropped.
#[test]
fn a_reader_that_opened_in_time_keeps_its_snapshot() {
    for beside in [true, false] {
        opened_in_time(beside);
    }
}

fn opened_in_time(beside: bool) {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    for n in 0..600 {
        set(&store, &format!("k{n}"), &In::Bytes(&[1; 3500]));
    }
    store.snapshot("s").unwrap();
    let model = Model::read(&store).unwrap();
    store.sync().unwrap();
    let store = if beside {
        Some(store)
    } else {
        store.close().unwrap();
        None
    };
    die_dropping(&path, "checkpoint.writing");
    let s = Store::open(&path, &at("s")).unwrap();
    let store = store.unwrap_or_else(|| Store::open(&path, &options()).unwrap());
    for round in 0..6 {
        for n in 0..600 {
            set(&store, &format!("k{n}"), &In::Bytes(&[round; 3500]));
        }
        store.sync().unwrap();
    }
    assert_eq!(store.snapshots().unwrap().len(), usize::from(!beside));
    if beside {
        assert!(matches!(
            Store::open(&path, &at("s")),
            Err(Error::NoSnapshot { .. })
        ));
    }
    compare(&s, &model, "in time");
    s.check_pages().unwrap();
    store.check_pages().unwrap();
    s.close().unwrap();
    if !beside {
        store.drop_snapshot("s").unwrap();
    }
    for n in 0..6 {
        set(&store, "x", &In::Int(n));
        store.sync().unwrap();
    }
    nothing_lost(&store, "it is not read any more");
}
