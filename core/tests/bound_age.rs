//! Promise P2, the age of what a power cut takes: at any moment the disk holds every change that is older than the
//! reported age (`Stat::undurable_age`), and that age comes down to `max_age` again and again. What the disk holds is
//! the content of the file at the last flush that has ended, of any thread.
//!
//! And the writers' part: a writer makes the checkpoint itself when the dirty list is nearly full and the helper is
//! late.

#[path = "common/mod.rs"]
mod common;
mod support;

use common::scratch;
use persist_core::raw::observe::{Moment, observe_with_helpers};
use persist_core::store::{Actor, In, Key, Options, Store, Wait};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::plain::{get, set};

/// Steps of the clock by which the age is computed.
const TICK: Duration = Duration::from_millis(20);

fn open(path: &Path, max_age: Option<Duration>) -> Store {
    let options = Options {
        max_age,
        lock_timeout: Duration::from_secs(60),
        ..Options::default()
    };
    Store::open(path, &options).unwrap_or_else(|e| panic!("{e}"))
}

/// The number that the disk holds after a power cut.
fn after_a_cut(image: &[u8]) -> i64 {
    let dir = scratch();
    let path = dir.path().join("cut.store");
    std::fs::write(&path, image).unwrap();
    let store = open(&path, None);
    store.check().unwrap();
    let n = get(&store, "n").unwrap().unwrap_or(-1);
    store.close().unwrap();
    n
}

#[test]
fn what_is_older_than_the_reported_age_survives() {
    const MAX_AGE: Duration = Duration::from_millis(200);
    let dir = scratch();
    let path = dir.path().join("a.store");
    open(&path, None).close().unwrap();
    let disk = Arc::new(Mutex::new(std::fs::read(&path).unwrap()));
    let (seen, file) = (disk.clone(), path.clone());
    observe_with_helpers(Some(Arc::new(move |moment| {
        if moment == Moment::Flushed {
            *seen.lock().unwrap() = std::fs::read(&file)?;
        }
        Ok(())
    })));
    let store = open(&path, Some(MAX_AGE));
    // When each number was stored.
    let mut done = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    let (mut cuts, mut young) = (0, 0);
    while young < 12 || cuts < 30 {
        assert!(Instant::now() < deadline, "{cuts} cuts, {young} within the bound");
        for _ in 0..40 {
            set(&store, "n", done.len() as i64).unwrap();
            set(&store, &format!("other {}", done.len() % 500), 1).unwrap();
            done.push(Instant::now());
            std::thread::sleep(Duration::from_micros(200));
        }
        let now = Instant::now();
        let age = store.stat().unwrap().undurable_age;
        let image = disk.lock().unwrap().clone();
        let n = after_a_cut(&image);
        // Without an age everything is durable. The age is the oldest change's, so what is older was made before it.
        let lost = age.unwrap_or_default() + TICK;
        let must = done
            .iter()
            .rposition(|at| now.saturating_duration_since(*at) > lost);
        let must = must.map_or(-1, |i| i as i64);
        assert!(n >= must, "{n} survives, of {must} that are older than {lost:?}");
        cuts += 1;
        young += u32::from(age.unwrap_or_default() <= MAX_AGE);
    }
    observe_with_helpers(None);
    store.close().unwrap();
}

#[test]
fn a_writer_makes_the_checkpoint_when_the_list_is_nearly_full() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path, Some(Duration::from_millis(50)));
    set(&store, "n", 0).unwrap();
    let held = Arc::new(AtomicBool::new(true));
    let waits = Arc::new(AtomicU32::new(0));
    let writer = std::thread::current().id();
    let (hold, waiting) = (held.clone(), waits.clone());
    store.close().unwrap();
    drop(store);
    observe_with_helpers(Some(Arc::new(move |moment| {
        if moment == Moment::Flushing && std::thread::current().id() != writer {
            waiting.fetch_add(1, Ordering::SeqCst);
            while hold.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    })));
    let store = open(&path, Some(Duration::from_millis(50)));
    let before = store.stat().unwrap().checkpoint;
    let n = AtomicI64::new(0);
    let deadline = Instant::now() + Duration::from_secs(200);
    while store.stat().unwrap().checkpoint == before {
        assert!(Instant::now() < deadline, "no checkpoint after {n:?} changes");
        let next = n.fetch_add(1, Ordering::SeqCst);
        store
            .write(Actor::Thread, &mut Wait::default(), |w| {
                let value = [next as u8; 3000];
                w.set(store.root(), &Key::Int(next), &In::Bytes(&value))
            })
            .unwrap();
    }
    assert!(waits.load(Ordering::SeqCst) > 0, "the helper waits in its flush");
    held.store(false, Ordering::SeqCst);
    observe_with_helpers(None);
    set(&store, "n", n.load(Ordering::SeqCst)).unwrap();
    store.sync().unwrap();
    store.check().unwrap();
    store.check_pages().unwrap();
    store.close().unwrap();
    assert_eq!(
        after_a_cut(&std::fs::read(&path).unwrap()),
        n.load(Ordering::SeqCst)
    );
}
