//! Requests at the end of an open file: flush, fsync, release.
//!
//! The kernel sends a flush whenever a process closes a descriptor: also one that it has copied (`dup`, a shell's
//! redirection) or inherited, and at its end. It does not tell whether the file stays open elsewhere. These rules hold
//! for a content that is not stored yet (`open_files`):
//!
//! 1. A flush of a process that has written stores the content, also what others wrote into it. So `close` returns when
//!    the content is stored, or with the error. After an error, each later flush tries again.
//! 2. A flush of a process that has written nothing since the content was stored does not store it: a child that ends,
//!    or that executes a program, does not show the half of its parent's work.
//! 3. If no process has written anything since the open that truncated the file, a flush stores the empty content. But
//!    not while the thread that opened the file has it as one of its first twenty descriptors: a shell opens the file,
//!    copies the descriptor to that of the redirection and closes the first one, all before its command writes.
//! 4. `fsync`, and the end of the open file, store the content in any case.

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
            let stores = state.dirty
                && match state.writers.is_empty() {
                    false => state.writers.include(owner),
                    true => !processes::redirects_to(handle.opener, ino),
                };
            let result = match stores {
                true => self.commit(ctx, &handle, &mut state, None),
                false => Ok(()),
            };
            if result.as_ref().is_err_and(|e| !e.runs_again()) {
                // The error may not have reached the program, as at the end of a process.
                state.writers.add(None);
            }
            result
        };
        if !result.as_ref().is_err_and(FsError::runs_again) {
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
        if result.as_ref().is_err_and(FsError::runs_again) {
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
