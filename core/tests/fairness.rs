//! Fairness of the latch: a write beside back-to-back transactions waits for about one of them.
#![cfg(feature = "testing")]

use persist_core::store::{Actor, In, Key, Options, Store, Wait};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn set(store: &Store, key: &[u8], value: i64) {
    let root = store.root();
    store
        .write(Actor::Thread, &mut Wait::forever(), |w| {
            w.set(root, &Key::Str(key), &In::Int(value))
        })
        .unwrap();
}

/// Spends processor time, as a transaction's own work does.
fn work(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The median transaction and the median wait of a write beside them.
fn round(store: &Store) -> (Duration, Duration) {
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        let transactions = scope.spawn(|| {
            let mut times = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let begun = Instant::now();
                store.begin(&mut Wait::forever()).unwrap();
                set(store, b"busy", 1);
                work(Duration::from_micros(200));
                store.commit().unwrap();
                times.push(begun.elapsed());
            }
            times
        });
        let waits = (0..50).map(|i| {
            thread::sleep(Duration::from_micros(300));
            let begun = Instant::now();
            set(store, b"x", i);
            begun.elapsed()
        });
        let waits = median(waits.collect());
        end.store(true, Ordering::Relaxed);
        (median(transactions.join().unwrap()), waits)
    })
}

#[test]
fn a_write_beside_back_to_back_transactions_waits_for_about_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    // A busy machine adds turns of other programs: the best of some rounds counts. Unfair, it is tens of transactions.
    let best = (0..20)
        .map(|_| round(&store))
        .map(|(transaction, wait)| wait.as_secs_f64() / transaction.as_secs_f64())
        .fold(f64::MAX, f64::min);
    assert!(best < 5.0, "a write waited for {best:.1} transactions");
}

#[test]
fn all_of_many_writers_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    let counts: Vec<u32> = thread::scope(|scope| {
        let end = Instant::now() + Duration::from_millis(1500);
        let writers: Vec<_> = (0..6)
            .map(|_| {
                let store = &store;
                scope.spawn(move || {
                    let mut n = 0;
                    while Instant::now() < end {
                        store.begin(&mut Wait::forever()).unwrap();
                        set(store, b"busy", 1);
                        work(Duration::from_micros(200));
                        store.commit().unwrap();
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let (least, most) = (*counts.iter().min().unwrap(), *counts.iter().max().unwrap());
    assert!(least * 4 >= most, "turns were not shared: {counts:?}");
}
