//! Promise P2, power failure, in process: whatever mixture of old and new sectors a disk holds after a power failure,
//! the store opens at a checkpoint, whole, and not older than the last `sync` that had returned.
//!
//! A workload runs on a store. An observer of the thread sees every flush and every write of a meta page. Images are
//! made from the contents of the file since the last completed flush: each page or each 512-byte sector that changed
//! is, independently, as it was at that flush, as it is now, or as it was at any observed moment between; some are
//! garbage. Another thread opens each image without a sidecar, compares it in full with the model at that checkpoint,
//! and checks it. Some images are also changed.
//!
//! With durable commits: `power_log`.
//!
//! PERSIST_TORTURE_SECONDS makes it longer; PERSIST_SEED selects the seed.

mod common;
mod disk;

use common::{Model, Rng, compare, scratch, seed, step, time};
use disk::Disk;
use disk::judges::{Job, Judges, judge};
use disk::kept::{Kept, States};
use persist_core::raw::observe::{Moment, observe};
use persist_core::store::{Durability, Options, Store};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// One life of a store, from an image to a power failure.
struct Life {
    disk: Disk,
    store: Option<Store>,
    model: Model,
    states: States,
    kept: Kept,
    /// A snapshot is being dropped, which takes two checkpoints: the last one before.
    dropping: Option<u64>,
    /// The last checkpoint that was reported to a caller.
    synced: u64,
    rng: Rng,
    judges: Rc<Judges>,
    what: String,
    /// The chance of an image at each moment: one in `every`.
    every: usize,
    /// Whether other threads run operations during a checkpoint.
    others: bool,
    /// The approximate size of the graph's content in bytes.
    room: usize,
}

type Shared = Rc<RefCell<Life>>;

impl Life {
    /// Record that the next checkpoint will hold the current model.
    fn expect(&mut self) {
        let next = self.store.as_ref().map_or(1, |s| s.stat().unwrap().checkpoint) + 1;
        self.states.insert(next, Arc::new(self.model.clone()));
    }

    /// Record that the second checkpoint of a drop will hold the current model, if that checkpoint has not begun.
    fn expect_second(&mut self) {
        if let (Some(before), Some(store)) = (self.dropping, &self.store)
            && store.stat().unwrap().checkpoint == before
        {
            self.states.insert(before + 2, Arc::new(self.model.clone()));
        }
    }

    fn cut(&mut self, moment: &str, images: usize) {
        for _ in 0..images {
            let image = self.disk.image(&mut self.rng);
            let job = Job {
                image,
                states: Arc::new(
                    self.states
                        .range(self.synced.saturating_sub(1)..)
                        .map(|(n, s)| (*n, s.clone()))
                        .collect(),
                ),
                kept: Arc::new(self.kept.clone()),
                least: self.synced,
                seed: self.rng.next(),
                room: self.room,
                what: format!("{} {moment} (synced {})", self.what, self.synced),
            };
            self.judges.judge(job);
        }
        if let Some((image, newest)) = self.disk.damaged(&mut self.rng)
            && newest > 1
        {
            let least = newest - 1;
            let states = Arc::new(
                self.states
                    .range(least..=least)
                    .map(|(n, s)| (*n, s.clone()))
                    .collect(),
            );
            let what = format!("{} {moment}, the newest meta page damaged", self.what);
            self.judges.judge(Job {
                image,
                states,
                kept: Arc::new(self.kept.clone()),
                least,
                seed: self.rng.next(),
                room: self.room,
                what,
            });
        }
    }

    fn moment(&mut self, name: &str) {
        let mut rng = self.rng.clone();
        self.disk.look(&mut rng);
        self.rng = rng;
        if self.rng.one_in(self.every) {
            let n = 1 + self.rng.below(4);
            self.cut(name, n);
        }
    }

    fn observed(&mut self, moment: Moment) {
        self.moment(&format!("before {moment:?}"));
        match moment {
            Moment::Flushing => self.disk.flush_begins(),
            Moment::Flushed => self.disk.flush_ended(),
            _ => {}
        }
        if self.others && self.store.is_some() {
            let store = self.store.clone().unwrap();
            for _ in 0..self.rng.below(3) {
                let mut model = std::mem::replace(&mut self.model, Model::empty(store.root()));
                let done = step(&store, &mut model, &mut self.rng, self.room);
                self.model = model;
                done.unwrap_or_else(|e| panic!("{}: another's change in {moment:?}: {e}", self.what));
                self.expect_second();
                self.moment(&format!("in {moment:?}, others active"));
            }
        }
        self.moment(&format!("after {moment:?}"));
    }
}

fn watch(life: &Shared) {
    let life = life.clone();
    observe(Some(Box::new(move |moment| {
        life.borrow_mut().observed(moment);
        Ok(())
    })));
}

/// Run one life. Returns the image with which the next one begins, and the states of its checkpoints.
fn live(
    path: &Path,
    begin: Option<(Vec<u8>, States, Kept)>,
    seed: u64,
    room: usize,
    judges: &Rc<Judges>,
) -> (Vec<u8>, States, Kept) {
    let sidecar = PathBuf::from(format!("{}-shm", path.display()));
    let _ = std::fs::remove_file(&sidecar);
    let _ = std::fs::remove_file(path);
    let mut rng = Rng(seed);
    if let Some((image, ..)) = &begin {
        std::fs::write(path, image).unwrap();
    }
    // The observer sees only the actions of its own thread.
    let options = Options {
        max_age: None,
        ..Options::default()
    };
    // A new store's graph is an empty root, and its root is its first container.
    let empty = {
        let probe = path.with_extension("probe");
        let store = Store::open(
            &probe,
            &Options {
                durability: Durability::None,
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap();
        let root = store.root();
        store.close().unwrap();
        std::fs::remove_file(&probe).unwrap();
        std::fs::remove_file(format!("{}-shm", probe.display())).unwrap();
        Model::empty(root)
    };
    let (states, kept) = begin.map_or_else(
        || (BTreeMap::from([(1, Arc::new(empty))]), Kept::default()),
        |b| (b.1, b.2),
    );
    let model = states.last_key_value().map(|(_, m)| (**m).clone()).unwrap();
    let life: Shared = Rc::new(RefCell::new(Life {
        disk: Disk::new(path),
        store: None,
        model: model.clone(),
        states,
        kept,
        dropping: None,
        synced: 0,
        every: 1 + rng.below(5),
        others: rng.one_in(2),
        room,
        rng: rng.clone(),
        judges: judges.clone(),
        what: format!("seed {seed:#x}"),
    }));
    watch(&life);
    let store = Store::open(path, &options).unwrap_or_else(|e| panic!("seed {seed:#x}: open: {e}"));
    {
        let mut l = life.borrow_mut();
        let n = store.stat().unwrap().checkpoint;
        l.store = Some(store.clone());
        // The state at the opening, which is already on the disk.
        l.states.insert(n, Arc::new(model));
        l.synced = n;
        l.moment("after opening");
        compare(
            &store,
            &l.model,
            &format!("seed {seed:#x}: as the last life left it"),
        );
    }
    for _ in 0..6 + rng.below(50) {
        if judges.failed() {
            break;
        }
        let before = store.stat().unwrap().checkpoint;
        match rng.below(14) {
            12 => take_snapshot(&store, &life, before),
            13 => drop_snapshot(&store, &life, &mut rng, before),
            0..=6 => {
                let mut l = life.borrow_mut();
                let mut r = l.rng.clone();
                let mut model = l.model.clone();
                let room = l.room;
                drop(l);
                step(&store, &mut model, &mut r, room).unwrap_or_else(|e| panic!("seed {seed:#x}: {e}"));
                l = life.borrow_mut();
                l.rng = r;
                l.model = model;
                l.moment("after an operation");
            }
            7 => transaction(&store, &life, &mut rng),
            _ => {
                life.borrow_mut().expect();
                let done = store.sync();
                let mut l = life.borrow_mut();
                done.unwrap_or_else(|e| panic!("{}: sync: {e}", l.what));
                l.synced = store.stat().unwrap().checkpoint;
                l.moment("after sync");
            }
        }
        let mut l = life.borrow_mut();
        let from = l.synced.saturating_sub(1);
        l.states = l.states.split_off(&from);
    }
    observe(None);
    let next = {
        let mut l = life.borrow_mut();
        compare(&store, &l.model, &format!("{} at the end", l.what));
        l.cut("at the end", 4);
        // The next life begins with one of the images, which is judged here.
        let mut r = l.rng.clone();
        let image = l.disk.image(&mut r);
        let job = Job {
            image,
            states: Arc::new(l.states.clone()),
            kept: Arc::new(l.kept.clone()),
            least: l.synced,
            seed: 1,
            room: l.room,
            what: format!("{} the next life", l.what),
        };
        let n = if judges.failed() {
            0
        } else {
            judge(&path.with_extension("next"), &job)
        };
        (
            job.image,
            l.states
                .range(n.saturating_sub(1)..=n)
                .map(|(n, m)| (*n, m.clone()))
                .collect(),
            l.kept.until(n),
        )
    };
    life.borrow_mut().store = None;
    store.close().unwrap();
    drop(store);
    let _ = std::fs::remove_file(path);
    let _ = std::fs::remove_file(&sidecar);
    next
}

fn take_snapshot(store: &Store, life: &Shared, before: u64) {
    {
        let mut l = life.borrow_mut();
        l.expect();
        let model = Arc::new(l.model.clone());
        l.kept.models.insert(before + 1, model);
        let mut list = l.kept.list(before);
        list.push((format!("of {}", before + 1), before + 1));
        l.kept.lists.insert(before + 1, list);
    }
    let done = store.snapshot(&format!("of {}", before + 1));
    let mut l = life.borrow_mut();
    let taken = done.unwrap_or_else(|e| panic!("{}: snapshot: {e}", l.what));
    assert_eq!(taken.checkpoint, before + 1, "{}", l.what);
    l.synced = before + 1;
    l.moment("after a snapshot was taken");
}

fn drop_snapshot(store: &Store, life: &Shared, rng: &mut Rng, before: u64) {
    let name = {
        let mut l = life.borrow_mut();
        let mut list = l.kept.list(before);
        if list.is_empty() {
            return;
        }
        let (name, _) = list.remove(rng.below(list.len()));
        l.expect();
        l.dropping = Some(before);
        l.expect_second();
        l.kept.lists.insert(before + 1, list);
        name
    };
    let done = store.drop_snapshot(&name);
    let mut l = life.borrow_mut();
    done.unwrap_or_else(|e| panic!("{}: dropping {name}: {e}", l.what));
    l.dropping = None;
    l.synced = store.stat().unwrap().checkpoint;
    assert_eq!(l.synced, before + 2, "{}", l.what);
    l.moment("after a snapshot was dropped");
}

/// Several operations that are present completely or not at all.
fn transaction(store: &Store, life: &Shared, rng: &mut Rng) {
    use persist_core::store::Wait;
    store.begin(&mut Wait::default()).unwrap();
    let mut model = life.borrow().model.clone();
    let room = life.borrow().room;
    for _ in 0..1 + rng.below(6) {
        step(store, &mut model, rng, room).unwrap();
        life.borrow_mut().moment("inside a transaction");
    }
    if rng.one_in(3) {
        store.rollback().unwrap();
        let mut l = life.borrow_mut();
        compare(store, &l.model, &format!("{}: after a rollback", l.what));
        l.moment("after a rollback");
        return;
    }
    store.commit().unwrap();
    let mut l = life.borrow_mut();
    l.model = model;
    l.moment("after a transaction");
}

/// The minimal number of judged images, however long they take.
const LEAST: u64 = 50;

#[test]
fn whatever_the_disk_holds_the_store_is_whole_at_a_checkpoint() {
    let mut rng = Rng(seed(20_241));
    let (begun, long) = (Instant::now(), time(18));
    let dir = scratch();
    let judges = Rc::new(Judges::new(dir.path()));
    let path = dir.path().join("life.store");
    let (mut next, mut count, mut room) = (None, 0, 300_000);
    while (begun.elapsed() < long || judges.judged() < LEAST) && !judges.failed() {
        let (image, states, kept) = live(&path, next.take(), rng.next(), room, &judges);
        count += 1;
        // Sometimes a new store; some of these are larger than one page of the page table covers.
        next = (!rng.one_in(6)).then_some((image, states, kept));
        if next.is_none() {
            room = if rng.one_in(3) { 1_500_000 } else { 300_000 };
        }
    }
    let judges = Rc::into_inner(judges).unwrap();
    let (judged, newer) = judges.finish();
    println!(
        "{count} lives, {judged} images ({newer} newer than the last sync) in {:.0?}",
        begun.elapsed()
    );
    assert!(judged >= LEAST, "only {judged} images");
}

/// The map is rebuilt in steps, over many checkpoints, most of which touch only a small part of the page table.
#[test]
fn a_lost_free_map_is_rebuilt() {
    use persist_core::store::{Actor, In, Key, Wait};
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    let set = |store: &Store, i: usize, with: u8| {
        let key = format!("page {i}");
        let done = store.write(Actor::Thread, &mut Wait::default(), |w| {
            w.set(store.root(), &Key::Str(key.as_bytes()), &In::Bytes(&[with; 3500]))
        });
        done.unwrap();
    };
    for i in 0..2500 {
        set(&store, i, 1);
    }
    store.close().unwrap();
    drop(store);
    let mut rng = Rng(8);
    for round in 0..3u8 {
        std::fs::remove_file(format!("{}-shm", path.display())).unwrap();
        let store = Store::open(
            &path,
            &Options {
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap();
        let before = store.check_pages().unwrap();
        for n in 0..16 {
            set(&store, rng.below(2500), n);
            store.sync().unwrap();
            store
                .check_pages()
                .unwrap_or_else(|e| panic!("round {round}, checkpoint {n}: {e}"));
            // A copy, as after a power failure, while pages of the new map are in use.
            let copy = path.with_extension("copy");
            std::fs::copy(&path, &copy).unwrap();
            let _ = std::fs::remove_file(format!("{}-shm", copy.display()));
            let found = Store::open(
                &copy,
                &Options {
                    max_age: None,
                    ..Options::default()
                },
            )
            .unwrap();
            assert_eq!(found.stat().unwrap().checkpoint, store.stat().unwrap().checkpoint);
            assert_eq!(
                Model::read(&found).unwrap().text(),
                Model::read(&store).unwrap().text()
            );
            found.check_pages().unwrap();
        }
        let after = store.check_pages().unwrap();
        assert!(store.stat().unwrap().free_pages > 0, "{before:?} {after:?}");
        store.check().unwrap();
        store.close().unwrap();
    }
}
