//! The adapter between FUSE and the filesystem: decode requests, run them (`dispatch`), answer.
//!
//! 1. Every request is answered exactly once.
//! 2. The kernel caches what a lease covers (`fs::known::leases`), and no content (direct I/O).

use super::dispatch::{Adapter, guarded};
use super::translate::{
    bytes, errno, new_time, reply_created, reply_data, reply_empty, reply_entry, reply_found, reply_ioctl,
    reply_known_attr, reply_renamed, reply_write, reply_xattr,
};
use crate::fs::tree::metadata::attributes::Changes;
use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::{io, path::Path, time::SystemTime};

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_POSIX_LOCKS,
            InitFlags::FUSE_FLOCK_LOCKS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ];
        for flag in wanted {
            // The kernel lacks this capability. The mount works without the feature.
            if config.add_capabilities(flag).is_err() {
                log::info!("the kernel lacks {flag:?}");
            }
        }
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (name, known_as) = (bytes(name), bytes(name));
        self.run(
            req,
            move |m, ctx| m.lookup(ctx, parent.0, &name),
            reply_found(reply, parent.0, known_as),
        );
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        // A panic here would end the worker thread.
        let _ = guarded(|| {
            self.mounted.forget(ino.0, nlookup);
            Ok(())
        });
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        self.run(
            req,
            move |m, ctx| m.getattr(ctx, ino.0, fh.map(|f| f.0)),
            reply_known_attr(reply),
        );
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changes = Changes {
            mode,
            uid,
            gid,
            size,
            atime: new_time(atime),
            mtime: new_time(mtime),
        };
        self.run(
            req,
            move |m, ctx| m.setattr(ctx, ino.0, fh.map(|f| f.0), &changes),
            reply_known_attr(reply),
        );
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        self.run(
            req,
            move |m, ctx| m.at(ctx, ino.0)?.readlink(ctx, ino.0),
            reply_data(reply),
        );
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let name = bytes(name);
        self.run(
            req,
            move |m, ctx| m.to_change(ctx, parent.0)?.mknod(ctx, parent.0, &name, mode),
            reply_entry(reply),
        );
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let name = bytes(name);
        self.run(
            req,
            move |m, ctx| m.mkdir(ctx, parent.0, &name, mode),
            reply_entry(reply),
        );
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = bytes(name);
        self.run(
            req,
            move |m, ctx| m.unlink(ctx, parent.0, &name),
            reply_empty(reply),
        );
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = bytes(name);
        self.run(
            req,
            move |m, ctx| m.rmdir(ctx, parent.0, &name),
            reply_empty(reply),
        );
    }

    fn symlink(&self, req: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (name, target) = (bytes(link_name), bytes(target.as_os_str()));
        self.run(
            req,
            move |m, ctx| m.symlink(ctx, parent.0, &name, &target),
            reply_entry(reply),
        );
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, newname) = (bytes(name), bytes(newname));
        self.run(
            req,
            move |m, ctx| m.rename(ctx, (parent.0, &name), (newparent.0, &newname), flags.bits()),
            reply_renamed(reply),
        );
    }

    fn link(&self, _req: &Request, _ino: INodeNo, _newparent: INodeNo, _newname: &OsStr, reply: ReplyEntry) {
        // A scalar has one place, so hard links are impossible; further references to containers are symlinks.
        reply.error(Errno::EPERM);
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.run(
            req,
            move |m, ctx| m.open(ctx, ino.0, flags.0),
            |r| match r {
                Ok(fh) => reply.opened(FileHandle(fh), FopenFlags::FOPEN_DIRECT_IO),
                Err(e) => reply.error(errno(&e)),
            },
        );
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.run(
            req,
            move |m, ctx| m.at(ctx, ino.0)?.read_file(ctx, fh.0, offset, size),
            reply_data(reply),
        );
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let by = (fh.0, lock_owner.map(|owner| owner.0));
        let at = (offset, write_flags.contains(WriteFlags::FUSE_WRITE_CACHE));
        self.run_with_data(
            req,
            data,
            move |m, ctx, data| m.to_change(ctx, ino.0)?.write_file(ctx, by, at, data),
            reply_write(reply),
        );
    }

    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, lock_owner: LockOwner, reply: ReplyEmpty) {
        self.run(
            req,
            move |m, ctx| m.flush(ctx, ino.0, fh.0, lock_owner.0),
            reply_empty(reply),
        );
    }

    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.run(req, move |m, ctx| m.release(ctx, ino.0, fh.0), reply_empty(reply));
    }

    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.run(
            req,
            move |m, ctx| m.at(ctx, ino.0)?.fsync(ctx, fh.0),
            reply_empty(reply),
        );
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.run(
            req,
            move |m, ctx| m.opendir(ctx, ino.0),
            |r| match r {
                Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
                Err(e) => reply.error(errno(&e)),
            },
        );
    }

    fn readdir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        self.list(req, (ino.0, offset, false), reply);
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.list(req, (ino.0, offset, true), reply);
    }

    fn releasedir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.run(req, move |m, ctx| m.releasedir(ctx, ino.0), reply_empty(reply));
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.run(req, move |m, ctx| m.at(ctx, ino.0)?.sync(), reply_empty(reply));
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.run(
            req,
            move |m, ctx| m.at(ctx, ino.0)?.statfs(),
            |r| match r {
                Ok((blocks, free)) => reply.statfs(blocks, free, free, 0, 0, 4096, 255, 4096),
                Err(e) => reply.error(errno(&e)),
            },
        );
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (name, value) = (bytes(name), value.to_vec());
        self.run(
            req,
            move |m, ctx| {
                m.to_change(ctx, ino.0)?
                    .setxattr(ctx, ino.0, &name, &value, flags)
            },
            reply_empty(reply),
        );
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = bytes(name);
        self.run(
            req,
            move |m, ctx| m.at(ctx, ino.0)?.getxattr(ctx, ino.0, &name),
            reply_xattr(reply, size),
        );
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.run(
            req,
            move |m, ctx| m.at(ctx, ino.0)?.listxattr(ctx, ino.0),
            reply_xattr(reply, size),
        );
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = bytes(name);
        self.run(
            req,
            move |m, ctx| m.to_change(ctx, ino.0)?.removexattr(ctx, ino.0, &name),
            reply_empty(reply),
        );
    }

    fn access(&self, _req: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        // Only the mounting user gets here, or the kernel checks the modes itself.
        reply_empty(reply)(self.mounted.access(ino.0, mask.bits()));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (name, known_as) = (bytes(name), bytes(name));
        self.run(
            req,
            move |m, ctx| m.create(ctx, parent.0, &name, mode, flags),
            reply_created(reply, parent.0, known_as),
        );
    }

    fn getlk(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        self.test_lock(req, (ino, fh, lock_owner, (start, end), typ, pid), reply);
    }

    fn setlk(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        self.set_lock(req, (ino, fh, lock_owner, (start, end), typ, pid), sleep, reply);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.run(
            req,
            move |m, ctx| {
                m.to_change(ctx, ino.0)?
                    .allocate(ctx, (ino.0, fh.0), (offset, length), mode)
            },
            reply_empty(reply),
        );
    }

    fn ioctl(
        &self,
        req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let (uid, data) = (req.uid(), in_data.to_vec());
        self.run(
            req,
            move |m, ctx| m.ioctl(ctx, uid, cmd, &data),
            reply_ioctl(reply),
        );
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.run(
            req,
            move |m, ctx| m.at(ctx, ino.0)?.lseek(ctx, ino.0, fh.0, offset, whence),
            |r| match r {
                Ok(at) => reply.offset(at),
                Err(e) => reply.error(errno(&e)),
            },
        );
    }
}
