//! Inner blocks that are undone during reads: a reader sees the state before the transaction or the one after it, but
//! never the content of an inner block, and never a torn state.
//!
//! Each inner block stores a whole state that differs from a committed one only in its generation, which is negative.

use super::support::player::Player;
use super::{ACCOUNTS, key, new_store, open, put};
use crate::common::scratch;
use persist_core::store::{Actor, In, Result, Store, Wait};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The number of reads that each reader makes during the writes.
const READS: usize = 400;
const DEADLINE: Duration = Duration::from_secs(60);

/// A transaction that stores a generation, with undone inner blocks before, between and after its changes.
pub(super) fn put_with_blocks(store: &Store, generation: i64) -> Result<()> {
    store.begin(&mut Wait::default())?;
    undone(store, -generation, 2)?;
    put(store, generation - 1, true)?;
    undone(store, -generation - 1, 0)?;
    put(store, generation, true)?;
    undone(store, -generation - 2, 1)?;
    store.commit()
}

/// A block that is undone, with `depth` undone blocks in it, and one that was committed into it.
fn undone(store: &Store, generation: i64, depth: u32) -> Result<()> {
    let root = store.root();
    store.begin(&mut Wait::default())?;
    put(store, generation, true)?;
    if depth > 0 {
        undone(store, generation - 10, depth - 1)?;
        put(store, generation, true)?;
    }
    // New pages, and the last references to old containers.
    store.write(Actor::Thread, &mut Wait::default(), |w| {
        let much = w.new_dict()?;
        for i in 0..300 {
            w.set(
                much,
                &key(&format!("{generation} {i}")),
                &In::str("a text with a segment of its own"),
            )?;
        }
        w.set(root, &key("much"), &In::Obj(much))?;
        for i in 0..ACCOUNTS {
            w.remove(root, &key(&format!("a{i}")))?;
        }
        w.remove(root, &key("t")).map(drop)
    })?;
    store.rollback()
}

pub(super) fn shown(store: &Store) -> i64 {
    let found = super::shown(store);
    assert!(found > 0, "an inner block's generation: {found}");
    found
}

/// Store the next generation; of each three transactions one is undone.
pub(super) fn put_next(store: &Store) {
    let generation = shown(store) + 1;
    if generation % 3 == 0 {
        store.begin(&mut Wait::default()).unwrap();
        put_with_blocks(store, -generation - 100).unwrap();
        store.rollback().unwrap();
    }
    put_with_blocks(store, generation).unwrap();
}

/// Read often enough, and until the writer has made progress.
pub(super) fn reads(store: &Store) {
    let (begun, mut last) = (Instant::now(), shown(store));
    let (first, mut n) = (last, 0);
    while n < READS || last < first + 3 {
        let found = shown(store);
        assert!(found >= last, "back from {last} to {found}");
        (last, n) = (found, n + 1);
        assert!(
            begun.elapsed() < DEADLINE,
            "{n} reads, generation {first} to {last}"
        );
    }
}

fn after(store: &Store) {
    shown(store);
    store.check().unwrap();
    store.check_pages().unwrap();
}

#[test]
fn an_inner_block_that_another_process_undoes_is_never_seen() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = new_store(&path);
    let other = open(&path);
    let mut writer = Player::start("write blocks", &path, "");
    std::thread::scope(|s| {
        s.spawn(|| reads(&store));
        reads(&other);
    });
    assert!(writer.0.try_wait().unwrap().is_none(), "the writer failed");
    // Killed in the middle of a transaction.
    drop(writer);
    after(&store);
}

#[test]
fn an_inner_block_that_another_thread_undoes_is_never_seen() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = new_store(&path);
    let reader = Player::start("read blocks", &path, "");
    let enough = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                put_next(&store);
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            reads(&store);
            // The other process makes as many reads.
            reader.ends_well();
        }));
        enough.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    after(&store);
}
