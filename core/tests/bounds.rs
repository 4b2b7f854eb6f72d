//! The bounds of the sidecar's regions. An operation that reaches a bound succeeds, or is refused and undone. Other
//! processes can open the store at any time, and a process that is killed afterwards has lost nothing. (The regions are
//! small in these tests.)

mod common;
mod support;

use common::scratch;
use persist_core::backup;
use persist_core::check;
use persist_core::store::{Actor, Durability, Error, In, Key, Options, Result, Store, Value, Wait};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use support::{again, process, worker_task};

fn open(path: &Path) -> Store {
    Store::open(
        path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap()
}

fn set(s: &Store, key: &str, value: &In<'_>) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(s.root(), &Key::Str(key.as_bytes()), value)
    })
}

fn get(s: &Store, key: &str) -> Option<Value> {
    s.read(&mut Wait::default(), |r| {
        r.get(s.root(), &Key::Str(key.as_bytes()))
    })
    .unwrap()
}

/// With no process at the store: the checker finds no damage, and a backup can be restored.
fn is_sound(path: &Path, what: &str) {
    let sound = |path: &Path| {
        let report = check::check(path, &mut ()).unwrap();
        assert!(report.is_sound(), "{what}: {:?}", report.findings);
    };
    sound(path);
    let copies = scratch();
    let (copy, again) = (copies.path().join("a.backup"), copies.path().join("b.store"));
    backup::backup_to(path, &copy, &backup::Options::default(), &mut ()).unwrap();
    let inputs = vec![backup::Input::file(&copy)];
    backup::restore(inputs, &again, &backup::Restoring::default(), &mut ())
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    sound(&again);
}

/// One step of a transaction, repeated until it reaches a bound.
type Step = fn(&Store, u64) -> Result<()>;

/// New entries, which fill the undo log.
fn entries(s: &Store, n: u64) -> Result<()> {
    (0..500).try_for_each(|i| set(s, &format!("entry {n} {i}"), &In::Int(i)))
}

/// Replaced values of one word, which fill the undo log word by word.
fn words(s: &Store, n: u64) -> Result<()> {
    (0..5000).try_for_each(|i| set(s, &format!("old {}", i % 100), &In::Int((n * 5000 + i) as i64)))
}

/// Large values, which fill the dirty list.
fn pages(s: &Store, n: u64) -> Result<()> {
    set(s, &format!("large {n}"), &In::Bytes(&vec![n as u8; 8 << 20]))
}

/// An operation with a long undo: each step replaces a value by one that needs another place.
fn texts(s: &Store, n: u64) -> Result<()> {
    (0..100).try_for_each(|i| {
        let text = "x".repeat(3000 + ((n + i) % 7 * 100) as usize);
        set(s, &format!("old {i}"), &In::Bytes(text.as_bytes()))
    })
}

const STEPS: [(&str, Step); 4] = [
    ("entries", entries),
    ("words", words),
    ("pages", pages),
    ("texts", texts),
];

fn fill(s: &Store) {
    for i in 0..100 {
        set(s, &format!("old {i}"), &In::Int(i)).unwrap();
    }
}

fn is_as_filled(s: &Store, what: &str) {
    for i in 0..100 {
        assert_eq!(get(s, &format!("old {i}")), Some(Value::Int(i)), "{what}: {i}");
    }
    let len = s.read(&mut Wait::default(), |r| r.len(s.root())).unwrap();
    assert_eq!(len, 100, "{what}");
    s.check().unwrap_or_else(|e| panic!("{what}: {e}"));
}

/// Open the store in a separate process.
fn others_can_open(path: &Path, what: &str) {
    let signal = run(path, "look");
    assert_eq!(
        signal,
        Some(libc::SIGKILL),
        "{what}: another process cannot open the store"
    );
}

/// Run `opening` in a separate process. Returns the signal that ended it.
fn run(path: &Path, what: &str) -> Option<i32> {
    let mut command = again("opening");
    command.env("PERSIST_BOUNDS", path).env("PERSIST_DO", what);
    command.status().unwrap().signal()
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn opening() {
    let Some((path, what)) = worker_task("PERSIST_BOUNDS") else {
        return;
    };
    let store = Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    match what.as_str() {
        // Closing would wait for the transaction of another process.
        "look" => process::die(),
        // Run until the transaction reaches the bound; the process is then killed in it.
        name => {
            let step = STEPS.iter().find(|(n, _)| *n == name).unwrap().1;
            store.begin(&mut Wait::default()).unwrap();
            let met = (0..10_000).find_map(|n| step(&store, n).err());
            assert!(matches!(met, Some(Error::TransactionTooLarge { .. })), "{met:?}");
            process::die()
        }
    }
}

/// Run a transaction to its bound. Returns the number of steps.
fn to_the_bound(store: &Store, step: Step, what: &str, mut between: impl FnMut(u64)) -> u64 {
    store.begin(&mut Wait::default()).unwrap();
    for n in 0..10_000 {
        match step(store, n) {
            Ok(()) => between(n),
            Err(Error::TransactionTooLarge { .. }) => return n,
            Err(e) => panic!("{what}: {e}"),
        }
    }
    panic!("{what}: no bound was met");
}

#[test]
fn a_transaction_that_reaches_a_bound_is_undone_and_others_can_open_at_any_time() {
    for durability in [Durability::Checkpoint, Durability::Commit] {
        for (name, step) in STEPS {
            let what = format!("{name}, {durability:?}");
            let dir = scratch();
            let path = dir.path().join("a.store");
            let options = Options {
                durability,
                max_age: None,
                ..Options::default()
            };
            let store = Store::open(&path, &options).unwrap();
            fill(&store);
            // During its growth, at powers of two.
            let n = to_the_bound(&store, step, &what, |n| {
                if n.is_power_of_two() {
                    others_can_open(&path, &what);
                }
            });
            assert!(n > 0, "{what}");
            others_can_open(&path, &what);
            store.rollback().unwrap();
            is_as_filled(&store, &what);
            store.close().unwrap();
            drop(store);
            if durability == Durability::Checkpoint && name != "pages" {
                is_sound(&path, &what);
            }
            let store = Store::open(&path, &options).unwrap();
            // A transaction that fits succeeds after the bound was reached.
            store.begin(&mut Wait::default()).unwrap();
            (0..n / 2).try_for_each(|n| step(&store, n)).unwrap();
            store.commit().unwrap();
            others_can_open(&path, &what);
            store.check().unwrap();
            store.check_pages().unwrap();
            store.close().unwrap();
        }
    }
}

#[test]
fn a_process_that_is_killed_at_a_bound_has_lost_nothing() {
    for (name, _) in STEPS {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = open(&path);
        fill(&store);
        // With another process at the store, which recovers it.
        assert_eq!(run(&path, name), Some(libc::SIGKILL), "{name}");
        is_as_filled(&store, name);
        // With no other process: the next opening recovers it.
        store.close().unwrap();
        drop(store);
        assert_eq!(run(&path, name), Some(libc::SIGKILL), "{name}");
        let store = open(&path);
        is_as_filled(&store, name);
        store.check_pages().unwrap();
        store.close().unwrap();
        drop(store);
        is_sound(&path, name);
    }
}

/// Small operations do not reach the bound, however much they change between two checkpoints.
#[test]
fn single_operations_never_reach_the_bound_of_the_dirty_list() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    // More pages than the list can hold, in values that replace each other.
    for n in 0..40 {
        set(
            &store,
            &format!("value {}", n % 3),
            &In::Bytes(&vec![n as u8; 12 << 20]),
        )
        .unwrap();
    }
    others_can_open(&path, "afterwards");
    // A transaction that fits an empty list is not refused because of earlier changes.
    for n in 0..5 {
        store.begin(&mut Wait::default()).unwrap();
        for m in 0..4 {
            set(
                &store,
                &format!("value {m}"),
                &In::Bytes(&vec![n as u8; 16 << 20]),
            )
            .unwrap();
        }
        store.commit().unwrap();
    }
    store.check().unwrap();
    store.close().unwrap();
}

/// After the bound the transaction is dead and the store is free: other owners change it at once. Its owner is refused
/// until it has left the outermost block, and then continues.
#[test]
fn a_transaction_that_was_too_large_leaves_the_store_to_others() {
    for (name, step) in [STEPS[0], STEPS[2]] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = open(&path);
        fill(&store);
        // An inner block reaches the bound: the whole transaction is undone, not the block alone.
        store.begin(&mut Wait::default()).unwrap();
        set(&store, "outer", &In::Int(1)).unwrap();
        store.begin(&mut Wait::default()).unwrap();
        let met = (0..10_000).find_map(|n| step(&store, n).err());
        assert!(
            matches!(met, Some(Error::TransactionTooLarge { .. })),
            "{name}: {met:?}"
        );
        assert!(store.in_transaction());
        let refused = set(&store, "old 1", &In::Int(-1));
        assert!(
            matches!(refused, Err(Error::Aborted { again: false, .. })),
            "{name}: {refused:?}"
        );
        // Another thread does not wait for the blocks to be left.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                is_as_filled(&store, name);
                let mut soon = Wait::at_most(std::time::Duration::from_secs(10));
                store.write(Actor::Thread, &mut soon, |w| {
                    w.set(store.root(), &Key::Str(b"old 0"), &In::Int(0))
                })
            });
            other.join().unwrap().unwrap();
        });
        others_can_open(&path, name);
        store.rollback().unwrap();
        let inside = store.commit();
        assert!(matches!(inside, Err(Error::Aborted { .. })), "{name}: {inside:?}");
        assert!(!store.in_transaction());
        is_as_filled(&store, name);
        // Its owner continues too.
        store.begin(&mut Wait::default()).unwrap();
        set(&store, "old 0", &In::Int(7)).unwrap();
        store.commit().unwrap();
        assert_eq!(get(&store, "old 0"), Some(Value::Int(7)));
        store.close().unwrap();
        is_sound(&path, name);
    }
}
