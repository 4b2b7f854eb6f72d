//! Request: fallocate. The content of a value is stored whole, so a file that is long enough has its space.

use crate::fs::context::{Ctx, MAX_FILE};
use crate::fs::error::{FsResult, errno};
use crate::fs::known::leases::Held;
use crate::fs::tree::filesystem::Fs;

/// The bytes that one write zeroes.
const PIECE: usize = 1 << 20;

impl Fs {
    /// Request: fallocate, of `length` bytes at `offset`. It lengthens a file, or zeroes a part of it in writes of up
    /// to `PIECE` bytes. EOPNOTSUPP: space beyond the end of the file (FALLOC_FL_KEEP_SIZE alone), and what moves
    /// bytes.
    pub(crate) fn allocate(
        &self,
        ctx: &Ctx,
        (ino, fh): (u64, u64),
        (offset, length): (u64, u64),
        mode: i32,
    ) -> FsResult<()> {
        let handle = self.open_files.get(fh)?;
        if !handle.write || handle.ino != ino {
            return errno(libc::EBADF);
        }
        let end = match offset.checked_add(length) {
            Some(end) if end <= MAX_FILE => end,
            _ => return errno(libc::EFBIG),
        };
        let size = self.attributes(ctx, ino, Some(fh), &mut Held::none())?.size;
        let (zeroed, lengthens) = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 if mode == 0 || end <= size => (offset..offset, true),
            libc::FALLOC_FL_PUNCH_HOLE if mode & libc::FALLOC_FL_KEEP_SIZE != 0 => {
                (offset..end.min(size), false)
            }
            libc::FALLOC_FL_ZERO_RANGE if mode & libc::FALLOC_FL_KEEP_SIZE == 0 => {
                (offset..end.min(size), true)
            }
            libc::FALLOC_FL_ZERO_RANGE if end <= size => (offset..end, false),
            _ => return errno(libc::EOPNOTSUPP),
        };
        let mut at = zeroed.start;
        while at < zeroed.end {
            let piece = usize::try_from(zeroed.end - at).unwrap_or(PIECE).min(PIECE);
            // At its offset, also if the file was opened with O_APPEND.
            self.write_file(ctx, (fh, None), (at, true), &vec![0; piece])?;
            at += piece as u64;
        }
        if lengthens && end > size {
            self.resize(ctx, ino, &self.place(ino)?, Some(fh), end)?;
        }
        Ok(())
    }
}
