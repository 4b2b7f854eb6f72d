//! Replaying a redo log, and going on with the store: records hold anything, with their checksums right or not.
#![no_main]

#[path = "../input.rs"]
mod input;
#[path = "../../tests/shapes/mod.rs"]
mod shapes;

use libfuzzer_sys::fuzz_target;
use persist_core::store::{Actor, Durability, In, Key, Options, Store, Wait};

fuzz_target!(|data: &[u8]| {
    let Some(file) = input::Store::logged(data) else {
        return;
    };
    let options = Options {
        durability: if data.len() % 2 == 0 {
            Durability::Commit
        } else {
            Durability::Checkpoint
        },
        ..Options::default()
    };
    let Ok(store) = Store::open(&file.path, &options) else {
        return;
    };
    let wait = &mut Wait::default();
    let mut cursor = 0;
    while let Ok(Some(entry)) = store.read(wait, |r| r.next(store.root(), cursor)) {
        assert!(entry.cursor > cursor, "a cursor that does not move on");
        cursor = entry.cursor;
    }
    for n in 0..4 {
        let _ = store.write(Actor::Thread, wait, |w| {
            w.set(store.root(), &Key::Int(n), &In::Bytes(&[7; 3000]))
        });
    }
    let _ = store.gc();
    let _ = store.sync();
    let _ = store.close();
    // What was written is there, or the store says what is wrong.
    if let Ok(store) = Store::open(&file.path, &Options::default()) {
        let _ = store.close();
    }
});
