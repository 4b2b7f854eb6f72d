//! Damaged files, each from its seed, and the contents that they may show.

use super::shapes;
use super::shapes::damage::Image;
use super::shapes::log::{self, Logged};
use super::shapes::mutate::{self, Rng};
use super::using::read_all;
use persist_core::store::{ObjectId, Options, Step, Store, Value};
use std::collections::HashMap;
use std::path::Path;

/// The content of each container, by its id.
pub(super) type Truth = HashMap<ObjectId, Vec<(Step, Value)>>;

/// A shape's file, and the content of both its checkpoints.
pub(super) struct Base {
    bytes: Vec<u8>,
    truths: [Truth; 2],
}

/// The files from which cases are made.
pub(super) struct Bases {
    shapes: Vec<Base>,
    logged: Logged,
    /// The state of the store at each commit.
    states: Vec<Truth>,
}

/// Create the stores, in the directory above the children's.
pub(super) fn make_bases(dir: &Path) {
    for shape in shapes::ALL {
        shapes::make(shape, &dir.join(shape));
    }
}

/// The content of a store.
fn truth_of(store: &Store) -> Truth {
    let mut truth = Truth::new();
    let (_, whole) = read_all(store, u64::MAX, |obj, entries| {
        truth.insert(obj.id, entries);
    });
    assert!(whole);
    truth
}

pub(super) fn bases(dir: &Path) -> Bases {
    let truth = |path: &Path| {
        let store = Store::open(path, &Options::default()).unwrap();
        let truth = truth_of(&store);
        store.close().unwrap();
        truth
    };
    let base = |shape: &&str| {
        let path = dir.join("base");
        let image = Image::load(&dir.parent().unwrap_or(dir).join(shape));
        clear(&path);
        image.save(&path);
        let newest = truth(&path);
        let mut older = Image {
            bytes: image.bytes.clone(),
        };
        let meta = older.meta().page;
        older.page(meta).fill(0);
        clear(&path);
        older.save(&path);
        Base {
            bytes: image.bytes,
            truths: [newest, truth(&path)],
        }
    };
    let shapes = shapes::ALL.iter().map(base).collect();
    let mut states = Vec::new();
    let logged = log::make(&dir.join("logged"), |store| states.push(truth_of(store)));
    Bases {
        shapes,
        logged,
        states,
    }
}

pub(super) fn clear(path: &Path) {
    for end in ["", "-shm", "-wal"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
}

/// The damaged file of a case, before the case runs. Its log is beside it.
pub(super) const CASE: &str = "case";

/// A store's file, and its log if there is one.
pub(super) struct Files {
    pub(super) store: Image,
    pub(super) log: Option<Vec<u8>>,
}

impl Files {
    pub(super) fn load(path: &Path) -> Files {
        Files {
            store: Image::load(path),
            log: std::fs::read(log::path_of(path)).ok(),
        }
    }

    pub(super) fn save(&self, path: &Path) {
        clear(path);
        self.store.save(path);
        if let Some(bytes) = &self.log {
            std::fs::write(log::path_of(path), bytes).unwrap();
        }
    }
}

/// Damage a store, or its log. Returns the files with the states that they may show, unless the checksums were made
/// valid again.
pub(super) fn mutate<'b>(bases: &'b Bases, rng: &mut Rng) -> (Files, Option<&'b [Truth]>) {
    let raw = rng.one_in(3);
    if rng.one_in(5) {
        let mut store = Image {
            bytes: bases.logged.store.clone(),
        };
        let (log, states) = match raw {
            // At worst nothing of the log is shown; but a checkpoint is durable without it.
            true if rng.one_in(2) => (
                log::raw(&bases.logged, rng),
                &bases.states[bases.logged.before - 1..],
            ),
            true => {
                mutate::raw(&mut store, rng);
                (log::raw(&bases.logged, rng), &bases.states[..])
            }
            false => (log::deep(&bases.logged, &mut store, rng), &[][..]),
        };
        let log = Some(log);
        return (Files { store, log }, raw.then_some(states));
    }
    let base = rng.pick(&bases.shapes);
    let mut store = Image {
        bytes: base.bytes.clone(),
    };
    if raw {
        mutate::raw(&mut store, rng);
    } else {
        mutate::deep(&mut store, rng);
    }
    (Files { store, log: None }, raw.then_some(&base.truths))
}
