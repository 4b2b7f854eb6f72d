//! Large files beside other work: read and written without evicting the pages of other programs from the page
//! cache, and moved into place only when complete.
//!
//! 1. A `NewFile` has no name until it is finished (`unnamed`): a process that dies or gives up leaves
//!    nothing under the target name. A file that replaces another one gets its owner, mode and access list
//!    before it gets its name (`owner`).
//! 2. Data that is read or written here is dropped from the cache afterwards, except pages that are mapped.

use crate::error::{Error, Result};
use crate::raw::failpoint::fail_point;
use crate::raw::files::file;
use crate::raw::files::file::no_space;
use crate::raw::files::owner;
use crate::raw::files::unnamed::Unnamed;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that are written before the disk is asked to take them.
const WINDOW: u64 = 8 << 20;

/// Set once the kernel or the filesystem refuses `RWF_DONTCACHE`, and never cleared.
static CACHED_ONLY: AtomicBool = AtomicBool::new(false);

/// Fill the pieces from the file, starting at `at`, bypassing the page cache if the kernel supports it.
/// Return the number of bytes read, which is less than requested only at the file's end.
pub(crate) fn read_past_cache(file: &File, mut pieces: &mut [IoSliceMut<'_>], at: u64) -> io::Result<u64> {
    let mut done = 0;
    loop {
        IoSliceMut::advance_slices(&mut pieces, 0);
        if pieces.is_empty() {
            break;
        }
        let cached = CACHED_ONLY.load(Ordering::Relaxed);
        let flags = if cached { 0 } else { libc::RWF_DONTCACHE };
        // SAFETY: `IoSliceMut` has the layout of iovec, and the pieces are writable for the call.
        let n = unsafe {
            libc::preadv2(
                file.as_raw_fd(),
                pieces.as_mut_ptr().cast(),
                pieces.len().min(1024) as libc::c_int,
                (at + done) as libc::off_t,
                flags,
            )
        };
        if n < 0 {
            let e = io::Error::last_os_error();
            match e.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS) if !cached => {
                    CACHED_ONLY.store(true, Ordering::Relaxed);
                    continue;
                }
                _ => return Err(e),
            }
        }
        if n == 0 {
            break;
        }
        if cached {
            forget(file, at + done, n as u64);
        }
        done += n as u64;
        IoSliceMut::advance_slices(&mut pieces, n as usize);
    }
    Ok(done)
}

/// Drop a range of a file from the page cache, except pages that are mapped. Only a hint.
fn forget(file: &File, at: u64, len: u64) {
    // SAFETY: a plain system call on an open descriptor.
    unsafe {
        libc::posix_fadvise(
            file.as_raw_fd(),
            at as libc::off_t,
            len as libc::off_t,
            libc::POSIX_FADV_DONTNEED,
        );
    }
}

/// Writes sequential data to the disk and out of the cache, one window at a time. So the final flush meets no
/// flood of dirty pages, which would delay the flushes of other processes.
#[derive(Debug, Default)]
pub(crate) struct Trickle {
    written: u64,
    begun: u64,
    gone: u64,
}

impl Trickle {
    /// Record that `len` bytes were written after the previously written ones.
    pub(crate) fn wrote(&mut self, file: &File, len: u64) {
        self.written += len;
        while self.written - self.begun >= WINDOW {
            let range = |from: u64, flags| {
                // SAFETY: a plain system call on an open descriptor; the final flush reports errors.
                unsafe {
                    libc::sync_file_range(file.as_raw_fd(), from as i64, WINDOW as i64, flags);
                }
            };
            range(self.begun, libc::SYNC_FILE_RANGE_WRITE);
            self.begun += WINDOW;
            if self.begun - self.gone >= 2 * WINDOW {
                range(
                    self.gone,
                    libc::SYNC_FILE_RANGE_WAIT_BEFORE
                        | libc::SYNC_FILE_RANGE_WRITE
                        | libc::SYNC_FILE_RANGE_WAIT_AFTER,
                );
                forget(file, self.gone, WINDOW);
                self.gone += WINDOW;
            }
        }
    }
}

/// A file that gets its name only when it is complete.
#[derive(Debug)]
pub(crate) struct NewFile {
    new: Unnamed,
    target: PathBuf,
}

fn cannot(what: &str, path: &Path, e: io::Error) -> Error {
    Error::io(format!("cannot {what} {}", path.display()), e)
}

/// Return the error for a failed write.
pub(crate) fn write_error(what: &'static str, e: io::Error) -> Error {
    no_space(what, e)
}

impl NewFile {
    /// Create a file that will become `target`, which may exist.
    pub(crate) fn new(target: &Path) -> Result<NewFile> {
        let target = std::path::absolute(target).map_err(|e| cannot("find", target, e))?;
        if target.file_name().is_none() {
            return Err(Error::invalid(format!(
                "{} is not a file's name",
                target.display()
            )));
        }
        // A file that replaces another one gets the mode of that file.
        let mode = if target.exists() { 0o600 } else { 0o666 };
        let new = Unnamed::new(&target, mode).map_err(|e| cannot("make a file beside", &target, e))?;
        file::in_place(new.file());
        Ok(NewFile { new, target })
    }

    pub(crate) fn file(&self) -> &File {
        self.new.file()
    }

    /// Return the name that the file will get.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Return a path by which this process can open the file.
    pub(crate) fn path(&self) -> PathBuf {
        self.new.path()
    }

    /// Flush the file and give it its name. With `replace`, it replaces the file that has that name.
    pub(crate) fn finish(self, replace: bool) -> Result<()> {
        self.file()
            .sync_all()
            .map_err(|e| write_error("the new file", e))?;
        fail_point!("place.flushed");
        if replace {
            self.resemble_old()?;
        }
        let NewFile { new, target } = self;
        let named = if replace {
            new.replace(&target)
        } else {
            new.link(&target)
        };
        named.map_err(|e| cannot("make", &target, e))?;
        let dir = target.parent().unwrap_or(Path::new("/"));
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|e| cannot("flush the directory of", &target, e))
    }

    /// Give the file the owner, mode and access list of the file that it replaces, if one exists.
    fn resemble_old(&self) -> Result<()> {
        let old = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.target);
        let done = match old {
            Ok(old) => owner::copy_rights(self.file(), &old),
            // The target of a symbolic link stays where it is.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ELOOP)) => return Ok(()),
            // The access list is not readable, so the group's permissions are unknown.
            Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
                self.target.symlink_metadata().and_then(|data| {
                    let mut of = owner::Owner::of(&data);
                    of.mode &= !0o070;
                    owner::give(self.file(), of, None)
                })
            }
            Err(e) => Err(e),
        };
        done.map_err(|e| {
            cannot(
                "give the owner and mode of the old file to the new",
                &self.target,
                e,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(dir: &Path) -> Vec<String> {
        let all = std::fs::read_dir(dir).unwrap();
        all.map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Return a file without a name, and one with a temporary name, as on a filesystem without unnamed files.
    fn both(target: &Path) -> [NewFile; 2] {
        let with_name = NewFile {
            new: Unnamed::with_temporary_name(target, 0o666).unwrap(),
            target: target.to_owned(),
        };
        [NewFile::new(target).unwrap(), with_name]
    }

    #[test]
    fn a_new_file_appears_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        for (i, new) in both(&target).into_iter().enumerate() {
            new.file().write_all(b"one").unwrap();
            assert!(!target.exists());
            assert_eq!(std::fs::read(new.path()).unwrap(), b"one");
            new.finish(i == 1).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"one");
            std::fs::remove_file(&target).unwrap();
        }
        for new in both(&target) {
            drop(new);
        }
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn an_existing_file_is_replaced_only_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        std::fs::write(&target, "old").unwrap();
        for new in both(&target) {
            let e = new.finish(false).unwrap_err();
            assert_eq!(e.errno(), libc::EEXIST, "{e}");
            assert_eq!(std::fs::read(&target).unwrap(), b"old");
        }
        for new in both(&target) {
            new.file().write_all(b"new").unwrap();
            new.finish(true).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"new");
            std::fs::write(&target, "old").unwrap();
        }
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn pieces_are_read_in_order_up_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let new = NewFile::new(&dir.path().join("a")).unwrap();
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i * 7) as u8).collect();
        new.file().write_all(&bytes).unwrap();
        let (mut a, mut b) = ([0; 4096], [0; 4096]);
        let mut pieces = [IoSliceMut::new(&mut b), IoSliceMut::new(&mut a)];
        assert_eq!(read_past_cache(new.file(), &mut pieces, 100).unwrap(), 8192);
        assert_eq!(b, bytes[100..4196]);
        assert_eq!(a, bytes[4196..8292]);
        let mut pieces = [IoSliceMut::new(&mut b), IoSliceMut::new(&mut a)];
        assert_eq!(read_past_cache(new.file(), &mut pieces, 4096).unwrap(), 5904);
        assert_eq!(a[..1808], bytes[8192..]);
    }

    #[test]
    fn long_files_are_written_a_window_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let new = NewFile::new(&dir.path().join("a")).unwrap();
        let piece = vec![7; 3 << 20];
        let mut trickle = Trickle::default();
        for _ in 0..12 {
            new.file().write_all(&piece).unwrap();
            trickle.wrote(new.file(), piece.len() as u64);
        }
        assert_eq!((trickle.begun, trickle.gone), (4 * WINDOW, 3 * WINDOW));
        new.finish(false).unwrap();
        let read = std::fs::read(dir.path().join("a")).unwrap();
        assert!(read.len() == 36 << 20 && read.iter().all(|b| *b == 7));
    }
}
