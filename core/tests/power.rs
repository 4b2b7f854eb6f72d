//! Promise P2, power loss, in process: whatever mixture of old and new sectors a disk holds after a power
//! cut, the store opens at a checkpoint, whole, and no older than the last `sync` that had returned.
//!
//! A workload runs on a store; an observer of the thread sees every flush and every write of a meta
//! page. From what the file held since the last completed flush, images are made: each page or
//! each 512-byte sector that changed is, independently, as it was at that flush, as it is now, or as it was
//! at any moment noticed between; some are garbage. Each image is opened without a sidecar by another
//! thread, compared in full with the model at that very checkpoint, checked, and some are worked on.
//!
//! With durable commits: `power_log`.
//!
//! PERSIST_TORTURE_SECONDS makes it longer, PERSIST_SEED starts it elsewhere.

mod common;
mod disk;

use common::{Model, Rng, compare, scratch, step, time};
use disk::Disk;
use persist_core::raw::observe::{Moment, observe};
use persist_core::store::{Durability, Options, Store};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The models at checkpoints, by number.
type States = BTreeMap<u64, Arc<Model>>;

/// Snapshots that there are or were.
#[derive(Clone, Default)]
struct Kept {
    /// Names and checkpoints, from a checkpoint on.
    lists: BTreeMap<u64, Vec<(String, u64)>>,
    /// What they hold, by checkpoint.
    models: States,
}

impl Kept {
    /// As of a checkpoint.
    fn list(&self, checkpoint: u64) -> Vec<(String, u64)> {
        let last = self.lists.range(..=checkpoint).next_back();
        last.map_or_else(Vec::new, |l| l.1.clone())
    }

    /// What there is if a checkpoint is the last.
    fn until(&self, checkpoint: u64) -> Kept {
        let upto = |states: &States| {
            states
                .range(..=checkpoint)
                .map(|(n, m)| (*n, m.clone()))
                .collect()
        };
        Kept {
            lists: self
                .lists
                .range(..=checkpoint)
                .map(|(n, l)| (*n, l.clone()))
                .collect(),
            models: upto(&self.models),
        }
    }

    /// Panics unless a store that opened at a checkpoint has just these snapshots, whole.
    fn compare(&self, store: &Store, checkpoint: u64, what: &str) {
        let found = store
            .snapshots()
            .unwrap_or_else(|e| panic!("{what}: snapshots: {e}"));
        let found: Vec<(String, u64)> = found.into_iter().map(|s| (s.name, s.checkpoint)).collect();
        assert_eq!(found, self.list(checkpoint), "{what}");
        for (name, number) in found {
            let what = format!("{what}: snapshot {name}");
            let opened = store
                .open_snapshot(&name)
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            compare(&opened, &self.models[&number], &what);
            opened.check_pages().unwrap_or_else(|e| panic!("{what}: {e}"));
        }
    }
}

/// An image to be opened.
struct Job {
    image: Vec<u8>,
    states: Arc<States>,
    kept: Arc<Kept>,
    /// The oldest checkpoint it may open at.
    least: u64,
    seed: u64,
    room: usize,
    what: String,
}

/// Opens an image as after a power cut, and judges it. The checkpoint, and its state.
fn judge(path: &Path, job: &Job) -> u64 {
    let sidecar = PathBuf::from(format!("{}-shm", path.display()));
    std::fs::write(path, &job.image).unwrap();
    let _ = std::fs::remove_file(&sidecar);
    let what = &job.what;
    let mut store = Store::open(path, &Options::default()).unwrap_or_else(|e| panic!("{what}: opening: {e}"));
    let n = store.stat().unwrap().checkpoint;
    assert!(
        n >= job.least,
        "{what}: opened at checkpoint {n}, {} was synced",
        job.least
    );
    let want = job
        .states
        .get(&n)
        .unwrap_or_else(|| panic!("{what}: opened at checkpoint {n}, which nobody made"));
    compare(&store, want, what);
    job.kept.compare(&store, n, what);
    let mut rng = Rng(job.seed);
    if rng.one_in(6) {
        // It can be worked on, and what is then synced is there without the sidecar.
        let mut model = (**want).clone();
        for round in 0..1 + rng.below(3) {
            for _ in 0..rng.below(12) {
                step(&store, &mut model, &mut rng, job.room)
                    .unwrap_or_else(|e| panic!("{what}: going on: {e}"));
            }
            store.sync().unwrap_or_else(|e| panic!("{what}: sync: {e}"));
            compare(&store, &model, &format!("{what}: gone on, round {round}"));
            job.kept
                .compare(&store, n, &format!("{what}: gone on, round {round}"));
        }
        if rng.one_in(2) {
            for (name, _) in job.kept.list(n) {
                store
                    .drop_snapshot(&name)
                    .unwrap_or_else(|e| panic!("{what}: dropping {name}: {e}"));
            }
            store
                .check_pages()
                .unwrap_or_else(|e| panic!("{what}: with no snapshots: {e}"));
        }
        store.close().unwrap();
        drop(store);
        let _ = std::fs::remove_file(&sidecar);
        store = Store::open(path, &Options::default())
            .unwrap_or_else(|e| panic!("{what}: gone on, opening: {e}"));
        compare(&store, &model, &format!("{what}: gone on and reopened"));
    }
    let _ = store.close();
    drop(store);
    let _ = std::fs::remove_file(path);
    let _ = std::fs::remove_file(&sidecar);
    n
}

/// Threads that open images.
struct Judges {
    send: Option<SyncSender<Job>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    judged: Arc<AtomicU64>,
    /// Opened at something newer than was required.
    newer: Arc<AtomicU64>,
}

impl Judges {
    fn new(dir: &Path) -> Judges {
        let (send, receive) = sync_channel::<Job>(32);
        let receive: Arc<Mutex<Receiver<Job>>> = Arc::new(Mutex::new(receive));
        let (judged, newer) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads = (0..2)
            .map(|t| {
                let (receive, judged, newer) = (receive.clone(), judged.clone(), newer.clone());
                let path = dir.join(format!("image-{t}.store"));
                std::thread::spawn(move || {
                    loop {
                        let job = receive.lock().unwrap().recv();
                        let Ok(job) = job else { return };
                        let n = judge(&path, &job);
                        judged.fetch_add(1, Ordering::Relaxed);
                        newer.fetch_add(u64::from(n > job.least), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Judges {
            send: Some(send),
            threads,
            judged,
            newer,
        }
    }

    fn judge(&self, job: Job) {
        // If a judge has found something, its panic is what there is to see.
        let _ = self.send.as_ref().unwrap().send(job);
    }

    fn failed(&self) -> bool {
        self.threads.iter().any(std::thread::JoinHandle::is_finished)
    }

    fn finish(mut self) -> (u64, u64) {
        drop(self.send.take());
        for t in self.threads.drain(..) {
            if let Err(e) = t.join() {
                std::panic::resume_unwind(e);
            }
        }
        (
            self.judged.load(Ordering::Relaxed),
            self.newer.load(Ordering::Relaxed),
        )
    }
}

/// One life of a store, from an image to a power cut.
struct Life {
    disk: Disk,
    store: Option<Store>,
    model: Model,
    states: States,
    kept: Kept,
    /// A snapshot is being dropped, which takes two checkpoints: the last one before.
    dropping: Option<u64>,
    /// The last checkpoint that a caller was told of.
    synced: u64,
    rng: Rng,
    judges: Rc<Judges>,
    what: String,
    /// Chance of an image at each moment: one in so many.
    every: usize,
    /// Operations of others during a checkpoint.
    others: bool,
    /// Bytes of content the graph is kept around.
    room: usize,
}

type Shared = Rc<RefCell<Life>>;

impl Life {
    /// Notes that the model as it is now is what the next checkpoint will hold.
    fn expect(&mut self) {
        let next = self.store.as_ref().map_or(1, |s| s.stat().unwrap().checkpoint) + 1;
        self.states.insert(next, Arc::new(self.model.clone()));
    }

    /// Notes that the model as it is now is what the second checkpoint of a drop will hold, if that one
    /// has not begun.
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
                self.moment(&format!("in {moment:?}, others at work"));
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

/// Runs one life; the image that the next one begins with, and the states its checkpoints hold.
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
    let options = Options::default();
    // A new store's graph is an empty root, and its root is its first container.
    let empty = {
        let probe = path.with_extension("probe");
        let store = Store::open(
            &probe,
            &Options {
                durability: Durability::None,
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
        // As it was found: on the disk already.
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
        // The next life begins with one of the images, judged here and now.
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

/// Several operations that are there wholly or not at all.
fn transaction(store: &Store, life: &Shared, rng: &mut Rng) {
    use persist_core::store::Wait;
    store.begin(&mut Wait::forever()).unwrap();
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

#[test]
fn whatever_the_disk_holds_the_store_is_whole_at_a_checkpoint() {
    let seed: u64 = std::env::var("PERSIST_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(20_241);
    let mut rng = Rng(seed);
    let (begun, long) = (Instant::now(), time(18));
    let dir = scratch();
    let judges = Rc::new(Judges::new(dir.path()));
    let path = dir.path().join("life.store");
    let (mut next, mut count, mut room) = (None, 0, 300_000);
    while begun.elapsed() < long && !judges.failed() {
        let (image, states, kept) = live(&path, next.take(), rng.next(), room, &judges);
        count += 1;
        // Now and then a new store, some of them larger than one page of the page table covers.
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
    assert!(judged > 50, "only {judged} images");
}

/// In steps, over many checkpoints, most of which touch only a small part of the page table.
#[test]
fn a_free_map_that_was_lost_is_learned_anew() {
    use persist_core::store::{Actor, In, Key, Wait};
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &Options::default()).unwrap();
    let set = |store: &Store, i: usize, with: u8| {
        let key = format!("page {i}");
        let done = store.write(Actor::Thread, &mut Wait::forever(), |w| {
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
        let store = Store::open(&path, &Options::default()).unwrap();
        let before = store.check_pages().unwrap();
        for n in 0..16 {
            set(&store, rng.below(2500), n);
            store.sync().unwrap();
            store
                .check_pages()
                .unwrap_or_else(|e| panic!("round {round}, checkpoint {n}: {e}"));
            // A copy, as after a power cut, with the new map's pages in use.
            let copy = path.with_extension("copy");
            std::fs::copy(&path, &copy).unwrap();
            let _ = std::fs::remove_file(format!("{}-shm", copy.display()));
            let found = Store::open(&copy, &Options::default()).unwrap();
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
