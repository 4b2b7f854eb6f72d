//! The mapped sidecar `FILE-shm`: the shared, volatile memory of all processes that have the store open. `layout`
//! states where its regions lie.
//!
//! Blocks are allocated (`fallocate`) before more of a region is used (`ensure`), so that a full disk causes an error
//! and not a signal.

use crate::error::{Error, Result};
use crate::page::shared::layout::{
    FIXED_END, LIST_STEP, LISTS, MAGIC, MAP_LEN, MAX_PAGES, MIB, PINS, PINS_SIZE, Parts, REGIONS, Region,
    TABLE, in_file, next_sizes, region_name,
};
use crate::page::shared::word::{Word, Words};
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::files::held;
use crate::raw::files::held::Descriptor;
use crate::raw::files::held::Held;
use crate::raw::files::held::Using;
use crate::raw::map::{Map, Windows};
use std::fs::File;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const SIDECAR: Word = Word::at(0);
const NONCE: Word = Word::at(64);
/// Bytes allocated of each growing region.
const HAS_UNDO: Word = Word::at(768);
const HAS_LIST: Word = Word::at(776); // 3 words
const HAS_MAP: Word = Word::at(800);
const HAS_TABLE: Word = Word::at(808);
const HAS_LOG: Word = Word::at(2280);
const HAS_KEPT: Word = Word::at(3240);

/// Return the nonce in a sidecar's header.
pub(in crate::page) fn nonce_of(words: &impl Words) -> u64 {
    words.value(NONCE)
}

/// Return whether a header begins as a sidecar's does.
pub(in crate::page) fn is_sidecar(words: &impl Words) -> bool {
    words.value(SIDECAR) == MAGIC
}

fn file_length(file: &File) -> Result<u64> {
    let metadata = file.metadata();
    Ok(metadata.map_err(|e| Error::io("fstat of the sidecar", e))?.len())
}

/// Locked shared by every process that uses this sidecar. It lies past the end of the file.
const BYTE_IN_USE: u64 = 1 << 62;

/// The mapped sidecar.
#[derive(Debug)]
pub(crate) struct Shm {
    map: Map,
    file: Held,
    /// The nonce in the header when it was mapped: it identifies the sidecar of this session of the store.
    nonce: u64,
}

/// Return whether any process uses a sidecar's file.
pub(in crate::page) fn is_file_in_use(side: &impl Descriptor) -> Result<bool> {
    file::ofd_is_held(side, BYTE_IN_USE, Ofd::Exclusive)
}

impl Shm {
    /// Map an open sidecar file.
    pub(crate) fn map(file: File) -> Result<Shm> {
        let map = Map::fixed(&file, MAP_LEN)?;
        Ok(Shm {
            map,
            file: Held::new(file),
            nonce: 0,
        })
    }

    /// Map an existing sidecar. Return None if it is too short to be one.
    pub(crate) fn map_checked(file: File) -> Result<Option<Shm>> {
        if file_length(&file)? < FIXED_END as u64 {
            return Ok(None);
        }
        let mut shm = Shm::map(file)?;
        shm.nonce = shm.get(NONCE);
        let regions = [
            (HAS_UNDO, REGIONS[1]),
            (HAS_LIST, REGIONS[2]),
            (HAS_LIST.nth(1), REGIONS[3]),
            (HAS_LIST.nth(2), REGIONS[4]),
            (HAS_MAP, REGIONS[5]),
            (HAS_TABLE, REGIONS[6]),
            (HAS_LOG, REGIONS[7]),
            (HAS_KEPT, REGIONS[8]),
        ]
        .map(|(has, region)| (shm.word(has).load(Ordering::SeqCst), region));
        // Read the length after the words: other processes grow the file first and then store the word.
        let len = file_length(&*shm.file()?)?;
        let whole = regions.iter().all(|(has, (start, size))| {
            *has <= *size as u64 && in_file(*start, *has as usize).all(|(at, n)| at + n <= len)
        });
        Ok(whole.then_some(shm))
    }

    /// Return the length of a sidecar's file that holds the live table of `logical` logical pages.
    pub(crate) fn length_for(logical: u64) -> u64 {
        in_file(TABLE, logical as usize * 8)
            .map(|(at, len)| at + len)
            .fold(FIXED_END as u64, u64::max)
    }

    /// Set the nonce of this session of the store, when the sidecar is made.
    pub(crate) fn name_session(&mut self, nonce: u64) {
        self.nonce = nonce;
        self.set(NONCE, nonce);
        self.set(SIDECAR, MAGIC);
    }

    /// Return whether it is still the sidecar that was mapped: one that was truncated and has grown again contains
    /// zeros. Called before a step that cannot be undone.
    pub(crate) fn is_intact(&self) -> bool {
        self.get(NONCE) == self.nonce && is_sidecar(self)
    }

    /// Prevent changes to the windows of the mapping.
    pub(crate) fn hold_windows(&self) -> Windows<'_> {
        self.map.hold()
    }

    /// Return the first access that the sidecar's file could not serve, if there was one: its subject, and its place in
    /// the file.
    pub(crate) fn fault(&self) -> Option<(&'static str, u64)> {
        let file = self.map.fault()?;
        Some((region_name(file as u64), file as u64))
    }

    /// Mark the sidecar as in use: the returned file holds a lock.
    pub(crate) fn lock_in_use(&self) -> Result<File> {
        let file = file::reopen(&self.file, true).map_err(|e| Error::io("cannot reopen the sidecar", e))?;
        match file::ofd_lock(&file, BYTE_IN_USE, Ofd::Shared)? {
            true => Ok(file),
            false => Err(Error::WouldBlock {
                what: "the sidecar, which another process has locked",
            }),
        }
    }

    /// Return whether any process uses it.
    pub(crate) fn is_in_use(&self) -> Result<bool> {
        is_file_in_use(&self.file)
    }

    /// Return an error if the program has closed the sidecar's descriptor.
    pub(crate) fn has_its_file(&self, what: &str) -> Result<()> {
        held::ours(&self.file, what).map(|_| ())
    }

    pub(crate) fn file(&self) -> Result<Using<'_>> {
        self.file.using()
    }

    /// Release mapping and descriptor. All words are private zeros from now on.
    pub(crate) fn retire(&self) -> Result<()> {
        self.map.retire()?;
        self.file.retire();
        Ok(())
    }

    fn allocate(&self, at: usize, len: usize, what: &'static str) -> Result<()> {
        in_file(at, len).try_for_each(|(at, len)| file::allocate(&self.file, at, len, what))
    }

    /// Allocate the fixed regions of a new sidecar.
    pub(crate) fn allocate_fixed(&self) -> Result<()> {
        file::allocate(&self.file, 0, FIXED_END as u64, "the sidecar")
    }

    /// Return a header word.
    #[inline]
    pub(in crate::page) fn word(&self, word: Word) -> &AtomicU64 {
        self.map.word(word.offset())
    }

    /// Load a header word.
    #[inline]
    pub(in crate::page) fn get(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }

    /// Store a header word.
    #[inline]
    pub(in crate::page) fn set(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Release);
    }

    /// Return a futex word of the header.
    #[inline]
    pub(in crate::page) fn word32(&self, word: Word) -> &AtomicU32 {
        self.map.word32(word.offset())
    }

    /// Return a word of a fixed region.
    #[inline]
    pub(super) fn fixed_word(&self, at: usize) -> &AtomicU64 {
        self.map.word(at)
    }

    /// Return words of a fixed region.
    #[inline]
    pub(crate) fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        self.map.words(at, count)
    }

    /// Return 32-bit words of a fixed region.
    pub(crate) fn words32(&self, at: usize, count: usize) -> &[AtomicU32] {
        self.map.words32(at, count)
    }

    /// Return a word of the region that begins at `START`.
    #[inline(always)]
    pub(crate) fn cell<const START: usize>(&self, offset: usize) -> &AtomicU64 {
        self.map.word(const { Parts::of(START) }.place(offset))
    }

    /// Return `count` words of the region that begins at `START`: those in its first part, and those in the rest of it.
    #[inline]
    pub(crate) fn cells<const START: usize>(
        &self,
        offset: usize,
        count: usize,
    ) -> (&[AtomicU64], &[AtomicU64]) {
        let parts = const { Parts::of(START) };
        let first = (parts.len.saturating_sub(offset) / 8).min(count);
        let rest = count - first;
        match (first, rest) {
            (_, 0) => (self.map.words(parts.place(offset), count), &[]),
            _ => (
                self.map.words(parts.first + offset.min(parts.len), first),
                self.map.words(parts.place(offset.max(parts.len)), rest),
            ),
        }
    }

    /// Return a word of a dirty list.
    #[inline]
    pub(super) fn list_cell(&self, list: usize, offset: usize) -> &AtomicU64 {
        match list {
            0 => self.cell::<LISTS>(offset),
            1 => self.cell::<{ LISTS + LIST_STEP }>(offset),
            _ => self.cell::<{ LISTS + 2 * LIST_STEP }>(offset),
        }
    }

    /// Return the first words of a process's pin table.
    pub(super) fn pin_table(&self, process: usize, count: usize) -> &[AtomicU64] {
        const {
            assert!(
                Parts::of(PINS).len.is_multiple_of(PINS_SIZE),
                "no table is in both parts"
            )
        };
        let at = const { Parts::of(PINS) }.place(process * PINS_SIZE);
        self.map.words(at, count.min(PINS_SIZE / 8))
    }

    /// Empty the live table, and make room for one of `logical` logical pages. For a sidecar in memory, with no section
    /// open.
    pub(crate) fn clear_table(&self, logical: u64) -> Result<()> {
        let file = self.file.using()?;
        let len = file_length(&file)?;
        for (at, n) in in_file(TABLE, MAX_PAGES as usize * 8).filter(|(at, _)| *at < len) {
            file::punch(&file, at, n.min(len - at))
                .map_err(|e| Error::io("cannot empty a sidecar in memory", e))?;
        }
        let want = Shm::length_for(logical);
        if want > len {
            file.set_len(want)
                .map_err(|e| Error::io("cannot enlarge a sidecar in memory", e))?;
        }
        Ok(())
    }

    /// Ensure that `bytes` of a growing region have blocks. Called under the latch (or, for lists of an ended epoch, by
    /// the checkpointer).
    #[inline]
    pub(crate) fn ensure(&self, region: Region, bytes: usize) -> Result<()> {
        let has = size_word(region);
        if bytes as u64 <= self.get(has) {
            return Ok(());
        }
        self.grow(region, has, bytes)
    }

    /// Return the number of bytes of a growing region that have blocks.
    pub(in crate::page) fn allocated(&self, region: Region) -> u64 {
        self.get(size_word(region))
    }

    #[cold]
    fn grow(&self, region: Region, has: Word, bytes: usize) -> Result<()> {
        let (start, size) = region.place();
        let what = region.name();
        let old = self.get(has) as usize;
        let (want, least) = next_sizes(old, bytes, size).ok_or(Error::TransactionTooLarge { what })?;
        let end = match self.allocate(start + old, want - old, what) {
            Ok(()) => want,
            Err(_) => {
                self.allocate(start + old, least - old, what)?;
                least
            }
        };
        self.set(has, end as u64);
        Ok(())
    }

    /// Set the first `bytes` of a growing region to zero.
    pub(crate) fn zero(&self, region: Region, bytes: usize) -> Result<()> {
        let (start, size) = region.place();
        let bytes = bytes.min(size);
        // If it can, the filesystem zeroes large regions: no page of them is read.
        if bytes > MIB && in_file(start, bytes).all(|(at, len)| file::zero(&self.file, at, len)) {
            return Ok(());
        }
        for (at, len) in in_file(start, bytes) {
            for word in self.words(at as usize, len as usize / 8) {
                if word.load(Ordering::Relaxed) != 0 {
                    word.store(0, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Ensure that the first `bytes` of a process's pin table have blocks.
    pub(crate) fn ensure_pins(&self, process: usize, bytes: usize) -> Result<()> {
        self.allocate(PINS + process * PINS_SIZE, bytes, "the table of pins")
    }
}

impl Words for Shm {
    #[inline(always)]
    fn value(&self, word: Word) -> u64 {
        self.get(word)
    }
}

/// Return the word with the size of a growing region.
#[inline]
fn size_word(region: Region) -> Word {
    match region {
        Region::Undo => HAS_UNDO,
        Region::Log => HAS_LOG,
        Region::List(i) => HAS_LIST.nth(i),
        Region::FreeMap => HAS_MAP,
        Region::Table => HAS_TABLE,
        Region::Kept => HAS_KEPT,
    }
}

#[cfg(test)]
mod tests;
