//! The undo log: it makes a change in place atomic when its process dies.
//!
//! 1. (I2) A record is complete and counted before the store that it covers.
//! 2. Length 0 means that there is nothing to undo. Storing it is the commit, one store.
//! 3. Undoing a record twice is harmless, and the length shrinks only after a record was undone. So an undo that is
//!    itself killed is run again.
//!
//! 4. The era changes with a commit, and before and after each record that is undone. If a reader of the committed
//!    state (`committed`) finds the same era at its end, every record it has used was complete and still counted.
//! 5. The word `UNDO` always holds `MARK`. So a word that was zeroed on the disk is not taken for an empty log.
//!
//! `UNDO`:
//!
//! | BIT | BITS | FIELD |
//! | --- | --- | --- |
//! | 0 | 29 | the length of the log in bytes |
//! | 29 | 3 | `MARK`, a constant |
//! | 32 | 32 | the era; it wraps around |
//!
//! Only the holder of the latch changes the log. It is read backward, so a record ends with its header:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | n rounded up to 8 | the old bytes |
//! | .. | 8 | logical address (48 bits) | n << 48 (n <= 4096) | `NOTE` |
//!
//! A record with `NOTE` has no old bytes: n bytes from the address on are changed, and their old content need not be
//! restored. It is kept for the redo log, which uses the ranges recorded here.

use crate::error::{Error, Result};
use crate::ids::{Addr, PAGE_SIZE};
use crate::page::shared::layout::{self, Region};
use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence, fence};

const UNDO: Word = Word::at(576);

const LEN: u64 = (1 << 29) - 1;
const MARK: u64 = 0b101 << 29;
/// The step from one era to the next.
const NEXT_ERA: u64 = 1 << 32;
const _: () = assert!(layout::UNDO_SIZE as u64 <= LEN);

const ADDRESS: u64 = (1 << 48) - 1;
const NOTE: u64 = 1 << 63;

/// A record's place in the log, and its content.
struct Logged {
    start: usize,
    addr: Addr,
    len: usize,
    note: bool,
}

fn bad_record(at: usize) -> Error {
    Error::Corrupt {
        what: "the undo log in the sidecar (offset)",
        at: at as u64,
    }
}

impl Shm {
    /// Return the number of bytes in the undo log.
    #[inline]
    pub(crate) fn undo_len(&self) -> u64 {
        self.word(UNDO).load(Ordering::Relaxed) & LEN
    }

    /// Begin an empty log, in a new sidecar.
    pub(in crate::page) fn create_undo(&self) {
        self.set(UNDO, MARK);
    }

    /// Return whether the log's word is not one that was lost (invariant 5).
    pub(in crate::page) fn has_undo_mark(&self) -> bool {
        self.get(UNDO) & (NEXT_ERA - 1) & !LEN == MARK
    }

    /// Cut the log: the records from here on were undone.
    pub(in crate::page) fn cut_undo(&self, len: u64) {
        self.start_era(|word| word & !LEN | len);
    }

    /// Return the number that changes whenever records stop counting.
    pub(in crate::page) fn undo_era(&self) -> u64 {
        self.get(UNDO) / NEXT_ERA
    }

    #[inline]
    fn undo_word(&self, offset: usize) -> &AtomicU64 {
        self.cell::<{ layout::UNDO }>(offset)
    }

    /// Log one old word.
    #[inline(always)]
    pub(crate) fn log_word(&self, addr: Addr, old: u64) -> Result<()> {
        let word = self.word(UNDO).load(Ordering::Relaxed);
        let len = (word & LEN) as usize;
        self.ensure_undo(len + 16)?;
        self.undo_word(len).store(old.to_le(), Ordering::Relaxed);
        self.undo_word(len + 8).store(addr.0 | 8 << 48, Ordering::Relaxed);
        self.publish(word, 16);
        Ok(())
    }

    /// Log old bytes of one page.
    pub(crate) fn log_bytes(&self, addr: Addr, old: &[u8]) -> Result<()> {
        debug_assert!(old.len() <= PAGE_SIZE);
        let word = self.word(UNDO).load(Ordering::Relaxed);
        let len = (word & LEN) as usize;
        let words = old.len().div_ceil(8);
        self.ensure_undo(len + words * 8 + 8)?;
        let (first, rest) = self.cells::<{ layout::UNDO }>(len, words);
        let (near, far) = old.split_at(old.len().min(first.len() * 8));
        for (cells, bytes) in [(first, near), (rest, far)] {
            for (word, chunk) in cells.iter().zip(bytes.chunks(8)) {
                let mut b = [0; 8];
                b[..chunk.len()].copy_from_slice(chunk);
                word.store(u64::from_le_bytes(b), Ordering::Relaxed);
            }
        }
        self.undo_word(len + words * 8)
            .store(addr.0 | (old.len() as u64) << 48, Ordering::Relaxed);
        self.publish(word, words * 8 + 8);
        Ok(())
    }

    /// Record a change that needs no undo, for the redo log.
    pub(crate) fn log_note(&self, addr: Addr, n: usize) -> Result<()> {
        debug_assert!(n <= PAGE_SIZE);
        let word = self.word(UNDO).load(Ordering::Relaxed);
        let len = (word & LEN) as usize;
        self.ensure_undo(len + 8)?;
        self.undo_word(len)
            .store(addr.0 | (n as u64) << 48 | NOTE, Ordering::Relaxed);
        self.publish(word, 8);
        Ok(())
    }

    /// Count a record of `bytes` bytes that was written behind the log that `word` describes.
    #[inline]
    fn publish(&self, word: u64, bytes: usize) {
        self.word(UNDO).store(word + bytes as u64, Ordering::Release);
        // The covered store must not be moved before this one. The processor keeps the order for a process that is
        // killed (all its earlier stores take effect); only the compiler could change it. For a reader beside this
        // process it is a release (no instruction on x86).
        compiler_fence(Ordering::SeqCst);
        fence(Ordering::Release);
    }

    /// Commit: nothing remains to be undone.
    #[inline]
    pub(crate) fn forget_undo(&self) {
        self.start_era(|word| word & !LEN);
    }

    /// Announce that records stop counting (invariant 4). Called under the latch.
    #[inline]
    pub(crate) fn change_era(&self) {
        self.start_era(|word| word);
    }

    /// Begin the next era with the word that `cut` makes of the present one, in one store.
    #[inline(always)]
    fn start_era(&self, cut: impl FnOnce(u64) -> u64) {
        let word = self.word(UNDO);
        let next = cut(word.load(Ordering::Relaxed)).wrapping_add(NEXT_ERA);
        word.store(next, Ordering::Release);
        fence(Ordering::Release);
    }

    #[inline]
    fn ensure_undo(&self, bytes: usize) -> Result<()> {
        if bytes > layout::UNDO_SIZE {
            return Err(Error::TransactionTooLarge {
                what: "undo log of 256 MiB",
            });
        }
        self.ensure(Region::Undo, bytes)
    }

    /// Return the last record: where it starts, its address, and its old bytes in `buf`.
    pub(crate) fn last_undo<'b>(
        &self,
        buf: &'b mut [u8; PAGE_SIZE],
    ) -> Result<Option<(u64, Addr, &'b [u8])>> {
        let Some(last) = self.undo_before(self.undo_len() as usize)? else {
            return Ok(None);
        };
        let (start, n) = (last.start, if last.note { 0 } else { last.len });
        let (first, rest) = self.cells::<{ layout::UNDO }>(start, n.div_ceil(8));
        for (i, w) in first.iter().chain(rest).enumerate() {
            let b = w.load(Ordering::Relaxed).to_le_bytes();
            let end = (i * 8 + 8).min(n);
            buf[i * 8..end].copy_from_slice(&b[..end - i * 8]);
        }
        Ok(Some((start as u64, last.addr, &buf[..n])))
    }

    /// Return the record that ends at `len`.
    fn undo_before(&self, len: usize) -> Result<Option<Logged>> {
        if len == 0 {
            return Ok(None);
        }
        if !len.is_multiple_of(8) || len > layout::UNDO_SIZE {
            return Err(bad_record(len));
        }
        let header = self.undo_word(len - 8).load(Ordering::Relaxed);
        let (n, note) = (((header & !NOTE) >> 48) as usize, header & NOTE != 0);
        let words = if note { 0 } else { n.div_ceil(8) };
        // The header is zero if the page could not be read, or was truncated and grew again.
        if header == 0 || n > PAGE_SIZE || words * 8 + 8 > len {
            return Err(bad_record(len));
        }
        Ok(Some(Logged {
            start: len - 8 - words * 8,
            addr: Addr(header & ADDRESS),
            len: n,
            note,
        }))
    }

    /// Put the old bytes of the record that ends at `end` over a copy of its page.
    pub(crate) fn undo_in_copy(&self, end: usize, page: &mut [u8; PAGE_SIZE]) -> Result<()> {
        let Some(record) = self.undo_before(end)? else {
            return Ok(());
        };
        if record.note {
            return Ok(());
        }
        let offset = record.addr.offset();
        let Some(to) = page.get_mut(offset..offset + record.len) else {
            return Err(bad_record(end));
        };
        let (first, rest) = self.cells::<{ layout::UNDO }>(record.start, record.len.div_ceil(8));
        for (to, word) in to.chunks_mut(8).zip(first.iter().chain(rest)) {
            let old = word.load(Ordering::Relaxed).to_le_bytes();
            to.copy_from_slice(&old[..to.len()]);
        }
        Ok(())
    }

    /// Call `f` with page and end of every record between two lengths of the log, newest first, except notes.
    pub(crate) fn undo_records(&self, from: usize, to: usize, mut f: impl FnMut(u64, usize)) -> Result<()> {
        let mut at = to;
        while at > from {
            let Some(record) = self.undo_before(at)? else {
                break;
            };
            if !record.note {
                f(record.addr.page().0, at);
            }
            at = record.start;
        }
        if at == from { Ok(()) } else { Err(bad_record(at)) }
    }

    /// Call `f` with the range of every record, newest first, and the first of its old words (0 if it has none).
    pub(crate) fn undo_ranges(&self, mut f: impl FnMut(Addr, usize, u64)) -> Result<()> {
        let mut at = self.undo_len() as usize;
        while let Some(record) = self.undo_before(at)? {
            let old = if record.note || record.len < 8 {
                0
            } else {
                self.undo_word(record.start).load(Ordering::Relaxed)
            };
            f(record.addr, record.len, old);
            at = record.start;
        }
        Ok(())
    }
}
