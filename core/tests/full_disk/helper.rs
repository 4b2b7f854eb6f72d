//! The helper on a full disk: what could be changed becomes durable within the bound there, too, and changes
//! continue when there is space again.

use super::{Disk, set};
use persist_core::store::{Error, In, Key, Options, Store, Value, Wait};
use std::path::Path;
use std::time::{Duration, Instant};

fn open(path: &Path, max_age: Option<Duration>) -> Store {
    let options = Options {
        max_age,
        ..Options::default()
    };
    Store::open(path, &options).unwrap()
}

fn get(store: &Store, key: &str) -> Option<i64> {
    let found = store.read(&mut Wait::default(), |r| {
        r.get(store.root(), &Key::Str(key.as_bytes()))
    });
    match found.unwrap() {
        Some(Value::Int(n)) => Some(n),
        _ => None,
    }
}

fn until_durable(store: &Store) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while store.stat().unwrap().undurable_age.is_some() {
        assert!(Instant::now() < deadline, "not durable");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn changes_become_durable_on_a_full_disk() {
    let Some(disk) = Disk::new(40 * 1024) else { return };
    let path = disk.path();
    let mut refusals = 0;
    for left in [0, 1, 3, 8, 40] {
        super::give_back(&path);
        let store = open(&path, Some(Duration::from_millis(20)));
        for i in 0..2000 {
            set(&store, &format!("key {i}"), In::Int(0)).unwrap();
        }
        store.sync().unwrap();
        disk.leave(left);
        let mut refused = false;
        // Take what is free in the file.
        for (size, most) in [(100_000, 1000), (3000, 5000), (100, 5000)] {
            for i in 0..most {
                match set(&store, &format!("{size} {i}"), In::Bytes(&vec![1; size])) {
                    Ok(()) => {}
                    Err(Error::NoSpace { .. }) => {
                        refused = true;
                        break;
                    }
                    Err(e) => panic!("{left}: {e}"),
                }
            }
        }
        // Changes until one finds no space: each copies a page.
        let mut done = Vec::new();
        for round in 1..20 {
            for i in (0..2000).step_by(7) {
                let key = format!("key {i}");
                match set(&store, &key, In::Int(round)) {
                    Ok(()) => done.push((key, round)),
                    Err(Error::NoSpace { .. }) => refused = true,
                    Err(e) => panic!("{left}: {e}"),
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("{left} pages left: {} changes, refused: {refused}", done.len());
        refusals += u32::from(refused);
        let check = |store: &Store, what: &str| {
            let mut last = std::collections::BTreeMap::new();
            last.extend(done.iter().cloned());
            for (key, round) in &last {
                assert_eq!(get(store, key), Some(*round), "{what}, {left} left");
            }
        };
        check(&store, "on the full disk");
        // A checkpoint has pages of its own (the reserve).
        until_durable(&store);
        disk.relieve();
        set(&store, "afterwards", In::Int(1)).unwrap();
        until_durable(&store);
        // After a power cut.
        let copy = path.with_file_name("copy.store");
        std::fs::copy(&path, &copy).unwrap();
        let found = open(&copy, None);
        found.check().unwrap();
        check(&found, "after a power cut");
        found.close().unwrap();
        store.close().unwrap();
        drop((store, found));
        for entry in path.parent().unwrap().read_dir().unwrap() {
            super::give_back(&entry.unwrap().path());
        }
    }
    assert!(refusals > 0, "no change found the disk full");
}
