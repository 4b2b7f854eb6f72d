//! A store in use as the source of an image: its file, kept unchanged while the image is read.

use crate::error::{Error, Result};
use crate::page::format::catalogue::Snapshot;
use crate::page::format::image::Source;
use crate::page::pager::Pager;
use crate::raw::files::file;
use crate::raw::process::Unshared;

impl Pager {
    /// Run `f` on the file with its last two checkpoints. No checkpoint begins before `f` ends, so they do not change.
    /// Called outside sections and transactions.
    pub fn with_image<R>(&self, f: impl FnOnce(&Source) -> Result<R>) -> Result<R> {
        self.with_checkpoint(|pager| f(&pager.source()?))
    }

    /// Return the file. Only the caller's own precautions keep its pages from being reused.
    pub(crate) fn source(&self) -> Result<Source> {
        let cannot = |e| Error::io("cannot open the store once more", e);
        let file = Unshared::new(file::reopen(self.file(), false).map_err(cannot)?);
        Source::of(file, self.path().to_path_buf())
    }

    /// Run `f` on the file for the snapshot that this opening shows. The snapshot does not change.
    pub fn with_snapshot<R>(&self, f: impl FnOnce(&Source, &Snapshot) -> Result<R>) -> Result<R> {
        match self.snapshot() {
            Some(snapshot) => f(&self.source()?, snapshot),
            None => Err(Error::invalid("this is not an opening of a snapshot")),
        }
    }
}
