//! Random operations on a store and on plain Rust values, with transactions, syncs and all kinds of reopening among
//! them: both must agree at every comparison, and the store must be sound.
//!
//! PERSIST_TORTURE_SECONDS makes it longer.

mod common;

use common::{Model, Rng, compare, scratch, step};
use persist_core::store::{Durability, Options, Store, Wait};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

/// Events other than single operations.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A number of operations.
    Work(u8),
    /// A transaction of a number of operations, and whether it is committed.
    Transaction(u8, bool),
    /// Blocks inside each other and after each other, as the bits of the number determine; the whole is committed or
    /// rolled back.
    Nested(u8, u64, bool),
    Sync,
    /// Closed, and opened with its sidecar.
    Reopen,
    /// Dropped without `close`.
    Drop,
    /// Another opening of the store; the first one then closes.
    Hand,
    /// After a sync, a copy of the file (and its redo log, if it has one), as on another machine.
    Copy,
    /// After a sync, the store is changed further. Then only the synced changes are found; with durable commits, all of
    /// them.
    PowerCut(u8),
    /// Closed, and a copy of the file alone opened.
    CopyClosed,
    Collect,
    Compare,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1..40u8).prop_map(Event::Work),
        3 => (1..20u8, any::<bool>()).prop_map(|(n, c)| Event::Transaction(n, c)),
        2 => (1..10u8, any::<u64>(), any::<bool>()).prop_map(|(n, shape, c)| Event::Nested(n, shape, c)),
        2 => Just(Event::Sync),
        1 => Just(Event::Reopen),
        1 => Just(Event::Drop),
        1 => Just(Event::Hand),
        1 => Just(Event::Copy),
        1 => Just(Event::CopyClosed),
        1 => (0..20u8).prop_map(Event::PowerCut),
        1 => Just(Event::Collect),
        1 => Just(Event::Compare),
    ]
}

struct Run {
    path: PathBuf,
    options: Options,
    store: Option<Store>,
    model: Model,
    rng: Rng,
    room: usize,
}

fn sidecar(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-shm", path.display()))
}

fn log(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", path.display()))
}

/// Copy the files on the disk: the store, and its redo log if there is one.
fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    let _ = std::fs::remove_file(log(to));
    if log(from).exists() {
        std::fs::copy(log(from), log(to)).unwrap();
    }
}

/// Move both, replacing existing files.
fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
    if log(from).exists() {
        std::fs::rename(log(from), log(to)).unwrap();
    }
}

impl Run {
    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn work(&mut self, n: u8) {
        let store = self.store.clone().unwrap();
        for _ in 0..n {
            step(&store, &mut self.model, &mut self.rng, self.room).unwrap();
        }
    }

    fn open(&mut self) {
        self.store = Some(Store::open(&self.path, &self.options).unwrap());
    }

    fn compare(&self, what: &str) {
        compare(self.store(), &self.model, what);
    }

    /// Operations and inner blocks, each of which is kept or undone.
    fn blocks(&mut self, n: u8, shape: &mut u64, depth: u32) {
        let mut next = |of: u64| {
            let drawn = *shape % of;
            *shape /= of;
            drawn
        };
        for _ in 0..=next(3) {
            self.work(n);
            if depth < 4 && next(2) == 1 {
                let (before, stays) = (self.model.clone(), next(2) == 1);
                self.store().begin(&mut Wait::default()).unwrap();
                let mut inner = next(1 << 20);
                self.blocks(n, &mut inner, depth + 1);
                if stays {
                    self.store().commit().unwrap();
                } else {
                    self.store().rollback().unwrap();
                    self.model = before;
                }
                assert!(self.store().in_transaction());
                self.compare("after an inner block");
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Work(n) => self.work(n),
            Event::Transaction(n, commit) => {
                let before = self.model.clone();
                self.store().begin(&mut Wait::default()).unwrap();
                self.work(n);
                self.end(commit, before);
            }
            Event::Nested(n, mut shape, commit) => {
                let before = self.model.clone();
                self.store().begin(&mut Wait::default()).unwrap();
                self.blocks(n, &mut shape, 0);
                self.end(commit, before);
            }
            Event::Sync => self.store().sync().unwrap(),
            Event::Reopen => {
                self.store().close().unwrap();
                self.store = None;
                self.open();
            }
            Event::Drop => {
                self.store = None;
                self.open();
            }
            Event::Hand => {
                let second = Store::open(&self.path, &self.options).unwrap();
                self.store().close().unwrap();
                self.store = Some(second);
            }
            Event::Copy => {
                self.store().sync().unwrap();
                let to = self.path.with_extension("copy");
                copy(&self.path, &to);
                self.compare_copy(&to, "a copy");
            }
            Event::CopyClosed => {
                self.store().close().unwrap();
                self.store = None;
                assert!(!log(&self.path).exists(), "a log is left behind");
                let to = self.path.with_extension("copy");
                std::fs::copy(&self.path, &to).unwrap();
                self.compare_copy(&to, "a copy of the file alone");
                self.open();
            }
            Event::PowerCut(n) => {
                self.store().sync().unwrap();
                let synced = self.model.clone();
                self.work(n);
                let cut = self.path.with_extension("cut");
                copy(&self.path, &cut);
                self.store().close().unwrap();
                self.store = None;
                std::fs::remove_file(sidecar(&self.path)).unwrap();
                rename(&cut, &self.path);
                self.open();
                if self.options.durability != Durability::Commit {
                    self.model = synced;
                }
                self.compare("after a power cut");
            }
            Event::Collect => {
                self.store().gc().unwrap();
            }
            Event::Compare => self.compare("in between"),
        }
    }

    fn compare_copy(&self, path: &Path, what: &str) {
        let store = Store::open(path, &Options::default()).unwrap();
        compare(&store, &self.model, what);
        store.check().unwrap();
        store.check_pages().unwrap();
        drop(store);
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(sidecar(path)).unwrap();
        let _ = std::fs::remove_file(log(path));
    }

    fn end(&mut self, commit: bool, before: Model) {
        if commit {
            self.store().commit().unwrap();
        } else {
            self.store().rollback().unwrap();
            self.model = before;
            self.compare("after a rollback");
        }
        assert!(!self.store().in_transaction());
    }
}

fn run(events: &[Event], seed: u64, durability: Durability, room: usize) {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let options = Options {
        durability,
        ..Options::default()
    };
    let store = Store::open(&path, &options).unwrap();
    let model = Model::empty(store.root());
    let mut run = Run {
        path,
        options,
        store: Some(store),
        model,
        rng: Rng(seed),
        room,
    };
    for event in events {
        run.happen(*event);
    }
    run.compare("at the end");
    // No unreachable container is left permanently.
    run.store().gc().unwrap();
    run.compare("after collecting");
    let report = run.store().check().unwrap();
    assert_eq!(
        report.containers.len(),
        run.model.nodes.len() + run.model.hidden(),
        "unreachable containers"
    );
    run.store().close().unwrap();
}

/// The number of cases for each second of PERSIST_TORTURE_SECONDS, otherwise `quick`.
fn cases(quick: u32, a_second: u32) -> ProptestConfig {
    let seconds: Option<u32> = std::env::var("PERSIST_TORTURE_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    ProptestConfig {
        cases: seconds.map_or(quick, |s| (s * a_second).max(1)),
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(300, 60))]

    #[test]
    fn a_store_is_what_was_put_into_it(
        events in prop::collection::vec(event(), 1..40),
        seed in any::<u64>(),
        durability in prop_oneof![
            3 => Just(Durability::Checkpoint),
            3 => Just(Durability::Commit),
            1 => Just(Durability::None),
        ],
        room in prop_oneof![3 => Just(100_000usize), 1 => Just(1_000_000)],
    ) {
        run(&events, seed, durability, room);
    }
}

/// Two threads on one store, each with its own container, and a third that syncs: the changes of each are present.
#[test]
fn threads_with_containers_of_their_own() {
    use persist_core::store::{Actor, In, Key};
    let dir = scratch();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    let names = ["one", "two"];
    let roots: Vec<_> = names
        .iter()
        .map(|name| {
            store
                .write(Actor::Thread, &mut Wait::default(), |w| {
                    let d = w.new_dict()?;
                    w.set(store.root(), &Key::Str(name.as_bytes()), &In::Obj(d))?;
                    Ok(d)
                })
                .unwrap()
        })
        .collect();
    let models: Vec<Model> = std::thread::scope(|t| {
        let workers: Vec<_> = roots
            .iter()
            .enumerate()
            .map(|(i, root)| {
                let store = &store;
                t.spawn(move || {
                    let (mut model, mut rng) = (Model::empty(*root), Rng(i as u64));
                    for _ in 0..400 {
                        step(store, &mut model, &mut rng, 200_000).unwrap();
                    }
                    model
                })
            })
            .collect();
        t.spawn(|| {
            for _ in 0..60 {
                store.sync().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let whole = Model::read(&store).unwrap();
    for (root, model) in roots.iter().zip(models) {
        let part = Model {
            root: root.id.0,
            nodes: whole.nodes.clone(),
        };
        assert_eq!(part.text(), model.text());
    }
    store.check().unwrap();
    store.check_pages().unwrap();
    store.close().unwrap();
}
