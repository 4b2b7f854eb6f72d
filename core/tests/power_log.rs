//! Promise P2 with durable commits: whatever mixture of old and new sectors of the store and of its redo log a
//! disk holds after a power cut, the store opens at a state that was, whole, and no operation that was
//! completed (or synced) by then is missing.
//!
//! As in `power` an observer sees every write and flush, of both files, and makes images at these moments. Beside the
//! store that waits for its commits there are others of weaker durability, whose changes are in the log and count when
//! somebody waited after them; they come and go, and so does the log.
//!
//! PERSIST_TORTURE_SECONDS makes it longer, PERSIST_SEED starts it elsewhere.

mod common;
mod disk;

use common::{Model, Rng, compare, scratch, step, time};
use disk::Disk;
use persist_core::raw::observe::{Moment, observe};
use persist_core::store::{Actor, Durability, Error, Options, Store, Wait};
use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// States that are remembered before the last that must not be lost.
const BEFORE: usize = 400;

fn options(durability: Durability) -> Options {
    Options {
        durability,
        ..Options::default()
    }
}

fn beside(path: &Path, what: &str) -> PathBuf {
    PathBuf::from(format!("{}-{what}", path.display()))
}

/// The files that a disk holds.
#[derive(Clone)]
struct Image {
    store: Vec<u8>,
    log: Option<Vec<u8>>,
}

impl Image {
    fn lay(&self, path: &Path) {
        std::fs::write(path, &self.store).unwrap();
        let _ = std::fs::remove_file(beside(path, "shm"));
        let _ = std::fs::remove_file(beside(path, "wal"));
        if let Some(log) = &self.log {
            std::fs::write(beside(path, "wal"), log).unwrap();
        }
    }

    fn clear(path: &Path) {
        for p in [path.to_owned(), beside(path, "shm"), beside(path, "wal")] {
            let _ = std::fs::remove_file(p);
        }
    }
}

/// Opens what a cut has left and judges it: one of `allowed`, and sound. The state.
#[allow(clippy::too_many_arguments)] // All that a failure is told with.
fn judge(
    path: &Path,
    image: &Image,
    allowed: &[Arc<Model>],
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
    let store = match Store::open(path, &options(durability)) {
        // A log that was removed when the newest meta page named none; that page is what is damaged.
        Err(Error::Refused { .. }) if damaged => {
            std::fs::write(beside(path, "wal"), b"").unwrap();
            Store::open(path, &options(durability))
        }
        done => done,
    };
    let store = store.unwrap_or_else(|e| panic!("{what}: opening: {e}"));
    let found = Model::read(&store).unwrap_or_else(|e| panic!("{what}: reading: {e}"));
    let text = found.text();
    let at = allowed.iter().position(|m| m.text() == text);
    let Some(at) = at else {
        // Says where they differ.
        compare(
            &store,
            &allowed[0],
            &format!("{what}: none of {} states", allowed.len()),
        );
        unreachable!();
    };
    compare(&store, &allowed[at], what);
    let mut model = (*allowed[at]).clone();
    if rng.one_in(6) {
        for _ in 0..1 + rng.below(10) {
            step(&store, &mut model, rng, room).unwrap_or_else(|e| panic!("{what}: going on: {e}"));
        }
        if durability == Durability::Checkpoint {
            store.sync().unwrap_or_else(|e| panic!("{what}: sync: {e}"));
        }
        // All of it is on the disk: another cut, that hits nothing.
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
            !beside(path, "wal").exists() || image.log.is_some(),
            "{what}: a log is left behind"
        );
        let _ = std::fs::remove_file(beside(path, "shm"));
        let store = Store::open(path, &Options::default()).unwrap();
        compare(&store, &model, &format!("{what}: gone on, closed, opened"));
    }
    Image::clear(path);
    found
}

struct Life {
    path: PathBuf,
    store: Disk,
    log: Disk,
    /// The log's inode, and whether its name is on the disk for good.
    ino: Option<u64>,
    settled: bool,
    /// What may still be there under its name: from before it was made anew or removed.
    before: Option<Vec<u8>>,
    /// The states so far, and the first that a cut may leave.
    history: Vec<Arc<Model>>,
    kept: usize,
    rng: Rng,
    every: usize,
    room: usize,
    what: String,
    judged: Rc<RefCell<usize>>,
}

type Shared = Rc<RefCell<Life>>;

impl Life {
    fn look(&mut self) {
        let mut rng = self.rng.clone();
        let ino = std::fs::metadata(beside(&self.path, "wal")).ok().map(|m| m.ino());
        if ino != self.ino {
            if self.ino.is_some() {
                self.before = Some(self.log.image(&mut rng));
            }
            self.log = Disk::new(Path::new("/nowhere"));
            if ino.is_some() {
                self.log = Disk::beginning(&beside(&self.path, "wal"));
            }
            (self.ino, self.settled) = (ino, false);
        }
        self.store.look(&mut rng);
        if self.ino.is_some() {
            self.log.look(&mut rng);
        }
        self.rng = rng;
    }

    fn image(&mut self) -> Image {
        let mut rng = self.rng.clone();
        let old = !self.settled && rng.one_in(3);
        let log = match self.ino {
            _ if old => self.before.clone(),
            None => None,
            Some(_) => Some(self.log.image(&mut rng)),
        };
        let store = self.store.image(&mut rng);
        self.rng = rng;
        Image { store, log }
    }

    fn moment(&mut self, name: &str) {
        self.look();
        if self.rng.one_in(self.every) {
            let image = self.image();
            self.judge(&image, self.kept, name);
            let mut rng = self.rng.clone();
            if let Some((store, _)) = self.store.damaged(&mut rng) {
                // The checkpoint before, and what the log has since; behind a change that had no room in the
                // log it has nothing for it.
                let image = Image { store, ..image };
                self.judge(&image, 0, &format!("{name}, the newest meta page damaged"));
            }
        }
    }

    fn judge(&mut self, image: &Image, from: usize, name: &str) -> Model {
        let what = format!(
            "{} {name} (kept {} of {})",
            self.what,
            self.kept,
            self.history.len()
        );
        let allowed = self.history[from..].to_vec();
        let damaged = name.ends_with("damaged");
        let (path, room, mut rng) = (self.path.with_extension("image"), self.room, Rng(self.rng.next()));
        *self.judged.borrow_mut() += 1;
        // On a thread that has no observer.
        let done = std::thread::scope(|t| {
            t.spawn(|| judge(&path, image, &allowed, &mut rng, room, damaged, &what))
                .join()
        });
        done.unwrap_or_else(|e| std::panic::resume_unwind(e))
    }

    fn observed(&mut self, moment: Moment) {
        self.moment(&format!("before {moment:?}"));
        match moment {
            Moment::Flushing => {
                self.store.flush_begins();
                // The log's name is flushed before the store is for the checkpoint that names it.
                self.settled = true;
                self.before = None;
            }
            Moment::Flushed => self.store.flush_ended(),
            Moment::LogFlushing => self.log.flush_begins(),
            Moment::LogFlushed => self.log.flush_ended(),
            _ => {}
        }
        self.moment(&format!("after {moment:?}"));
    }

    /// Somebody waited for the last operation. If it has changed nothing there was nothing to wait for.
    fn keep_if_changed(&mut self) {
        if let [.., before, after] = &self.history[..]
            && before.text() != after.text()
        {
            self.keep();
        }
    }

    /// All states so far must not be lost any more.
    fn keep(&mut self) {
        self.kept = self.history.len() - 1;
        let old = self.kept.saturating_sub(BEFORE);
        self.history.drain(..old);
        self.kept -= old;
    }
}

fn model(life: &Shared) -> Model {
    (**life.borrow().history.last().unwrap()).clone()
}

fn operate(store: &Store, life: &Shared, waits: bool) {
    let model = model(life);
    let op = {
        let mut l = life.borrow_mut();
        let mut r = l.rng.clone();
        let op = model.draw(&mut r, l.room);
        l.rng = r;
        op
    };
    let made = RefCell::new(Vec::new());
    let done = store.write(Actor::Thread, &mut Wait::forever(), |w| {
        let m = model.run(w, &op)?;
        // From the commit on it may be what is found.
        let mut after = model.clone();
        after.apply(&op, &m);
        life.borrow_mut().history.push(Arc::new(after));
        *made.borrow_mut() = m;
        Ok(())
    });
    done.unwrap_or_else(|e| panic!("{}: {op:?}: {e}", life.borrow().what));
    let mut l = life.borrow_mut();
    if waits {
        l.keep_if_changed();
    }
    l.moment("after an operation");
}

fn transaction(store: &Store, life: &Shared, waits: bool, rng: &mut Rng) {
    store.begin(&mut Wait::forever()).unwrap();
    let mut model = model(life);
    let room = life.borrow().room;
    for _ in 0..1 + rng.below(6) {
        step(store, &mut model, rng, room).unwrap();
        life.borrow_mut().moment("inside a transaction");
    }
    if rng.one_in(3) {
        store.rollback().unwrap();
        life.borrow_mut().moment("after a rollback");
        return;
    }
    life.borrow_mut().history.push(Arc::new(model));
    store.commit().unwrap();
    let mut l = life.borrow_mut();
    if waits {
        l.keep_if_changed();
    }
    l.moment("after a transaction");
}

/// What a life leaves: the disk, the states, and the first that may be found.
type Last = (Image, Vec<Arc<Model>>, usize);

/// Runs one life; what the next one begins with.
fn live(
    path: &Path,
    begin: Option<Last>,
    seed: u64,
    room: usize,
    judged: &Rc<RefCell<usize>>,
    until: Instant,
) -> Last {
    let mut rng = Rng(seed);
    Image::clear(path);
    let (history, kept) = match begin {
        Some((image, history, kept)) => {
            image.lay(path);
            (history, kept)
        }
        None => {
            let store = Store::open(path, &options(Durability::None)).unwrap();
            let root = store.root();
            store.close().unwrap();
            drop(store);
            Image::clear(path);
            (vec![Arc::new(Model::empty(root))], 0)
        }
    };
    let log = beside(path, "wal");
    let life: Shared = Rc::new(RefCell::new(Life {
        path: path.to_owned(),
        store: Disk::new(path),
        log: Disk::new(&log),
        ino: std::fs::metadata(&log).ok().map(|m| m.ino()),
        settled: true,
        before: None,
        history,
        kept,
        every: 1 + rng.below(24),
        room,
        what: format!("seed {seed:#x}"),
        rng: rng.clone(),
        judged: judged.clone(),
    }));
    {
        let life = life.clone();
        observe(Some(Box::new(move |moment| {
            life.borrow_mut().observed(moment);
            Ok(())
        })));
    }
    let open = |durability| {
        Store::open(path, &options(durability)).unwrap_or_else(|e| panic!("seed {seed:#x}: open: {e}"))
    };
    let mut stores = vec![(
        open(if rng.one_in(4) {
            Durability::Checkpoint
        } else {
            Durability::Commit
        }),
        false,
    )];
    {
        let found = Model::read(&stores[0].0).unwrap();
        let mut l = life.borrow_mut();
        let text = found.text();
        let at = (l.kept..l.history.len()).find(|i| l.history[*i].text() == text);
        let at = at.unwrap_or_else(|| panic!("seed {seed:#x}: opened at no state"));
        l.history.truncate(at + 1);
        l.kept = at;
        l.moment("after opening");
    }
    stores.clear();
    // From here as the lot falls; one is always there.
    let lot = |rng: &mut Rng| match rng.below(4) {
        0 => Durability::Checkpoint,
        _ => Durability::Commit,
    };
    let first = lot(&mut rng);
    stores.push((open(first), first == Durability::Commit));
    for _ in 0..10 + rng.below(60) {
        if Instant::now() > until {
            break;
        }
        let i = rng.below(stores.len());
        let (store, waits) = stores[i].clone();
        match rng.below(24) {
            0..=15 => operate(&store, &life, waits),
            16..=18 => transaction(&store, &life, waits, &mut rng),
            19 => {
                store.sync().unwrap();
                let mut l = life.borrow_mut();
                l.keep();
                l.moment("after sync");
            }
            20 | 21 if stores.len() < 3 => {
                let durability = lot(&mut rng);
                stores.push((open(durability), durability == Durability::Commit));
                life.borrow_mut().moment("after another has come");
            }
            22 => {
                let (gone, _) = stores.swap_remove(i);
                let last = stores.is_empty();
                gone.close().unwrap();
                let mut l = life.borrow_mut();
                if last {
                    l.keep();
                }
                l.moment("after one has gone");
                drop(l);
                if last {
                    let durability = lot(&mut rng);
                    stores.push((open(durability), durability == Durability::Commit));
                }
            }
            _ => {
                let l = life.borrow();
                compare(&stores[0].0, l.history.last().unwrap(), &l.what);
            }
        }
    }
    observe(None);
    let next = {
        let mut l = life.borrow_mut();
        l.look();
        let image = l.image();
        let kept = l.kept;
        l.judge(&image, kept, "at the end");
        (image, l.history.clone(), kept)
    };
    for (store, _) in stores {
        store.close().unwrap();
    }
    Image::clear(path);
    next
}

#[test]
fn no_completed_operation_is_lost() {
    let seed: u64 = std::env::var("PERSIST_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(20_261);
    let mut rng = Rng(seed);
    let (begun, long) = (Instant::now(), time(10));
    let dir = scratch();
    let judged = Rc::new(RefCell::new(0));
    let (mut next, mut lives) = (None, 0);
    while begun.elapsed() < long {
        let room = if rng.one_in(4) { 300_000 } else { 30_000 };
        let last = live(
            &dir.path().join("life.store"),
            next.take(),
            rng.next(),
            room,
            &judged,
            begun + long,
        );
        lives += 1;
        next = (!rng.one_in(4)).then_some(last);
    }
    let judged = *judged.borrow();
    println!("{lives} lives, {judged} images in {:.0?}", begun.elapsed());
    assert!(judged > 50, "only {judged} images");
}
