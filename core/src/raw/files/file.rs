//! Files: growth, attributes and flags, flushes, positioned writes and open-file-description locks.

use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::raw::files::held::Descriptor;
pub(crate) use crate::raw::files::held::identity;
use crate::raw::files::held::ours;
#[cfg(any(test, feature = "testing"))]
use crate::raw::observe;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

/// Open a second, independent open file description of the same file, whatever its current name is.
pub(crate) fn reopen(file: &impl Descriptor, write: bool) -> io::Result<File> {
    let file = file.ours()?;
    std::fs::OpenOptions::new()
        .read(true)
        .write(write)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Create a file of `len` zeros in memory, without a name. Only written pages take memory.
pub(crate) fn in_memory(len: u64) -> io::Result<File> {
    // SAFETY: a plain system call; the name ends with a zero byte.
    let fd = unsafe { libc::memfd_create(c"persist".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and has no other owner.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len)?;
    Ok(file)
}

/// Allocate blocks for `[offset, offset + len)`, growing the file if needed.
pub(crate) fn allocate(file: &impl Descriptor, offset: u64, len: u64, what: &'static str) -> Result<()> {
    let file = ours(file, &format!("cannot grow {what}"))?;
    loop {
        // SAFETY: a plain system call on an open descriptor.
        let r = unsafe { libc::fallocate(file.as_raw_fd(), 0, offset as libc::off_t, len as libc::off_t) };
        if r == 0 {
            return Ok(());
        }
        let e = io::Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EOPNOTSUPP) => return allocate_by_writing(&file, offset, len, what),
            _ => return Err(no_space(what, e)),
        }
    }
}

/// Free the blocks of a range; it then reads as zeros.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: a plain system call on an open descriptor.
    let done = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as libc::off_t, len as libc::off_t) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Allocate by writing zeros, on filesystems without fallocate. The range is unused, or is a process's table
/// of pins that is about to be written completely. A file that is already longer may have holes there.
fn allocate_by_writing(file: &File, offset: u64, len: u64, what: &'static str) -> Result<()> {
    let end = offset + len;
    let mut at = offset;
    let zeros = [0u8; 4096];
    while at < end {
        let n = (end - at).min(zeros.len() as u64) as usize;
        file.write_all_at(&zeros[..n], at)
            .map_err(|e| no_space(what, e))?;
        at += n as u64;
    }
    Ok(())
}

/// Zero a range of a file and keep its blocks. Return false if the filesystem does not support it.
pub(crate) fn zero(file: &impl Descriptor, offset: u64, len: u64) -> bool {
    let Ok(file) = file.ours() else { return false };
    // SAFETY: a plain system call on an open descriptor.
    let done = unsafe {
        libc::fallocate(
            file.as_raw_fd(),
            libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
            offset as libc::off_t,
            len as libc::off_t,
        )
    };
    done == 0
}

pub(crate) fn no_space(what: &'static str, e: io::Error) -> Error {
    match e.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Error::NoSpace { what, source: e },
        _ => Error::io(format!("cannot grow {what}"), e),
    }
}

/// The longest attribute value that is read.
const ATTRIBUTE: usize = 4096 + 64;

/// Return whether the filesystem has no attributes, or denies them to this process. Both count as an absent
/// attribute.
fn no_attributes(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM | libc::EACCES)
    )
}

/// Return an extended attribute of a file; None if it is absent or too long.
pub(crate) fn attribute(file: &File, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; ATTRIBUTE];
    // SAFETY: the name is a C string; the buffer is writable and has the given length.
    let n = unsafe {
        libc::fgetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    if n < 0 {
        let e = io::Error::last_os_error();
        let none = no_attributes(&e) || matches!(e.raw_os_error(), Some(libc::ENODATA | libc::ERANGE));
        return if none { Ok(None) } else { Err(e) };
    }
    value.truncate(n as usize);
    Ok(Some(value))
}

/// Set an extended attribute of a file, if the filesystem supports them.
pub(crate) fn set_attribute(file: &File, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the name is a C string; the value is readable and has the given length.
    let done = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    if done == 0 {
        return Ok(());
    }
    let e = io::Error::last_os_error();
    if no_attributes(&e) { Ok(()) } else { Err(e) }
}

/// Remove an extended attribute of a file, if the file has it.
pub(crate) fn remove_attribute(file: &File, name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a C string.
    let done = unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) };
    if done == 0 {
        return Ok(());
    }
    let e = io::Error::last_os_error();
    if no_attributes(&e) || e.raw_os_error() == Some(libc::ENODATA) {
        Ok(())
    } else {
        Err(e)
    }
}

/// Flush a file's data to the disk.
pub(crate) fn flush(file: &impl Descriptor) -> io::Result<()> {
    #[cfg(any(test, feature = "testing"))]
    observe::notify(observe::Moment::Flushing)?;
    file.ours()?.sync_data()?;
    #[cfg(any(test, feature = "testing"))]
    observe::notify(observe::Moment::Flushed)?;
    Ok(())
}

/// Write out a part of a file's data and wait for that. This is not a flush: the disk may still lose the
/// data. An error reported here is not reported again by a later flush.
pub(crate) fn write_out(file: &impl Descriptor, from: u64, len: u64) -> io::Result<()> {
    let file = file.ours()?;
    // SAFETY: a plain system call on an open descriptor.
    let done = unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            from as libc::off64_t,
            len as libc::off64_t,
            libc::SYNC_FILE_RANGE_WAIT_BEFORE
                | libc::SYNC_FILE_RANGE_WRITE
                | libc::SYNC_FILE_RANGE_WAIT_AFTER,
        )
    };
    if done == 0 {
        return Ok(());
    }
    let e = io::Error::last_os_error();
    match e.raw_os_error() {
        // Without this system call the flush writes the data.
        Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE | libc::EINTR) => Ok(()),
        _ => Err(e),
    }
}

/// Write bytes to a new file that no other process knows yet.
pub(crate) fn write_new(file: &File, bytes: &[u8], at: u64, what: &'static str) -> Result<()> {
    file.write_all_at(bytes, at).map_err(|e| no_space(what, e))
}

/// Write a meta page.
pub(crate) fn write_meta(file: &impl Descriptor, page: &[u8; PAGE_SIZE], at: u64) -> io::Result<()> {
    #[cfg(any(test, feature = "testing"))]
    observe::notify(observe::Moment::Writing)?;
    file.ours()?.write_all_at(page, at)?;
    #[cfg(any(test, feature = "testing"))]
    observe::notify(observe::Moment::Written)?;
    Ok(())
}

/// Write bytes of the redo log.
pub(crate) fn write_log(file: &impl Descriptor, bytes: &[u8], at: u64) -> io::Result<()> {
    #[cfg(any(test, feature = "testing"))]
    observe::notify(observe::Moment::LogWriting)?;
    file.ours()?.write_all_at(bytes, at)?;
    #[cfg(any(test, feature = "testing"))]
    observe::notify(observe::Moment::LogWritten)?;
    Ok(())
}

/// Flush the redo log.
pub(crate) fn flush_log(file: &impl Descriptor) -> io::Result<()> {
    #[cfg(any(test, feature = "testing"))]
    observe::notify(observe::Moment::LogFlushing)?;
    file.ours()?.sync_data()?;
    #[cfg(any(test, feature = "testing"))]
    observe::notify(observe::Moment::LogFlushed)?;
    Ok(())
}

/// A lock on one byte of a file, owned by the open file description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ofd {
    Shared,
    Exclusive,
    None,
}

/// Acquire, convert or release a lock on byte `at`, without waiting. Return false if a lock of another open
/// file description conflicts.
pub(crate) fn ofd_lock(file: &impl Descriptor, at: u64, kind: Ofd) -> Result<bool> {
    let file = ours(file, "cannot lock the store file")?;
    let l = flock_at(at, kind);
    loop {
        // SAFETY: `l` is a valid flock structure for the duration of the call.
        let r = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const l) };
        if r == 0 {
            return Ok(true);
        }
        let e = io::Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => return Ok(false),
            Some(libc::EINTR) => {}
            _ => {
                return Err(Error::io(
                    "cannot lock a byte of a file of the store (fcntl F_OFD_SETLK)",
                    e,
                ));
            }
        }
    }
}

/// Release all locks of the open file description.
pub(crate) fn ofd_unlock_all(file: &impl Descriptor) {
    // A descriptor that now belongs to another file has none of our locks.
    let Ok(file) = file.ours() else { return };
    let mut l = flock_at(0, Ofd::None);
    // A length of 0 reaches to the end of every file.
    l.l_len = 0;
    // SAFETY: `l` is a valid flock structure for the duration of the call. The call fails only for a
    // descriptor that is not a file, which has no locks.
    unsafe {
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const l);
    }
}

/// Acquire a flock, which ends with the open file. Return false if it is held elsewhere and `waits` is false.
pub fn flock(file: &File, exclusive: bool, waits: bool) -> io::Result<bool> {
    let mode = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
    let how = if waits { mode } else { mode | libc::LOCK_NB };
    loop {
        // SAFETY: the call takes no pointers.
        if unsafe { libc::flock(file.as_raw_fd(), how) } == 0 {
            return Ok(true);
        }
        let e = io::Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::EWOULDBLOCK) => return Ok(false),
            Some(libc::EINTR) => {}
            _ => return Err(e),
        }
    }
}

/// Return whether another open file description holds a lock that conflicts with `kind` on byte `at`.
/// `Shared` detects exclusive locks only, which need a descriptor open for writing.
pub(crate) fn ofd_is_held(file: &impl Descriptor, at: u64, kind: Ofd) -> Result<bool> {
    is_held(file, flock_at(at, kind))
}

/// Return whether another open file description holds an exclusive lock on any of `len` bytes.
pub(crate) fn ofd_range_is_taken(file: &impl Descriptor, at: u64, len: u64) -> Result<bool> {
    let mut l = flock_at(at, Ofd::Shared);
    l.l_len = len as libc::off_t;
    is_held(file, l)
}

fn is_held(file: &impl Descriptor, mut l: libc::flock) -> Result<bool> {
    let file = ours(file, "cannot query locks of the store file")?;
    // SAFETY: `l` is a valid, writable flock structure for the duration of the call.
    let r = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut l) };
    if r != 0 {
        return Err(Error::io(
            "cannot query locks of a file of the store (fcntl F_OFD_GETLK)",
            io::Error::last_os_error(),
        ));
    }
    Ok(i32::from(l.l_type) != libc::F_UNLCK)
}

fn flock_at(at: u64, kind: Ofd) -> libc::flock {
    let l_type = match kind {
        Ofd::Shared => libc::F_RDLCK,
        Ofd::Exclusive => libc::F_WRLCK,
        Ofd::None => libc::F_UNLCK,
    };
    libc::flock {
        l_type: l_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: at as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

/// Return the type number of the filesystem that holds a file; 0: unknown.
fn filesystem(file: &File) -> u64 {
    // SAFETY: statfs is plain data; all-zero is a valid value of it.
    let mut s: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `s` is writable and of the right type.
    let done = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut s) };
    if done == 0 {
        s.f_type as u64 & 0xffff_ffff
    } else {
        0
    }
}

/// Local filesystems, whose shared mappings, `fallocate` and byte locks work as the engine needs.
const LOCAL: [(u64, &str); 11] = [
    (0xef53, "ext2, ext3 or ext4"),
    (0x5846_5342, "XFS"),
    (0x9123_683e, "Btrfs"),
    (0xf2f5_2010, "F2FS"),
    (0x2fc1_2fc1, "ZFS"),
    (0xca45_1a4e, "bcachefs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    // Its upper layer is one of the others: the kernel accepts no network filesystem for it.
    (0x794c_7630, "overlayfs"),
    (0x3153_464a, "JFS"),
    (0x3434, "NILFS"),
];

/// Names of other filesystems, for messages.
const FOREIGN: [(u64, &str); 12] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "SMB (CIFS)"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6573_5546, "FUSE"),
    (0x4d44, "FAT"),
    (0x2011_bab0, "exFAT"),
    (0x7366_746e, "NTFS"),
    (0x0bd0_0bd0, "Lustre"),
];

/// Return the kind of a file's filesystem if it is not known to be local. Shared mappings do not work across
/// machines, so a store on a network filesystem would be corrupted.
pub(crate) fn foreign_filesystem(file: &File) -> Option<String> {
    let kind = filesystem(file);
    if LOCAL.iter().any(|(local, _)| *local == kind) {
        return None;
    }
    let name = FOREIGN.iter().find(|(foreign, _)| *foreign == kind);
    Some(name.map_or_else(
        || format!("a filesystem of type {kind:#x}"),
        |(_, name)| (*name).to_owned(),
    ))
}

/// On Btrfs, request that the blocks of a new, empty file are written in place. Otherwise each write through
/// the map takes new blocks, whatever was allocated, and a full disk causes a fault instead of an error. If
/// the request fails (the file is not empty, or the kernel refuses), nothing changes.
pub(crate) fn in_place(file: &File) {
    const BTRFS: u64 = 0x9123_683e;
    const NOCOW: libc::c_int = 0x0080_0000;
    if filesystem(file) != BTRFS {
        return;
    }
    let mut flags: libc::c_int = 0;
    // SAFETY: the kernel reads and writes one int.
    unsafe {
        if libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS as _, &raw mut flags) == 0 {
            flags |= NOCOW;
            libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS as _, &raw const flags);
        }
    }
}
