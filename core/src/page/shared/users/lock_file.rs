//! The lock file `FILE-lock`: byte locks that show which processes use a store and are alive.
//!
//! 1. Locks on bytes of this file decide which processes use the store and which of them are alive. Only users that may
//!    write the store can open it (`raw::files::side_files`). A user that may only read the store can lock bytes of
//!    the store file, but none that a process waits for.
//! 2. The file holds the store's device and inode. A lock file of another store, which had the same name before, is
//!    replaced by a process that holds its `BYTE_REPLACE` and still finds it under the name.
//! 3. A process that has the store open also holds a `mark`: an exclusive lock on a byte of the store file, which needs
//!    a descriptor for writing. If a process is alone with the lock file but finds the mark of another, that process
//!    used another name of the store (a hard link, a new name), or the lock file was removed; opening then fails. So
//!    deleting or replacing a lock file does not split the users of a store into two groups that do not see each other.
//!    If readers' locks leave no byte for a mark, the sidecar decides (`sidecar`).
//! 4. Versions of persist before this file existed locked the store file. For them `BYTE_PRESENCE` of the store file is
//!    held shared, and a store on which they hold slot bytes is refused.
//! 5. The lock file remains when the store is closed.

use crate::error::{Error, Result, refused, remedy};
use crate::page::shared::layout::PROCESS_SLOTS;
use crate::page::shared::paths::lock_path;
use crate::page::shared::users::slots::{BYTE_PRESENCE, BYTE_PROCESS};
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::files::held::Descriptor;
use crate::raw::files::held::Identity;
use crate::raw::files::side_files;
use crate::raw::files::unnamed::Unnamed;
use crate::raw::process::{self, Unshared};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const MAGIC: &[u8; 8] = b"prst-lck";
const LENGTH: usize = 24;
/// Held by a process that replaces this lock file by another one.
const BYTE_REPLACE: u64 = BYTE_PRESENCE + 2;
/// First of `MARKS` bytes for marks on the store file. A mark locks one of them, chosen at random.
const BYTE_MARK: u64 = BYTE_PRESENCE + (1 << 24);
const MARKS: u64 = 1 << 24;
/// How long an opening waits for the mark of a process that is ending.
const ENDING: Duration = Duration::from_secs(1);

/// Return the content of this store's lock file.
fn content(store: Identity) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&store.dev.to_le_bytes());
    bytes[16..].copy_from_slice(&store.ino.to_le_bytes());
    bytes
}

/// Return whether a lock file belongs to this store. A file without content (the disk was full) serves any store.
fn serves(lock: &File, store: Identity) -> io::Result<bool> {
    let mut bytes = [0; LENGTH];
    match lock.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(bytes == content(store)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
        Err(e) => Err(e),
    }
}

/// Return whether the file is still under that name.
pub(in crate::page) fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let there = match std::fs::metadata(path) {
        Ok(m) => Identity {
            dev: m.dev(),
            ino: m.ino(),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    Ok(there == file::identity(file)?)
}

fn make(name: &Path, store: &File, id: Identity) -> io::Result<Unnamed> {
    let new = side_files::new(name, store)?;
    // A disk without room for this content has no room for a sidecar either; what is left on it can still be opened.
    let _ = new.file().write_all_at(&content(id), 0);
    Ok(new)
}

fn cannot(what: &str, name: &Path, e: io::Error) -> Error {
    let todo = remedy(&e);
    match file::no_space("the lock file", e) {
        Error::Io { source, .. } => Error::io(
            format!(
                "cannot {what} the lock file {}, which users that may write the store can write: {todo}",
                name.display()
            ),
            source,
        ),
        e => e,
    }
}

fn open(path: &Path, name: &Path, store: &File) -> Result<Option<Unshared>> {
    match side_files::open(name, store) {
        Ok(found) => Ok(found.map(Unshared::new)),
        Err(Ok(why)) => Err(refused(
            path,
            format!(
                "its lock file {} {why}: find out what it is, and remove it",
                name.display()
            ),
        )),
        Err(Err(e)) => Err(cannot("open", name, e)),
    }
}

/// Return the store's lock file, if it has one.
pub(in crate::page) fn existing(path: &Path, store: &File) -> Result<Option<Unshared>> {
    let name = lock_path(path);
    let id = file::identity(store).map_err(|e| Error::io("fstat", e))?;
    match open(path, &name, store)? {
        Some(lock) if serves(&lock, id).map_err(|e| cannot("read", &name, e))? => Ok(Some(lock)),
        _ => Ok(None),
    }
}

/// Return the store's lock file, and true if this call created it.
pub(in crate::page) fn obtain(path: &Path, store: &File, deadline: Instant) -> Result<(Unshared, bool)> {
    let name = lock_path(path);
    let id = file::identity(store).map_err(|e| Error::io("fstat", e))?;
    loop {
        match open(path, &name, store)? {
            Some(lock) => {
                if serves(&lock, id).map_err(|e| cannot("read", &name, e))? {
                    return Ok((lock, false));
                }
                if file::ofd_lock(&lock, BYTE_REPLACE, Ofd::Exclusive)?
                    && is_at(&name, &lock).map_err(|e| cannot("look at", &name, e))?
                {
                    let new = make(&name, store, id).and_then(|new| new.replace(&name));
                    let new = new.map_err(|e| cannot("replace", &name, e))?;
                    return Ok((Unshared::new(new), true));
                }
            }
            None => match make(&name, store, id).and_then(|new| new.link(&name)) {
                Ok(lock) => return Ok((Unshared::new(lock), true)),
                Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
                Err(e) => return Err(cannot("make", &name, e)),
            },
        }
        if Instant::now() >= deadline {
            return Err(refused(
                path,
                "its lock file is replaced again and again; try again",
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Set a mark on the store file (3), through a file description of its own.
pub(in crate::page) fn mark(store: &impl Descriptor) -> Result<Unshared> {
    let cannot = |e| Error::io("cannot open the store file once more", e);
    let mark = Unshared::new(file::reopen(store, true).map_err(cannot)?);
    set_mark(&mark)?;
    Ok(mark)
}

/// Take the locks of a mark through a description that has none yet.
pub(in crate::page) fn set_mark(mark: &impl Descriptor) -> Result<()> {
    file::ofd_lock(mark, BYTE_PRESENCE, Ofd::Shared)?;
    for _ in 0..8 {
        if file::ofd_lock(mark, BYTE_MARK + process::random_u64() % MARKS, Ofd::Exclusive)? {
            break;
        }
    }
    Ok(())
}

/// Return an error if other processes use the store without the lock file. Called by a process that is alone with it.
pub(in crate::page) fn check_unused_elsewhere(
    path: &Path,
    mark: &impl Descriptor,
    bound: Duration,
) -> Result<()> {
    let deadline = Instant::now() + bound.min(ENDING);
    while file::ofd_range_is_taken(mark, BYTE_MARK, MARKS)? {
        // The kernel closes the descriptors of an ending process one after the other.
        if Instant::now() >= deadline {
            let name = lock_path(path);
            return Err(refused(
                path,
                format!(
                    "others use it by another name, or its lock file {} was removed while they use it; close it \
                     everywhere first",
                    name.display()
                ),
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Return an error if an earlier version of persist has the store open (4).
pub(in crate::page) fn no_earlier_version(path: &Path, mark: &impl Descriptor) -> Result<()> {
    if file::ofd_range_is_taken(mark, BYTE_PROCESS, PROCESS_SLOTS as u64)? {
        return Err(refused(
            path,
            "another version of persist, which cannot share it with this one, has it open; close it there first",
        ));
    }
    Ok(())
}
