//! Lock requests: a lock that is not free is answered when it becomes free, and takes no thread until then.

use super::dispatch::Adapter;
use super::translate::errno;
use crate::fs::error::FsError;
use crate::fs::known::locks::request::Call;
use crate::fs::requests::locks::LockRequest;
use crate::kernel::lock_flags::{self, Fields};
use fuser::{FileHandle, INodeNo, LockOwner, ReplyEmpty, ReplyLock, Request};
use persist_core::store::LockMode;

/// The arguments of FUSE's lock requests: inode, open file, owner, range, type, process.
pub(crate) type Arguments = (INodeNo, FileHandle, LockOwner, (u64, u64), i32, u32);

/// Decode a request. None: it is unknown whether it is one of flock.
fn decode(req: &Request, arguments: Arguments, sleep: bool) -> Option<LockRequest> {
    let (ino, fh, owner, range, kind, pid) = arguments;
    let fields = Fields {
        ino: ino.0,
        fh: fh.0,
        owner: owner.0,
        start: range.0,
        end: range.1,
        kind,
        pid,
    };
    let Some(is_flock) = lock_flags::is_flock(req, &fields) else {
        log::error!("a lock was refused: this build's fuser lays out lock requests in another way");
        return None;
    };
    Some(LockRequest {
        ino: ino.0,
        fh: fh.0,
        owner: owner.0,
        range,
        kind,
        pid,
        call: if is_flock { Call::Flock } else { Call::Fcntl },
        sleep,
    })
}

impl Adapter {
    /// Answer FUSE_GETLK.
    pub(crate) fn test_lock(&self, req: &Request, arguments: Arguments, reply: ReplyLock) {
        let (.., (start, end), _, _) = arguments;
        let Some(ask) = decode(req, arguments, false) else {
            return reply.error(errno(&FsError::Errno(libc::ENOLCK)));
        };
        self.run(
            req,
            move |m, ctx| m.at(ctx, ask.ino)?.test_lock(ctx, &ask),
            move |r| match r {
                Ok(Some(held)) => {
                    let kind = match held.mode {
                        LockMode::Exclusive => libc::F_WRLCK,
                        LockMode::Shared => libc::F_RDLCK,
                    };
                    reply.locked(held.range.0, held.range.1, kind, held.pid);
                }
                Ok(None) => reply.locked(start, end, libc::F_UNLCK, 0),
                Err(e) => reply.error(errno(&e)),
            },
        );
    }

    /// Answer FUSE_SETLK and FUSE_SETLKW.
    pub(crate) fn set_lock(&self, req: &Request, arguments: Arguments, sleep: bool, reply: ReplyEmpty) {
        let Some(ask) = decode(req, arguments, sleep) else {
            return reply.error(errno(&FsError::Errno(libc::ENOLCK)));
        };
        self.run(
            req,
            move |m, ctx| {
                let fs = m.at(ctx, ask.ino)?;
                let prepared = fs.prepare_lock(ctx, &ask)?;
                // The filesystem is held until the request is recorded: a remount finds it then.
                Ok(prepared.map(|prepared| (fs, prepared)))
            },
            move |r| match r {
                Ok(Some((_fs, prepared))) => prepared.run(Box::new(move |r| match r {
                    Ok(()) => reply.ok(),
                    Err(e) => reply.error(errno(&e)),
                })),
                Ok(None) => reply.ok(),
                Err(e) => reply.error(errno(&e)),
            },
        );
    }
}
