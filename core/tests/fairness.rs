//! Fairness: a write during back-to-back transactions waits for about one of them. So does a lock request while another
//! thread takes the lock repeatedly.
#![cfg(feature = "testing")]

use persist_core::store::{Actor, In, Key, LockMode, LockTarget, Options, Store, Wait};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

fn set(store: &Store, key: &[u8], value: i64) {
    let root = store.root();
    store
        .write(Actor::Thread, &mut Wait::default(), |w| {
            w.set(root, &Key::Str(key), &In::Int(value))
        })
        .unwrap();
}

/// Run `work` repeatedly on another thread, and measure 20 times how many of its runs `act` waits for.
fn overtaken(work: impl Fn() + Sync, mut act: impl FnMut()) -> Vec<u64> {
    let (end, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut counts: Vec<u64> = thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                work();
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        let counts = (0..20).map(|_| {
            let begun = done.load(Ordering::SeqCst);
            while done.load(Ordering::SeqCst) == begun {
                thread::yield_now();
            }
            let before = done.load(Ordering::SeqCst);
            act();
            done.load(Ordering::SeqCst) - before
        });
        let counts = counts.collect();
        end.store(true, Ordering::Relaxed);
        counts
    });
    counts.sort_unstable();
    counts
}

/// Long enough for a waiter to be scheduled on a busy machine.
const WORK: Duration = Duration::from_millis(5);

#[test]
fn a_request_beside_a_thread_that_takes_the_lock_again_and_again_is_overtaken_by_few() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    let target = LockTarget {
        obj: store.root(),
        key: None,
    };
    let lock = || {
        store
            .lock(Actor::Thread, target, LockMode::Exclusive, &mut Wait::default())
            .unwrap();
    };
    let unlock = || store.unlock(Actor::Thread, target).unwrap();
    let counts = overtaken(
        || {
            lock();
            thread::sleep(WORK);
            unlock();
        },
        || {
            lock();
            unlock();
        },
    );
    assert!(counts[10] <= 3, "holders that a request waited for: {counts:?}");
}

#[test]
fn a_write_beside_back_to_back_transactions_is_overtaken_by_few() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    let mut value = 0;
    let counts = overtaken(
        || {
            store.begin(&mut Wait::default()).unwrap();
            set(&store, b"busy", 1);
            thread::sleep(WORK);
            store.commit().unwrap();
        },
        || {
            value += 1;
            set(&store, b"x", value);
        },
    );
    assert!(
        counts[10] <= 3,
        "transactions that a write waited for: {counts:?}"
    );
}
