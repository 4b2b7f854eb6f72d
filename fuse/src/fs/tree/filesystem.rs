//! The filesystem: a store, the state of the mount besides it, and sections that wait if the request may wait.
//!
//! 1. A request that would wait returns `FsError::Blocked` if its context is not `may_wait`. In this case it has
//!    changed nothing that a second run would not change in the same way. The same holds for `FsError::Moved`.

use super::durability;
use crate::fs::context::{Config, Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno, would_wait};
use crate::fs::known::awaited::Awaited;
use crate::fs::known::directories::Directories;
use crate::fs::known::inodes::{Inodes, Place, Single, Slot, Spot};
use crate::fs::known::leases::{Held, Leases, Unforgotten};
use crate::fs::known::list_names::{Lists, Renamed};
use crate::fs::known::listed::Listed;
use crate::fs::known::locks::Locks;
use crate::fs::known::metadata::{Mark, Metadata};
use crate::fs::known::moving::{self, Moving};
use crate::fs::known::open_files::OpenFiles;
use crate::kernel::{processes, sys};
use persist_core::Error;
use persist_core::store::{Actor, Obj, Reader, Store, Wait, Writer};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

/// The bytes of large contents that pass until their pages are forgotten.
const MAPPED_MOST: usize = 4 << 20;
/// The longest wait of a read for the end of another owner's transaction.
const READ_WAIT: Duration = Duration::from_secs(30);

/// A mounted store.
pub(crate) struct Fs {
    pub(in crate::fs) store: Store,
    pub(in crate::fs) root: Obj,
    pub(in crate::fs) config: Config,
    pub(in crate::fs) inodes: Mutex<Inodes>,
    /// An operation has ended that kept lookups or opens out (`Removal`).
    pub(in crate::fs) admission: Condvar,
    pub(in crate::fs) lists: Mutex<Lists>,
    pub(in crate::fs) awaited: Mutex<Awaited>,
    pub(in crate::fs) metadata: Mutex<Metadata>,
    pub(in crate::fs) directories: Mutex<Directories>,
    pub(in crate::fs) listed: Mutex<Listed>,
    pub(in crate::fs) open_files: OpenFiles,
    pub(in crate::fs) locks: Locks,
    pub(in crate::fs) leases: Arc<Leases>,
    pub(in crate::fs) single: Single,
    pub(in crate::fs) moving: Arc<Moving>,
    pub(in crate::fs) started: SystemTime,
    /// Bytes of large contents that were read and written since the store's pages were forgotten.
    passed: AtomicUsize,
    /// The user and group of the mount's process.
    pub(in crate::fs) mounter: (u32, u32),
}

/// The inodes that the kernel holds of a filesystem, and the metadata that was set. A snapshot does not change, so for
/// its view this stays valid while the view is closed.
pub(crate) struct Known {
    inodes: Inodes,
    lists: Lists,
    metadata: Metadata,
}

impl Known {
    /// Empty state. `view` is 0 for the mounted store, otherwise the number of the view.
    pub(crate) fn new(view: u64) -> Known {
        Known {
            inodes: Inodes::new(view),
            lists: Lists::default(),
            metadata: Metadata::default(),
        }
    }

    /// Subtract lookups of an inode that the kernel forgets.
    pub(crate) fn forget(&mut self, ino: u64, lookups: u64) {
        // A closed store holds no pins.
        let _ = self.inodes.forget(ino, lookups);
    }

    /// True if the kernel holds no inode of it.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.inodes.is_empty()
    }
}

impl Fs {
    /// The filesystem of an open store.
    pub(crate) fn new(store: Store, config: Config) -> Fs {
        Fs::of(store, config, Known::new(0))
    }

    /// A view of an opened snapshot of this store, with its kept state.
    pub(crate) fn view(&self, snapshot: Store, known: Known) -> Fs {
        let mut view = Fs::of(snapshot, self.config.clone(), known);
        view.started = self.started;
        view
    }

    /// Take the state out of a view that no request uses any more.
    pub(crate) fn take_known(&self) -> Known {
        Known {
            inodes: std::mem::take(&mut *lock(&self.inodes)),
            lists: std::mem::take(&mut *lock(&self.lists)),
            metadata: std::mem::take(&mut *lock(&self.metadata)),
        }
    }

    fn of(store: Store, config: Config, known: Known) -> Fs {
        let root = store.root();
        Fs {
            leases: Arc::new(Leases::new(store.clone())),
            single: Single::default(),
            store,
            root,
            config,
            inodes: Mutex::new(known.inodes),
            admission: Condvar::new(),
            lists: Mutex::new(known.lists),
            awaited: Mutex::default(),
            metadata: Mutex::new(known.metadata),
            directories: Mutex::default(),
            listed: Mutex::default(),
            open_files: OpenFiles::default(),
            locks: Locks::default(),
            moving: Arc::default(),
            started: SystemTime::now(),
            passed: AtomicUsize::new(0),
            mounter: sys::ids(),
        }
    }

    /// The operations under way that move entries.
    pub(crate) fn under_way(&self) -> &Arc<Moving> {
        &self.moving
    }

    /// The store of the filesystem.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// What the kernel keeps of it.
    pub(crate) fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// The leases of one request. A view has none: its openings end before the kernel's knowledge of them.
    pub(crate) fn held(&self, ctx: &Ctx) -> Held {
        Held::new(&self.leases, ctx.tid)
    }

    /// Run `f` in a read section.
    pub(crate) fn read<R>(&self, ctx: &Ctx, mut f: impl FnMut(&Reader<'_>) -> FsResult<R>) -> FsResult<R> {
        let mut refused = None;
        let mut signal = || processes::has_signal(ctx.tid);
        let timeout = if ctx.may_wait { READ_WAIT } else { Duration::ZERO };
        let mut wait = Wait {
            timeout: Some(timeout),
            interrupted: Some(&mut signal),
        };
        let result = self.store.read(&mut wait, |r| {
            refused = None;
            self.looked_up_remain()
                .and_then(|()| f(r))
                .map_err(|e| bring_out(e, &mut refused))
        });
        finish(&self.store, ctx, result, refused)
    }

    /// Run `f` in a write section, as a plain command. All its changes happen, or none, and with them the changes
    /// of the names of list items that it records.
    pub(crate) fn write<R>(
        &self,
        ctx: &Ctx,
        f: impl FnMut(&mut Writer<'_>, &mut Vec<Renamed>) -> FsResult<R>,
    ) -> FsResult<R> {
        self.write_to_follow(ctx, f).map(|(done, _)| done)
    }

    /// The same, for a change that the inode table has to follow: the caller drops `Unforgotten` after that.
    pub(crate) fn write_to_follow<R>(
        &self,
        ctx: &Ctx,
        mut f: impl FnMut(&mut Writer<'_>, &mut Vec<Renamed>) -> FsResult<R>,
    ) -> FsResult<(R, Unforgotten<'_>)> {
        let mut refused = None;
        let mut applied: Vec<Renamed> = Vec::new();
        let mut signal = || processes::has_signal(ctx.tid);
        let timeout = if ctx.may_wait {
            self.config.lockwait
        } else {
            Duration::ZERO
        };
        let mut wait = Wait {
            timeout: Some(timeout),
            interrupted: Some(&mut signal),
        };
        let calls = self.store.lease_calls();
        let (result, touched) = self.store.touching(|| {
            self.store.write_without_wait(Actor::Command, &mut wait, |w| {
                refused = None;
                lock(&self.lists).take_back(&std::mem::take(&mut applied));
                self.looked_up_remain()
                    .and_then(|()| f(w, &mut applied))
                    .map_err(|e| bring_out(e, &mut refused))
            })
        });
        let done = match finish(&self.store, ctx, result, refused) {
            Ok(done) => done,
            Err(e) => {
                lock(&self.lists).take_back(&applied);
                return Err(e);
            }
        };
        moving::has_changed();
        let unforgotten = self.leases.changed(calls, touched);
        if self.store.must_await_durability() {
            durability::wait(&self.store, ctx);
        }
        Ok((done, unforgotten))
    }

    /// Count bytes of a large content that were read or written: its pages are mapped, and count as memory of this
    /// process until it forgets them.
    pub(crate) fn passed(&self, bytes: usize) {
        if self.passed.fetch_add(bytes, Ordering::Relaxed) >= MAPPED_MOST {
            self.passed.store(0, Ordering::Relaxed);
            self.store.forget_pages();
        }
    }

    /// The meaning of an inode number.
    pub(crate) fn place(&self, ino: u64) -> FsResult<Place> {
        let nodes = lock(&self.inodes);
        let place = nodes.place(self.root, ino).ok_or(FsError::Errno(libc::ESTALE))?;
        if let Place::File(_) = place {
            moving::looked_up(ino, nodes.moves(ino));
        }
        Ok(place)
    }

    /// Fail if a file that the request has looked up is moved.
    fn looked_up_remain(&self) -> FsResult<()> {
        match moving::all_remain(|ino, moves| lock(&self.inodes).remains(ino, moves)) {
            true => Ok(()),
            false => Err(FsError::Moved),
        }
    }

    /// The container of a directory's inode. Control directories accept no entries.
    pub(crate) fn dir(&self, ino: u64) -> FsResult<Obj> {
        match self.place(ino)? {
            Place::Dir(obj) => Ok(obj),
            Place::Control(_) => errno(libc::EPERM),
            Place::Deleted => errno(libc::ENOENT),
            _ => errno(libc::ENOTDIR),
        }
    }

    /// Subtract lookups of an inode that the kernel forgets.
    pub(crate) fn forget(&self, ino: u64, lookups: u64) {
        let (pinned, removed) = {
            let mut nodes = lock(&self.inodes);
            let removed = nodes.is_removed(ino);
            (nodes.forget(ino, lookups), removed)
        };
        if let Some(obj) = pinned {
            if removed {
                self.forget_removed(obj);
            }
            self.store.unpin(obj);
        }
    }

    /// Record that an entry was deleted, in its metadata and in both kinds of inode that it may have had.
    pub(crate) fn spot_deleted(&self, parent: Obj, slot: &Slot) {
        let spot = Spot {
            parent,
            slot: slot.clone(),
        };
        lock(&self.awaited).drop_link(&spot);
        let mark = Mark::Entry(parent.id, spot.slot.clone());
        let mut nodes = lock(&self.inodes);
        nodes.deleted(&Place::File(spot.clone()));
        nodes.deleted(&Place::Link(spot));
        drop(nodes);
        lock(&self.metadata).deleted(&mark);
    }

    /// Make all changes durable by a checkpoint. A filesystem that cannot change has nothing to do.
    pub(crate) fn sync(&self) -> FsResult<()> {
        match self.store.sync() {
            Err(Error::ReadOnly) => Ok(()),
            // The result is not EAGAIN, which would mean that the operation was not done.
            Err(e) if would_wait(&e) => Err(FsError::Errno(libc::ETIMEDOUT)),
            done => Ok(done?),
        }
    }
}

/// Pass an error through the store's closure: an error of the filesystem itself is kept in `refused`.
fn bring_out(e: FsError, refused: &mut Option<FsError>) -> Error {
    match e {
        FsError::Store(e) => e,
        other => {
            *refused = Some(other);
            // Any error rolls back; `finish` replaces this one.
            Error::Interrupted
        }
    }
}

fn finish<R>(store: &Store, ctx: &Ctx, result: Result<R, Error>, refused: Option<FsError>) -> FsResult<R> {
    match (result, refused) {
        (Ok(value), _) => Ok(value),
        (Err(_), Some(e)) => Err(e),
        (Err(e), None) if would_wait(&e) && !ctx.may_wait => Err(FsError::Blocked),
        (Err(e), None) => {
            if e.errno() == libc::EIO {
                log::error!("{}", e.in_store(store.path()));
            }
            Err(FsError::Store(e))
        }
    }
}
