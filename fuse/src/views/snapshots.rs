//! Views of the snapshots of a mounted store.
//!
//! 1. A view is open while a request runs in it or a file or directory of it is open, and for `IDLE` afterwards. As
//!    long as it is open, the snapshot cannot be dropped. Then its store is closed. The inodes that the kernel holds
//!    keep their meaning, and the next request opens the store again. If the snapshot was dropped in between, the
//!    request fails with ESTALE.
//! 2. No two views have the same number at the same time. It is the upper bits of their inodes (`inodes::view_of`).
//! 3. Opening, taking and dropping may take long: they run on a thread that may wait.
//! 4. Lock order: the gates of views, in the order of their numbers or only tried; then the table; then `View::shown`.

use super::live::Live;
use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::{MAX_VIEWS, root_of, view_of};
use crate::fs::tree::filesystem::{Fs, Known};
use persist_core::Error;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// How long an unused view stays open.
const IDLE: Duration = Duration::from_secs(1);
/// How long to wait for open files of a snapshot before a drop fails: the kernel notifies the mount of a `close` after
/// it has returned.
const CLOSING: Duration = Duration::from_millis(500);
/// The maximal number of open views, unless more are in use.
const MOST_IDLE: usize = 32;

/// A snapshot that the mount has shown.
struct View {
    name: String,
    checkpoint: u64,
    number: u64,
    gate: Mutex<Gate>,
    /// Locked while the state of the view moves to or from an open filesystem, or is dropped.
    shown: Mutex<Shown>,
}

/// The state of a view.
enum Shown {
    Closed(Box<Known>),
    Open(Arc<Fs>),
}

/// Whether the view is open, and the number of its users.
struct Gate {
    open: bool,
    /// The snapshot was dropped.
    gone: bool,
    /// Requests that run in the view, and open files and directories of it.
    users: usize,
    used: Instant,
}

/// The views of a store.
pub(crate) struct Views {
    live: Arc<Live>,
    views: Mutex<HashMap<u64, Arc<View>>>,
}

/// A filesystem in which a request runs.
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

    /// Count a file or directory of the view that was opened.
    pub(crate) fn retain_view(&self) {
        if let Some(view) = &self.view {
            lock(&view.gate).users += 1;
        }
    }

    /// Uncount a file or directory of the view that was closed.
    pub(crate) fn release_view(&self) {
        if let Some(view) = &self.view {
            let mut gate = lock(&view.gate);
            gate.users = gate.users.saturating_sub(1);
            gate.used = Instant::now();
        }
    }
}

impl View {
    /// The gate. Waits for it only if the request may wait.
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

    /// Close an open view that is not in use.
    fn close(&self, gate: &mut Gate) {
        gate.open = false;
        let mut shown = lock(&self.shown);
        let Shown::Open(fs) = &*shown else { return };
        let (store, known) = (fs.store().clone(), fs.take_known());
        *shown = Shown::Closed(Box::new(known));
        drop(shown);
        if let Err(e) = store.close() {
            log::warn!(
                "closing the snapshot {:?}: {}",
                self.name,
                e.in_store(store.path())
            );
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
    /// The views of a mounted store, at first none.
    pub(crate) fn new(live: Arc<Live>) -> Views {
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
                    let live = self.live.now();
                    let message = e.in_store(live.store().path());
                    log::error!("opening the snapshot {:?}: {message}", view.name);
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

    /// Open the store of a view, whose gate is held.
    fn open_view(&self, view: &View) -> Result<(), Error> {
        self.make_room();
        // The thread that closes unused views may rest.
        self.live.now().store().stir();
        let snapshot = self.live.now().store().open_snapshot(&view.name)?;
        if snapshot.opened_snapshot().map(|s| s.checkpoint) != Some(view.checkpoint) {
            // The name now belongs to another snapshot.
            snapshot.close()?;
            return Err(Error::NoSnapshot {
                name: view.name.clone(),
            });
        }
        let mut shown = lock(&view.shown);
        if let Shown::Closed(known) = &mut *shown {
            let known = std::mem::replace(&mut **known, Known::new(view.number));
            *shown = Shown::Open(Arc::new(self.live.now().view(snapshot, known)));
        }
        Ok(())
    }

    /// Whether any view is open, or is being opened.
    pub(crate) fn any_is_open(&self) -> bool {
        self.all()
            .iter()
            .any(|view| view.try_gate().is_none_or(|gate| gate.open))
    }

    fn all(&self) -> Vec<Arc<View>> {
        lock(&self.views).values().cloned().collect()
    }

    /// Close the least recently used view, if many are open.
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
            // While the view is open its snapshot cannot be dropped, so the name belongs to it.
            let open = view.gate(ctx)?.open;
            if open {
                return self.enter(ctx, view);
            }
        }
        if !ctx.may_wait {
            return Err(FsError::Blocked);
        }
        let all = self.live.now().store().snapshots()?;
        let Some(found) = all.iter().find(|s| s.name == name) else {
            return errno(libc::ENOENT);
        };
        match self.enter(ctx, self.view_for(&found.name, found.checkpoint)?) {
            // The snapshot was dropped at this moment.
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

    /// Drop a snapshot. EBUSY while a file of it is open, here or elsewhere.
    pub(crate) fn drop_snapshot(&self, name: &str) -> FsResult<()> {
        let mut own: Vec<_> = self.all().into_iter().filter(|v| v.name == name).collect();
        own.sort_by_key(|view| view.number);
        let deadline = Instant::now() + CLOSING;
        let mut gates: Vec<_> = loop {
            // The gates are held until the snapshot is dropped, so that no thread opens the view.
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
        self.live.now().store().drop_snapshot(name)?;
        for (_, gate) in &mut gates {
            gate.gone = true;
        }
        Ok(())
    }

    /// Subtract lookups of an inode that the kernel forgets.
    pub(crate) fn forget(&self, ino: u64, lookups: u64) {
        let view = lock(&self.views).get(&view_of(ino)).cloned();
        if let Some(view) = view {
            view.forget(ino, lookups);
        }
    }

    /// Close unused views, and remove those of which the kernel holds no inode.
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
            // No thread has found the view and is about to enter it: views are found under the table's mutex.
            let alone = Arc::strong_count(view) == 1;
            !alone || !view.is_forgotten()
        });
    }

    /// Close all views, used or not, at the end of the mount.
    pub(crate) fn close(&self) {
        for view in self.all() {
            let mut gate = lock(&view.gate);
            if gate.open {
                view.close(&mut gate);
            }
        }
    }
}

/// The number of the root of a snapshot's view, if no other view has that number.
pub(crate) fn likely_root(checkpoint: u64) -> u64 {
    root_of(preferred(checkpoint))
}

/// The number that a view gets if no other view has it.
fn preferred(checkpoint: u64) -> u64 {
    checkpoint % MAX_VIEWS + 1
}
