//! The program of the process that replays changes: it reads orders, makes one system call or two in the mount for
//! each, and answers with an errno.
//!
//! 1. It holds no descriptor in the mount between two orders, so that the mount can be unmounted.
//! 2. It stays in the mount: the filesystem at the mount point must have the device of the mount, and a path must not
//!    lead out of it.
//! 3. What it does would be harmless on any filesystem: it makes entries only where there are none, removes files by
//!    names that another process has removed, sets a file's size and modes to what they are. The mount does nothing of
//!    it.
//!
//! An order:
//!
//! | SIZE | FIELD |
//! | --- | --- |
//! | 1 | what to do (`Order`) |
//! | 4, n | length of the path of the directory, and the path |
//! | 4, n | length of the name, and the name |

use crate::kernel::sys;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{self, FchmodatFlags, Mode, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{self, UnlinkatFlags};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// The name under which this program is called.
pub(super) const NAME: &str = "persist-events";

/// The longest part of a path in one system call.
const PART: usize = 3000;
/// The longest path and name that are read.
const LONGEST: u32 = 1 << 24;

/// What to do with a name in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    CreateFile,
    CreateDir,
    CreateLink,
    RemoveFile,
    RemoveDir,
    Modify,
    Metadata,
    Look,
}

const ORDERS: [Order; 8] = [
    Order::CreateFile,
    Order::CreateDir,
    Order::CreateLink,
    Order::RemoveFile,
    Order::RemoveDir,
    Order::Modify,
    Order::Metadata,
    Order::Look,
];

/// The bytes of an order.
pub(super) fn encode(order: Order, path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut bytes = vec![order as u8];
    for part in [path, name] {
        bytes.extend((part.len() as u32).to_le_bytes());
        bytes.extend(part);
    }
    bytes
}

fn decode(input: &mut impl Read) -> io::Result<(Order, Vec<u8>, Vec<u8>)> {
    let mut order = [0];
    input.read_exact(&mut order)?;
    let order = ORDERS.get(usize::from(order[0])).copied();
    let mut part = || {
        let mut len = [0; 4];
        input.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len);
        if len > LONGEST {
            return Err(io::Error::from_raw_os_error(libc::EPROTO));
        }
        let mut bytes = vec![0; len as usize];
        input.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let (path, name) = (part()?, part()?);
    let order = order.ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))?;
    Ok((order, path, name))
}

/// True if the program was called to replay changes.
pub(crate) fn is_called(name: &OsStr) -> bool {
    name == NAME
}

/// Replay until the mount's process ends, or closes the pipe.
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(mountpoint), Some(device)) = (args.next(), args.next()) else {
        return ExitCode::FAILURE;
    };
    let Some(device) = device.to_str().and_then(|text| text.parse().ok()) else {
        return ExitCode::FAILURE;
    };
    if sys::become_helper().is_err() {
        return ExitCode::FAILURE;
    }
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    while let Ok((order, path, name)) = decode(&mut input) {
        let errno = match perform(&mountpoint, device, order, &path, &name) {
            Ok(()) => 0,
            Err(e) => e as i32,
        };
        if output
            .write_all(&errno.to_le_bytes())
            .and_then(|()| output.flush())
            .is_err()
        {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn perform(mountpoint: &OsStr, device: u64, order: Order, path: &[u8], name: &[u8]) -> nix::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = fcntl::open(mountpoint, flags, Mode::empty())?;
    if stat::fstat(&dir)?.st_dev != device {
        return Err(Errno::EXDEV);
    }
    let mut rest = path;
    while !rest.is_empty() {
        let end = match rest.get(..PART) {
            Some(part) => part.iter().rposition(|b| *b == b'/').ok_or(Errno::ENAMETOOLONG)?,
            None => rest.len(),
        };
        dir = below(dir.as_fd(), &rest[..end], flags)?;
        rest = rest.get(end + 1..).unwrap_or(b"");
    }
    make(dir.as_fd(), OsStr::from_bytes(name), order)
}

/// Open a path below a directory, without leaving it.
fn below(dir: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_NOFOLLOW).resolve(
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
    );
    fcntl::openat2(dir, path, how)
}

fn make(dir: BorrowedFd<'_>, name: &OsStr, order: Order) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(0o600);
    let write = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match order {
        Order::CreateFile => {
            let file = fcntl::openat(dir, name, write | OFlag::O_CREAT | OFlag::O_EXCL, mode)?;
            unistd::ftruncate(&file, 0)
        }
        Order::CreateDir => stat::mkdirat(dir, name, mode),
        Order::CreateLink => unistd::symlinkat(".", dir, name),
        Order::RemoveFile => unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir),
        Order::RemoveDir => unistd::unlinkat(dir, name, UnlinkatFlags::RemoveDir),
        Order::Look => stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(drop),
        Order::Modify => match fcntl::openat(dir, name, write, Mode::empty()) {
            Ok(file) => unistd::ftruncate(&file, stat::fstat(&file)?.st_size),
            // A user may not write to each file whose value Python changes, but may set its time.
            Err(Errno::EACCES) => {
                let (omit, now) = (TimeSpec::UTIME_OMIT, TimeSpec::UTIME_NOW);
                stat::utimensat(dir, name, &omit, &now, UtimensatFlags::NoFollowSymlink)
            }
            Err(e) => Err(e),
        },
        Order::Metadata => {
            let mode = Mode::from_bits_truncate(stat::fstat(dir)?.st_mode & 0o7777);
            stat::fchmodat(dir, ".", mode, FchmodatFlags::FollowSymlink)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_were_written() {
        for order in ORDERS {
            let bytes = encode(order, b"a/b", b"x\ny");
            let read = decode(&mut &bytes[..]).ok();
            assert_eq!(read, Some((order, b"a/b".to_vec(), b"x\ny".to_vec())));
            for cut in 0..bytes.len() {
                assert!(decode(&mut &bytes[..cut]).is_err());
            }
        }
        assert!(decode(&mut &[99, 0, 0, 0, 0, 0, 0, 0, 0][..]).is_err());
        assert!(decode(&mut &[0, 255, 255, 255, 255][..]).is_err());
    }

    /// On a filesystem that does what it is told, an order does no harm either.
    #[test]
    fn an_order_stays_below_its_directory() -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let top = tempfile::tempdir()?;
        let device = top.path().metadata()?.dev();
        let deep = vec!["d".repeat(200); 30].join("/");
        std::fs::create_dir_all(top.path().join("a"))?;
        std::os::unix::fs::symlink("a", top.path().join("link"))?;
        std::fs::write(top.path().join("a/file"), "text")?;
        let there = top.path().as_os_str();
        let run = |order, path: &str, name: &str| {
            perform(there, device, order, path.as_bytes(), OsStr::new(name).as_bytes())
        };
        assert_eq!(run(Order::Modify, "a", "file"), Ok(()));
        assert_eq!(run(Order::Metadata, "a", ""), Ok(()));
        assert_eq!(run(Order::CreateFile, "a", "file"), Err(Errno::EEXIST));
        assert_eq!(run(Order::CreateFile, "link", "new"), Err(Errno::ENOTDIR));
        assert_eq!(run(Order::CreateFile, "..", "new"), Err(Errno::EXDEV));
        assert_eq!(run(Order::Look, "", "absent"), Err(Errno::ENOENT));
        assert_eq!(
            perform(there, device + 1, Order::CreateFile, b"", b"new"),
            Err(Errno::EXDEV)
        );
        assert_eq!(std::fs::read_to_string(top.path().join("a/file"))?, "text");
        assert_eq!(std::fs::read_dir(top.path())?.count(), 2);
        let mut dir = fcntl::open(top.path(), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
        for name in deep.split('/') {
            stat::mkdirat(&dir, name, Mode::S_IRWXU)?;
            dir = fcntl::openat(&dir, name, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
        }
        assert_eq!(run(Order::CreateDir, &deep, "new"), Ok(()));
        assert!(stat::fstatat(&dir, "new", AtFlags::empty()).is_ok());
        Ok(())
    }
}
