//! Views of the snapshots of a mounted store.
//!
//! 1. A view is open while a request runs in it or a file or directory of it is open, and for `IDLE` after: so long
//!    the snapshot cannot be dropped. Then its store is closed; what the kernel holds of it keeps its meaning,
//!    and the next request opens it again. If the snapshot was dropped meanwhile, that is ESTALE.
//! 2. A view has a number that no other view has at the time: the upper bits of its inodes (`nodes::view_of`).
//! 3. Opening, taking and dropping may take a while: they are done on a thread that may wait.
//! 4. Lock order: the gates of views, in the order of their numbers or only tried; then the table; then
//!    `View::shown`.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::{MAX_VIEWS, root_of, view_of};
use crate::fs::tree::filesystem::{Fs, Known};
use persist_core::Error;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// How long a view stays open that nobody uses.
const IDLE: Duration = Duration::from_secs(1);
/// How long what is open of a snapshot to be dropped may take to be closed: the kernel tells the mount of a `close`
/// after it has returned.
const CLOSING: Duration = Duration::from_millis(500);
/// Views open at once, unless more are in use.
const MOST_IDLE: usize = 32;

/// A snapshot that the mount has shown.
struct View {
    name: String,
    checkpoint: u64,
    number: u64,
    gate: Mutex<Gate>,
    /// Held where what is known of it moves to or from an opening, or is forgotten.
    shown: Mutex<Shown>,
}

/// What there is of a view.
enum Shown {
    Closed(Box<Known>),
    Open(Arc<Fs>),
}

/// Whether it is open, and what for.
struct Gate {
    open: bool,
    /// It has been dropped.
    gone: bool,
    /// Requests that run in it, and files and directories open in it.
    users: usize,
    used: Instant,
}

/// The views of a store.
pub(crate) struct Views {
    live: Arc<Fs>,
    views: Mutex<HashMap<u64, Arc<View>>>,
}

/// A filesystem that a request runs in.
pub(crate) struct Entered {
    fs: Arc<Fs>,
    view: Option<Arc<View>>,
}

impl Deref for Entered {
    type Target = Fs;

    fn deref(&self) -> &Fs {
        &self.fs
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.release_view();
    }
}

impl Entered {
    /// The mounted store itself.
    pub(crate) fn live(fs: Arc<Fs>) -> Entered {
        Entered { fs, view: None }
    }

    /// Something of it is open from now on.
    pub(crate) fn retain_view(&self) {
        if let Some(view) = &self.view {
            lock(&view.gate).users += 1;
        }
    }

    /// That is closed again.
    pub(crate) fn release_view(&self) {
        if let Some(view) = &self.view {
            let mut gate = lock(&view.gate);
            gate.users = gate.users.saturating_sub(1);
            gate.used = Instant::now();
        }
    }
}

impl View {
    /// The gate, waiting for it only if the request may.
    fn gate(&self, ctx: &Ctx) -> FsResult<MutexGuard<'_, Gate>> {
        if ctx.may_wait {
            return Ok(lock(&self.gate));
        }
        self.try_gate().ok_or(FsError::Blocked)
    }

    fn try_gate(&self) -> Option<MutexGuard<'_, Gate>> {
        match self.gate.try_lock() {
            Ok(gate) => Some(gate),
            Err(TryLockError::Poisoned(p)) => Some(p.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Closes an open view that nobody uses.
    fn close(&self, gate: &mut Gate) {
        gate.open = false;
        let mut shown = lock(&self.shown);
        let Shown::Open(fs) = &*shown else { return };
        let (store, known) = (fs.store().clone(), fs.take_known());
        *shown = Shown::Closed(Box::new(known));
        drop(shown);
        if let Err(e) = store.close() {
            log::warn!("closing the snapshot {:?}: {e}", self.name);
        }
    }

    fn forget(&self, ino: u64, lookups: u64) {
        match &mut *lock(&self.shown) {
            Shown::Open(fs) => fs.forget(ino, lookups),
            Shown::Closed(known) => known.forget(ino, lookups),
        }
    }

    fn is_forgotten(&self) -> bool {
        match &*lock(&self.shown) {
            Shown::Open(_) => false,
            Shown::Closed(known) => known.is_forgotten(),
        }
    }
}

impl Views {
    /// The views of a mounted store: none yet.
    pub(crate) fn new(live: Arc<Fs>) -> Views {
        Views {
            live,
            views: Mutex::default(),
        }
    }

    /// The view that an inode belongs to.
    pub(crate) fn at(&self, ctx: &Ctx, ino: u64) -> FsResult<Entered> {
        let view = lock(&self.views).get(&view_of(ino)).cloned();
        self.enter(ctx, view.ok_or(FsError::Errno(libc::ESTALE))?)
    }

    fn enter(&self, ctx: &Ctx, view: Arc<View>) -> FsResult<Entered> {
        let mut gate = view.gate(ctx)?;
        if gate.gone {
            return errno(libc::ESTALE);
        }
        if !gate.open {
            if !ctx.may_wait {
                return Err(FsError::Blocked);
            }
            match self.open_view(&view) {
                Ok(()) => gate.open = true,
                Err(Error::NoSnapshot { .. }) => {
                    gate.gone = true;
                    return errno(libc::ESTALE);
                }
                Err(e) => {
                    log::error!("opening the snapshot {:?}: {e}", view.name);
                    return Err(e.into());
                }
            }
        }
        let fs = match &*lock(&view.shown) {
            Shown::Open(fs) => fs.clone(),
            Shown::Closed(_) => return errno(libc::EIO),
        };
        gate.users += 1;
        drop(gate);
        Ok(Entered { fs, view: Some(view) })
    }

    /// Opens the store of a view, whose gate is held.
    fn open_view(&self, view: &View) -> Result<(), Error> {
        self.make_room();
        let snapshot = self.live.store().open_snapshot(&view.name)?;
        if snapshot.opened_snapshot().map(|s| s.checkpoint) != Some(view.checkpoint) {
            // Another one has its name now.
            snapshot.close()?;
            return Err(Error::NoSnapshot {
                name: view.name.clone(),
            });
        }
        let mut shown = lock(&view.shown);
        if let Shown::Closed(known) = &mut *shown {
            let known = std::mem::replace(&mut **known, Known::new(view.number));
            *shown = Shown::Open(Arc::new(self.live.view(snapshot, known)));
        }
        Ok(())
    }

    fn all(&self) -> Vec<Arc<View>> {
        lock(&self.views).values().cloned().collect()
    }

    /// Closes the view that was not used for longest, if many are open.
    fn make_room(&self) {
        let all = self.all();
        let open: Vec<_> = all
            .iter()
            .filter_map(|view| view.try_gate())
            .filter(|gate| gate.open)
            .map(|gate| (gate.users, gate.used))
            .collect();
        if open.len() < MOST_IDLE {
            return;
        }
        let Some(oldest) = open.iter().filter(|o| o.0 == 0).map(|o| o.1).min() else {
            return;
        };
        for view in &all {
            if let Some(mut gate) = view.try_gate()
                && gate.open
                && gate.users == 0
                && gate.used <= oldest
            {
                view.close(&mut gate);
                return;
            }
        }
    }

    /// The view of the snapshot of this name.
    pub(crate) fn find(&self, ctx: &Ctx, name: &[u8]) -> FsResult<Entered> {
        let name = std::str::from_utf8(name).map_err(|_| FsError::Errno(libc::ENOENT))?;
        let known = lock(&self.views)
            .values()
            .filter(|view| view.name == name)
            .max_by_key(|view| view.checkpoint)
            .cloned();
        if let Some(view) = known {
            // While it is open nobody drops it, so it is the one.
            let open = view.gate(ctx)?.open;
            if open {
                return self.enter(ctx, view);
            }
        }
        if !ctx.may_wait {
            return Err(FsError::Blocked);
        }
        let all = self.live.store().snapshots()?;
        let Some(found) = all.iter().find(|s| s.name == name) else {
            return errno(libc::ENOENT);
        };
        match self.enter(ctx, self.view_for(&found.name, found.checkpoint)?) {
            // Dropped this moment.
            Err(FsError::Errno(libc::ESTALE)) => errno(libc::ENOENT),
            done => done,
        }
    }

    fn view_for(&self, name: &str, checkpoint: u64) -> FsResult<Arc<View>> {
        let mut views = lock(&self.views);
        if let Some(view) = views.values().find(|view| view.checkpoint == checkpoint) {
            return Ok(view.clone());
        }
        if views.len() as u64 >= MAX_VIEWS {
            return errno(libc::ENFILE);
        }
        let mut number = preferred(checkpoint);
        while views.contains_key(&number) {
            number = number % MAX_VIEWS + 1;
        }
        let view = Arc::new(View {
            name: name.to_owned(),
            checkpoint,
            number,
            gate: Mutex::new(Gate {
                open: false,
                gone: false,
                users: 0,
                used: Instant::now(),
            }),
            shown: Mutex::new(Shown::Closed(Box::new(Known::new(number)))),
        });
        views.insert(number, view.clone());
        Ok(view)
    }

    /// Drops a snapshot: EBUSY while something of it is open, here or elsewhere.
    pub(crate) fn drop_snapshot(&self, name: &str) -> FsResult<()> {
        let mut own: Vec<_> = self.all().into_iter().filter(|v| v.name == name).collect();
        own.sort_by_key(|view| view.number);
        let deadline = Instant::now() + CLOSING;
        let mut gates: Vec<_> = loop {
            // Held until it is dropped: nobody opens it meanwhile.
            let gates: Vec<_> = own.iter().map(|view| (view, lock(&view.gate))).collect();
            if gates.iter().all(|(_, gate)| gate.users == 0) {
                break gates;
            }
            drop(gates);
            if Instant::now() >= deadline {
                return errno(libc::EBUSY);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        for (view, gate) in &mut gates {
            if gate.open {
                view.close(gate);
            }
        }
        self.live.store().drop_snapshot(name)?;
        for (_, gate) in &mut gates {
            gate.gone = true;
        }
        Ok(())
    }

    /// The kernel holds an inode no more.
    pub(crate) fn forget(&self, ino: u64, lookups: u64) {
        let view = lock(&self.views).get(&view_of(ino)).cloned();
        if let Some(view) = view {
            view.forget(ino, lookups);
        }
    }

    /// Closes views that nobody uses, and forgets those of which the kernel holds nothing.
    pub(crate) fn tidy(&self) {
        for view in self.all() {
            if let Some(mut gate) = view.try_gate()
                && gate.open
                && gate.users == 0
                && gate.used.elapsed() >= IDLE
            {
                view.close(&mut gate);
            }
        }
        lock(&self.views).retain(|_, view| {
            // Nobody has found it and is about to enter it: that is done with the table in hand.
            let alone = Arc::strong_count(view) == 1;
            !alone || !view.is_forgotten()
        });
    }

    /// Closes all, used or not: the end of the mount.
    pub(crate) fn close(&self) {
        for view in self.all() {
            let mut gate = lock(&view.gate);
            if gate.open {
                view.close(&mut gate);
            }
        }
    }
}

/// The number of the root of a snapshot's view, if nobody else has that.
pub(crate) fn likely_root(checkpoint: u64) -> u64 {
    root_of(preferred(checkpoint))
}

/// The number a view gets if nobody has it.
fn preferred(checkpoint: u64) -> u64 {
    checkpoint % MAX_VIEWS + 1
}
