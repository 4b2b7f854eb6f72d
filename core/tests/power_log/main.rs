//! Promise P2 with durable commits: whatever mixture of old and new sectors of the store and of its redo log a disk
//! holds after a power failure, the store opens at one of its earlier states, whole, and no operation that had
//! completed (or was synced) is missing.
//!
//! As in `power`, an observer sees every write and flush, of both files, and makes images at these moments. Beside the
//! store that waits for its commits there are openings of weaker durability. Their changes are in the log, and count if
//! another opening waited after them. These openings begin and end, and so does the log.
//!
//! All of them take and drop snapshots. Each thread has an observer for the commits that several threads share, of
//! which one flushes for all. The engine's own threads are observed as well.
//!
//! `life`: one life of the store, and the knowledge about it.
//!
//! PERSIST_TORTURE_SECONDS makes it longer; PERSIST_SEED selects the seed.

#[path = "../common/mod.rs"]
mod common;
#[path = "../disk/mod.rs"]
mod disk;
mod life;

use common::{Model, Rng, compare, scratch, seed, step, time};
use disk::files::{Image, options};
use life::{Last, Shared, begin, end, lock, watch};
use persist_core::raw::observe::observe_with_helpers;
use persist_core::store::{Actor, Durability, Store, Wait};
use std::path::Path;
use std::time::{Duration, Instant};

/// The minimal number of judged images, however long they take: of lives of one thread, and of several.
const LEAST: usize = 50;
const LEAST_TOGETHER: usize = 20;
/// The longest time that lives of several threads wait for a shared flush, and one life for checkpoints of a helper.
const MAX_WAIT: Duration = Duration::from_secs(120);

fn operate(store: &Store, life: &Shared, waits: bool) {
    let mut made = 0;
    let done = store.write(Actor::Thread, &mut Wait::default(), |w| {
        // No other operation comes between the states.
        let (op, model) = {
            let mut l = lock(life);
            let (model, room) = (l.last().1, l.room);
            (model.draw(&mut l.rng, room), model)
        };
        let m = model.run(w, &op)?;
        // From the commit on, this state may be found.
        let mut after = (*model).clone();
        after.apply(&op, &m);
        made = lock(life).push(after);
        Ok(())
    });
    let mut l = lock(life);
    done.unwrap_or_else(|e| panic!("{}: an operation: {e}", l.what));
    if waits {
        l.keep_if_changed(made);
    }
    l.moment("after an operation");
}

fn transaction(store: &Store, life: &Shared, waits: bool, rng: &mut Rng) {
    store.begin(&mut Wait::default()).unwrap();
    let mut model = (*lock(life).last().1).clone();
    let room = lock(life).room;
    for _ in 0..1 + rng.below(6) {
        step(store, &mut model, rng, room).unwrap();
        lock(life).moment("inside a transaction");
    }
    if rng.one_in(3) {
        store.rollback().unwrap();
        lock(life).moment("after a rollback");
        return;
    }
    let made = lock(life).push(model);
    store.commit().unwrap();
    let mut l = lock(life);
    if waits {
        l.keep_if_changed(made);
    }
    l.moment("after a transaction");
}

fn sync(store: &Store, life: &Shared) {
    let before = lock(life).last().0;
    store.sync().unwrap();
    let mut l = lock(life);
    l.keep(before);
    l.moment("after sync");
}

/// Take a snapshot, or drop one.
fn snapshot(store: &Store, life: &Shared, rng: &mut Rng) {
    let there: Vec<String> = lock(life).snapshots.there.keys().cloned().collect();
    if there.len() > 4 || (!there.is_empty() && rng.one_in(2)) {
        let name = &there[rng.below(there.len())];
        let any = {
            // Lock it immediately: another thread may be about to judge an image.
            let mut l = lock(life);
            let any = l.snapshots.there.remove(name).unwrap();
            l.snapshots.perhaps.insert(name.clone(), any.clone());
            any
        };
        store.drop_snapshot(name).unwrap();
        let mut l = lock(life);
        l.snapshots.perhaps.remove(name);
        l.snapshots.gone.insert(name.clone(), any);
        l.moment("after a snapshot was dropped");
        return;
    }
    let (name, before) = {
        let mut l = lock(life);
        l.names += 1;
        let (name, before) = (format!("{} of {}", l.names, l.what), l.last().0);
        l.taking = Some((name.clone(), before));
        (name, before)
    };
    store.snapshot(&name).unwrap();
    let mut l = lock(life);
    l.taking = None;
    let any = l.since(before);
    l.snapshots.there.insert(name, any);
    l.keep(before);
    l.moment("after a snapshot was taken");
}

fn open(path: &Path, durability: Durability) -> Store {
    Store::open(path, &options(durability)).unwrap_or_else(|e| panic!("open: {e}"))
}

/// Open the store with which the life begins, find out which state it has, and close it.
fn find(path: &Path, life: &Shared, durability: Durability) {
    let store = open(path, durability);
    let text = Model::read(&store).unwrap().text();
    let names = store.snapshots().unwrap();
    let mut l = lock(life);
    let at = (l.kept..l.history.len()).find(|i| l.history[*i].text() == text);
    let at = at.unwrap_or_else(|| panic!("{}: opened at no state", l.what));
    l.history.truncate(at + 1);
    l.kept = at;
    let names: Vec<String> = names.into_iter().map(|s| s.name).collect();
    l.snapshots.found(&names);
    l.moment("after opening");
    drop(l);
    drop(store);
}

/// A random durability.
fn lot(rng: &mut Rng) -> Durability {
    match rng.below(4) {
        0 => Durability::Checkpoint,
        _ => Durability::Commit,
    }
}

/// The condition under which a life may end before its operations are done.
struct Enough {
    until: Instant,
    images: usize,
}

impl Enough {
    fn is_reached(&self, life: &Shared) -> bool {
        Instant::now() > self.until && lock(life).judged >= self.images
    }
}

/// Run one life. Returns its result, with which the next one begins, and the number of images.
fn live(path: &Path, last: Option<Last>, seed: u64, room: usize, enough: &Enough) -> (Last, usize) {
    let mut rng = Rng(seed);
    let life = begin(path, last, &mut rng, room);
    watch(&life);
    find(path, &life, lot(&mut rng));
    // The first opening always waits for flushes.
    let mut stores = vec![lot(&mut rng)]
        .into_iter()
        .map(|d| (open(path, d), d))
        .collect::<Vec<_>>();
    for _ in 0..10 + rng.below(60) {
        if enough.is_reached(&life) {
            break;
        }
        let i = rng.below(stores.len());
        let (store, durability) = stores[i].clone();
        let waits = durability == Durability::Commit;
        match rng.below(27) {
            0..=15 => operate(&store, &life, waits),
            16..=18 => transaction(&store, &life, waits, &mut rng),
            19 => sync(&store, &life),
            20 | 21 if stores.len() < 3 => {
                let durability = if rng.one_in(4) {
                    Durability::None
                } else {
                    lot(&mut rng)
                };
                stores.push((open(path, durability), durability));
                lock(&life).moment("after another has come");
            }
            22 if i > 0 || stores.len() == 1 => {
                let (gone, _) = stores.remove(i);
                gone.close().unwrap();
                let mut l = lock(&life);
                if stores.is_empty() {
                    let all = l.last().0;
                    l.keep(all);
                }
                l.moment("after one has gone");
                drop(l);
                if stores.is_empty() {
                    let durability = lot(&mut rng);
                    stores.push((open(path, durability), durability));
                }
            }
            23..=25 => snapshot(&store, &life, &mut rng),
            _ => {
                let state = lock(&life).last().1;
                compare(&stores[0].0, &state, &format!("seed {seed:#x}"));
            }
        }
    }
    let last = end(&life);
    for (store, _) in stores {
        store.close().unwrap();
    }
    Image::clear(path);
    let judged = lock(&life).judged;
    (last, judged)
}

#[test]
fn no_completed_operation_is_lost() {
    let mut rng = Rng(seed(20_261));
    let (begun, long) = (Instant::now(), time(10));
    let dir = scratch();
    let path = dir.path().join("life.store");
    let (mut next, mut lives, mut judged) = (None, 0, 0);
    while begun.elapsed() < long || judged < LEAST {
        let room = if rng.one_in(4) { 300_000 } else { 30_000 };
        let enough = Enough {
            until: begun + long,
            images: LEAST.saturating_sub(judged),
        };
        let (last, images) = live(&path, next.take(), rng.next(), room, &enough);
        (lives, judged) = (lives + 1, judged + images);
        next = (!rng.one_in(4)).then_some(last);
    }
    println!("{lives} lives, {judged} images in {:.0?}", begun.elapsed());
    assert!(judged >= LEAST, "only {judged} images");
}

/// Run one life of several threads that commit at the same time.
fn live_together(path: &Path, last: Option<Last>, seed: u64, enough: &Enough) -> (Last, Shared) {
    let mut rng = Rng(seed);
    let life = begin(path, last, &mut rng, 30_000);
    watch(&life);
    find(path, &life, lot(&mut rng));
    let first = if rng.one_in(2) {
        Durability::Checkpoint
    } else {
        Durability::Commit
    };
    let store = open(path, first);
    let (operations, seeds) = (5 + rng.below(30), [rng.next(), rng.next(), rng.next()]);
    let last = std::thread::scope(|threads| {
        let work = |seed| {
            let mut rng = Rng(seed);
            watch(&life);
            let store = open(path, Durability::Commit);
            for _ in 0..operations {
                match rng.below(8) {
                    0 | 1 => transaction(&store, &life, true, &mut rng),
                    2 if rng.one_in(4) => sync(&store, &life),
                    _ => operate(&store, &life, true),
                }
                if enough.is_reached(&life) {
                    break;
                }
            }
            observe_with_helpers(None);
            store
        };
        let working: Vec<_> = seeds.map(|seed| threads.spawn(move || work(seed))).into();
        while !working.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            match rng.below(3) {
                0 => snapshot(&store, &life, &mut rng),
                1 => sync(&store, &life),
                _ => operate(&store, &life, first == Durability::Commit),
            }
            std::thread::sleep(Duration::from_millis(rng.below(20) as u64));
        }
        // While all of them still exist: none has made a checkpoint at its end.
        let stores: Vec<Store> = working.into_iter().map(|t| t.join().unwrap()).collect();
        let last = end(&life);
        for store in stores.iter().chain([&store]) {
            store.close().unwrap();
        }
        last
    });
    Image::clear(path);
    (last, life)
}

/// A full log wakes the helper. The content of its checkpoint is on the disk, and freed pages are reused.
#[test]
fn what_a_helper_checkpoints_is_not_lost() {
    let mut rng = Rng(seed(20_265));
    let dir = scratch();
    let path = dir.path().join("life.store");
    let life = begin(&path, None, &mut rng, 30_000);
    watch(&life);
    find(&path, &life, Durability::Commit);
    let store = open(&path, Durability::Commit);
    let begun = Instant::now();
    // Each checkpoint has two flushes: the pages of the first checkpoint are reused after the third.
    while lock(&life).by_helpers < 8 {
        assert!(begun.elapsed() < MAX_WAIT, "no helper was seen");
        operate(&store, &life, true);
    }
    assert!(lock(&life).judged > 0);
    end(&life);
    store.close().unwrap();
}

#[test]
fn what_several_commit_together_is_not_lost() {
    let mut rng = Rng(seed(20_263));
    let (begun, long) = (Instant::now(), time(5));
    let dir = scratch();
    let path = dir.path().join("life.store");
    let (mut next, mut lives, mut judged, mut waited, mut flushes) = (None, 0, 0, 0, 0);
    let shared = |flushes, waited| flushes < waited;
    while begun.elapsed() < long
        || judged < LEAST_TOGETHER
        || !shared(flushes, waited) && begun.elapsed() < MAX_WAIT
    {
        let enough = Enough {
            until: begun + long,
            images: LEAST_TOGETHER.saturating_sub(judged),
        };
        let (last, life) = live_together(&path, next.take(), rng.next(), &enough);
        let l = lock(&life);
        (lives, judged) = (lives + 1, judged + l.judged);
        (waited, flushes) = (waited + l.waited, flushes + l.flushes);
        next = (!rng.one_in(4)).then_some(last);
    }
    println!(
        "{lives} lives together, {judged} images, {flushes} flushes for {waited} commits in {:.0?}",
        begun.elapsed()
    );
    assert!(judged >= LEAST_TOGETHER, "only {judged} images");
    assert!(
        shared(flushes, waited),
        "{flushes} flushes for {waited} commits: none was shared"
    );
}
