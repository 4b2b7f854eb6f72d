//! One life of a store and its log, from the state after one power failure to the next: the states that it had, which
//! of them must not be lost, and an image of the disk at any moment.

use super::common::{Model, Rng};
use super::disk::Disk;
use super::disk::files::{Image, beside, judge, options};
use super::disk::kept::Named;
use persist_core::raw::observe::{Moment, observe_with_helpers};
use persist_core::store::{Durability, Store};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// The number of states that are kept before the last state that must not be lost.
const BEFORE: usize = 400;

pub(super) struct Life {
    pub(super) path: PathBuf,
    pub(super) store: Disk,
    pub(super) log: Disk,
    /// The log's inode, and whether its name is durable.
    pub(super) ino: Option<u64>,
    pub(super) is_named: bool,
    /// The log's file was flushed since its last write, with a name or before it got one.
    pub(super) log_is_flushed: bool,
    /// The earlier content under its name, from before it was created again or removed, which may still be on the disk.
    pub(super) before: Option<Vec<u8>>,
    /// The states so far except the first ones, and the first state that a power failure may leave.
    pub(super) history: Vec<Arc<Model>>,
    pub(super) forgotten: usize,
    pub(super) kept: usize,
    pub(super) snapshots: Named,
    /// A snapshot that is being taken, of this state or a later one.
    pub(super) taking: Option<(String, usize)>,
    /// The number of names given so far.
    pub(super) names: usize,
    pub(super) rng: Rng,
    pub(super) every: usize,
    pub(super) room: usize,
    pub(super) what: String,
    pub(super) judged: usize,
    /// The number of operations whose durability was awaited, and of flushes of the log.
    pub(super) waited: usize,
    pub(super) flushes: usize,
    /// The number of flushes of the store by threads that the engine started.
    pub(super) by_helpers: usize,
    /// The power has failed. The closing of the stores is not observed completely after that.
    pub(super) over: bool,
}

pub(super) type Shared = Arc<Mutex<Life>>;

pub(super) fn lock(life: &Shared) -> MutexGuard<'_, Life> {
    life.lock().unwrap()
}

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
                if self.log_is_flushed {
                    // The log was written and flushed before it got its name.
                    self.log.look(&mut rng);
                    self.log.flush_begins();
                    self.log.flush_ended();
                }
            }
            (self.ino, self.is_named) = (ino, false);
        }
        self.store.look(&mut rng);
        if self.ino.is_some() {
            self.log.look(&mut rng);
        }
        self.rng = rng;
    }

    fn image(&mut self) -> Image {
        let mut rng = self.rng.clone();
        let old = !self.is_named && rng.one_in(3);
        let log = match self.ino {
            _ if old => self.before.clone(),
            None => None,
            Some(_) => Some(self.log.image(&mut rng)),
        };
        let store = self.store.image(&mut rng);
        self.rng = rng;
        Image { store, log }
    }

    pub(super) fn moment(&mut self, name: &str) {
        self.look();
        if self.rng.one_in(self.every) {
            let image = self.image();
            self.judge(&image, self.kept, name);
            let mut rng = self.rng.clone();
            if let Some((store, _)) = self.store.damaged(&mut rng) {
                // The previous checkpoint, and the log's records since then. The log has no records after a change that
                // did not fit it.
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
        self.judged += 1;
        let mut kept = self.snapshots.clone();
        if let Some((name, from)) = &self.taking {
            kept.perhaps.insert(name.clone(), self.since(*from));
        }
        // On a thread without an observer.
        let done = std::thread::scope(|t| {
            t.spawn(|| judge(&path, image, &allowed, &kept, &mut rng, room, damaged, &what))
                .join()
        });
        done.unwrap_or_else(|e| std::panic::resume_unwind(e))
    }

    fn observed(&mut self, moment: Moment, by_helper: bool) {
        if self.over {
            return;
        }
        self.moment(&format!("before {moment:?}"));
        match moment {
            Moment::Flushing => {
                self.store.flush_begins();
                // The log's name is flushed before the store is flushed for the checkpoint that names it.
                self.is_named = true;
                self.before = None;
            }
            Moment::Flushed => {
                self.store.flush_ended();
                self.by_helpers += usize::from(by_helper);
            }
            Moment::LogFlushing => self.log.flush_begins(),
            Moment::LogWritten => self.log_is_flushed = false,
            Moment::LogFlushed => {
                self.log_is_flushed = true;
                self.log.flush_ended();
                self.flushes += 1;
            }
            _ => {}
        }
        self.moment(&format!("after {moment:?}"));
    }

    /// Add a new state. Returns its number.
    pub(super) fn push(&mut self, state: Model) -> usize {
        self.history.push(Arc::new(state));
        self.forgotten + self.history.len() - 1
    }

    pub(super) fn last(&self) -> (usize, Arc<Model>) {
        let n = self.history.len() - 1;
        (self.forgotten + n, self.history[n].clone())
    }

    pub(super) fn since(&self, n: usize) -> Vec<Arc<Model>> {
        self.history[n.saturating_sub(self.forgotten)..].to_vec()
    }

    /// The durability of the operation that made this state was awaited. If it changed nothing, there was nothing to
    /// wait for.
    pub(super) fn keep_if_changed(&mut self, n: usize) {
        self.waited += 1;
        if let [before, after, ..] = &self.since(n.saturating_sub(1))[..]
            && before.text() != after.text()
        {
            self.keep(n);
        }
    }

    /// This state and the states before it must not be lost any more.
    pub(super) fn keep(&mut self, n: usize) {
        self.kept = self.kept.max(n.saturating_sub(self.forgotten));
        let old = self.kept.saturating_sub(BEFORE);
        self.history.drain(..old);
        self.forgotten += old;
        self.kept -= old;
    }
}

/// Observe the flushes of this thread and of the helpers that it starts: an unobserved flush gives a disk state that
/// the model does not allow.
pub(super) fn watch(life: &Shared) {
    let (life, watching) = (life.clone(), std::thread::current().id());
    observe_with_helpers(Some(Arc::new(move |moment| {
        let by_helper = std::thread::current().id() != watching;
        lock(&life).observed(moment, by_helper);
        Ok(())
    })));
}

/// The result of a life: the disk, the states, the first allowed state, and the snapshots.
pub(super) type Last = (Image, Vec<Arc<Model>>, usize, Named);

/// Begin a life with the result of another.
pub(super) fn begin(path: &Path, begin: Option<Last>, rng: &mut Rng, room: usize) -> Shared {
    Image::clear(path);
    let (history, kept, snapshots) = match begin {
        Some((image, history, kept, snapshots)) => {
            image.lay(path);
            (history, kept, snapshots)
        }
        None => {
            let store = Store::open(path, &options(Durability::None)).unwrap();
            let root = store.root();
            store.close().unwrap();
            drop(store);
            Image::clear(path);
            (vec![Arc::new(Model::empty(root))], 0, Named::default())
        }
    };
    let log = beside(path, "wal");
    Arc::new(Mutex::new(Life {
        path: path.to_owned(),
        store: Disk::new(path),
        log: Disk::new(&log),
        ino: std::fs::metadata(&log).ok().map(|m| m.ino()),
        is_named: true,
        log_is_flushed: false,
        before: None,
        history,
        forgotten: 0,
        kept,
        snapshots,
        taking: None,
        names: 0,
        every: 1 + rng.below(24),
        room,
        what: format!("seed {:#x}", rng.0),
        rng: rng.clone(),
        judged: 0,
        waited: 0,
        flushes: 0,
        by_helpers: 0,
        over: false,
    }))
}

/// End a life while no operation is running: the power fails.
pub(super) fn end(life: &Shared) -> Last {
    observe_with_helpers(None);
    let mut l = lock(life);
    l.over = true;
    l.look();
    let image = l.image();
    let kept = l.kept;
    l.judge(&image, kept, "at the end");
    (image, l.history.clone(), kept, l.snapshots.clone())
}
