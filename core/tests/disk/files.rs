//! A store and its redo log in a state that a power failure may leave, opened and judged: for `power_log`.

use super::kept::Named;
use crate::common::{Model, Rng, compare, step};
use persist_core::store::{Durability, Error, Options, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn options(durability: Durability) -> Options {
    Options {
        durability,
        max_age: None,
        ..Options::default()
    }
}

pub fn beside(path: &Path, what: &str) -> PathBuf {
    PathBuf::from(format!("{}-{what}", path.display()))
}

/// The files that a disk holds.
#[derive(Clone)]
pub struct Image {
    pub store: Vec<u8>,
    pub log: Option<Vec<u8>>,
}

impl Image {
    pub fn lay(&self, path: &Path) {
        std::fs::write(path, &self.store).unwrap();
        let _ = std::fs::remove_file(beside(path, "shm"));
        let _ = std::fs::remove_file(beside(path, "wal"));
        if let Some(log) = &self.log {
            std::fs::write(beside(path, "wal"), log).unwrap();
        }
    }

    pub fn clear(path: &Path) {
        for p in [path.to_owned(), beside(path, "shm"), beside(path, "wal")] {
            let _ = std::fs::remove_file(p);
        }
    }
}

/// Open the state after a power failure and judge it: it must equal one of `allowed`, and be sound. Returns the state.
#[allow(clippy::too_many_arguments)] // A failure reports all of them.
pub fn judge(
    path: &Path,
    image: &Image,
    allowed: &[Arc<Model>],
    kept: &Named,
    rng: &mut Rng,
    room: usize,
    damaged: bool,
    what: &str,
) -> Model {
    image.lay(path);
    let durability = if rng.one_in(2) {
        Durability::Commit
    } else {
        Durability::Checkpoint
    };
    let mut emptied = false;
    let store = match Store::open(path, &options(durability)) {
        // The log was removed when the newest meta page named none, and that page is the damaged one.
        Err(Error::Refused { .. }) if damaged => {
            std::fs::write(beside(path, "wal"), b"").unwrap();
            emptied = true;
            Store::open(path, &options(durability))
        }
        done => done,
    };
    let store = store.unwrap_or_else(|e| panic!("{what}: opening: {e}"));
    let found = Model::read(&store).unwrap_or_else(|e| panic!("{what}: reading: {e}"));
    let text = found.text();
    let at = allowed.iter().position(|m| m.text() == text);
    let Some(at) = at else {
        // Report where they differ.
        compare(
            &store,
            &allowed[0],
            &format!("{what}: none of {} states", allowed.len()),
        );
        unreachable!();
    };
    compare(&store, &allowed[at], what);
    kept.compare(&store, damaged, what);
    let mut model = (*allowed[at]).clone();
    if rng.one_in(6) {
        for _ in 0..1 + rng.below(10) {
            step(&store, &mut model, rng, room).unwrap_or_else(|e| panic!("{what}: going on: {e}"));
        }
        if rng.one_in(2) {
            for s in store.snapshots().unwrap() {
                store
                    .drop_snapshot(&s.name)
                    .unwrap_or_else(|e| panic!("{what}: dropping {}: {e}", s.name));
            }
            compare(&store, &model, &format!("{what}: with no snapshots"));
        }
        if durability == Durability::Checkpoint {
            store.sync().unwrap_or_else(|e| panic!("{what}: sync: {e}"));
        }
        // All of it is on the disk: another power failure has no effect.
        let then = path.with_extension("then");
        Image::clear(&then);
        std::fs::copy(path, &then).unwrap();
        if beside(path, "wal").exists() {
            std::fs::copy(beside(path, "wal"), beside(&then, "wal")).unwrap();
        }
        let second = Store::open(&then, &options(Durability::Checkpoint))
            .unwrap_or_else(|e| panic!("{what}: gone on, opening: {e}"));
        compare(&second, &model, &format!("{what}: gone on"));
        drop(second);
        Image::clear(&then);
        store.close().unwrap();
        drop(store);
        assert!(
            !beside(path, "wal").exists() || image.log.is_some() || emptied,
            "{what}: a log is left behind"
        );
        let _ = std::fs::remove_file(beside(path, "shm"));
        let store = Store::open(
            path,
            &Options {
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap();
        compare(&store, &model, &format!("{what}: gone on, closed, opened"));
    }
    Image::clear(path);
    found
}
