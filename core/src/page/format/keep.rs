//! Keeping all users from a file that could be used as a store, in order to read or replace it.

use crate::error::{Error, Result, is_forbidden, refused};
use crate::page::shared::users::lock_file;
use crate::page::shared::users::slots::BYTE_PRESENCE;
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::process::Unshared;
use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

/// A file, and the locks that keep all users from it as long as this lives.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) file: Unshared,
    /// The mark on it and the lock on its lock file, if it has one. None: this process may not write there and cannot
    /// exclude other processes.
    pub(in crate::page) locks: Vec<Unshared>,
}

/// Keep a file that no process uses as a store. No lock file is made, because the file may be a backup.
pub(crate) fn keep(path: &Path) -> Result<Kept> {
    let open = |write: bool| OpenOptions::new().read(true).write(write).open(path);
    let cannot = |e| Error::io(format!("cannot open {}", path.display()), e);
    let in_use = || refused(path, "it is in use; close it everywhere first");
    let file = match open(true) {
        Ok(file) => Unshared::new(file),
        Err(e) if is_forbidden(&e) => {
            return Ok(Kept {
                file: Unshared::new(open(false).map_err(cannot)?),
                locks: Vec::new(),
            });
        }
        Err(e) => return Err(cannot(e)),
    };
    let mark = lock_file::mark(&file)?;
    let mut locks = vec![mark];
    match lock_file::existing(path, &file) {
        Ok(Some(lock)) => {
            if !file::ofd_lock(&lock, BYTE_PRESENCE, Ofd::Exclusive)? {
                return Err(in_use());
            }
            locks.push(lock);
        }
        Ok(None) => {}
        Err(Error::Io { source, .. }) if is_forbidden(&source) => {
            locks.clear();
            return Ok(Kept { file, locks });
        }
        Err(e) => return Err(e),
    }
    lock_file::check_unused_elsewhere(path, &locks[0], Duration::ZERO).map_err(|_| in_use())?;
    lock_file::no_earlier_version(path, &locks[0])?;
    Ok(Kept { file, locks })
}
