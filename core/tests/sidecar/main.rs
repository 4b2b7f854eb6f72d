//! The sidecar's life: removed, truncated, copied, of another boot or version (here); beside a store that was moved,
//! replaced, linked or copied (`names`); used from several namespaces (`namespaces`); and after processes close, exit
//! and abandon the store (`closing`).

#[path = "../common/mod.rs"]
mod common;
#[path = "../support/mod.rs"]
mod support;

mod closing;
mod names;
mod namespaces;

use common::{Model, Rng, compare, scratch, step};
use persist_core::store::{Actor, Error, LockMode, LockTarget, Store, Wait};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::plain::{self, BOOT, set, sidecar, try_open};
use support::{again, process, worker_task};

/// Words of the sidecar's header (`page/shared/layout.rs`).
const LAYOUT: u64 = 8;

/// A wait that ends because it is bounded. The other limit is longer than anything that does not wait for the wrong
/// event: less than the stores' own waits (`open`), and many times what a slow and busy machine needs.
const SHORT: Duration = Duration::from_millis(300);
const FOREVER: Duration = Duration::from_secs(300);

fn open(path: &Path) -> Store {
    plain::open(path, 60)
}

fn get(s: &Store, key: &str) -> Option<i64> {
    plain::get(s, key).unwrap()
}

/// Two stores, in which the entry `n` is 1 and 2.
fn two_stores(dir: &Path) -> (PathBuf, PathBuf) {
    let both = (dir.join("a.store"), dir.join("b.store"));
    for (path, n) in [(&both.0, 1), (&both.1, 2)] {
        let store = open(path);
        set(&store, "n", n).unwrap();
        store.close().unwrap();
    }
    both
}

fn refused(path: &Path, part: &str) {
    match try_open(path, 5) {
        Err(e @ Error::Refused { .. }) => assert!(e.to_string().contains(part), "{e}"),
        other => panic!("{other:?}"),
    }
}

/// Change a word in the header.
fn change_word(path: &Path, at: u64) -> u64 {
    plain::change_signed(&sidecar(path), at, 0x55)
}

/// Do what `PERSIST_DO` names with the store `PERSIST_STORE`.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn neighbour() {
    let Some((path, task)) = worker_task("PERSIST_STORE") else {
        return;
    };
    let store = open(Path::new(&path));
    set(&store, "neighbour", 1).unwrap();
    match task.as_str() {
        "die" => process::die(),
        "exit" => std::process::exit(0),
        // As much as another session would overwrite.
        "fill" => {
            for n in 0..400 {
                set(&store, &format!("{n} of {}", path.display()), n).unwrap();
            }
            process::die()
        }
        "increment" => {
            for _ in 0..1000 {
                store.begin(&mut Wait::default()).unwrap();
                let n = get(&store, "n").unwrap_or(0);
                set(&store, "n", n + 1).unwrap();
                store.commit().unwrap();
            }
            store.close().unwrap();
        }
        "wait" => {
            eprintln!("opened");
            plain::wait_for(&Path::new(&path).with_file_name("begun"));
            let begun = Instant::now();
            match store.begin(&mut Wait::at_most(SHORT)) {
                Err(Error::Timeout { holder, .. }) => eprintln!("timeout {holder}"),
                other => panic!("{other:?}"),
            }
            assert!((SHORT..FOREVER).contains(&begun.elapsed()));
            store
                .lock(
                    Actor::Thread,
                    LockTarget {
                        obj: store.root(),
                        key: None,
                    },
                    LockMode::Exclusive,
                    &mut Wait::at_most(FOREVER),
                )
                .unwrap();
            eprintln!("locked");
            std::thread::sleep(Duration::from_secs(600));
        }
        "transaction" => {
            store.begin(&mut Wait::default()).unwrap();
            set(&store, "neighbour", 2).unwrap();
            eprintln!("ready");
            std::thread::sleep(Duration::from_secs(600));
        }
        other => panic!("{other}"),
    }
}

fn run(path: &Path, task: &str) {
    let _ = again("neighbour")
        .env("PERSIST_STORE", path)
        .env("PERSIST_DO", task)
        .output()
        .unwrap();
}

#[test]
fn a_removed_sidecar_does_not_split_the_users_and_is_made_again() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    set(&store, "a", 1).unwrap();
    std::fs::remove_file(sidecar(&path)).unwrap();
    // Processes that have it open continue; others cannot create a second one.
    set(&store, "b", 2).unwrap();
    refused(&path, "cannot be opened");
    assert!(!sidecar(&path).exists());
    store.sync().unwrap();
    set(&store, "c", 3).unwrap();
    store.close().unwrap();
    drop(store);
    let store = open(&path);
    assert_eq!((get(&store, "b"), get(&store, "c")), (Some(2), Some(3)));
    store.check().unwrap();
    store.close().unwrap();
    drop(store);
    // The same while no process has it open.
    std::fs::remove_file(sidecar(&path)).unwrap();
    let store = open(&path);
    assert_eq!(get(&store, "c"), Some(3));
    store.close().unwrap();
}

#[test]
fn a_sidecar_copied_to_another_store_is_not_used() {
    let dir = scratch();
    let (a, b) = two_stores(dir.path());
    std::fs::copy(sidecar(&a), sidecar(&b)).unwrap();
    let store = open(&b);
    assert_eq!(get(&store, "n"), Some(2));
    // Nor while it is in use: the next process would use another store's memory.
    std::fs::remove_file(sidecar(&b)).unwrap();
    std::fs::copy(sidecar(&a), sidecar(&b)).unwrap();
    refused(&b, "another sidecar");
    store.close().unwrap();
    drop(store);
    // A store that was copied together with its sidecar is another file.
    let c = dir.path().join("c.store");
    run(&a, "die");
    std::fs::copy(&a, &c).unwrap();
    std::fs::copy(sidecar(&a), sidecar(&c)).unwrap();
    let store = open(&c);
    assert_eq!((get(&store, "n"), get(&store, "neighbour")), (Some(1), None));
    store.check().unwrap();
    store.close().unwrap();
    let store = open(&a);
    assert_eq!((get(&store, "n"), get(&store, "neighbour")), (Some(1), Some(1)));
    store.close().unwrap();
}

#[test]
fn a_sidecar_of_another_boot_is_not_used() {
    for (word, kept) in [(None, Some(1)), (Some(BOOT), None)] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = open(&path);
        set(&store, "a", 1).unwrap();
        store.close().unwrap();
        drop(store);
        run(&path, "die");
        if let Some(word) = word {
            change_word(&path, word);
        }
        let store = open(&path);
        assert_eq!(
            (get(&store, "a"), get(&store, "neighbour")),
            (Some(1), kept),
            "{word:?}"
        );
        store.check().unwrap();
        store.close().unwrap();
    }
}

/// The changes of another version are not discarded; after it has closed, they are in the store.
#[test]
fn a_sidecar_of_another_layout_is_refused_unless_it_was_closed() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    set(&store, "a", 1).unwrap();
    store.close().unwrap();
    drop(store);
    change_word(&path, LAYOUT);
    let store = open(&path);
    assert_eq!(get(&store, "a"), Some(1));
    // Another version of the program, at the same time.
    let old = change_word(&path, LAYOUT);
    assert!(matches!(try_open(&path, 5), Err(Error::Refused { .. })));
    change_word(&path, LAYOUT);
    assert_eq!(change_word(&path, LAYOUT), old);
    change_word(&path, LAYOUT);
    store.close().unwrap();
    drop(store);
    run(&path, "die");
    change_word(&path, LAYOUT);
    let before = std::fs::read(sidecar(&path)).unwrap();
    refused(&path, "another version of persist");
    refused(&path, &sidecar(&path).display().to_string());
    assert!(before == std::fs::read(sidecar(&path)).unwrap(), "it was touched");
    change_word(&path, LAYOUT);
    let store = open(&path);
    assert_eq!(get(&store, "neighbour"), Some(1));
    store.close().unwrap();
}

#[test]
fn a_live_copy_opens_at_the_checkpoint() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    let mut model = Model::read(&store).unwrap();
    let mut rng = Rng(1);
    for round in 0..5 {
        for _ in 0..40 {
            step(&store, &mut model, &mut rng, 400_000).unwrap();
        }
        store.sync().unwrap();
        let synced = model.clone();
        let copy = dir.path().join(format!("copy{round}"));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::fs::copy(&path, &copy).unwrap();
                done.store(true, Ordering::SeqCst);
            });
            while !done.load(Ordering::SeqCst) {
                step(&store, &mut model, &mut rng, 400_000).unwrap();
            }
        });
        let other = open(&copy);
        compare(&other, &synced, &format!("copy {round}"));
        other.check().unwrap();
        other.close().unwrap();
    }
    store.close().unwrap();
}
