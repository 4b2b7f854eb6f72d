//! A store in use as the source of an image: its file, kept as it is while the image is read.

use crate::error::{Error, Result};
use crate::page::format::catalogue::Snapshot;
use crate::page::format::image::Source;
use crate::page::pager::Pager;
use crate::raw::file;
use crate::raw::process::Unshared;

impl Pager {
    /// Runs `f` on the file with its last two checkpoints, which stay as they are meanwhile: no checkpoint
    /// begins before `f` ends. Outside sections and transactions.
    pub fn with_image<R>(&self, f: impl FnOnce(&Source) -> Result<R>) -> Result<R> {
        self.with_checkpoint(|pager| f(&pager.source()?))
    }

    /// The file. Nothing keeps its pages from being reused, but what the caller does.
    pub(crate) fn source(&self) -> Result<Source> {
        let cannot = |e| Error::io("cannot open the store once more", e);
        let file = Unshared::new(file::reopen(&self.file, false).map_err(cannot)?);
        Source::of(file, self.path.clone())
    }

    /// Runs `f` on the file, for the snapshot that this is an opening of, and which stays as it is.
    pub fn with_snapshot<R>(&self, f: impl FnOnce(&Source, &Snapshot) -> Result<R>) -> Result<R> {
        match self.snapshot() {
            Some(snapshot) => f(&self.source()?, snapshot),
            None => Err(Error::invalid("this is not an opening of a snapshot")),
        }
    }
}
