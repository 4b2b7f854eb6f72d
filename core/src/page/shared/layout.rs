//! The layout of the sidecar `FILE-shm`: places and sizes of its regions, and where they lie in the file.
//!
//! A region has a place in an address space of its own (the table below), as if it had its full size. In the file, and
//! in its one mapping, the regions are interleaved so that a small sidecar is a short file, as a limit on file sizes
//! may require. The file holds the fixed part first, then the beginning of every region, then the rest of each
//! (`ORDER`). An index in a region lies in one part or the other, which takes one comparison (`Parts::place`). The
//! file's apparent size is about 13 MiB; its real size is a few MiB plus 8 bytes a page of the store.
//!
//! | PLACE | SIZE | REGION |
//! | --- | --- | --- |
//! | 0 | 4 KiB | header words (`word`) |
//! | 0x1000 | 4 KiB | image of the meta page being written |
//! | 0x2000 | 64 KiB | thread slots: 1024 of 64 bytes |
//! | 0x12000 | 8 KiB | process slots: 128 of 64 bytes |
//! | 0x14000 | 4 KiB | containers changed by the open transaction: 4096 bits (`dirty_set`) |
//! | 0x15000 | 16 KiB | lock manager: counters of buckets, u32 |
//! | 0x19000 | 4 KiB | lock manager: wait signals, u32 |
//! | 0x1a000 | 4 KiB | the snapshot that a checkpoint is to add or drop (`checkpoint::snapshot`) |
//! | 0x1b000 | 4 KiB | dropped snapshots whose pages are being freed: 64 of 64 bytes (`pages::dropped_slots`) |
//! | 0x1c000 | 16 KiB | leases: a word for each bucket of each holder (`leases`) |
//! | 0x20000 | 2 MiB | lock manager: its table |
//! | 0x220000 | 384 KiB | change feed: sets of watchers, ring (`regions::feed`) |
//! | 0x280000 | 4 KiB | views of a moment: 64 of 64 bytes (`regions::views`) |
//! | 0x281000 | 128 KiB | pages copied since the newest view: 8192 of 16 bytes; here the fixed part ends |
//! | 0x400000 | 128 x 1 MiB | pins, per process: open addressing of object ids |
//! | 0x900_0000 | 8 MiB | redo log: its ring, as it is or will be in `FILE-wal` |
//! | 0x1000_0000 | 256 MiB | undo log |
//! | 0x2000_0000 | 3 x 96 MiB | dirty lists of epoch mod 3: entries of 24 bytes |
//! | 0x3800_0000 | 96 MiB | pages kept for views: a ring of entries of 24 bytes (`regions::views`) |
//! | 0x4000_0000 | 32 MiB | free map: one bit per physical page, 1 = in use |
//! | 0x4800_0000 | 2 GiB | live page table: one word per logical page |

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"prst-shm");
/// Changes with every change of this layout or of the meaning of its words. A test build, whose parts are smaller, has
/// its own number.
pub(crate) const LAYOUT: u64 = 28 | if cfg!(feature = "testing") { 1 << 32 } else { 0 };

/// The last layout whose sidecars have no signature.
pub(crate) const LAST_UNSIGNED: u32 = 15;
/// The words before this offset identify the sidecar, and keep their place and meaning in all layouts.
pub(in crate::page) const IDENTITY_END: usize = 128;

pub(crate) const META_IMAGE: usize = 0x1000;
/// Length of the header words and of the image.
pub(in crate::page) const HEADER: usize = META_IMAGE + 0x1000;
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
pub(crate) const LEASES: usize = 0x1c000;
pub(crate) const LEASE_HOLDERS: usize = 2;
pub(crate) const LEASE_BUCKETS: usize = 1024;
pub(crate) const LOCKS: usize = 0x20000;
pub(crate) const LOCK_WORDS: usize = 0x20_0000 / 8;
pub(crate) const FEED: usize = LOCKS + LOCK_WORDS * 8;
pub(crate) const VIEWS: usize = FEED + 0x6_0000;
pub(crate) const VIEW_SLOTS: usize = 64;
pub(crate) const COPIED: usize = VIEWS + VIEW_SLOTS * 64;
pub(crate) const COPIED_SLOTS: usize = if cfg!(feature = "testing") { 256 } else { 8192 };
pub(super) const FIXED_END: usize = COPIED + COPIED_SLOTS * 16;
pub(crate) const PINS: usize = 0x40_0000;
pub(crate) const PINS_SIZE: usize = 0x10_0000;
pub(crate) const LOG: usize = 0x900_0000;
pub(crate) const LOG_SIZE: usize = 0x80_0000;
pub(crate) const UNDO: usize = 0x1000_0000;
/// Small in tests, as the dirty lists are, so that transactions reach the limits.
pub(crate) const UNDO_SIZE: usize = if cfg!(feature = "testing") {
    8 * MIB
} else {
    256 * MIB
};
pub(crate) const LISTS: usize = 0x2000_0000;
/// Distance between the beginnings of two dirty lists.
pub(crate) const LIST_STEP: usize = 0x600_0000;
pub(crate) const LIST_SIZE: usize = if cfg!(feature = "testing") { MIB } else { LIST_STEP };
pub(crate) const KEPT: usize = 0x3800_0000;
/// Small in tests, so that they reach the bound.
pub(crate) const KEPT_SIZE: usize = if cfg!(feature = "testing") {
    24 * 4096
} else {
    LIST_STEP
};
pub(crate) const FREEMAP: usize = 0x4000_0000;
pub(crate) const TABLE: usize = 0x4800_0000;
/// Largest number of pages of a store, logical or physical: 1 TiB.
pub(crate) const MAX_PAGES: u64 = 1 << 28;

/// The regions after the fixed part: place and size.
pub(super) const REGIONS: [(usize, usize); 9] = [
    (PINS, PINS_SIZE * PROCESS_SLOTS),
    (UNDO, UNDO_SIZE),
    (LISTS, LIST_SIZE),
    (LISTS + LIST_STEP, LIST_SIZE),
    (LISTS + 2 * LIST_STEP, LIST_SIZE),
    (FREEMAP, MAX_PAGES as usize / 8),
    (TABLE, MAX_PAGES as usize * 8),
    (LOG, LOG_SIZE),
    (KEPT, KEPT_SIZE),
];
pub(super) const MIB: usize = 1 << 20;
/// Length of the beginning of a dirty list, which lies in the file before the rest.
const LIST_FIRST: usize = if cfg!(feature = "testing") {
    MIB / 2
} else {
    2 * MIB
};
/// Length of the beginning of the pages kept for views, which lies in the file before the rest.
const KEPT_FIRST: usize = 24 * 2048;
/// Everything after the fixed part in the order of the file: place and length. First the parts that a store of up to
/// half a GiB needs, then the rest of each region.
const ORDER: [(usize, usize); 17] = [
    (PINS, MIB),
    (UNDO, 4 * MIB),
    (LISTS, LIST_FIRST),
    (LISTS + LIST_STEP, LIST_FIRST),
    (LISTS + 2 * LIST_STEP, LIST_FIRST),
    (FREEMAP, MIB / 4),
    (TABLE, MIB),
    (LOG, LOG_SIZE),
    (KEPT, KEPT_FIRST),
    (PINS + MIB, PINS_SIZE * PROCESS_SLOTS - MIB),
    (TABLE + MIB, MAX_PAGES as usize * 8 - MIB),
    (FREEMAP + MIB / 4, MAX_PAGES as usize / 8 - MIB / 4),
    (UNDO + 4 * MIB, UNDO_SIZE - 4 * MIB),
    (LISTS + LIST_FIRST, LIST_SIZE - LIST_FIRST),
    (LISTS + LIST_STEP + LIST_FIRST, LIST_SIZE - LIST_FIRST),
    (LISTS + 2 * LIST_STEP + LIST_FIRST, LIST_SIZE - LIST_FIRST),
    (KEPT + KEPT_FIRST, KEPT_SIZE - KEPT_FIRST),
];
const PIECES: [Piece; ORDER.len()] = pieces();
/// Length of the file, and of its mapping, if every region had its full size.
pub(super) const MAP_LEN: usize = PIECES[PIECES.len() - 1].file as usize + PIECES[PIECES.len() - 1].len;

/// A part of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    /// Its place in the address space of the regions.
    pub(in crate::page) at: usize,
    /// Its place in the file.
    pub(in crate::page) file: u64,
    pub(in crate::page) len: usize,
}

/// Where the two parts of a region lie in the file.
#[derive(Clone, Copy)]
pub(in crate::page) struct Parts {
    pub(in crate::page) first: usize,
    pub(in crate::page) len: usize,
    rest: usize,
}

impl Parts {
    /// Return the parts of the region that begins at `start`.
    pub(in crate::page) const fn of(start: usize) -> Parts {
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

    /// Return the place in the file of a byte of the region.
    #[inline(always)]
    pub(in crate::page) const fn place(self, offset: usize) -> usize {
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

/// Return the parts of the file, as offset and length, that hold a range of the regions after the fixed part.
pub(in crate::page) fn in_file(at: usize, len: usize) -> impl Iterator<Item = (u64, u64)> {
    PIECES.iter().filter_map(move |p| {
        let (from, to) = (at.max(p.at), (at + len).min(p.at + p.len));
        (from < to).then(|| (p.file + (from - p.at) as u64, (to - from) as u64))
    })
}

/// Return all parts of a sidecar of full length, in the order of the file: the name, the place in the file and the
/// length, for tests that damage it. A region in two pieces has two parts.
#[cfg(feature = "testing")]
#[must_use]
pub fn file_parts() -> Vec<(&'static str, u64, u64)> {
    const FIXED: [(&str, usize); 14] = [
        ("header", 0),
        ("meta image", META_IMAGE),
        ("thread slots", THREADS),
        ("process slots", PROCESSES),
        ("marks", MARKS),
        ("lock counters", LOCK_COUNTERS),
        ("lock signals", LOCK_SIGNALS),
        ("request", REQUEST),
        ("dropped", DROPPED),
        ("leases", LEASES),
        ("locks", LOCKS),
        ("feed", FEED),
        ("views", VIEWS),
        ("copied", COPIED),
    ];
    const NAMES: [(&str, usize); REGIONS.len()] = [
        ("pins", PINS),
        ("undo", UNDO),
        ("list 0", LISTS),
        ("list 1", LISTS + LIST_STEP),
        ("list 2", LISTS + 2 * LIST_STEP),
        ("free map", FREEMAP),
        ("table", TABLE),
        ("log", LOG),
        ("kept", KEPT),
    ];
    let ends = FIXED[1..].iter().map(|(_, at)| *at).chain([FIXED_END]);
    let fixed = FIXED.iter().zip(ends);
    let mut all: Vec<_> = fixed
        .map(|((name, at), end)| (*name, *at as u64, (end - at) as u64))
        .collect();
    for p in &PIECES {
        let name = NAMES
            .iter()
            .filter(|(_, at)| *at <= p.at)
            .max_by_key(|(_, at)| *at);
        all.push((name.map_or("", |n| n.0), p.file, p.len as u64));
    }
    all
}

/// Return the name of the region that a byte of the file belongs to, for messages.
pub(super) fn region_name(file: u64) -> &'static str {
    let piece = PIECES
        .iter()
        .find(|p| (p.file..p.file + p.len as u64).contains(&file));
    match piece.map_or(0, |p| p.at) {
        ..PINS => "the fixed part of the sidecar",
        PINS..LOG => "a table of pins in the sidecar",
        LOG..UNDO => "the redo log in the sidecar",
        UNDO..LISTS => "the undo log in the sidecar",
        LISTS..KEPT => "a dirty list in the sidecar",
        KEPT..FREEMAP => "the pages kept for views in the sidecar",
        FREEMAP..TABLE => "the free map in the sidecar",
        TABLE.. => "the live page table in the sidecar",
    }
}

/// A region that grows.
#[derive(Clone, Copy)]
pub(crate) enum Region {
    Undo,
    Log,
    List(usize),
    FreeMap,
    Table,
    Kept,
}

impl Region {
    /// Return its place in the mapping, and its maximum size.
    pub(in crate::page) const fn place(self) -> (usize, usize) {
        match self {
            Region::Undo => REGIONS[1],
            Region::List(i) => REGIONS[2 + i],
            Region::FreeMap => REGIONS[5],
            Region::Table => REGIONS[6],
            Region::Log => REGIONS[7],
            Region::Kept => REGIONS[8],
        }
    }

    /// Return its name, for messages.
    pub(in crate::page) const fn name(self) -> &'static str {
        match self {
            Region::Undo => "the undo log",
            Region::Log => "the redo log in the sidecar",
            Region::List(_) => "the dirty list",
            Region::FreeMap => "the free map",
            Region::Table => "the live page table",
            Region::Kept => "the pages kept for views",
        }
    }
}

/// Return the sizes that a region of `old` bytes can grow to so that it holds `bytes`: the one that makes growth rare
/// (by half, in whole 16 KiB), and the smallest. Return None if the region's `size` is less than `bytes`: what follows
/// a region in the mapping and in the file belongs to another region.
pub(super) fn next_sizes(old: usize, bytes: usize, size: usize) -> Option<(usize, usize)> {
    let most = |n: usize| n.min(size);
    (old < bytes && bytes <= size).then(|| {
        (
            most(bytes.max(old + old / 2).next_multiple_of(16 * 1024)),
            most(bytes.next_multiple_of(4096)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte of a region has one place in the file, no byte has two, and the places follow each other.
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

    #[cfg(feature = "testing")]
    #[test]
    fn the_parts_tile_the_file() {
        let mut at = 0;
        for (name, start, len) in file_parts() {
            assert_eq!(start, at, "{name}");
            assert!(
                len > 0 && region_name(start) == region_name(start + len - 1),
                "{name}"
            );
            at += len;
        }
        assert_eq!(at, MAP_LEN as u64);
    }

    /// A region never grows past its size, and a request either fits or is refused.
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
}
