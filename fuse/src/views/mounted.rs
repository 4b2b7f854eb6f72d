//! The mounted filesystems: the store, and views of its snapshots under `/.persist/snapshots/NAME/`.
//!
//! 1. The upper bits of an inode number name the filesystem of a request: 0 for the store, otherwise a view.
//! 2. A view is read-only: EROFS. `mkdir` among the snapshots takes one, `rmdir` drops one.
//! 3. Open files and directories of a view are counted (`Entered::retain_view`), so that the view stays open.

use super::callers::Callers;
use super::live::Live;
use super::replays::{REPLAY_FH, Replays};
use super::snapshots::{Entered, Views, likely_root};
use crate::fs::context::{Ctx, UNLIMITED, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::{Control, Place, view_of};
use crate::fs::known::leases::{Covered, Held, Leases};
use crate::fs::known::moving::Moving;
use crate::fs::requests::entries::listing::Line;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::attributes::Changes;
use crate::fs::tree::metadata::attributes::NodeKind;
use crate::kernel::access::Access;
use persist_core::Error;
use persist_core::store::Options;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The longest name in a directory.
const NAME_MAX: usize = 255;

/// The mounted store with its views.
pub(crate) struct Mounted {
    live: Arc<Live>,
    moving: Arc<Moving>,
    views: Views,
    /// The inodes of `/.persist` and of `/.persist/snapshots`.
    control: u64,
    snapshots: u64,
    /// How the store is open, and how it is opened for another access.
    access: Mutex<Access>,
    opening: Opening,
    callers: Callers,
    pub(super) replays: Replays,
}

/// How to open the mounted store so that it may be used in this way. An error if another file is at its path.
pub(crate) type Opening = Box<dyn Fn(Access) -> FsResult<Options> + Send + Sync>;

impl Mounted {
    /// A mounted store.
    pub(crate) fn new(live: Fs, access: Access, opening: Opening) -> Mounted {
        let number = |control| live.number(&Place::Control(control));
        let (control, snapshots) = (number(Control::Root), number(Control::Snapshots));
        let moving = live.under_way().clone();
        let live = Arc::new(Live::new(live));
        Mounted {
            views: Views::new(live.clone()),
            live,
            moving,
            control,
            snapshots,
            access: Mutex::new(access),
            opening,
            callers: Callers::default(),
            replays: Replays::default(),
        }
    }

    /// The operations under way that move entries.
    pub(crate) fn under_way(&self) -> &Moving {
        &self.moving
    }

    /// The mounted store.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// The threads that make requests.
    pub(crate) fn callers(&self) -> &Callers {
        &self.callers
    }

    /// The replays of changes.
    pub(crate) fn replays(&self) -> &Replays {
        &self.replays
    }

    /// The filesystem that an inode belongs to.
    pub(crate) fn at(&self, ctx: &Ctx, ino: u64) -> FsResult<Entered> {
        if view_of(ino) == 0 {
            return Ok(Entered::live(self.live.enter(ctx)?));
        }
        self.views.at(ctx, ino)
    }

    /// The filesystem that an inode belongs to, for a change.
    pub(crate) fn to_change(&self, ctx: &Ctx, ino: u64) -> FsResult<Entered> {
        self.may_change(ino)?;
        if self.replays.are_of(ctx) {
            return errno(libc::EPERM);
        }
        self.at(ctx, ino)
    }

    fn may_change(&self, ino: u64) -> FsResult<()> {
        if self.never_changes(ino) {
            return errno(libc::EROFS);
        }
        if ino == self.control || ino == self.snapshots {
            return errno(libc::EPERM);
        }
        Ok(())
    }

    fn never_changes(&self, ino: u64) -> bool {
        view_of(ino) != 0 || self.live.now().store().is_frozen()
    }

    /// Request: an entry of a directory.
    pub(crate) fn lookup(
        &self,
        ctx: &Ctx,
        parent: u64,
        name: &[u8],
    ) -> FsResult<(Result<Attr, Covered>, Held)> {
        if parent == self.snapshots {
            return Ok((Ok(self.views.find(ctx, name)?.enter_root(ctx)?), Held::none()));
        }
        if self.replays.are_of(ctx) {
            return Ok((Ok(self.lookup_to_replay(ctx, parent, name)?), Held::none()));
        }
        let fs = self.at(ctx, parent)?;
        let mut held = self.held_in(ctx, &fs, parent);
        let found = fs.lookup(ctx, parent, name, &mut held)?;
        Ok((found, held))
    }

    /// Request: attributes.
    pub(crate) fn getattr(&self, ctx: &Ctx, ino: u64, fh: Option<u64>) -> FsResult<(Attr, Held)> {
        if self.replays.are_of(ctx) {
            return Ok((self.getattr_to_replay(ctx, ino)?, Held::none()));
        }
        let fs = self.at(ctx, ino)?;
        let mut held = fs.held(ctx);
        let attr = fs.getattr(ctx, ino, fh, &mut held)?;
        Ok((attr, held))
    }

    /// The leases of a lookup in a directory. The entries of a directory whose changes are replayed are not kept by the
    /// kernel: it would not ask for what is replayed.
    fn held_in(&self, ctx: &Ctx, fs: &Fs, dir: u64) -> Held {
        if self.replays.are_in(dir) {
            Held::none()
        } else {
            fs.held(ctx)
        }
    }

    /// The leases of a listing of a directory.
    pub(crate) fn held(&self, ctx: &Ctx, ino: u64) -> Held {
        if view_of(ino) == 0 {
            self.held_in(ctx, &self.live.now(), ino)
        } else {
            Held::none()
        }
    }

    /// What the kernel keeps of the mounted store.
    pub(crate) fn leases(&self) -> Arc<Leases> {
        self.live.now().leases().clone()
    }

    /// Request: list a directory (`Fs::readdir`).
    pub(crate) fn readdir(
        &self,
        ctx: &Ctx,
        ino: u64,
        from: u64,
        plus: bool,
        held: &mut Held,
        mut line: impl FnMut(&mut Line<'_>) -> bool,
    ) -> FsResult<()> {
        if ino != self.snapshots {
            return self.at(ctx, ino)?.readdir(ctx, ino, from, plus, held, line);
        }
        if !ctx.may_wait {
            return Err(FsError::Blocked);
        }
        let live = self.live.now();
        let all = live.store().snapshots()?;
        let dots = [(ino, "."), (ino, "..")].into_iter();
        let names = all.iter().map(|s| (likely_root(s.checkpoint), s.name.as_str()));
        let lines = dots.chain(names).enumerate();
        for (n, (ino, name)) in lines.skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            // This opens no view and counts none: a root keeps its number without a count.
            let attr = Attr {
                ino,
                ..live.control_attr(NodeKind::Dir, 0)
            };
            let mut line_of = Line {
                next: n as u64 + 1,
                name: name.as_bytes().into(),
                attr,
                ttl: Duration::ZERO,
            };
            if !line(&mut line_of) {
                break;
            }
        }
        Ok(())
    }

    /// Request: make a directory; among the snapshots: take one.
    pub(crate) fn mkdir(&self, ctx: &Ctx, parent: u64, name: &[u8], mode: u32) -> FsResult<Attr> {
        if self.replays.are_of(ctx) {
            return self.create_to_replay(ctx, parent, name, NodeKind::Dir);
        }
        if parent != self.snapshots {
            return self.to_change(ctx, parent)?.mkdir(ctx, parent, name, mode);
        }
        if !ctx.may_wait {
            return Err(FsError::Blocked);
        }
        if name.len() > NAME_MAX {
            return errno(libc::ENAMETOOLONG);
        }
        let text = std::str::from_utf8(name).map_err(|_| FsError::Errno(libc::EINVAL))?;
        let taken = self.live.now().store().snapshot(text);
        match taken {
            Err(Error::TooMany { .. }) => errno(libc::EMLINK),
            done => {
                done?;
                self.views.find(ctx, name)?.enter_root(ctx)
            }
        }
    }

    /// Request: remove a directory; among the snapshots: drop one.
    pub(crate) fn rmdir(&self, ctx: &Ctx, parent: u64, name: &[u8]) -> FsResult<()> {
        if self.replays.are_of(ctx) {
            return self.remove_to_replay(parent, name, true);
        }
        if parent != self.snapshots {
            return self.to_change(ctx, parent)?.rmdir(ctx, parent, name);
        }
        if !ctx.may_wait {
            return Err(FsError::Blocked);
        }
        let name = std::str::from_utf8(name).map_err(|_| FsError::Errno(libc::ENOENT))?;
        self.views.drop_snapshot(name)
    }

    /// Request: open a file.
    pub(crate) fn open(&self, ctx: &Ctx, ino: u64, flags: i32) -> FsResult<u64> {
        if self.replays.are_of(ctx) {
            return self.open_to_replay(ino);
        }
        let changes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        if changes && self.never_changes(ino) {
            return errno(libc::EROFS);
        }
        let fs = self.at(ctx, ino)?;
        let fh = fs.open(ctx, ino, flags)?;
        fs.retain_view();
        Ok(fh)
    }

    /// Request: the last descriptor was closed.
    pub(crate) fn release(&self, ctx: &Ctx, ino: u64, fh: u64) -> FsResult<()> {
        if fh == REPLAY_FH {
            return Ok(());
        }
        let fs = self.at(ctx, ino)?;
        let done = fs.release(ctx, fh);
        if !done.as_ref().is_err_and(FsError::runs_again) {
            fs.release_view();
        }
        done
    }

    /// Request: a descriptor was closed.
    pub(crate) fn flush(&self, ctx: &Ctx, ino: u64, fh: u64, owner: u64) -> FsResult<()> {
        if fh == REPLAY_FH {
            return Ok(());
        }
        self.at(ctx, ino)?.flush(ctx, ino, fh, owner)
    }

    /// Request: change attributes.
    pub(crate) fn setattr(
        &self,
        ctx: &Ctx,
        ino: u64,
        fh: Option<u64>,
        changes: &Changes,
    ) -> FsResult<(Attr, Held)> {
        if self.replays.are_of(ctx) {
            return Ok((self.setattr_to_replay(ctx, ino)?, Held::none()));
        }
        let fs = self.to_change(ctx, ino)?;
        let mut held = fs.held(ctx);
        let attr = fs.setattr(ctx, ino, fh, changes, &mut held)?;
        Ok((attr, held))
    }

    /// Request: create and open a file.
    pub(crate) fn create(
        &self,
        ctx: &Ctx,
        parent: u64,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> FsResult<(Attr, u64, Held)> {
        if self.replays.are_of(ctx) {
            let attr = self.create_to_replay(ctx, parent, name, NodeKind::File)?;
            return Ok((attr, REPLAY_FH, Held::none()));
        }
        let fs = self.to_change(ctx, parent)?;
        let mut held = self.held_in(ctx, &fs, parent);
        let (attr, fh) = fs.create(ctx, parent, name, mode, flags, &mut held)?;
        Ok((attr, fh, held))
    }

    /// Request: make a symlink.
    pub(crate) fn symlink(&self, ctx: &Ctx, parent: u64, name: &[u8], target: &[u8]) -> FsResult<Attr> {
        if self.replays.are_of(ctx) {
            return self.create_to_replay(ctx, parent, name, NodeKind::Link);
        }
        self.to_change(ctx, parent)?.symlink(ctx, parent, name, target)
    }

    /// Request: remove a file or a reference.
    pub(crate) fn unlink(&self, ctx: &Ctx, parent: u64, name: &[u8]) -> FsResult<()> {
        if self.replays.are_of(ctx) {
            return self.remove_to_replay(parent, name, false);
        }
        self.to_change(ctx, parent)?.unlink(ctx, parent, name)
    }

    /// Request: open a directory.
    pub(crate) fn opendir(&self, ctx: &Ctx, ino: u64) -> FsResult<()> {
        let fs = self.at(ctx, ino)?;
        fs.opendir(ctx, ino)?;
        fs.retain_view();
        Ok(())
    }

    /// Request: a directory was closed.
    pub(crate) fn releasedir(&self, ctx: &Ctx, ino: u64) -> FsResult<()> {
        self.at(ctx, ino)?.release_view();
        Ok(())
    }

    /// Request: move an entry. An entry does not move into a view or out of it.
    pub(crate) fn rename(
        &self,
        ctx: &Ctx,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        flags: u32,
    ) -> FsResult<Held> {
        let fs = self.to_change(ctx, from.0)?;
        self.may_change(to.0)?;
        let mut held = fs.held(ctx);
        fs.rename(ctx, (from.0, from.1), (to.0, to.1), flags, &mut held)?;
        Ok(held)
    }

    /// Request: check access. The kernel checks owners and modes itself.
    pub(crate) fn access(&self, ino: u64, mask: i32) -> FsResult<()> {
        if mask & libc::W_OK != 0 && self.never_changes(ino) {
            return errno(libc::EROFS);
        }
        Ok(())
    }

    /// Subtract lookups of an inode that the kernel forgets.
    pub(crate) fn forget(&self, ino: u64, lookups: u64) {
        if view_of(ino) == 0 {
            self.live.now().forget(ino, lookups);
        } else {
            self.views.forget(ino, lookups);
        }
    }

    /// Close unused views.
    pub(crate) fn expire_views(&self) {
        self.views.tidy();
    }

    /// Maintenance of the store, every few seconds.
    pub(crate) fn tidy(&self) {
        self.live.now().tidy();
    }

    /// Make all changes durable by a checkpoint.
    pub(crate) fn sync(&self) -> FsResult<()> {
        self.live.now().sync()
    }

    /// How long ago the oldest change was made that is not durable.
    pub(crate) fn undurable_age(&self) -> Option<Duration> {
        self.live.now().store().undurable_age()
    }

    /// Sleep while there is nothing to maintain: until a change, a view, or a remount. `maintained`: the count of
    /// changes at the last maintenance.
    pub(crate) fn rest(&self, maintained: u64) {
        // The filesystem itself is not held: a remount waits for its uses.
        let store = self.live.now().store().clone();
        let Ok(stirs) = store.stirs() else { return };
        let busy = self.views.any_is_open()
            || store.undurable_age().is_some()
            || store.change_count() != maintained
            || !self.live.is_resting();
        if !busy {
            // A store that is closed during this is followed by another one.
            let _ = store.await_stir(stirs, UNLIMITED);
        }
    }

    /// The count of changes of the store, by any process.
    pub(crate) fn change_count(&self) -> u64 {
        self.live.now().store().change_count()
    }

    /// Request: ioctl. The only one is that of a remount, by root: close the store and open it as the mount now is.
    pub(crate) fn ioctl(&self, ctx: &Ctx, uid: u32, request: u32, data: &[u8]) -> FsResult<()> {
        let Some(access) = Access::decode(request, data) else {
            return errno(libc::ENOTTY);
        };
        if uid != 0 {
            return errno(libc::EPERM);
        }
        if !ctx.may_wait {
            return Err(FsError::Blocked);
        }
        let mut now = lock(&self.access);
        if *now != access {
            let options = (self.opening)(access)?;
            self.live.change(|fs| fs.reopen(&options))?;
            *now = access;
        }
        Ok(())
    }

    /// End the mount.
    pub(crate) fn shutdown(&self) {
        self.views.close();
        self.live.now().shutdown();
    }
}
