//! What this opening shows, if it shows one checkpoint: which one, and copies of its pages. `session::follow` has the
//! rules.

use crate::error::{Error, Result, refused};
use crate::ids::PAGE_SIZE;
use crate::page::format::catalogue::Snapshot;
use crate::page::format::page_table::Entry;
use crate::page::pager::Pager;
use crate::page::pager::state::follow::Follow;
use crate::raw::files::file;
use crate::raw::files::held;
use crate::raw::files::held::Using;
use std::os::unix::fs::{FileExt, MetadataExt};

pub(in crate::page) const COPIES_OF: &str = "cannot keep copies of the store in memory";
/// Number of bytes of copies that are kept.
const COPIES: u64 = if cfg!(feature = "testing") {
    4 << 20
} else {
    256 << 20
};
/// Number of copies after which their size is checked.
const LOOK: u64 = 256;

impl Pager {
    /// Return an error if the store was closed. Called after words of the sidecar were used without a section.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.openness.is_closed() {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Return whether the opening reads one checkpoint only.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Return the snapshot this is an opening of.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.frozen.as_ref().and_then(|f| f.snapshot.as_ref())
    }

    pub(in crate::page) fn following(&self) -> Option<&Follow> {
        self.frozen.as_ref()?.follow.as_ref()
    }

    pub(in crate::page) fn store_file(&self) -> Result<Using<'_>> {
        held::ours(&self.file, "cannot read the store file")
    }

    /// Copy a page to memory and compare it with its checksum. Called in a section.
    #[cold]
    pub(in crate::page) fn keep_copy(&self, follow: &Follow, entry: Entry, what: &'static str) -> Result<()> {
        let mut copied = follow.copied();
        let at = u64::from(entry.physical) * PAGE_SIZE as u64;
        let mut page = [0; PAGE_SIZE];
        let memory = held::ours(follow.memory(), COPIES_OF)?;
        let read = self.store_file()?.read_exact_at(&mut page, at);
        if read.is_err() || !entry.fits(&page) {
            self.unless_replaced(())?;
            return match read {
                Err(e) => Err(Error::io(
                    format!("{}: cannot read byte {at}", self.path.display()),
                    e,
                )),
                Ok(()) => Err(Error::Corrupt { what, at }),
            };
        }
        file::write_new(&memory, &page, at, "copies of the store in memory")?;
        *copied += 1;
        if copied.is_multiple_of(LOOK) && memory.metadata().is_ok_and(|m| m.blocks() * 512 > COPIES) {
            follow.set_full(true);
        }
        Ok(())
    }

    /// Return `done`, or an error if writers may have reused pages of the checkpoint that this opening shows. Called
    /// after reading.
    pub(crate) fn unless_replaced<R>(&self, done: R) -> Result<R> {
        if let Some(follow) = self.following() {
            let shown = self.shm.last_checkpoint().number();
            if follow.number((shown % 2) as usize) != shown {
                return Err(Error::Stale);
            }
        }
        Ok(done)
    }

    /// For reads of the newest checkpoint that bypass the copies: report apparent damage as stale if writers have made
    /// a newer checkpoint.
    pub(crate) fn unless_stale<R>(&self, done: Result<R>) -> Result<R> {
        match done {
            Err(e @ (Error::Corrupt { .. } | Error::Io { .. })) => match self.unless_replaced(()) {
                Ok(()) => Err(e),
                Err(_) => Err(refused(
                    &self.path,
                    "writers have replaced the checkpoint while it was read; try again, or read a snapshot",
                )),
            },
            done => done,
        }
    }
}
