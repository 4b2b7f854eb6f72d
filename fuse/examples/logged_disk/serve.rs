//! A filesystem with two files: `disk`, for a loop device, and `mark`. Each write to either, and each flush of the
//! disk, is appended to a log in the order of arrival.
//!
//! 1. One thread answers the requests, so the log's order is the order of the answers: a write to `mark` after a flush
//!    has returned follows that flush in the log.
//! 2. The device descriptor of the mount is standard input: the parent process mounts the filesystem and unmounts it.
//! 3. The disk is in memory; nothing here uses a filesystem that may be on the loop device.
//! 4. The log is complete once `end` was written to `mark`.
//!
//! The log is a sequence of records, little-endian:
//!
//! | OFFSET | SIZE | |
//! | --- | --- | --- |
//! | 0 | 8 | 0: write, 1: made zero, 2: flush, 3: mark |
//! | 8 | 8 | where on the disk |
//! | 16 | 8 | how many bytes |
//! | 24 | that many | what was written (writes and marks) |

use super::Failure;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, Session,
    SessionACL, WriteFlags,
};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

const BLOCK: u64 = 4096;
const TTL: Duration = Duration::from_secs(1 << 30);
const DISK: INodeNo = INodeNo(2);
const MARK: INodeNo = INodeNo(3);

const WRITE: u64 = 0;
const ZERO: u64 = 1;
const FLUSH: u64 = 2;
const MARKED: u64 = 3;

/// Serves a disk of `size` bytes until it is unmounted, or killed.
pub(crate) fn run(log: &Path, size: &str) -> Result<(), Failure> {
    let served = Served {
        size: size.parse()?,
        state: Mutex::new(State {
            blocks: HashMap::new(),
            log: BufWriter::with_capacity(1 << 20, File::create(log)?),
        }),
    };
    let device = std::io::stdin().as_fd().try_clone_to_owned()?;
    Session::from_fd(served, device, SessionACL::All, Config::default())?.run()?;
    Ok(())
}

struct Served {
    size: u64,
    state: Mutex<State>,
}

struct State {
    /// The disk's content; a block that is not there is zero.
    blocks: HashMap<u64, Box<[u8; BLOCK as usize]>>,
    log: BufWriter<File>,
}

/// The blocks that a range covers: number, from and to within it, and from where in the range.
fn pieces(offset: u64, length: u64) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let end = offset.saturating_add(length);
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
        let start = block * BLOCK;
        let (from, to) = (offset.max(start), end.min(start + BLOCK));
        (
            block,
            (from - start) as usize,
            (to - start) as usize,
            (from - offset) as usize,
        )
    })
}

impl State {
    fn note(&mut self, kind: u64, offset: u64, length: u64, content: &[u8]) -> io::Result<()> {
        for word in [kind, offset, length] {
            self.log.write_all(&word.to_le_bytes())?;
        }
        self.log.write_all(content)
    }

    fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let mut out = vec![0; length as usize];
        for (block, from, to, at) in pieces(offset, length) {
            if let Some(b) = self.blocks.get(&block) {
                out[at..at + to - from].copy_from_slice(&b[from..to]);
            }
        }
        out
    }

    fn write(&mut self, offset: u64, content: &[u8]) {
        for (block, from, to, at) in pieces(offset, content.len() as u64) {
            let b = self
                .blocks
                .entry(block)
                .or_insert_with(|| Box::new([0; BLOCK as usize]));
            b[from..to].copy_from_slice(&content[at..at + to - from]);
        }
    }

    fn zero(&mut self, offset: u64, length: u64) {
        for (block, from, to, _) in pieces(offset, length) {
            if to - from == BLOCK as usize {
                self.blocks.remove(&block);
            } else if let Some(b) = self.blocks.get_mut(&block) {
                b[from..to].fill(0);
            }
        }
    }
}

impl Served {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        let (kind, size) = match ino {
            INodeNo::ROOT => (FileType::Directory, 0),
            DISK => (FileType::RegularFile, self.size),
            MARK => (FileType::RegularFile, 0),
            _ => return None,
        };
        Some(FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: if kind == FileType::Directory { 0o700 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK as u32,
            flags: 0,
        })
    }
}

/// The answer to a change that was noted in the log, or could not be.
fn answer(done: io::Result<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(_) => reply.error(Errno::EIO),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let ino = match name.to_str() {
            Some("disk") => DISK,
            Some("mark") => MARK,
            _ => return reply.error(Errno::ENOENT),
        };
        match self.attr(ino) {
            Some(attr) if parent == INodeNo::ROOT => reply.entry(&TTL, &attr, Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let flags = if ino == MARK {
            FopenFlags::FOPEN_DIRECT_IO
        } else {
            FopenFlags::FOPEN_KEEP_CACHE
        };
        reply.opened(FileHandle(0), flags);
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
        if ino != DISK {
            return reply.data(&[]);
        }
        let end = self.size.min(offset.saturating_add(u64::from(size)));
        reply.data(&self.state().read(offset, end.saturating_sub(offset)));
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let length = data.len() as u64;
        let mut state = self.state();
        let noted = if ino == DISK && offset.saturating_add(length) <= self.size {
            state.write(offset, data);
            state.note(WRITE, offset, length, data)
        } else if ino == MARK {
            let noted = state.note(MARKED, 0, length, data);
            if data == b"end" {
                noted.and_then(|()| state.log.flush())
            } else {
                noted
            }
        } else {
            return reply.error(Errno::EFBIG);
        };
        match noted {
            Ok(()) => reply.written(data.len() as u32),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer(self.state().note(FLUSH, 0, 0, &[]), reply);
    }

    /// Zeroes a range, as the loop device wants it for discarding and for writing zeros.
    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let zeroes = mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0;
        if ino != DISK || !zeroes || offset.saturating_add(length) > self.size {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let mut state = self.state();
        state.zero(offset, length);
        answer(state.note(ZERO, offset, length, &[]), reply);
    }
}
