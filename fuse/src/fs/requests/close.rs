//! Requests at the end of an open file: flush, fsync, release.

use crate::fs::context::Ctx;
use crate::fs::error::{FsError, FsResult};
use crate::fs::tree::filesystem::Fs;
use crate::kernel::processes;

impl Fs {
    /// Request: flush, at every close of a descriptor. `owner` is the owner whose fcntl locks end.
    pub(crate) fn flush(&self, ctx: &Ctx, ino: u64, fh: u64, owner: u64) -> FsResult<()> {
        let handle = self.open_files.get(fh)?;
        let result = {
            let mut state = handle.state(ctx)?;
            // A shell that redirects closes one of two descriptors before it writes, and its children close theirs
            // between its own lines. These closes must not store the content.
            let opener = if handle.opener == 0 {
                ctx.tid
            } else {
                handle.opener
            };
            let waits = state.dirty
                && state.replaces
                && self.open_files.of_inode(ino).iter().filter(|h| h.write).count() == 1
                && processes::has_open(opener, ino);
            if waits {
                Ok(())
            } else {
                self.commit(ctx, &handle, &mut state, None)
            }
        };
        if !matches!(result, Err(FsError::Blocked)) {
            self.locks.flush(&self.store, ino, owner);
        }
        result
    }

    /// Request: fsync.
    pub(crate) fn fsync(&self, ctx: &Ctx, fh: u64) -> FsResult<()> {
        let handle = self.open_files.get(fh)?;
        self.commit_handle(ctx, &handle)?;
        self.sync()
    }

    /// Request: the last descriptor was closed.
    pub(crate) fn release(&self, ctx: &Ctx, fh: u64) -> FsResult<()> {
        let handle = self.open_files.get(fh)?;
        let result = self.commit_handle(ctx, &handle);
        if matches!(result, Err(FsError::Blocked)) {
            return result;
        }
        if let Err(e) = result {
            self.log_unstored(handle.ino, &e);
        }
        self.open_files.remove(fh);
        self.locks.release(&self.store, fh);
        Ok(())
    }
}
