//! Fairness of the latch: a write beside back-to-back transactions waits for about one of them.
#![cfg(feature = "testing")]

use persist_core::store::{Actor, In, Key, Options, Store, Wait};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

fn set(store: &Store, key: &[u8], value: i64) {
    let root = store.root();
    store
        .write(Actor::Thread, &mut Wait::forever(), |w| {
            w.set(root, &Key::Str(key), &In::Int(value))
        })
        .unwrap();
}

#[test]
fn a_write_beside_back_to_back_transactions_is_overtaken_by_few() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    let (end, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut overtaken: Vec<u64> = thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                store.begin(&mut Wait::forever()).unwrap();
                set(&store, b"busy", 1);
                // Long enough for the waiter to be scheduled, whatever else the machine does.
                thread::sleep(Duration::from_millis(5));
                store.commit().unwrap();
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        let counts = (0..20).map(|i| {
            let begun = done.load(Ordering::SeqCst);
            while done.load(Ordering::SeqCst) == begun {
                thread::yield_now();
            }
            let before = done.load(Ordering::SeqCst);
            set(&store, b"x", i);
            done.load(Ordering::SeqCst) - before
        });
        let counts = counts.collect();
        end.store(true, Ordering::Relaxed);
        counts
    });
    overtaken.sort_unstable();
    assert!(
        overtaken[10] <= 3,
        "transactions that a write waited for: {overtaken:?}"
    );
}
