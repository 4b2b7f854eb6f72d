//! Requests that read a file: read, lseek.

use crate::fs::context::Ctx;
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::Place;
use crate::fs::known::leases::Held;
use crate::fs::known::open_files::{OpenFile, State};
use crate::fs::tree::filesystem::Fs;
use persist_core::Error;
use persist_core::store::LargeKind;

/// The bytes of a large value that one section reads.
const PIECE: usize = 256 << 10;

impl Fs {
    /// Request: read.
    pub(crate) fn read_file(&self, ctx: &Ctx, fh: u64, offset: u64, size: u32) -> FsResult<Vec<u8>> {
        let handle = self.open_files.get(fh)?;
        let mut state = handle.state(ctx)?;
        if matches!(self.place(handle.ino)?, Place::Deleted) {
            return errno(libc::ESTALE);
        }
        self.build_cut(ctx, &handle, &mut state)?;
        let continues = offset == state.read_end && !state.at_end;
        let changed = continues && handle.take_change();
        let goes_on = continues && !changed;
        let is_built = state.dirty || state.draft.is_some();
        if !is_built && (offset == 0 || !goes_on || (state.data.is_none() && state.large.is_none())) {
            self.refresh(ctx, &handle, &mut state).inspect_err(|_| {
                if changed {
                    // The request may run again, and must read the value again then.
                    handle.put_change_back();
                }
            })?;
        }
        if let Some(draft) = &state.draft {
            return self.read_draft(ctx, draft, offset, size as usize);
        }
        let out = match (&state.data, state.large) {
            (Some(data), _) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
                let end = start.saturating_add(size as usize).min(data.len());
                data[start..end].to_vec()
            }
            (None, Some(_)) => self.read_in_place(ctx, &handle, &mut state, offset, size as usize)?,
            (None, None) => Vec::new(),
        };
        state.read_end = offset + out.len() as u64;
        state.at_end = out.is_empty();
        Ok(out)
    }

    /// Read a piece of a large value. If the value was replaced, read the new one.
    fn read_in_place(
        &self,
        ctx: &Ctx,
        handle: &OpenFile,
        state: &mut State,
        offset: u64,
        size: usize,
    ) -> FsResult<Vec<u8>> {
        for _ in 0..16 {
            let Some(large) = state.large else {
                let data = state.data.clone().unwrap_or_default();
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
                return Ok(data[start..start.saturating_add(size).min(data.len())].to_vec());
            };
            let newline = matches!(
                large.kind,
                LargeKind::Str { no_newline: false } | LargeKind::Typed { text: true }
            ) && !self.config.exact;
            let total = large.len + u64::from(newline);
            let want = size.min(usize::try_from(total.saturating_sub(offset)).unwrap_or(usize::MAX));
            let mut out = vec![0u8; want];
            let mut done = 0;
            let mut gone = false;
            while done < want && offset + (done as u64) < large.len {
                let end = want
                    .min(done + PIECE)
                    .min(usize::try_from(large.len - offset).unwrap_or(usize::MAX));
                let at = offset + done as u64;
                match self.read(ctx, |r| Ok(r.large_read(&large, at, &mut out[done..end])?)) {
                    Ok(0) => break,
                    Ok(n) => done += n,
                    Err(FsError::Store(Error::Gone(_))) => {
                        gone = true;
                        break;
                    }
                    Err(e) => return Err(e),
                }
            }
            if !gone {
                if newline && done < want && offset + done as u64 == large.len {
                    out[done] = b'\n';
                    done += 1;
                }
                out.truncate(done);
                self.passed(done);
                return Ok(out);
            }
            state.loaded_at = None;
            state.large = None;
            state.data = None;
            self.refresh(ctx, handle, state)?;
        }
        errno(libc::EAGAIN)
    }

    /// Request: lseek for data and holes. Files have no holes.
    pub(crate) fn lseek(&self, ctx: &Ctx, ino: u64, fh: u64, offset: i64, whence: i32) -> FsResult<i64> {
        let size = self.attributes(ctx, ino, Some(fh), &mut Held::none())?.size as i64;
        match whence {
            libc::SEEK_SET => Ok(offset),
            libc::SEEK_END => Ok(size.saturating_add(offset)),
            libc::SEEK_DATA if (0..size).contains(&offset) => Ok(offset),
            libc::SEEK_HOLE if (0..size).contains(&offset) => Ok(size),
            libc::SEEK_DATA | libc::SEEK_HOLE => errno(libc::ENXIO),
            _ => errno(libc::EINVAL),
        }
    }
}
