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

use crate::error::{Error, Result};
use crate::raw::file::{self, Ofd};
use crate::raw::map::Map;
use std::fs::File;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"prst-shm");
/// Changes with every change of this layout or of what its words mean. A build for tests, whose parts are smaller, has
/// one of its own.
pub(crate) const LAYOUT: u64 = 13 | if cfg!(feature = "testing") { 1 << 32 } else { 0 };

/// Header words, as byte offsets.
pub(crate) mod at {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const LAYOUT: usize = 8;
    /// Written last when the sidecar is made.
    pub(crate) const READY: usize = 16;
    pub(crate) const BOOT: usize = 24;
    pub(crate) const DEV: usize = 32;
    pub(crate) const INO: usize = 40;
    pub(crate) const UUID: usize = 48; // and 56
    pub(crate) const NONCE: usize = 64;

    /// The current epoch.
    pub(crate) const EPOCH: usize = 128;
    /// The last durable checkpoint, and its page table: root page | height << 32, checksum.
    pub(crate) const DURABLE: usize = 136;
    pub(crate) const ROOT: usize = 144;
    pub(crate) const ROOT_SUM: usize = 152;
    /// Checksum of the meta page of the last durable checkpoint.
    pub(crate) const META_SUM: usize = 160;
    /// Physical pages the file has blocks for.
    pub(crate) const FILE_PAGES: usize = 168;
    /// Where the search for a free physical page goes on.
    pub(crate) const CURSOR: usize = 176;
    /// Free physical pages (a hint; recounted at recovery).
    pub(crate) const FREE_COUNT: usize = 184;
    /// Logical pages ever used: entries of the live table that may be read.
    pub(crate) const LOGICAL: usize = 192;
    pub(crate) const NEXT_ID: usize = 200;
    pub(crate) const POISON: usize = 208;
    /// Pages below this were there when the sidecar was made and are not handed out until the free
    /// map is rebuilt; 0: rebuilt.
    pub(crate) const REBUILD_BELOW: usize = 216;
    /// Logical page where the rebuild goes on.
    pub(crate) const REBUILD_AT: usize = 224;
    /// Number of completed changes; a line of its own.
    pub(crate) const CHANGES: usize = 256;

    /// The latch: 0, or thread slot + 1 of its owner. A line of its own.
    pub(crate) const LATCH: usize = 320;
    pub(crate) const LATCH_WAITERS: usize = 328;
    /// The waiter that the latch is reserved for, and the number of the newest ticket (`turn`).
    pub(crate) const LATCH_TURN: usize = 336;
    pub(crate) const LATCH_TICKETS: usize = 344;
    /// The gate's word (`gate`). A line of its own.
    pub(crate) const GATE: usize = 384;
    pub(crate) const GATE_WAITERS: usize = 392;
    /// Changes whenever things may lie elsewhere (`memo`).
    pub(crate) const STRUCTURE: usize = 400;
    /// Thread slots ever used.
    pub(crate) const SLOTS_HIGH: usize = 448;
    /// Process slots ever used.
    pub(crate) const PROCESSES_HIGH: usize = 456;

    /// Threads that ended and could not give back their locks (`slots`); 0: none.
    pub(crate) const ENDED: usize = 464;

    /// Copy-on-write intent (`cow`): state, logical page, old entry, new entry.
    pub(crate) const INTENT: usize = 512;
    pub(crate) const UNDO_LEN: usize = 576;
    /// Whether changes go to the redo log (`redo`): beside the word that every commit stores to.
    pub(crate) const LOG_MODE: usize = 584;

    /// Checkpoint (`checkpoint`): who runs it, phase, and what was taken at the flip.
    pub(crate) const CK_OWNER: usize = 640;
    pub(crate) const CK_PHASE: usize = 648;
    pub(crate) const CK_EPOCH: usize = 656;
    pub(crate) const CK_LOGICAL: usize = 664;
    pub(crate) const CK_NEXT_ID: usize = 672;
    pub(crate) const CK_ROOT: usize = 680;
    pub(crate) const CK_ROOT_SUM: usize = 688;
    /// Entries of the old list whose pages are already free.
    pub(crate) const CK_FREED: usize = 696;
    /// Lengths of the dirty lists, by epoch mod 3.
    pub(crate) const LIST_LEN: usize = 704; // 3 words
    /// Dirty entries of the ended epoch that are data pages (the rest were added by the checkpointer).
    pub(crate) const CK_DIRTY: usize = 728;

    /// Bytes allocated of each growing region.
    pub(crate) const HAS_UNDO: usize = 768;
    pub(crate) const HAS_LIST: usize = 776; // 3 words
    pub(crate) const HAS_MAP: usize = 800;
    pub(crate) const HAS_TABLE: usize = 808;
    /// The strictest durability that anyone who has the store open asked for: 0 none, 1 checkpoints
    /// flush, 2 every commit does.
    pub(crate) const STRICTEST: usize = 816;
    /// 1: the last checkpoint may not have been flushed (nobody present asked for it then).
    pub(crate) const UNFLUSHED: usize = 824;

    /// The snapshot catalogue of the last durable checkpoint: first page | pages << 32, checksum.
    pub(crate) const CATALOGUE: usize = 1024;
    pub(crate) const CATALOGUE_SUM: usize = 1032;
    /// That of the checkpoint being made.
    pub(crate) const CK_CATALOGUE: usize = 1040;
    pub(crate) const CK_CATALOGUE_SUM: usize = 1048;
    /// The checkpoint before the last durable one (while one is being made: the last): its page table and
    /// its catalogue.
    pub(crate) const OLD_ROOT: usize = 1056;
    pub(crate) const OLD_ROOT_SUM: usize = 1064;
    pub(crate) const OLD_CATALOGUE: usize = 1072;
    pub(crate) const OLD_CATALOGUE_SUM: usize = 1080;
    /// What the checkpoint does to the catalogue (`snapshot`): nothing, add, drop.
    pub(crate) const CK_REQUEST: usize = 1088;
    /// The rebuild of the free map: the checkpoint it began at, the last snapshot wholly noted, and the
    /// tree that `REBUILD_AT` lies in.
    pub(crate) const REBUILD_FROM: usize = 1096;
    pub(crate) const REBUILD_DONE: usize = 1104;
    pub(crate) const REBUILD_TREE: usize = 1112;
    /// Redo log, group commit (`redo::group`): the leader; a line of its own.
    pub(crate) const LOG_LEADER: usize = 2048;
    pub(crate) const LOG_WAITERS: usize = 2056;
    pub(crate) const LOG_READY: usize = 2112;
    pub(crate) const LOG_WRITTEN: usize = 2120;
    pub(crate) const LOG_DURABLE: usize = 2128;
    pub(crate) const LOG_HOLD: usize = 2136;
    /// Redo log: end and chain of the committed records, and what they are if the commit under way is one.
    pub(crate) const LOG_END: usize = 2176;
    pub(crate) const LOG_CHAIN: usize = 2184;
    pub(crate) const LOG_NEXT_END: usize = 2192;
    pub(crate) const LOG_NEXT_CHAIN: usize = 2200;
    pub(crate) const LOG_NEXT_READY: usize = 2208;
    /// The generation of the log's file; 0: there is none that can be used.
    pub(crate) const LOG_GENERATION: usize = 2240;
    /// The generation that the newest durable meta page names.
    pub(crate) const LOG_NAMED: usize = 2248;
    /// Where the suffixes begin that the newest durable meta page needs, and the one before it.
    pub(crate) const LOG_NEW: usize = 2256;
    pub(crate) const LOG_OLD: usize = 2264;
    /// 1: what the log holds is still to be put over the checkpoint.
    pub(crate) const LOG_REPLAY: usize = 2272;
    pub(crate) const HAS_LOG: usize = 2280;
    /// What the checkpoint under way took at its flip: its place in the log (3 words), and `LOG_NEW` then.
    pub(crate) const CK_LOG: usize = 2304;
    pub(crate) const CK_LOG_OLD: usize = 2328;

    /// The bound on loss (`helper`): when the first change of an epoch was made, by epoch mod 3 (nanoseconds since
    /// 1970, for figures only).
    pub(crate) const DIRTY_AT: usize = 2560; // 3 words
    /// The shortest `max_age` that a present process asked for, in milliseconds; 0: none has.
    pub(crate) const MAX_AGE: usize = 2584;
    /// The process whose helper makes the checkpoints, as in the latch's word; 0: none. A line of its own.
    pub(crate) const HELPER: usize = 2624;
    /// Helpers sleep on it; it changes with the first change of an epoch and with a demand for a checkpoint.
    pub(crate) const HELP_CALL: usize = 2688;
    /// The dirty list is long or a writer met its end: a checkpoint is due now.
    pub(crate) const HELP_NOW: usize = 2696;
    /// Steps that owners of the checkpoint have made: an owner that makes none for long is stopped.
    pub(crate) const CK_BEAT: usize = 2752;
}

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
fn in_file(at: usize, len: usize) -> impl Iterator<Item = (u64, u64)> {
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
    file: File,
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

impl Shm {
    /// Maps an open sidecar file.
    pub(crate) fn map(file: File) -> Result<Shm> {
        let map = Map::fixed(&file, MAP_LEN)?;
        Ok(Shm { map, file, nonce: 0 })
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
        let len = file_length(&shm.file)?;
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
                what: "the sidecar, which somebody else has locked",
            }),
        }
    }

    /// Whether anybody has it in use.
    pub(crate) fn is_in_use(&self) -> Result<bool> {
        file::ofd_is_held(&self.file, BYTE_IN_USE, Ofd::Exclusive)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
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

    /// Makes sure that the first `bytes` of a process's pin table have blocks.
    pub(crate) fn ensure_pins(&self, process: usize, bytes: usize) -> Result<()> {
        self.allocate(PINS + process * PINS_SIZE, bytes, "the table of pins")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte of a region has one place in the file, none has two, and the places follow each other.
    #[test]
    fn the_pieces_tile_the_regions_and_the_file() {
        let mut next = FIXED_END as u64;
        for p in &PIECES {
            assert_eq!(p.file, next);
            assert!(p.len > 0 && p.len.is_multiple_of(4096) && p.at.is_multiple_of(4096));
            next += p.len as u64;
        }
        for (start, size) in REGIONS {
            let mut inside: Vec<_> = PIECES
                .iter()
                .filter(|p| (start..start + size).contains(&p.at))
                .collect();
            inside.sort_by_key(|p| p.at);
            let mut at = start;
            for p in inside {
                assert_eq!(p.at, at);
                at += p.len;
            }
            assert_eq!(at, start + size);
            assert_eq!(in_file(start, size).map(|(_, n)| n).sum::<u64>(), size as u64);
        }
        assert_eq!(next, MAP_LEN as u64);
        // A small store's sidecar is a short file.
        assert!(PIECES[7].file < 16 << 20);
    }

    /// However a region grows, it ends inside its size, and what is asked for fits or is refused.
    #[test]
    fn no_region_grows_past_its_size() {
        let size = 1 << 20;
        for step in [8, 24, 4096, 5000, 16 << 10, 100_000, size] {
            let (mut has, mut bytes) = (0, 0);
            loop {
                bytes += step;
                if bytes <= has {
                    continue;
                }
                let Some((want, least)) = next_sizes(has, bytes, size) else {
                    assert!(bytes > size, "{bytes} bytes are refused");
                    break;
                };
                assert!(
                    bytes <= least && least <= want && want <= size,
                    "{has} {bytes}: {want} {least}"
                );
                assert!(want.is_multiple_of(4096) && least.is_multiple_of(4096));
                has = if bytes % 3 == 0 { least } else { want };
            }
        }
        for (start, size) in REGIONS {
            assert!(start.is_multiple_of(4096) && size.is_multiple_of(4096));
            assert!(
                REGIONS
                    .iter()
                    .all(|(other, _)| *other <= start || *other >= start + size)
            );
        }
    }

    /// The regions of the sidecar of this build, filled to the last byte: it is taken for whole at every moment.
    #[test]
    fn a_full_region_is_one_that_others_can_map() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(dir.path().join("a-shm")).unwrap()
        };
        let shm = Shm::map(open()).unwrap();
        shm.allocate_fixed().unwrap();
        for region in [
            Region::Undo,
            Region::List(0),
            Region::List(1),
            Region::List(2),
            Region::Log,
        ] {
            let (_, size) = region.place();
            let size = size.min(16 << 20);
            for bytes in (size / 64..=size).step_by(size / 64) {
                shm.ensure(region, bytes).unwrap();
                assert!(
                    Shm::map_checked(open()).unwrap().is_some(),
                    "{} {bytes}",
                    region.name()
                );
            }
            let past = shm.ensure(region, region.place().1 + 8);
            assert!(matches!(past, Err(Error::TransactionTooLarge { .. })), "{past:?}");
        }
    }

    /// A place in a region leads to the byte of the file that its piece says.
    #[test]
    fn a_cell_is_where_its_piece_is() {
        fn check<const START: usize>(size: usize) {
            let parts = Parts::of(START);
            for offset in [0, 8, 4096, parts.len - 8, parts.len, parts.len + 8, size - 8] {
                if offset < size {
                    let (file, _) = in_file(START + offset, 8).next().unwrap();
                    assert_eq!(parts.place(offset) as u64, file, "{START:#x} + {offset:#x}");
                }
            }
        }
        check::<PINS>(REGIONS[0].1);
        check::<UNDO>(REGIONS[1].1);
        check::<LISTS>(LIST_SIZE);
        check::<{ LISTS + LIST_STEP }>(LIST_SIZE);
        check::<{ LISTS + 2 * LIST_STEP }>(LIST_SIZE);
        check::<FREEMAP>(REGIONS[5].1);
        check::<TABLE>(REGIONS[6].1);
        check::<LOG>(LOG_SIZE);
        let dir = tempfile::tempdir().unwrap();
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let shm = Shm::map(options.open(dir.path().join("a-shm")).unwrap()).unwrap();
        shm.allocate_fixed().unwrap();
        let edge = Parts::of(UNDO).len;
        shm.ensure(Region::Undo, edge + 4096).unwrap();
        for from in [edge - 64, edge - 32, edge - 8, edge, edge + 8] {
            let (first, rest) = shm.cells::<UNDO>(from, 8);
            assert_eq!(first.len() + rest.len(), 8);
            for (i, word) in first.iter().chain(rest).enumerate() {
                assert!(std::ptr::eq(word, shm.cell::<UNDO>(from + 8 * i)));
            }
        }
    }

    /// One that grows at this moment is not taken for one that was cut short.
    #[test]
    fn whoever_maps_it_meanwhile_lets_it_grow() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let file = || {
                let mut options = File::options();
                options.read(true).write(true).create(true).truncate(false);
                options.open(dir.path().join(round.to_string())).unwrap()
            };
            let shm = Shm::map(file()).unwrap();
            shm.allocate_fixed().unwrap();
            std::thread::scope(|s| {
                let grower = s.spawn(|| {
                    for bytes in (16 << 10..1 << 20).step_by(16 << 10) {
                        for region in [Region::Undo, Region::List(0), Region::List(1), Region::Table] {
                            shm.ensure(region, bytes).unwrap();
                        }
                    }
                });
                while !grower.is_finished() {
                    assert!(Shm::map_checked(file()).unwrap().is_some());
                }
            });
        }
    }
}
