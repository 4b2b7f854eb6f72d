//! Locks that programs take on files of the mount, kept in the store's lock manager.
//!
//! A lock on a file is a lock on its entry; on an item of a list, on the list; on `.persist.lock`, on the directory's
//! container. The lock manager has no byte ranges: a range locks the whole entry, in the strongest mode of all ranges
//! of its owner there.
//!
//! 1. The kernel's lock owner identifies the holder: an open file (flock) or a process (fcntl). FUSE does not report
//!    which of the two it is. Owners never coincide, so it need not be known.
//! 2. fcntl locks end when their owner closes any descriptor of the file (`flush`). All locks taken through an open
//!    file end with it (`release`), because the kernel does not itself release every kind.
//! 3. A snapshot and a read-only store do not change and have no locks. A shared lock, which excludes changes, is
//!    granted and not recorded. An exclusive lock is refused (EROFS).
//! 4. An exclusive lock on a file needs a descriptor that is open for writing (EBADF otherwise, as for fcntl locks on
//!    every filesystem): a program that may only read must not stop every writer of the other door.
//! 5. The target is recorded with the lock: it is unlocked there even if the file has moved.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, would_wait};
use crate::fs::known::inodes::{Place, Slot};
use crate::fs::known::locks::{Held, Range, changed, strongest, target};
use crate::fs::text::keys::OwnedKey;
use crate::fs::tree::filesystem::Fs;
use crate::kernel::processes;
use persist_core::store::{Actor, LockMode, Obj, Wait};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

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
    /// Wait until the lock is granted.
    pub(crate) sleep: bool,
}

impl Fs {
    /// The process that uses a lock, for messages: the one that opened the file, if it still lives, else the one that
    /// asks. `exec 9>FILE; flock 9` in a shell locks through a process that ends at once.
    fn user_of(&self, ask: &LockRequest) -> u32 {
        let opener = self.open_files.get(ask.fh).map_or(0, |file| file.opener);
        if opener == ask.pid {
            return ask.pid;
        }
        processes::process_of(opener).map_or(ask.pid, |process| process.pid)
    }

    /// The target of a lock on an inode.
    fn lock_target(&self, ctx: &Ctx, ino: u64) -> FsResult<Option<(Obj, Option<OwnedKey>)>> {
        Ok(match self.place(ino)? {
            Place::Lock(obj) | Place::Dir(obj) => Some((obj, None)),
            Place::File(spot) => match spot.slot {
                Slot::Item(_) => Some((spot.parent, None)),
                Slot::Key(key) => match self.read(ctx, |r| Ok(r.waits_beside(spot.parent)?))? {
                    Some(list) => Some((list, None)),
                    None => Some((spot.parent, Some(key))),
                },
            },
            // A removed entry is unreachable for others.
            Place::Deleted => None,
            Place::Link(_) | Place::Control(_) => return Err(FsError::Errno(libc::ENOLCK)),
        })
    }

    /// Request: lock or unlock.
    pub(crate) fn set_lock(&self, ctx: &Ctx, ask: &LockRequest) -> FsResult<()> {
        let mode = mode_of(ask.kind)?;
        if self.store.is_frozen() {
            return match mode {
                Some(LockMode::Exclusive) => Err(FsError::Errno(libc::EROFS)),
                _ => Ok(()),
            };
        }
        if mode == Some(LockMode::Exclusive) && self.open_files.get(ask.fh).is_ok_and(|file| !file.write) {
            return Err(FsError::Errno(libc::EBADF));
        }
        let id = (ask.ino, ask.owner);
        let known = lock(&self.locks.held)
            .get(&id)
            .map(|h| (h.obj, h.key.clone(), h.ranges.clone()));
        let (obj, key, ranges) = match known {
            Some(known) => known,
            None if mode.is_none() => return Ok(()),
            None => match self.lock_target(ctx, ask.ino)? {
                Some((obj, key)) => (obj, key, Vec::new()),
                None => return Ok(()),
            },
        };
        let after = changed(&ranges, ask.range, mode);
        let (was, will) = (strongest(&ranges), strongest(&after));
        if was != will {
            let mut signal = || processes::has_signal(ctx.tid);
            let timeout = if ask.sleep && ctx.may_wait {
                None
            } else {
                Some(Duration::ZERO)
            };
            let mut wait = Wait {
                timeout,
                interrupted: Some(&mut signal),
            };
            let set = self.store.set_lock(
                Actor::Flock(ask.owner, self.user_of(ask)),
                target(obj, key.as_ref()),
                will,
                &mut wait,
            );
            match set {
                Ok(()) => {}
                Err(e) if would_wait(&e) && ask.sleep && !ctx.may_wait => return Err(FsError::Blocked),
                Err(e) if would_wait(&e) => return Err(FsError::Errno(libc::EAGAIN)),
                // The locked entry was deleted, and the lock with it.
                Err(persist_core::Error::Gone(_)) if will.is_none() => {}
                Err(e) => return Err(e.into()),
            }
        }
        let mut held = lock(&self.locks.held);
        if after.is_empty() {
            held.remove(&id);
        } else {
            let entry = held.entry(id).or_insert(Held {
                obj,
                key,
                ranges: Vec::new(),
                handles: HashSet::new(),
            });
            entry.ranges = after;
            entry.handles.insert(ask.fh);
        }
        Ok(())
    }

    /// Request: return the conflicting holder of a lock (its process, shared or exclusive).
    pub(crate) fn test_lock(&self, ctx: &Ctx, ask: &LockRequest) -> FsResult<Option<(u32, i32)>> {
        if self.store.is_frozen() {
            return Ok(None);
        }
        let (Some(mode), Some((obj, key))) = (mode_of(ask.kind)?, self.lock_target(ctx, ask.ino)?) else {
            return Ok(None);
        };
        let holder =
            self.store
                .test_lock(Actor::Flock(ask.owner, ask.pid), target(obj, key.as_ref()), mode)?;
        let Some((pid, mode)) = holder else {
            return Ok(None);
        };
        Ok(Some((
            pid,
            if mode == LockMode::Exclusive {
                libc::F_WRLCK
            } else {
                libc::F_RDLCK
            },
        )))
    }
}

impl Fs {
    /// The locks of the store, held and requested, one a line.
    pub(crate) fn describe_locks(&self) -> FsResult<String> {
        let mut out = String::new();
        for l in self.store.locks()? {
            let what = l.path.unwrap_or_else(|| match l.key_hash {
                Some(hash) => format!("object {}, the entry with hash {hash:016x}", l.object.0),
                None => format!("object {}", l.object.0),
            });
            let state = if l.waiting { "awaited" } else { "held" };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{what} {} {state} {}", l.mode, l.owner);
        }
        Ok(out)
    }
}
