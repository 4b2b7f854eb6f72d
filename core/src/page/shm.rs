//! The sidecar `FILE-shm`: the shared, volatile memory of everyone who has the store open.
//!
//! A region has a place in an address space of its own (the table below), as if it had its full size. In the
//! file, and in the one mapping of it, the regions are interleaved, so that a small sidecar is a short file (which a
//! limit of file sizes may ask for): first the fixed part, then the beginning of every region, then the rest of each
//! (`ORDER`). An index in a region lies in one part or the other: one comparison (`cell`). Blocks are allocated
//! (`fallocate`) before a region is used further. So the file's apparent size is some 14 MiB, its real size a few
//! MiB plus 8 bytes a page of the store.
//!
//! | PLACE | SIZE | REGION |
//! | --- | --- | --- |
//! | 0 | 4 KiB | header words, below |
//! | 0x1000 | 4 KiB | image of the meta page being written |
//! | 0x2000 | 64 KiB | thread slots: 1024 of 64 bytes |
//! | 0x12000 | 8 KiB | process slots: 128 of 64 bytes |
//! | 0x14000 | 4 KiB | containers changed by the open transaction: 4096 bits |
//! | 0x15000 | 16 KiB | lock manager: counters of buckets, u32 |
//! | 0x19000 | 4 KiB | lock manager: wait signals, u32 |
//! | 0x1a000 | 4 KiB | the snapshot that a checkpoint is to add or drop (`snapshot`) |
//! | 0x1b000 | 4 KiB | dropped snapshots whose pages are being freed: 64 of 64 bytes (`dropped`) |
//! | 0x20000 | 2 MiB | lock manager: its table; here the fixed part ends |
//! | 0x400000 | 128 x 1 MiB | pins, per process: open addressing of object ids |
//! | 0x900_0000 | 8 MiB | redo log: its ring, as it is or will be in `FILE-wal` |
//! | 0x1000_0000 | 256 MiB | undo log |
//! | 0x2000_0000 | 3 x 96 MiB | dirty lists of epoch mod 3: entries of 24 bytes |
//! | 0x4000_0000 | 32 MiB | free map: one bit per physical page, 1 = in use |
//! | 0x4800_0000 | 2 GiB | live page table: one word per logical page |

pub(crate) use super::at;
use crate::error::{Error, Result};
use crate::raw::file::{self, Ofd};
use crate::raw::held::{self, Descriptor, Held, Using};
use crate::raw::map::{Map, Windows};
use std::fs::File;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"prst-shm");
/// Changes with every change of this layout or of what its words mean. A build for tests, whose parts are smaller, has
/// one of its own.
pub(crate) const LAYOUT: u64 = 20 | if cfg!(feature = "testing") { 1 << 32 } else { 0 };

/// The last layout whose sidecars have no signature.
pub(crate) const LAST_UNSIGNED: u32 = 15;
/// What `at::LOG_REPLAY` holds while the log is still to be put over the checkpoint.
pub(crate) const REPLAY: u64 = u64::from_le_bytes(*b"replay..");

pub(crate) const META_IMAGE: usize = 0x1000;
pub(crate) const THREADS: usize = 0x2000;
pub(crate) const THREAD_SLOTS: usize = 1024;
pub(crate) const PROCESSES: usize = 0x12000;
pub(crate) const PROCESS_SLOTS: usize = 128;
pub(crate) const MARKS: usize = 0x14000;
pub(crate) const MARK_WORDS: usize = 64;
pub(crate) const LOCK_COUNTERS: usize = 0x15000;
pub(crate) const LOCK_COUNTER_COUNT: usize = 4096;
pub(crate) const LOCK_SIGNALS: usize = 0x19000;
pub(crate) const LOCK_SIGNAL_COUNT: usize = 1024;
pub(crate) const REQUEST: usize = 0x1a000;
pub(crate) const DROPPED: usize = 0x1b000;
pub(crate) const DROPPED_SLOTS: usize = 64;
pub(crate) const LOCKS: usize = 0x20000;
pub(crate) const LOCK_WORDS: usize = 0x20_0000 / 8;
const FIXED_END: usize = LOCKS + LOCK_WORDS * 8;
pub(crate) const PINS: usize = 0x40_0000;
pub(crate) const PINS_SIZE: usize = 0x10_0000;
pub(crate) const LOG: usize = 0x900_0000;
pub(crate) const LOG_SIZE: usize = 0x80_0000;
pub(crate) const UNDO: usize = 0x1000_0000;
/// Small in tests, as the dirty lists are, so that transactions reach the bounds.
pub(crate) const UNDO_SIZE: usize = if cfg!(feature = "testing") {
    8 * MIB
} else {
    256 * MIB
};
pub(crate) const LISTS: usize = 0x2000_0000;
/// Where one dirty list begins after the other.
pub(crate) const LIST_STEP: usize = 0x600_0000;
pub(crate) const LIST_SIZE: usize = if cfg!(feature = "testing") { MIB } else { LIST_STEP };
pub(crate) const FREEMAP: usize = 0x4000_0000;
pub(crate) const TABLE: usize = 0x4800_0000;
/// Most pages a store can have, logical or physical: 1 TiB.
pub(crate) const MAX_PAGES: u64 = 1 << 28;

/// The regions behind the fixed part: place and size.
const REGIONS: [(usize, usize); 8] = [
    (PINS, PINS_SIZE * PROCESS_SLOTS),
    (UNDO, UNDO_SIZE),
    (LISTS, LIST_SIZE),
    (LISTS + LIST_STEP, LIST_SIZE),
    (LISTS + 2 * LIST_STEP, LIST_SIZE),
    (FREEMAP, MAX_PAGES as usize / 8),
    (TABLE, MAX_PAGES as usize * 8),
    (LOG, LOG_SIZE),
];
const MIB: usize = 1 << 20;
/// The beginning of a dirty list that lies in the file before the rest of it.
const LIST_FIRST: usize = if cfg!(feature = "testing") {
    MIB / 2
} else {
    2 * MIB
};
/// Everything behind the fixed part in the file's order: place and length. First what a store of up to half
/// a GiB needs, then the rest of each.
const ORDER: [(usize, usize); 15] = [
    (PINS, MIB),
    (UNDO, 4 * MIB),
    (LISTS, LIST_FIRST),
    (LISTS + LIST_STEP, LIST_FIRST),
    (LISTS + 2 * LIST_STEP, LIST_FIRST),
    (FREEMAP, MIB / 4),
    (TABLE, MIB),
    (LOG, LOG_SIZE),
    (PINS + MIB, PINS_SIZE * PROCESS_SLOTS - MIB),
    (TABLE + MIB, MAX_PAGES as usize * 8 - MIB),
    (FREEMAP + MIB / 4, MAX_PAGES as usize / 8 - MIB / 4),
    (UNDO + 4 * MIB, UNDO_SIZE - 4 * MIB),
    (LISTS + LIST_FIRST, LIST_SIZE - LIST_FIRST),
    (LISTS + LIST_STEP + LIST_FIRST, LIST_SIZE - LIST_FIRST),
    (LISTS + 2 * LIST_STEP + LIST_FIRST, LIST_SIZE - LIST_FIRST),
];
const PIECES: [Piece; ORDER.len()] = pieces();
/// Length of the file, and of its mapping, if every region had its full size.
const MAP_LEN: usize = PIECES[PIECES.len() - 1].file as usize + PIECES[PIECES.len() - 1].len;

/// A part of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    /// Where it is in the address space of the regions.
    at: usize,
    /// Where it is in the file.
    file: u64,
    len: usize,
}

/// Where the two parts of a region lie in the file.
#[derive(Clone, Copy)]
struct Parts {
    first: usize,
    len: usize,
    rest: usize,
}

impl Parts {
    /// Those of the region that begins here.
    const fn of(start: usize) -> Parts {
        let (mut first, mut len, mut i) = (0, 0, 0);
        while i < PIECES.len() {
            if PIECES[i].at == start {
                (first, len) = (PIECES[i].file as usize, PIECES[i].len);
            }
            i += 1;
        }
        let (mut rest, mut i) = (MAP_LEN, 0);
        while i < PIECES.len() {
            if PIECES[i].at == start + len {
                rest = PIECES[i].file as usize;
            }
            i += 1;
        }
        assert!(first != 0, "a region begins here");
        Parts { first, len, rest }
    }

    /// The place in the file of a byte of the region.
    #[inline(always)]
    const fn place(self, offset: usize) -> usize {
        if offset < self.len {
            self.first + offset
        } else {
            self.rest + (offset - self.len)
        }
    }
}

const fn pieces() -> [Piece; ORDER.len()] {
    let none = Piece {
        at: 0,
        file: 0,
        len: 0,
    };
    let mut all = [none; ORDER.len()];
    let (mut i, mut file) = (0, FIXED_END as u64);
    while i < ORDER.len() {
        let (at, len) = ORDER[i];
        all[i] = Piece { at, file, len };
        file += len as u64;
        i += 1;
    }
    all
}

fn file_length(file: &File) -> Result<u64> {
    let metadata = file.metadata();
    Ok(metadata.map_err(|e| Error::io("fstat of the sidecar", e))?.len())
}

/// The parts of the file that a range of the regions, behind the fixed part, lies in: offset and length.
pub(super) fn in_file(at: usize, len: usize) -> impl Iterator<Item = (u64, u64)> {
    PIECES.iter().filter_map(move |p| {
        let (from, to) = (at.max(p.at), (at + len).min(p.at + p.len));
        (from < to).then(|| (p.file + (from - p.at) as u64, (to - from) as u64))
    })
}

/// Locked shared by everyone who uses this sidecar. Beyond its end.
const BYTE_IN_USE: u64 = 1 << 62;

/// The mapped sidecar.
#[derive(Debug)]
pub(crate) struct Shm {
    map: Map,
    file: Held,
    /// What the header said when it was mapped: the sidecar of this session of the store.
    nonce: u64,
}

/// A region that grows.
#[derive(Clone, Copy)]
pub(crate) enum Region {
    Undo,
    Log,
    List(usize),
    FreeMap,
    Table,
}

impl Region {
    /// Its place in the mapping, and the size that it never grows past.
    const fn place(self) -> (usize, usize) {
        match self {
            Region::Undo => REGIONS[1],
            Region::List(i) => REGIONS[2 + i],
            Region::FreeMap => REGIONS[5],
            Region::Table => REGIONS[6],
            Region::Log => REGIONS[7],
        }
    }

    /// For messages.
    const fn name(self) -> &'static str {
        match self {
            Region::Undo => "the undo log",
            Region::Log => "the redo log in the sidecar",
            Region::List(_) => "the dirty list",
            Region::FreeMap => "the free map",
            Region::Table => "the live page table",
        }
    }
}

/// The sizes that a region of `old` bytes can grow to so that it holds `bytes`: the one that makes growth rare
/// (by half, in whole 16 KiB), and the least. None if the region's `size` is less than `bytes`. What lies behind a
/// region in the mapping and in the file is another one's.
fn next_sizes(old: usize, bytes: usize, size: usize) -> Option<(usize, usize)> {
    let most = |n: usize| n.min(size);
    (old < bytes && bytes <= size).then(|| {
        (
            most(bytes.max(old + old / 2).next_multiple_of(16 * 1024)),
            most(bytes.next_multiple_of(4096)),
        )
    })
}

/// Whether anybody has a sidecar's file in use.
pub(super) fn is_file_in_use(side: &impl Descriptor) -> Result<bool> {
    file::ofd_is_held(side, BYTE_IN_USE, Ofd::Exclusive)
}

impl Shm {
    /// Maps an open sidecar file.
    pub(crate) fn map(file: File) -> Result<Shm> {
        let map = Map::fixed(&file, MAP_LEN)?;
        Ok(Shm {
            map,
            file: Held::new(file),
            nonce: 0,
        })
    }

    /// Maps a sidecar that is there already; None if it is too short to be one.
    pub(crate) fn map_checked(file: File) -> Result<Option<Shm>> {
        if file_length(&file)? < FIXED_END as u64 {
            return Ok(None);
        }
        let mut shm = Shm::map(file)?;
        shm.nonce = shm.get(at::NONCE);
        let regions = [
            (at::HAS_UNDO, REGIONS[1]),
            (at::HAS_LIST, REGIONS[2]),
            (at::HAS_LIST + 8, REGIONS[3]),
            (at::HAS_LIST + 16, REGIONS[4]),
            (at::HAS_MAP, REGIONS[5]),
            (at::HAS_TABLE, REGIONS[6]),
            (at::HAS_LOG, REGIONS[7]),
        ]
        .map(|(has, region)| (shm.word(has).load(Ordering::SeqCst), region));
        // Asked after them: others make it grow, the file first and then the word.
        let len = file_length(&*shm.file()?)?;
        let whole = regions.iter().all(|(has, (start, size))| {
            *has <= *size as u64 && in_file(*start, *has as usize).all(|(at, n)| at + n <= len)
        });
        Ok(whole.then_some(shm))
    }

    /// Length of a sidecar's file that holds the live table of so many logical pages.
    pub(crate) fn length_for(logical: u64) -> u64 {
        in_file(TABLE, logical as usize * 8)
            .map(|(at, len)| at + len)
            .fold(FIXED_END as u64, u64::max)
    }

    /// Names this session of the store, when the sidecar is made.
    pub(crate) fn name_session(&mut self, nonce: u64) {
        self.nonce = nonce;
        self.set(at::NONCE, nonce);
    }

    /// Whether it is still the sidecar that was mapped: one that was cut short and has grown again shows
    /// zeros. For whoever is about to do what cannot be undone.
    pub(crate) fn is_itself(&self) -> bool {
        self.get(at::NONCE) == self.nonce && self.get(at::MAGIC) == MAGIC
    }

    /// Keeps the windows of the mapping as they are.
    pub(crate) fn hold_windows(&self) -> Windows<'_> {
        self.map.hold()
    }

    /// The first access that the sidecar's file could not answer, if there was one: what it was about, and
    /// its place in the file.
    pub(crate) fn fault(&self) -> Option<(&'static str, u64)> {
        let file = self.map.fault()?;
        let piece = PIECES
            .iter()
            .find(|p| (p.file..p.file + p.len as u64).contains(&(file as u64)));
        let what = match piece.map_or(0, |p| p.at) {
            ..PINS => "the fixed part of the sidecar",
            PINS..LOG => "a table of pins in the sidecar",
            LOG..UNDO => "the redo log in the sidecar",
            UNDO..LISTS => "the undo log in the sidecar",
            LISTS..FREEMAP => "a dirty list in the sidecar",
            FREEMAP..TABLE => "the free map in the sidecar",
            TABLE.. => "the live page table in the sidecar",
        };
        Some((what, file as u64))
    }

    /// Says that the sidecar is in use: a lock that is held by the file given back.
    pub(crate) fn lock_in_use(&self) -> Result<File> {
        let file = file::reopen(&self.file, true).map_err(|e| Error::io("cannot reopen the sidecar", e))?;
        match file::ofd_lock(&file, BYTE_IN_USE, Ofd::Shared)? {
            true => Ok(file),
            false => Err(Error::WouldBlock {
                what: "the sidecar, which another process has locked",
            }),
        }
    }

    /// Whether anybody has it in use.
    pub(crate) fn is_in_use(&self) -> Result<bool> {
        is_file_in_use(&self.file)
    }

    /// An error if the program has closed the sidecar's descriptor.
    pub(crate) fn has_its_file(&self, what: &str) -> Result<()> {
        held::ours(&self.file, what).map(|_| ())
    }

    pub(crate) fn file(&self) -> Result<Using<'_>> {
        self.file.using()
    }

    /// Gives mapping and descriptor back: all words are zeros from now on, and nobody else's.
    pub(crate) fn retire(&self) -> Result<()> {
        self.map.retire()?;
        self.file.retire();
        Ok(())
    }

    fn allocate(&self, at: usize, len: usize, what: &'static str) -> Result<()> {
        in_file(at, len).try_for_each(|(at, len)| file::allocate(&self.file, at, len, what))
    }

    /// Gives a new sidecar its fixed regions.
    pub(crate) fn allocate_fixed(&self) -> Result<()> {
        file::allocate(&self.file, 0, FIXED_END as u64, "the sidecar")
    }

    /// A header word.
    #[inline]
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        self.map.word(at)
    }

    /// Loads a header word.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> u64 {
        self.map.word(at).load(Ordering::Acquire)
    }

    /// Stores a header word.
    #[inline]
    pub(crate) fn set(&self, at: usize, value: u64) {
        self.map.word(at).store(value, Ordering::Release);
    }

    /// A futex word.
    #[inline]
    pub(crate) fn word32(&self, at: usize) -> &AtomicU32 {
        self.map.word32(at)
    }

    /// Words of a fixed region.
    #[inline]
    pub(crate) fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        self.map.words(at, count)
    }

    /// 32-bit words of a fixed region.
    pub(crate) fn words32(&self, at: usize, count: usize) -> &[AtomicU32] {
        self.map.words32(at, count)
    }

    /// A word of the region that begins at `START`.
    #[inline]
    pub(crate) fn cell<const START: usize>(&self, offset: usize) -> &AtomicU64 {
        self.map.word(const { Parts::of(START) }.place(offset))
    }

    /// `count` words of the region that begins at `START`: those in its first part, and those in the rest of it.
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

    /// A word of a dirty list.
    #[inline]
    pub(crate) fn list_cell(&self, list: usize, offset: usize) -> &AtomicU64 {
        match list {
            0 => self.cell::<LISTS>(offset),
            1 => self.cell::<{ LISTS + LIST_STEP }>(offset),
            _ => self.cell::<{ LISTS + 2 * LIST_STEP }>(offset),
        }
    }

    /// The first words of a process's pin table.
    pub(crate) fn pin_table(&self, process: usize, count: usize) -> &[AtomicU64] {
        const {
            assert!(
                Parts::of(PINS).len.is_multiple_of(PINS_SIZE),
                "no table is in both parts"
            )
        };
        let at = const { Parts::of(PINS) }.place(process * PINS_SIZE);
        self.map.words(at, count.min(PINS_SIZE / 8))
    }

    /// The live page table's entry of a logical page. The page is below `at::LOGICAL`.
    #[inline]
    pub(crate) fn entry(&self, page: u64) -> &AtomicU64 {
        self.cell::<TABLE>(page as usize * 8)
    }

    /// Empties the live table, and makes room for one of so many logical pages. Of a sidecar in memory, with no section
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

    /// Makes sure that `bytes` of a growing region have blocks. Called under the latch (or, for
    /// lists of an ended epoch, by the checkpointer).
    #[inline]
    pub(crate) fn ensure(&self, region: Region, bytes: usize) -> Result<()> {
        let has = match region {
            Region::Undo => at::HAS_UNDO,
            Region::Log => at::HAS_LOG,
            Region::List(i) => at::HAS_LIST + 8 * i,
            Region::FreeMap => at::HAS_MAP,
            Region::Table => at::HAS_TABLE,
        };
        if bytes as u64 <= self.get(has) {
            return Ok(());
        }
        self.grow(region, has, bytes)
    }

    #[cold]
    fn grow(&self, region: Region, has: usize, bytes: usize) -> Result<()> {
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

    /// Makes the first `bytes` of a growing region zeros.
    pub(crate) fn zero(&self, region: Region, bytes: usize) -> Result<()> {
        let (start, size) = region.place();
        let bytes = bytes.min(size);
        // Large ones by the filesystem, if it can: no page of it is read.
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

    /// Makes sure that the first `bytes` of a process's pin table have blocks.
    pub(crate) fn ensure_pins(&self, process: usize, bytes: usize) -> Result<()> {
        self.allocate(PINS + process * PINS_SIZE, bytes, "the table of pins")
    }
}

#[cfg(test)]
mod tests;
