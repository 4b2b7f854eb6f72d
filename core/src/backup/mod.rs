//! Backups: consistent copies of a store in use, full or incremental, and stores restored from them.
//!
//! ```
//! use persist_core::backup::{self, Input};
//! use persist_core::store::{Options, Store};
//! # let dir = tempfile::tempdir()?;
//! # let (path, copy, again) = (dir.path().join("a"), dir.path().join("a.backup"), dir.path().join("b"));
//! let store = Store::open(&path, &Options::default())?;
//! backup::backup_to(&path, &copy, &backup::Options::default(), &mut ())?;
//! backup::restore(vec![Input::file(&copy)], &again, &backup::Restoring::default(), &mut ())?;
//! Store::open(&again, &Options::default())?.close()?;
//! # store.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! 1. A backup copies a snapshot that is taken for it and dropped afterwards; writers continue. The
//!    snapshot's name begins with `.backup-`. If a killed backup left one that is not open, the next backup
//!    drops it.
//! 2. Every page is verified by its checksum. Damage ends the backup, and the output is not a valid backup.
//! 3. A full backup (`write`) is a store file, laid out so that it can be written to a pipe. Its uuid is new;
//!    its meta pages name its state as that of the original store (`Origin`).
//! 4. An incremental one (`format`) names the state it was made from and the one it leads to. It can only be
//!    applied to a copy of exactly that state.
//! 5. A backup or a restored store gets its name only when it is complete and on the disk.
//! 6. Memory is bounded: some megabytes, and in a restore one bit a page. Bad input is `Error::BadBackup`.

mod format;
mod progress;
mod restore;
#[cfg(test)]
mod tests;
mod write;

pub use progress::Done;
pub use restore::{Input, Restoring, restore};

use crate::check::{Source, Watch};
use crate::error::{Error, Result};
use crate::raw::failpoint::fail_point;
use crate::raw::files::place::NewFile;
use crate::raw::files::place::Trickle;
use crate::raw::process;
use crate::store::{Options as OpenOptions, Store};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The prefix of the names of snapshots that belong to backups.
const TEMPORARY: &str = ".backup-";

/// Options of a backup.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Back up only the changes since this snapshot.
    pub since: Option<String>,
    /// Keep the snapshot that is backed up under this name, so that a later incremental backup can start from
    /// it. It exists afterwards only if the backup was completed.
    pub keep: Option<String>,
    /// Back up this snapshot instead of the current state. Needs no write permission on the store.
    pub at: Option<String>,
    /// Replace the file that has the backup's name.
    pub force: bool,
    /// Stop the backup with `Error::Interrupted` when this is set.
    pub stop: Option<Arc<AtomicBool>>,
}

/// Back up a store to a new file.
///
/// # Errors
/// `Error::Refused` if the file exists and `force` is not set; `Error::Corrupt` if the store is damaged;
/// `Error::NoSnapshot`; `Error::SnapshotExists`; those of opening, of a checkpoint and of writing. After an
/// error there is no file, or the old one.
pub fn backup_to(store: &Path, target: &Path, options: &Options, watch: &mut dyn Watch) -> Result<Done> {
    if !options.force && exists(target)? {
        return Err(already_exists(target));
    }
    let new = NewFile::new(target)?;
    let mut out = ToFile {
        file: new.file(),
        trickle: Trickle::default(),
    };
    let source = Frozen::new(store, options)?;
    match target.canonicalize() {
        Ok(t) if source.is(&t) => return Err(Error::invalid("a store cannot be the backup of itself")),
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io(format!("cannot look at {}", target.display()), e));
        }
        _ => {}
    }
    let done = source.write(&mut out, options, watch)?;
    fail_point!("backup.written");
    new.finish(options.force).map_err(|e| {
        if e.errno() == libc::EEXIST {
            already_exists(target)
        } else {
            e
        }
    })?;
    fail_point!("backup.named");
    source.end(options)?;
    Ok(done)
}

/// Back up a store to a stream.
///
/// # Errors
/// Those of `backup_to`. The partial output is not a backup, and `restore` rejects it.
pub fn backup(store: &Path, out: &mut dyn Write, options: &Options, watch: &mut dyn Watch) -> Result<Done> {
    let source = Frozen::new(store, options)?;
    let done = source.write(out, options, watch)?;
    out.flush().map_err(write::cannot_write)?;
    source.end(options)?;
    Ok(done)
}

/// Return whether a file of that name exists.
fn exists(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io(format!("cannot look at {}", path.display()), e)),
    }
}

fn already_exists(path: &Path) -> Error {
    Error::Refused {
        path: path.to_owned(),
        why: "it exists already; name another file, or replace it with --force".to_owned(),
    }
}

/// Writes to a file without filling the page cache.
struct ToFile<'a> {
    file: &'a File,
    trickle: Trickle,
}

impl Write for ToFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.trickle.wrote(self.file, n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A snapshot to be backed up, and the one it is compared with. Neither can be dropped while this value
/// lives.
struct Frozen {
    /// The store handle that took the snapshot, and its name.
    taken: Option<(Store, String)>,
    now: Store,
    base: Option<Store>,
}

impl Frozen {
    fn new(path: &Path, options: &Options) -> Result<Frozen> {
        for name in [&options.keep, &options.since].into_iter().flatten() {
            if name.starts_with(TEMPORARY) {
                return Err(Error::invalid(format!(
                    "{name:?}: such names are those of backups under way; take another"
                )));
            }
        }
        if options.at.is_some() && options.keep.is_some() {
            return Err(Error::invalid(
                "a snapshot that is backed up has a name already: it cannot be kept under another",
            ));
        }
        // Opening must not turn a file that is not a store into one.
        Source::look(path)?;
        let open = |snapshot: Option<&String>, read_only| {
            let options = OpenOptions {
                read_only,
                create: false,
                snapshot: snapshot.cloned(),
                ..OpenOptions::default()
            };
            Store::open(path, &options)
        };
        let base = options
            .since
            .as_ref()
            .map(|name| open(Some(name), true))
            .transpose()?;
        let (taken, now) = if options.at.is_some() {
            (None, open(options.at.as_ref(), true)?)
        } else {
            match open(None, false) {
                Ok(store) => {
                    let (name, now) = take(&store, options.keep.as_deref())?;
                    (Some((store, name)), now)
                }
                // The store is read-only for this process, and no process has it open for writing.
                Err(Error::Io { source, .. })
                    if options.keep.is_none()
                        && matches!(
                            source.raw_os_error(),
                            Some(libc::EACCES | libc::EROFS | libc::EPERM)
                        ) =>
                {
                    (None, open(None, true)?)
                }
                Err(e) => return Err(e),
            }
        };
        let frozen = Frozen { taken, now, base };
        if let Some(base) = &frozen.base
            && !frozen.now.pager().is_same_file(base.pager())
        {
            return Err(Error::Refused {
                path: path.to_owned(),
                why: "another file took its place just now; try again".to_owned(),
            });
        }
        Ok(frozen)
    }

    /// Return whether this path is the store's.
    fn is(&self, path: &Path) -> bool {
        self.now.path().canonicalize().is_ok_and(|p| p == path)
    }

    fn write(&self, out: &mut dyn Write, options: &Options, watch: &mut dyn Watch) -> Result<Done> {
        let mut flow = write::Flow {
            out,
            bytes: 0,
            stop: options.stop.as_ref(),
            watch,
        };
        match &self.base {
            None => write::full(self.now.pager(), &mut flow),
            Some(base) => write::incremental(self.now.pager(), base.pager(), &mut flow),
        }
    }

    /// End a complete backup, and keep its snapshot if requested.
    fn end(mut self, options: &Options) -> Result<()> {
        if options.keep.is_none() {
            return Ok(());
        }
        match self.taken.take() {
            None => Ok(()),
            Some((store, _)) => {
                let done = self.now.close();
                store.close().and(done)
            }
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = self.now.close();
        if let Some((store, name)) = &self.taken {
            // If it stays, the next backup drops it.
            if let Err(e) = store.drop_snapshot(name) {
                log::warn!("the snapshot {name:?} of a backup could not be dropped: {e}");
            }
            let _ = store.close();
        }
    }
}

/// Take a snapshot and open it, after dropping those of dead backups.
fn take(store: &Store, keep: Option<&str>) -> Result<(String, Store)> {
    for left in store.snapshots()? {
        if left.name.starts_with(TEMPORARY) {
            match store.drop_snapshot(&left.name) {
                // Another backup is running, or has dropped it first.
                Ok(()) | Err(Error::InUse { .. } | Error::NoSnapshot { .. }) => {}
                Err(e) => return Err(e),
            }
        }
    }
    for _ in 0..20 {
        let name = keep.map_or_else(
            || format!("{TEMPORARY}{:016x}", process::random_u64()),
            str::to_owned,
        );
        store.snapshot(&name)?;
        fail_point!("backup.taken");
        match store.open_snapshot(&name) {
            Ok(now) => return Ok((name, now)),
            // Another backup took it for a leftover and dropped it.
            Err(Error::NoSnapshot { .. } | Error::InUse { .. }) if keep.is_none() => {}
            Err(e) => {
                let _ = store.drop_snapshot(&name);
                return Err(e);
            }
        }
    }
    Err(Error::InUse {
        what: "the snapshot of this backup".to_owned(),
        holder: "other backups that drop it".to_owned(),
    })
}
