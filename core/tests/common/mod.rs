//! A store's graph as plain Rust values, random operations on both, and their comparison: shared by the model,
//! power-cut and full-disk tests.
//!
//! 1. The model names containers by the ids that the store assigned, so that it can be compared with any copy of the
//!    store, and operations can continue from any checkpoint.
//! 2. An operation is drawn from the model alone: the same seed on the same model gives the same operation.
//!
//! `value`, `model`: the graph. `operation`, `draw`: its changes. `random`, `rng`: random numbers.
#![allow(dead_code, unreachable_pub, unused_imports)] // Each test uses its part.

mod draw;
mod model;
mod operation;
mod random;
mod rng;
mod value;

pub use model::{Body, Dict, Model};
pub use operation::{New, Op};
pub use random::Rng;
pub use rng::{seed, time};
pub use value::Val;

use persist_core::store::{Actor, Durability, Error, Options, Result, Store, Wait};
use std::path::Path;
use std::time::Duration;

/// Draw one operation and run it on the store and the model.
pub fn step(store: &Store, m: &mut Model, rng: &mut Rng, room: usize) -> Result<Op> {
    let op = m.draw(rng, room);
    let made = store.write(Actor::Thread, &mut Wait::default(), |w| m.run(w, &op))?;
    m.apply(&op, &made);
    Ok(op)
}

/// Panics unless the store is sound and holds exactly this graph.
pub fn compare(store: &Store, m: &Model, what: &str) {
    let found = Model::read(store).unwrap_or_else(|e| panic!("{what}: reading: {e}"));
    let (found, want) = (found.text(), m.text());
    if found != want {
        let line = found.lines().zip(want.lines()).find(|(a, b)| a != b);
        let (a, b) = line.unwrap_or(("(a different number of containers)", ""));
        let at = a
            .bytes()
            .zip(b.bytes())
            .take_while(|(x, y)| x == y)
            .count()
            .saturating_sub(40);
        let show = |s: &str| s.chars().skip(at).take(300).collect::<String>();
        panic!(
            "{what}: the graph differs\n found: {}\n want:  {}",
            show(a),
            show(b)
        );
    }
    let report = store.check().unwrap_or_else(|e| panic!("{what}: check: {e}"));
    assert!(
        report.containers.len() >= m.nodes.len(),
        "{what}: fewer containers than there are"
    );
    if !store.in_transaction() {
        match store.check_pages() {
            Ok(_) | Err(Error::Poisoned { .. }) => {}
            Err(e) => panic!("{what}: pages: {e}"),
        }
    }
}

/// Open a store for reading only.
pub fn read_only(path: &Path) -> Result<Store> {
    let options = Options {
        read_only: true,
        ..Options::default()
    };
    Store::open(path, &options)
}

/// Open the store of a directory.
pub fn open(dir: &Path, durability: Durability, max_age: Option<Duration>) -> Store {
    let options = Options {
        durability,
        max_age,
        ..Options::default()
    };
    Store::open(dir.join("a.store"), &options).unwrap()
}

/// The length of a store's file.
pub fn file_size(store: &Store) -> u64 {
    std::fs::metadata(store.path()).unwrap().len()
}

/// The directory for stores: in memory, if possible.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = tempfile::Builder::new().prefix("persist-test").tempdir_in(memory)
    {
        return dir;
    }
    tempfile::tempdir().unwrap_or_else(|e| panic!("no directory for tests: {e}"))
}
