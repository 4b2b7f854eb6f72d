//! The filesystem over a store, without a kernel: every request as a method that gives a result or
//! an errno. `adapter` translates from and to FUSE.
//!
//! - `names`, `text`, `number`: keys as names, scalars as bytes.
//! - `nodes`, `lists`, `sides`, `memory`, `handles`: what the mount knows besides the store: inode
//!   numbers, names of list items, entries in memory, times and modes, open files.
//! - `tree`: finding and describing entries; `dirs`, `files`, `commit`, `rename`, `links`, `attrs`, `xattr`,
//!   `locks`, `control`: the requests.
//!
//! 1. Every mutex here is a leaf, but that of an open file (`handles`): while it is held no other is
//!    taken, the store is not called and nothing blocks. They may be taken inside a section of the
//!    store. An open file's mutex is taken before a section, never inside one.
//! 2. A request that would wait gives `FsError::Blocked` on a context that is not patient, and has
//!    then changed nothing that running it again would not change in the same way.
//! 3. Nothing in here panics on what the kernel or the store gives it.

pub(crate) mod attrs;
pub(crate) mod commit;
pub(crate) mod control;
pub(crate) mod digest;
pub(crate) mod dirs;
pub(crate) mod error;
pub(crate) mod files;
pub(crate) mod handles;
pub(crate) mod links;
pub(crate) mod lists;
pub(crate) mod locks;
pub(crate) mod memory;
pub(crate) mod names;
pub(crate) mod nodes;
pub(crate) mod number;
pub(crate) mod procs;
pub(crate) mod rename;
pub(crate) mod settled;
pub(crate) mod sides;
pub(crate) mod text;
pub(crate) mod tree;
pub(crate) mod xattr;

use error::{FsError, FsResult, errno, would_wait};
use nodes::{Place, Slot, Spot};
use persist_core::Error;
use persist_core::store::{Actor, Obj, ObjectId, Reader, Store, Wait, Writer};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a read waits for the end of somebody's transaction.
const READ_WAIT: Duration = Duration::from_secs(30);

/// What the mount options decide.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// No newlines are added or taken off.
    pub(crate) exact: bool,
    /// New files that are JSON scalars become those.
    pub(crate) infer: bool,
    /// How long a change waits for a lock held elsewhere.
    pub(crate) lockwait: Duration,
    /// Owner shown.
    pub(crate) uid: u32,
    /// Group shown.
    pub(crate) gid: u32,
    /// Permission bits taken from the default modes.
    pub(crate) umask: u16,
    /// Where the store is mounted: absolute symlinks into it are understood.
    pub(crate) mountpoint: PathBuf,
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ctx {
    /// The thread that asks (0: unknown).
    pub(crate) tid: u32,
    /// False on a thread that must not wait.
    pub(crate) patient: bool,
}

/// A mounted store.
pub(crate) struct Fs {
    store: Store,
    root: Obj,
    config: Config,
    nodes: Mutex<nodes::Nodes>,
    lists: Mutex<lists::Lists>,
    sides: Mutex<sides::Sides>,
    memory: Mutex<memory::Memory>,
    handles: handles::Handles,
    locks: locks::Locks,
    started: SystemTime,
}

/// What the kernel holds of a filesystem and what was told about it: of a snapshot, which never changes, it stays true
/// while nobody has it open.
pub(crate) struct Known {
    nodes: nodes::Nodes,
    lists: lists::Lists,
    memory: memory::Memory,
}

impl Known {
    /// Nothing. 0: of the mounted store, else of the view of this number.
    pub(crate) fn new(view: u64) -> Known {
        Known {
            nodes: nodes::Nodes::new(view),
            lists: lists::Lists::default(),
            memory: memory::Memory::default(),
        }
    }

    /// The kernel holds an inode no more.
    pub(crate) fn forget(&mut self, ino: u64, lookups: u64) {
        // A closed store holds no pins.
        let _ = self.nodes.forget(ino, lookups);
    }

    /// True if the kernel holds nothing of it.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// A change to the names of a list that a write section makes when it is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Renumber {
    /// The item with this serial was removed.
    Removed(ObjectId, u64),
    /// It was put back.
    Restored(ObjectId, u64),
}

/// Takes a mutex; a panic elsewhere (answered with EIO) leaves its data usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A time as the store has it.
pub(crate) fn time_of(ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(ns)
}

impl Fs {
    /// The filesystem of an open store.
    pub(crate) fn new(store: Store, config: Config) -> Fs {
        Fs::of(store, config, Known::new(0))
    }

    /// A view of an opened snapshot of this store, and what is known of it.
    pub(crate) fn view(&self, snapshot: Store, known: Known) -> Fs {
        let mut view = Fs::of(snapshot, self.config.clone(), known);
        view.started = self.started;
        view
    }

    /// Takes what is known out of a view that no request uses any more.
    pub(crate) fn take_known(&self) -> Known {
        Known {
            nodes: std::mem::take(&mut *lock(&self.nodes)),
            lists: std::mem::take(&mut *lock(&self.lists)),
            memory: std::mem::take(&mut *lock(&self.memory)),
        }
    }

    fn of(store: Store, config: Config, known: Known) -> Fs {
        let root = store.root();
        Fs {
            store,
            root,
            config,
            nodes: Mutex::new(known.nodes),
            lists: Mutex::new(known.lists),
            sides: Mutex::default(),
            memory: Mutex::new(known.memory),
            handles: handles::Handles::default(),
            locks: locks::Locks::default(),
            started: SystemTime::now(),
        }
    }

    /// The store behind it.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The root, looked up under whatever name.
    pub(crate) fn enter_root(&self, ctx: &Ctx) -> FsResult<attrs::Attr> {
        let attr = self.read(ctx, |r| self.dir_attr(r, self.root))?;
        Ok(self.enter(tree::Found {
            place: Place::Dir(self.root),
            attr,
            pinned: None,
        }))
    }

    /// Runs `f` in a read section.
    pub(crate) fn read<R>(&self, ctx: &Ctx, mut f: impl FnMut(&Reader<'_>) -> FsResult<R>) -> FsResult<R> {
        let mut refused = None;
        let mut signal = || procs::has_signal(ctx.tid);
        let timeout = if ctx.patient { READ_WAIT } else { Duration::ZERO };
        let mut wait = Wait {
            timeout: Some(timeout),
            interrupted: Some(&mut signal),
        };
        let result = self.store.read(&mut wait, |r| {
            refused = None;
            f(r).map_err(|e| bring_out(e, &mut refused))
        });
        finish(ctx, result, refused)
    }

    /// Runs `f` in a write section, as a plain command. All its changes happen, or none. The
    /// renumberings it notes happen at its end.
    pub(crate) fn write<R>(
        &self,
        ctx: &Ctx,
        mut f: impl FnMut(&mut Writer<'_>, &mut Vec<Renumber>) -> FsResult<R>,
    ) -> FsResult<R> {
        let mut refused = None;
        let mut applied: Vec<Renumber> = Vec::new();
        let mut signal = || procs::has_signal(ctx.tid);
        let timeout = if ctx.patient {
            self.config.lockwait
        } else {
            Duration::ZERO
        };
        let mut wait = Wait {
            timeout: Some(timeout),
            interrupted: Some(&mut signal),
        };
        let result = self.store.write_unsettled(Actor::Command, &mut wait, |w| {
            refused = None;
            self.renumber(&std::mem::take(&mut applied), true);
            let mut renumber = Vec::new();
            let value = f(w, &mut renumber).map_err(|e| bring_out(e, &mut refused))?;
            self.renumber(&renumber, false);
            applied = renumber;
            Ok(value)
        });
        if result.is_err() {
            self.renumber(&applied, true);
        } else if self.store.must_settle() {
            settled::settle(&self.store, ctx);
        }
        finish(ctx, result, refused)
    }

    /// Applies renumberings, or takes them back.
    fn renumber(&self, changes: &[Renumber], back: bool) {
        if changes.is_empty() {
            return;
        }
        let mut lists = lock(&self.lists);
        for change in changes {
            match (*change, back) {
                (Renumber::Removed(list, serial), false) | (Renumber::Restored(list, serial), true) => {
                    lists.removed(list, serial);
                }
                (Renumber::Removed(list, serial), true) | (Renumber::Restored(list, serial), false) => {
                    lists.restored(list, serial);
                }
            }
        }
    }

    /// What an inode number stands for.
    pub(crate) fn place(&self, ino: u64) -> FsResult<Place> {
        lock(&self.nodes)
            .place(self.root, ino)
            .ok_or(FsError::Errno(libc::ESTALE))
    }

    /// The container behind a directory's inode; control directories take no entries.
    pub(crate) fn dir(&self, ino: u64) -> FsResult<Obj> {
        match self.place(ino)? {
            Place::Dir(obj) => Ok(obj),
            Place::Control(_) => errno(libc::EPERM),
            Place::Deleted => errno(libc::ENOENT),
            _ => errno(libc::ENOTDIR),
        }
    }

    /// The kernel holds an inode no more.
    pub(crate) fn forget(&self, ino: u64, lookups: u64) {
        let pinned = lock(&self.nodes).forget(ino, lookups);
        if let Some(obj) = pinned {
            self.store.unpin(obj);
        }
    }

    /// An entry is no more: its inode, and what is remembered of it.
    pub(crate) fn entry_deleted(&self, place: &Place) {
        lock(&self.nodes).deleted(place);
        if let Some(mark) = memory::Mark::of(place) {
            lock(&self.memory).deleted(&mark);
        }
    }

    /// Both kinds of inode an entry may have had are deleted.
    pub(crate) fn spot_deleted(&self, parent: Obj, slot: &Slot) {
        let spot = Spot {
            parent,
            slot: slot.clone(),
        };
        self.entry_deleted(&Place::File(spot.clone()));
        self.entry_deleted(&Place::Link(spot));
    }

    /// Housekeeping, every few seconds: symlinks whose target came from Python, list names at rest.
    pub(crate) fn tidy(&self) {
        self.settle_links(
            &Ctx {
                tid: 0,
                patient: false,
            },
            None,
        );
        let held: Vec<ObjectId> = lock(&self.sides)
            .all()
            .filter(|s| s.serial.is_some())
            .map(|s| s.parent.id)
            .collect();
        let mut dropped = Vec::new();
        {
            let nodes = lock(&self.nodes);
            let with_items = nodes.lists_with_items();
            drop(nodes);
            lock(&self.lists).tidy(|id| held.contains(&id) || with_items.contains(&id), &mut dropped);
        }
        for list in dropped {
            lock(&self.memory).forget_items(list);
        }
    }

    /// A checkpoint. Where nothing can be changed nothing has to be kept.
    pub(crate) fn sync(&self) -> FsResult<()> {
        match self.store.sync() {
            Err(Error::ReadOnly) => Ok(()),
            // Not "try again", as of an operation that would have to wait.
            Err(e) if would_wait(&e) => Err(FsError::Errno(libc::ETIMEDOUT)),
            done => Ok(done?),
        }
    }

    /// The end of the mount: what open files still hold is stored, items whose turn never came go to
    /// the end of their lists, pins and locks are given back, and the store is closed.
    pub(crate) fn shutdown(&self) {
        let ctx = Ctx {
            tid: 0,
            patient: true,
        };
        for handle in self.handles.drain() {
            if let Err(e) = self.commit_handle(&ctx, &handle) {
                log::error!("a file still open was not stored: errno {}", e.errno());
            }
        }
        self.settle_links(&ctx, None);
        self.settle_remaining(&ctx);
        self.locks.release_all(&self.store);
        let pins = lock(&self.nodes).drain();
        for obj in pins {
            self.store.unpin(obj);
        }
        if let Err(e) = self.store.close() {
            log::error!("closing the store: {e}");
        }
    }
}

/// Takes an error through the store's closure: what was decided here is set aside.
fn bring_out(e: FsError, refused: &mut Option<FsError>) -> Error {
    match e {
        FsError::Store(e) => e,
        other => {
            *refused = Some(other);
            // Any error rolls back; this one is replaced by `finish`.
            Error::Interrupted
        }
    }
}

fn finish<R>(ctx: &Ctx, result: Result<R, Error>, refused: Option<FsError>) -> FsResult<R> {
    match (result, refused) {
        (Ok(value), _) => Ok(value),
        (Err(_), Some(e)) => Err(e),
        (Err(e), None) if would_wait(&e) && !ctx.patient => Err(FsError::Blocked),
        (Err(e), None) => {
            if e.errno() == libc::EIO {
                log::error!("{e}");
            }
            Err(FsError::Store(e))
        }
    }
}
