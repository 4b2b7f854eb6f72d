//! Files without a name (`O_TMPFILE`): a process that dies or gives up leaves nothing behind.
//!
//! 1. A file gets its name in one step: by `link`, which never replaces a file, or by `replace`.
//! 2. If the filesystem does not support files without a name, the file has a temporary hidden name until
//!    then. Dropping it removes that name.

use crate::raw::process;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that has no name yet.
#[derive(Debug)]
pub(crate) struct Unnamed {
    file: File,
    /// Its temporary name, if it needs one.
    name: Option<PathBuf>,
}

fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(Into::into)
}

/// Return a hidden name beside the target, short enough for a file name.
fn temporary(target: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    let mut short = name.as_bytes()[..name.len().min(200)].to_vec();
    short.extend_from_slice(format!(".{:016x}.part", process::random_u64()).as_bytes());
    target.with_file_name(OsStr::from_bytes(&short))
}

fn options(mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(mode);
    options
}

impl Unnamed {
    /// Create an empty file in the directory of `target`. The umask applies to its mode.
    pub(crate) fn new(target: &Path, mode: u32) -> io::Result<Unnamed> {
        let dir = target.parent().unwrap_or(Path::new("/"));
        match options(mode).custom_flags(libc::O_TMPFILE).open(dir) {
            Ok(file) => Ok(Unnamed { file, name: None }),
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT | libc::EINVAL)
                ) =>
            {
                Unnamed::with_temporary_name(target, mode)
            }
            Err(e) => Err(e),
        }
    }

    /// Create a file with a temporary name, as on a filesystem that needs one.
    pub(crate) fn with_temporary_name(target: &Path, mode: u32) -> io::Result<Unnamed> {
        let name = temporary(target);
        Ok(Unnamed {
            file: options(mode).create_new(true).open(&name)?,
            name: Some(name),
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Return a path by which this process can open the file.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Give the file a name that no other file has; `EEXIST` if one has it.
    pub(crate) fn link(mut self, target: &Path) -> io::Result<File> {
        match &self.name {
            None => self.link_as(target)?,
            Some(name) => rename_new(name, target)?,
        }
        self.name = None;
        self.file.try_clone()
    }

    /// Give the file its name, replacing the file that has the name.
    pub(crate) fn replace(mut self, target: &Path) -> io::Result<File> {
        let name = match &self.name {
            Some(name) => name,
            None => {
                let name = temporary(target);
                self.link_as(&name)?;
                self.name.insert(name)
            }
        };
        std::fs::rename(name, target)?;
        self.name = None;
        self.file.try_clone()
    }

    fn link_as(&self, target: &Path) -> io::Result<()> {
        let (from, to) = (c_string(&self.path())?, c_string(target)?);
        // SAFETY: both strings end with a zero byte.
        let done = unsafe {
            libc::linkat(
                libc::AT_FDCWD,
                from.as_ptr(),
                libc::AT_FDCWD,
                to.as_ptr(),
                libc::AT_SYMLINK_FOLLOW,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = std::fs::remove_file(name);
        }
    }
}

/// Rename a file to a name that no file has; `EEXIST` if one has it.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let (a, b) = (c_string(from)?, c_string(to)?);
    // SAFETY: both strings end with a zero byte.
    let done = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            a.as_ptr(),
            libc::AT_FDCWD,
            b.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if done == 0 {
        return Ok(());
    }
    let e = io::Error::last_os_error();
    match e.raw_os_error() {
        // The filesystem does not support this in one step.
        Some(libc::EINVAL | libc::ENOSYS) if std::fs::symlink_metadata(to).is_err() => {
            std::fs::rename(from, to)
        }
        Some(libc::EINVAL | libc::ENOSYS) => Err(io::Error::from_raw_os_error(libc::EEXIST)),
        _ => Err(e),
    }
}
