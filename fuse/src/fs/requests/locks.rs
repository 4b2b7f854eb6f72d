//! Locks that programs take on files of the mount.
//!
//! A lock on a file is a lock on its entry; on an item of a list, on the list; on `.persist.lock`, on the directory's
//! container. Among commands it is a lock of a range of bytes (`known::locks`).
//!
//! 1. flock and fcntl locks are independent, as on every local filesystem of Linux. The owner of a flock is an open
//!    file, that of an fcntl lock a process, or with F_OFD_SETLK an open file.
//! 2. fcntl locks end when their owner closes any descriptor of the file (`flush`). All locks taken through an open
//!    file end with it (`release`), because the kernel does not itself release every kind.
//! 3. A snapshot and a read-only store do not change and have no locks. A shared lock, which excludes changes, is
//!    granted and not recorded. An exclusive lock is refused (EROFS).
//! 4. An exclusive lock on a file needs a descriptor that is open for writing (EBADF otherwise, as for fcntl locks on
//!    every filesystem): a program that may only read must not stop every writer of the other door.
//! 5. The target is recorded with the lock, and follows the file to other names (`lock_moves`).
//! 6. A file that was removed while it is open has locks of its own. They do not concern a new file of the same name.

use crate::fs::context::Ctx;
use crate::fs::error::{FsError, FsResult};
use crate::fs::known::locks::Locks;
use crate::fs::known::locks::ranges::{HeldRange, Origin, Range, WHOLE};
use crate::fs::known::locks::request::{Answer, Ask, Call, Target};
use crate::fs::tree::filesystem::Fs;
use crate::kernel::processes;
use persist_core::store::{Actor, LockMode, Store};

fn mode_of(kind: i32) -> FsResult<Option<LockMode>> {
    match kind {
        libc::F_RDLCK => Ok(Some(LockMode::Shared)),
        libc::F_WRLCK => Ok(Some(LockMode::Exclusive)),
        libc::F_UNLCK => Ok(None),
        _ => Err(FsError::Errno(libc::EINVAL)),
    }
}

/// A request to lock or unlock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockRequest {
    pub(crate) ino: u64,
    pub(crate) fh: u64,
    pub(crate) owner: u64,
    pub(crate) range: Range,
    /// F_RDLCK, F_WRLCK or F_UNLCK.
    pub(crate) kind: i32,
    pub(crate) pid: u32,
    /// flock, or fcntl.
    pub(crate) call: Call,
    /// Wait until the lock is granted.
    pub(crate) sleep: bool,
}

impl LockRequest {
    fn origin(&self) -> Origin {
        Origin {
            owner: self.owner,
            ino: self.ino,
            fh: self.fh,
            pid: self.pid,
        }
    }
}

/// A decoded request, ready to be decided.
pub(crate) struct Prepared {
    locks: Locks,
    store: Store,
    target: Target,
    request: LockRequest,
    /// None: unlock.
    ask: Option<Ask>,
}

impl Prepared {
    /// Decide the request. A lock that is not granted at once is answered later.
    pub(crate) fn run(self, answer: Answer) {
        let Prepared {
            locks,
            store,
            target,
            request,
            ask,
        } = self;
        locks.change(&store, |table, out| match ask {
            Some(ask) => table.lock(&store, target, ask, answer, out),
            None => {
                table.unlock(
                    &store,
                    &target,
                    request.call,
                    &request.origin(),
                    request.range,
                    out,
                );
                out.push((answer, Ok(())));
            }
        });
    }
}

impl Fs {
    /// The process that uses a lock, for messages. An fcntl lock belongs to the process that takes it, a flock to the
    /// open file: to the process that opened it, if that still lives. `exec 9>FILE; flock 9` in a shell locks through a
    /// process that ends at once.
    fn user_of(&self, request: &LockRequest) -> u32 {
        let opener = self.open_files.get(request.fh).map_or(0, |file| file.opener);
        if request.call == Call::Fcntl || opener == request.pid {
            return request.pid;
        }
        processes::process_of(opener).map_or(request.pid, |process| process.pid)
    }

    /// The target of a request: where its inode is locked already, or what its inode means now.
    fn target_of(&self, ctx: &Ctx, ino: u64) -> FsResult<Target> {
        if let Some(target) = self.locks.with(|table| table.recorded(ino).cloned()) {
            return Ok(target);
        }
        self.lock_target(ctx, ino)
    }

    /// Request: lock or unlock. None: it is done.
    pub(crate) fn prepare_lock(&self, ctx: &Ctx, request: &LockRequest) -> FsResult<Option<Prepared>> {
        let mode = mode_of(request.kind)?;
        if request.range.0 > request.range.1 {
            return Err(FsError::Errno(libc::EINVAL));
        }
        if self.store.is_frozen() {
            return match mode {
                Some(LockMode::Exclusive) => Err(FsError::Errno(libc::EROFS)),
                _ => Ok(None),
            };
        }
        let exclusive = mode == Some(LockMode::Exclusive);
        if exclusive && self.open_files.get(request.fh).is_ok_and(|file| !file.write) {
            return Err(FsError::Errno(libc::EBADF));
        }
        let target = match mode {
            Some(_) => self.target_of(ctx, request.ino)?,
            None => match self.locks.with(|table| table.recorded(request.ino).cloned()) {
                Some(target) => target,
                None => return Ok(None),
            },
        };
        let ask = mode.map(|mode| Ask {
            call: request.call,
            origin: request.origin(),
            range: request.range,
            mode,
            user: self.user_of(request),
            tid: ctx.tid,
            sleep: request.sleep,
        });
        Ok(Some(Prepared {
            locks: self.locks.clone(),
            store: self.store.clone(),
            target,
            request: *request,
            ask,
        }))
    }

    /// Request: the fcntl lock that excludes one (F_GETLK), as a range and its process. With F_UNLCK (F_OFD_GETLK), a
    /// lock of the owner itself.
    pub(crate) fn test_lock(&self, ctx: &Ctx, request: &LockRequest) -> FsResult<Option<HeldRange>> {
        if self.store.is_frozen() {
            return Ok(None);
        }
        let (mode, target) = (mode_of(request.kind)?, self.target_of(ctx, request.ino)?);
        let Some(mode) = mode else {
            return Ok(self.locks.with(|table| {
                let ranges = table.file(&target)?.ranges(Call::Fcntl);
                ranges.own(request.owner, request.range)
            }));
        };
        let found = self.locks.with(|table| {
            let ranges = table.file(&target)?.ranges(Call::Fcntl);
            ranges.excluding(request.owner, request.range, mode).next()
        });
        let (None, Some(in_store)) = (found, target.in_store()) else {
            return Ok(found);
        };
        let actor = Actor::Posix(request.owner, request.pid);
        let holder = self.store.test_lock(actor, in_store, mode)?;
        Ok(holder.map(|(pid, mode)| HeldRange {
            owner: 0,
            pid,
            range: WHOLE,
            mode,
        }))
    }
}
