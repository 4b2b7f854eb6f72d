//! Limits of this process: of file sizes (which raise a signal that kills by default) and of address space.
//! Meeting one is an error that names it; nothing is lost.

mod common;
mod support;

use common::scratch;
use persist_core::store::{Actor, Error, In, Key, Options, Result, Store, Wait};
use std::path::Path;
use support::{again, sys, told};

fn set(s: &Store, n: u32, len: usize) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::forever(), |w| {
        w.set(s.root(), &Key::Int(n.into()), &In::Bytes(&vec![n as u8; len]))
    })
}

fn len(s: &Store) -> u64 {
    s.read(&mut Wait::forever(), |r| r.len(s.root())).unwrap()
}

fn open(path: &Path) -> Result<Store> {
    Store::open(path, &Options::default())
}

/// Runs a task in a process of its own, since limits cannot be raised again by everyone.
fn limited(task: &str) {
    let dir = scratch();
    let output = again("neighbour")
        .env("PERSIST_DIR", dir.path())
        .env("PERSIST_DO", task)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{task}: {:?}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn neighbour() {
    let Some((dir, task)) = told("PERSIST_DIR") else {
        return;
    };
    let path = Path::new(&dir).join("a.store");
    match task.as_str() {
        "small files" => small_files(&path),
        "tiny files" => {
            sys::set_limit(libc::RLIMIT_FSIZE, 1 << 20);
            let e = open(&path).unwrap_err();
            assert!(e.to_string().contains("ulimit -f"), "{e}");
            sys::set_limit(libc::RLIMIT_FSIZE, libc::RLIM_INFINITY);
            let store = open(&path).unwrap();
            set(&store, 1, 10).unwrap();
            store.close().unwrap();
        }
        "little memory" => {
            sys::set_limit(libc::RLIMIT_AS, 1 << 30);
            let e = open(&path).unwrap_err();
            assert!(e.to_string().contains("ulimit -v"), "{e}");
            assert_eq!(e.errno(), libc::ENOMEM);
        }
        "enough memory" => enough_memory(&path),
        other => panic!("{other}"),
    }
}

fn small_files(path: &Path) {
    sys::set_limit(libc::RLIMIT_FSIZE, 24 << 20);
    let store = open(path).unwrap();
    let mut n = 0;
    let e = loop {
        match set(&store, n, 100_000) {
            Ok(()) => n += 1,
            Err(e) => break e,
        }
        assert!(n < 1000, "there was no limit");
    };
    assert!(matches!(e, Error::NoSpace { .. }), "{e}");
    assert!(e.to_string().contains("ulimit -f"), "{e}");
    assert_eq!(e.errno(), libc::EFBIG);
    assert!(n > 100, "{n}");
    // Reading, making durable and removing go on, and there is room again.
    assert_eq!(len(&store), n.into());
    store.sync().unwrap();
    for i in 0..n / 2 {
        store
            .write(Actor::Thread, &mut Wait::forever(), |w| {
                w.remove(store.root(), &Key::Int(i.into())).map(drop)
            })
            .unwrap();
    }
    store.gc().unwrap();
    for i in 0..n / 4 {
        set(&store, i, 100_000).unwrap_or_else(|e| panic!("{i} of {n}: {e}; {:?}", store.stat()));
    }
    store.check().unwrap();
    let found = len(&store);
    store.close().unwrap();
    drop(store);
    let store = open(path).unwrap();
    assert_eq!(len(&store), found);
    store.close().unwrap();
}

fn enough_memory(path: &Path) {
    // The sidecar's places, and room for a store of 200 MiB at least.
    sys::set_limit(libc::RLIMIT_AS, 5 << 30);
    let store = open(path).unwrap();
    for n in 0..200 {
        set(&store, n, 100_000).unwrap();
    }
    store.check().unwrap();
    store.close().unwrap();
}

#[test]
fn a_limit_of_file_sizes_is_an_error_and_no_signal() {
    limited("small files");
}

#[test]
fn a_limit_that_leaves_no_room_for_a_store_is_named() {
    limited("tiny files");
}

#[test]
fn a_limit_of_address_space_is_named() {
    limited("little memory");
}

#[test]
fn a_limit_of_address_space_that_suffices_is_no_matter() {
    limited("enough memory");
}
