//! Conversion of arguments and results between FUSE and the filesystem.

use crate::fs::error::{FsError, FsResult};
use crate::fs::known::forgetting::Kept;
use crate::fs::known::leases::{Covered, Held};
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::attributes::NewTime;
use crate::fs::tree::metadata::attributes::NodeKind;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate,
    ReplyData, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyWrite, ReplyXattr, TimeOrNow,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// How long the kernel may cache answers that no lease covers: not at all.
pub(crate) const TTL: Duration = Duration::ZERO;
/// Inode numbers are not reused.
pub(crate) const GENERATION: Generation = Generation(0);

pub(crate) fn errno(e: &FsError) -> Errno {
    Errno::from_i32(e.errno())
}

pub(crate) fn attr(a: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(a.ino),
        size: a.size,
        blocks: if a.kind == NodeKind::File {
            a.size.div_ceil(512)
        } else {
            0
        },
        atime: a.atime,
        mtime: a.mtime,
        ctime: a.ctime,
        crtime: a.mtime,
        kind: kind(a.kind),
        perm: a.mode,
        nlink: a.links,
        uid: a.uid,
        gid: a.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

pub(crate) fn kind(k: NodeKind) -> FileType {
    match k {
        NodeKind::Dir => FileType::Directory,
        NodeKind::File => FileType::RegularFile,
        NodeKind::Link => FileType::Symlink,
    }
}

pub(crate) fn reply_ioctl(reply: ReplyIoctl) -> impl FnOnce(FsResult<()>) {
    move |r| match r {
        Ok(()) => reply.ioctl(0, &[]),
        Err(e) => reply.error(errno(&e)),
    }
}

pub(crate) fn reply_write(reply: ReplyWrite) -> impl FnOnce(FsResult<u32>) {
    move |r| match r {
        Ok(n) => reply.written(n),
        Err(e) => reply.error(errno(&e)),
    }
}

pub(crate) fn reply_entry(reply: ReplyEntry) -> impl FnOnce(FsResult<Attr>) {
    move |r| match r {
        Ok(a) => reply.entry(&TTL, &attr(&a), GENERATION),
        Err(e) => reply.error(errno(&e)),
    }
}

/// Reply to a lookup. What the kernel may keep of it is recorded after the reply.
pub(crate) fn reply_found(
    reply: ReplyEntry,
    parent: u64,
    name: Vec<u8>,
) -> impl FnOnce(FsResult<(Result<Attr, Covered>, Held)>) {
    move |r| {
        let (found, held) = match r {
            Ok(found) => found,
            Err(e) => return reply.error(errno(&e)),
        };
        let covered = found.as_ref().map_or_else(|covered| *covered, |a| a.covered);
        let (entry, attributes) = (held.ttl(covered.entry), held.ttl(covered.attributes));
        let mut ino = 0;
        match found {
            Ok(a) => {
                ino = a.ino;
                reply.entry_with_ttls(&attributes, &entry, &attr(&a), GENERATION);
            }
            Err(_) if entry.is_zero() => return reply.error(Errno::ENOENT),
            // An entry without an inode is one that does not exist.
            Err(_) => reply.entry_with_ttls(&TTL, &entry, &nothing(), GENERATION),
        }
        let kept = [
            (covered.entry, entry, Kept::Entry(parent, &name)),
            (covered.attributes, attributes, Kept::Attributes(ino)),
        ];
        held.replied(kept);
    }
}

/// Reply to a request that has created and opened a file. What the kernel may keep of it is recorded after the reply.
/// There is one time to live, for the entry and the attributes.
pub(crate) fn reply_created(
    reply: ReplyCreate,
    parent: u64,
    name: Vec<u8>,
) -> impl FnOnce(FsResult<(Attr, u64, Held)>) {
    move |r| {
        let (a, fh, held) = match r {
            Ok(created) => created,
            Err(e) => return reply.error(errno(&e)),
        };
        let Covered { entry, attributes } = a.covered;
        let ttl = held.ttl(entry).min(held.ttl(attributes));
        reply.created(
            &ttl,
            &attr(&a),
            GENERATION,
            FileHandle(fh),
            FopenFlags::FOPEN_DIRECT_IO,
        );
        let kept = [
            (entry, ttl, Kept::Entry(parent, &name)),
            (attributes, ttl, Kept::Attributes(a.ino)),
        ];
        held.replied(kept);
    }
}

/// Reply with attributes. What the kernel may keep of them is recorded after the reply.
pub(crate) fn reply_known_attr(reply: ReplyAttr) -> impl FnOnce(FsResult<(Attr, Held)>) {
    move |r| match r {
        Ok((a, held)) => {
            let ttl = held.ttl(a.covered.attributes);
            reply.attr(&ttl, &attr(&a));
            held.replied([(a.covered.attributes, ttl, Kept::Attributes(a.ino))]);
        }
        Err(e) => reply.error(errno(&e)),
    }
}

/// Reply to a rename. The kernel keeps the entry under its new name.
pub(crate) fn reply_renamed(reply: ReplyEmpty) -> impl FnOnce(FsResult<Held>) {
    move |r| match r {
        Ok(held) => {
            reply.ok();
            held.replied([]);
        }
        Err(e) => reply.error(errno(&e)),
    }
}

/// The attributes of an entry that does not exist.
fn nothing() -> FileAttr {
    let time = std::time::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

pub(crate) fn reply_empty(reply: ReplyEmpty) -> impl FnOnce(FsResult<()>) {
    move |r| match r {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(errno(&e)),
    }
}

pub(crate) fn reply_data(reply: ReplyData) -> impl FnOnce(FsResult<Vec<u8>>) {
    move |r| match r {
        Ok(bytes) => reply.data(&bytes),
        Err(e) => reply.error(errno(&e)),
    }
}

pub(crate) fn reply_xattr(reply: ReplyXattr, size: u32) -> impl FnOnce(FsResult<Vec<u8>>) {
    move |r| match r {
        Ok(bytes) if size == 0 => reply.size(bytes.len() as u32),
        Ok(bytes) if bytes.len() <= size as usize => reply.data(&bytes),
        Ok(_) => reply.error(Errno::ERANGE),
        Err(e) => reply.error(errno(&e)),
    }
}

pub(crate) fn new_time(time: Option<TimeOrNow>) -> Option<NewTime> {
    time.map(|t| match t {
        TimeOrNow::Now => NewTime::Now,
        TimeOrNow::SpecificTime(t) => NewTime::At(t),
    })
}

pub(crate) fn bytes(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}
