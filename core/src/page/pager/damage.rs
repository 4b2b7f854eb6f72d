//! Handling of damage: an access to a mapped file that the disk cannot serve (`raw::fault`), or a state that can no
//! longer be trusted.
//!
//! 1. The result of an operation on the maps is valid only if none of them had a fault during it. This is checked when
//!    its section is left (`Pager::whole`), before a commit, before a checkpoint's meta page is written, and before
//!    anything is written that the undo log does not cover (copies of pages, memory just allocated).
//! 2. An opening that had a fault returns that error permanently, because its view of the store differs from the file.
//!    Other openings, and a new one, get their own faults if the damage persists.
//! 3. If the file or the sidecar is too short, or a change was interrupted, the store is poisoned for writing in the
//!    sidecar, for all processes. `UNDOABLE`: a change could not be undone either; then no process reads.
//!
//! Values of the poison word: 0 none, else one of the constants below. They are long, so that no damaged word matches
//! one.

use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::page::pager::Pager;
use crate::page::shared::header::poison::{FLUSH, LOST, UNDOABLE};
use crate::raw::fault;
use crate::raw::files::held;
use crate::raw::files::held::Using;
use std::path::Path;

impl Pager {
    /// Return an error if the disk could not serve an access to the store that this process made through its maps.
    #[inline]
    pub(crate) fn whole(&self) -> Result<()> {
        if fault::any() { self.find_fault() } else { Ok(()) }
    }

    #[cold]
    fn find_fault(&self) -> Result<()> {
        let is_short = |file: Result<Using<'_>>, end: u64| {
            file.is_ok_and(|file| file.metadata().is_ok_and(|m| m.len() < end))
        };
        if let Some((what, file_at)) = self.shm.fault() {
            let short = is_short(self.shm.file(), file_at + 1);
            if short {
                self.poison_once(LOST);
            }
            return Err(describe(
                &crate::page::shared::paths::sidecar_path(&self.path),
                what,
                file_at,
                short,
            ));
        }
        if let Some(offset) = self.map.fault() {
            let end = self.shm.space().file_pages() * PAGE_SIZE as u64;
            let short = is_short(self.file.using(), end);
            if short {
                self.poison_once(LOST);
            }
            return Err(describe(&self.path, "the store", offset as u64, short));
        }
        Ok(())
    }

    /// Return `done`, or the disk's error if the disk could not serve an access.
    #[inline]
    pub(crate) fn unless_damaged<R>(&self, done: Result<R>) -> Result<R> {
        if fault::any() {
            return self.replace(done);
        }
        done
    }

    #[cold]
    fn replace<R>(&self, done: Result<R>) -> Result<R> {
        self.find_fault()?;
        done
    }

    /// Handle a change that a fault has interrupted and that was undone as far as the maps allow. Called in the write
    /// section, or with the gate raised in recovery.
    #[cold]
    pub(crate) fn after_fault(&self) {
        // The restored bytes may have gone to a page that only this process sees.
        let lost = self.shm.fault().is_some() || self.map.is_lost();
        self.poison_once(if lost { UNDOABLE } else { LOST });
    }

    /// Set the poison word. The first reason remains, unless the new one closes the store to readers.
    pub(crate) fn poison_once(&self, why: u64) {
        self.shm.poison_for(why);
    }

    /// Return an error if the program has closed this opening's descriptors.
    pub(crate) fn has_its_files(&self) -> Result<()> {
        let what = || format!("{}: the store cannot be written", self.path.display());
        held::ours(&self.file, &what())?;
        self.shm.has_its_file(&what())
    }

    /// Return whether readers are kept out.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.shm.is_unreadable()
    }

    /// Return the error for a sidecar that was truncated and has grown again, or was overwritten, while it was in use.
    pub(crate) fn replaced(&self) -> Error {
        Error::Refused {
            path: self.path.clone(),
            why:
                "another program has changed its sidecar while it was in use; close it everywhere, and open it \
                  again"
                    .to_owned(),
        }
    }

    pub(crate) fn poisoned(&self) -> Error {
        Error::Poisoned {
            why: match self.shm.poison() {
                FLUSH => "the disk reported an error while flushing",
                LOST => "a page of it was cut off or could not be read",
                _ => "the sidecar was found damaged",
            }
            .to_owned(),
        }
    }

    pub(crate) fn poison(&self, what: &'static str, e: std::io::Error) -> Error {
        if held::is_unused(&e) {
            // The disk was not asked: other processes continue.
            return Error::io(format!("{}: {what}", self.path.display()), e);
        }
        self.poison_once(FLUSH);
        Error::Poisoned {
            why: format!("{what}: {e}"),
        }
    }
}

fn describe(path: &Path, what: &'static str, at: u64, short: bool) -> Error {
    let (why, todo) = if short {
        (
            "the file was cut short by another program",
            "close it everywhere, and open it again or restore a backup",
        )
    } else {
        (
            "the disk reported an error",
            "open it again; if that happens again, restore a backup on another disk",
        )
    };
    Error::io(
        format!(
            "{}: {what} cannot be reached at byte {at}, {why}; {todo}",
            path.display()
        ),
        std::io::Error::from_raw_os_error(libc::EIO),
    )
}
