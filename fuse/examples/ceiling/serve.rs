//! The filesystem: answers from a tree in memory, with the options of the mount.
//!
//! 1. What the mount requests from the kernel (capabilities, direct I/O, threads), this requests too, and it implements
//!    what the mount implements: otherwise the kernel would leave requests out here that it sends there.
//! 2. The kernel keeps entries and attributes for the time that the command line names, and missing names too. It keeps
//!    no content.

use super::Failure;
use super::tree::{Body, Dir, Errno, Node, ROOT, Tree};
use fuser::{
    AccessFlags, BsdFileFlags, Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyWrite,
    ReplyXattr, Request, Session, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

/// Threads that answer requests: those of the mount.
const WORKERS: usize = 4;
const GENERATION: Generation = Generation(0);
/// Extended attributes that can be set, and those that there are none of.
const USER: &[u8] = b"user.";
const SYSTEM: &[u8] = b"system.";

/// Serve a copy of a directory until it is unmounted.
pub(crate) fn run(mountpoint: &Path, seconds: &str, from: &Path) -> Result<(), Failure> {
    let served = Served {
        ttl: Duration::from_secs(seconds.parse()?),
        tree: RwLock::new(Tree::load(from)?),
    };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("ceiling".into())];
    config.n_threads = Some(WORKERS);
    Session::new(served, mountpoint, &config)?.run()?;
    Ok(())
}

struct Served {
    ttl: Duration,
    tree: RwLock<Tree>,
}

fn error(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno)
}

fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(error(e)),
    }
}

fn kind(node: &Node) -> FileType {
    match node.body {
        Body::File(_) => FileType::RegularFile,
        Body::Link(_) => FileType::Symlink,
        Body::Dir(_) => FileType::Directory,
    }
}

fn attr(ino: u64, node: &Node) -> FileAttr {
    let size = match &node.body {
        Body::File(bytes) | Body::Link(bytes) => bytes.len() as u64,
        Body::Dir(_) => 0,
    };
    FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: node.atime,
        mtime: node.mtime,
        ctime: node.ctime,
        crtime: node.mtime,
        kind: kind(node),
        perm: node.mode,
        nlink: node.links,
        uid: node.uid,
        gid: node.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

impl Served {
    fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree_mut(&self) -> RwLockWriteGuard<'_, Tree> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, parent: INodeNo, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        let mut tree = self.tree_mut();
        let ino = tree.create(parent.0, name.as_bytes(), node)?;
        Ok(attr(ino, tree.get(ino)?))
    }

    fn entry(&self, reply: ReplyEntry, found: Result<FileAttr, Errno>) {
        match found {
            Ok(a) => reply.entry(&self.ttl, &a, GENERATION),
            // An entry without an inode is a missing name that the kernel keeps.
            Err(libc::ENOENT) if !self.ttl.is_zero() => {
                let nothing = attr(0, &Node::new(Body::File(Vec::new()), 0, 0, 0));
                reply.entry_with_ttls(&Duration::ZERO, &self.ttl, &nothing, GENERATION);
            }
            Err(e) => reply.error(error(e)),
        }
    }

    /// Pass the entries of a directory from a position on, with the positions after them, until there is no room.
    fn list(
        &self,
        ino: u64,
        from: u64,
        mut line: impl FnMut(u64, &OsStr, u64, &Node) -> bool,
    ) -> Result<(), Errno> {
        let tree = self.tree();
        let dir = tree.dir(ino)?;
        let parent = if ino == ROOT { ROOT } else { dir.parent };
        for (at, name, number) in [(0, ".", ino), (1, "..", parent)] {
            if from <= at && line(at + 1, OsStr::new(name), number, tree.get(number)?) {
                return Ok(());
            }
        }
        for (at, (name, number)) in dir.entries.range(from.saturating_sub(1)..) {
            if line(at + 2, OsStr::from_bytes(name), *number, tree.get(*number)?) {
                break;
            }
        }
        Ok(())
    }

    fn opened(&self, ino: INodeNo, flags: i32) -> Result<(), Errno> {
        if flags & libc::O_TRUNC != 0 {
            self.tree_mut().truncate(ino.0, 0)
        } else {
            self.tree().get(ino.0).map(drop)
        }
    }
}

impl Filesystem for Served {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Those of the mount, in `fuse/src/protocol/adapter.rs`.
        for flag in [
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_POSIX_LOCKS,
            InitFlags::FUSE_FLOCK_LOCKS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ] {
            // A kernel without it serves the mount without it, too.
            let _ = config.add_capabilities(flag);
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let tree = self.tree();
        let found = tree
            .lookup(parent.0, name.as_bytes())
            .and_then(|ino| Ok(attr(ino, tree.get(ino)?)));
        drop(tree);
        self.entry(reply, found);
    }

    fn forget(&self, _req: &Request, ino: INodeNo, _nlookup: u64) {
        let removed = self.tree().is_removed(ino.0);
        if removed {
            self.tree_mut().forget(ino.0);
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let found = self.tree().get(ino.0).map(|node| attr(ino.0, node));
        match found {
            Ok(a) => reply.attr(&self.ttl, &a),
            Err(e) => reply.error(error(e)),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.tree_mut();
        let change = |tree: &mut Tree| -> Result<FileAttr, Errno> {
            if let Some(size) = size {
                tree.truncate(ino.0, size)?;
            }
            let node = tree.get_mut(ino.0)?;
            node.mode = mode.map_or(node.mode, |mode| (mode & 0o7777) as u16);
            node.uid = uid.unwrap_or(node.uid);
            node.gid = gid.unwrap_or(node.gid);
            node.atime = atime.map_or(node.atime, time);
            node.mtime = mtime.map_or(node.mtime, time);
            node.ctime = SystemTime::now();
            Ok(attr(ino.0, node))
        };
        let changed = change(&mut tree);
        drop(tree);
        match changed {
            Ok(a) => reply.attr(&self.ttl, &a),
            Err(e) => reply.error(error(e)),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.tree().get(ino.0).map(|node| &node.body) {
            Ok(Body::Link(target)) => reply.data(target),
            Ok(_) => reply.error(error(libc::EINVAL)),
            Err(e) => reply.error(error(e)),
        }
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let node = Node::new(Body::Dir(Dir::default()), mode, req.uid(), req.gid());
        self.entry(reply, self.make(parent, name, node));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = Body::Link(target.as_os_str().as_bytes().to_vec());
        let node = Node::new(target, 0o777, req.uid(), req.gid());
        self.entry(reply, self.make(parent, name, node));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let node = Node::new(Body::File(Vec::new()), mode, req.uid(), req.gid());
        match self.make(parent, name, node) {
            Ok(a) => reply.created(
                &self.ttl,
                &a,
                GENERATION,
                FileHandle(0),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(e) => reply.error(error(e)),
        }
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.tree_mut().remove(parent.0, name.as_bytes(), false);
        empty(reply, done);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.tree_mut().remove(parent.0, name.as_bytes(), true);
        empty(reply, done);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            return reply.error(error(libc::EINVAL));
        }
        let (from, to) = ((parent.0, name.as_bytes()), (newparent.0, newname.as_bytes()));
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        let done = self.tree_mut().rename(from, to, replace);
        empty(reply, done);
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.opened(ino, flags.0) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(e) => reply.error(error(e)),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.tree().get(ino.0).map(|node| &node.body) {
            Ok(Body::File(content)) => {
                let from = content.len().min(offset as usize);
                let to = content.len().min(from + size as usize);
                reply.data(&content[from..to]);
            }
            Ok(_) => reply.error(error(libc::EISDIR)),
            Err(e) => reply.error(error(e)),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let at = (flags.0 & libc::O_APPEND == 0).then_some(offset);
        let done = self.tree_mut().write(ino.0, at, data);
        match done {
            Ok(()) => reply.written(data.len() as u32),
            Err(e) => reply.error(error(e)),
        }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.list(ino.0, offset, |next, name, number, node| {
            reply.add(INodeNo(number), next, kind(node), name)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(error(e)),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.list(ino.0, offset, |next, name, number, node| {
            reply.add(
                INodeNo(number),
                next,
                name,
                &self.ttl,
                &attr(number, node),
                GENERATION,
            )
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(error(e)),
        }
    }

    fn setxattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        if !name.as_bytes().starts_with(USER) {
            // So `cp -a` sets the mode by another call, there and here.
            return reply.error(error(libc::EOPNOTSUPP));
        }
        let done = self.tree_mut().get_mut(ino.0).map(|node| {
            node.xattrs.insert(name.as_bytes().to_vec(), value.to_vec());
        });
        empty(reply, done);
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let tree = self.tree();
        match tree.get(ino.0).map(|node| node.xattrs.get(name.as_bytes())) {
            Ok(Some(value)) => send_xattr(reply, size, value),
            Ok(None) if name.as_bytes().starts_with(SYSTEM) => reply.error(error(libc::EOPNOTSUPP)),
            Ok(None) => reply.error(error(libc::ENODATA)),
            Err(e) => reply.error(error(e)),
        }
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.tree().get(ino.0).map(|node| {
            let mut names = Vec::new();
            for name in node.xattrs.keys() {
                names.extend_from_slice(name);
                names.push(0);
            }
            names
        });
        match names {
            Ok(names) => send_xattr(reply, size, &names),
            Err(e) => reply.error(error(e)),
        }
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self
            .tree_mut()
            .get_mut(ino.0)
            .and_then(|node| node.xattrs.remove(name.as_bytes()).ok_or(libc::ENODATA));
        empty(reply, removed.map(drop));
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let size = match self.tree_mut().get_mut(ino.0).and_then(Node::file) {
            Ok(content) => content.len() as i64,
            Err(e) => return reply.error(error(e)),
        };
        match whence {
            libc::SEEK_DATA if offset < size => reply.offset(offset),
            libc::SEEK_HOLE if offset < size => reply.offset(size),
            _ => reply.error(error(libc::ENXIO)),
        }
    }
}

fn send_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    if size == 0 {
        reply.size(value.len() as u32);
    } else if value.len() <= size as usize {
        reply.data(value);
    } else {
        reply.error(error(libc::ERANGE));
    }
}
