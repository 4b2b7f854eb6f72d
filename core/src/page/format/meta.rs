//! The two meta pages, physical pages 0 and 1: each describes one checkpoint.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | magic `persist1` |
//! | 8 | 4 | format version |
//! | 12 | 4 | page size |
//! | 16 | 16 | uuid of the store |
//! | 32 | 8 | checkpoint number (the page is written by checkpoint n into page n mod 2) |
//! | 40 | 4 | physical page of the page table's root (0: empty table) |
//! | 44 | 4 | height of the page table (levels) |
//! | 48 | 8 | checksum of the root page |
//! | 56 | 8 | physical pages of the file when it was written |
//! | 64 | 8 | logical pages the table covers |
//! | 72 | 8 | next object id |
//! | 80 | 8 | seed of the key hash |
//! | 88 | 4 | first physical page of the snapshot catalogue (0: no snapshots) |
//! | 92 | 4 | pages of the snapshot catalogue |
//! | 96 | 8 | generation of the redo log that continues after this checkpoint (0: none) |
//! | 104 | 8 | checksum of the snapshot catalogue's first page |
//! | 112 | 8 | position of the redo log's first record after this checkpoint |
//! | 120 | 8 | checksum that this record is chained to |
//! | 128 | 128 | zero, reserved |
//! | 256 | 32 | of a backup and of a store restored from one: the state that it holds (`Origin`); else 0 |
//! | 288 | 3800 | zero, reserved |
//! | 4088 | 8 | xxh3 of bytes 0..4088 |
//!
//! An origin:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 16 | uuid of the store that was backed up |
//! | 16 | 8 | number of its checkpoint |
//! | 24 | 8 | when that was kept as a snapshot, nanoseconds since 1970 (0: it was none) |
//!
//! Magic, version, page size and checksum keep their places in all versions. If one page belongs to another version,
//! the store is refused, whatever the other page contains: `Bad::refuses`.
//!
//! Opening uses the valid page with the higher number. A meta page is written only by `pwrite`, after a successful
//! flush of everything it reaches.

use crate::error::Error;
use crate::ids::PAGE_SIZE;
use crate::page::format::log_record::Place;
use crate::page::format::page_table::{Entry, MAX_HEIGHT, Tree, covers};
use crate::page::shared::layout::MAX_PAGES;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use xxhash_rust::xxh3::xxh3_64;

/// Number of pages of a new store's file.
pub(in crate::page) const FIRST_PAGES: u64 = 96;
/// Largest number of pages of the snapshot catalogue (`catalogue`).
pub(crate) const MAX_CHAIN: u32 = 316;

const MAGIC: &[u8; 8] = b"persist1";
/// Version of the file format. Later versions count up by one.
///
/// Version 5 adds kinds of content to version 4 and changes nothing else, so stores of version 4 are read and written.
/// Every meta page is written with `VERSION`: the first checkpoint of a change by this build makes a store one of
/// version 5, which older builds refuse.
pub(crate) const VERSION: u32 = 5;
/// The oldest version that is read.
const OLDEST: u32 = 4;

/// Upper bound of positions in the redo log. It leaves room for everything that may still be logged, so that additions
/// do not overflow.
const LOG_MOST: u64 = 1 << 60;

/// Bytes of an encoded origin.
pub(crate) const ORIGIN: usize = 32;
const ORIGIN_AT: usize = 256;

/// The highest number of a checkpoint. It lets an epoch and a physical page fit in 63 bits. Compaction uses one more.
pub(crate) const LAST_CHECKPOINT: u64 = (u32::MAX >> 1) as u64 - 8;
/// The last of these numbers, reserved for snapshots, from which backups are made.
pub(crate) const FOR_SNAPSHOTS: u64 = 1 << 16;

/// Identifies one state of one store, independent of the file that holds it and of its layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) uuid: [u64; 2],
    pub(crate) checkpoint: u64,
    pub(crate) time: u64,
}

impl Origin {
    pub(crate) fn encode(&self) -> [u8; ORIGIN] {
        let mut b = [0; ORIGIN];
        let words = [self.uuid[0], self.uuid[1], self.checkpoint, self.time];
        for (b, word) in b.chunks_exact_mut(8).zip(words) {
            b.copy_from_slice(&word.to_le_bytes());
        }
        b
    }

    pub(crate) fn decode(b: &[u8; ORIGIN]) -> Origin {
        let mut words = [0; 4];
        for (word, b) in words.iter_mut().zip(b.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*b);
        }
        let [a, b, checkpoint, time] = words;
        Origin {
            uuid: [a, b],
            checkpoint,
            time,
        }
    }
}

/// The snapshot catalogue's link in a meta page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Link {
    /// First page; 0: there are no snapshots.
    pub(crate) page: u32,
    pub(crate) pages: u32,
    pub(crate) sum: u64,
}

impl Link {
    pub(crate) fn new(word: u64, sum: u64) -> Link {
        Link {
            page: word as u32,
            pages: (word >> 32) as u32,
            sum,
        }
    }

    pub(crate) fn word(self) -> u64 {
        u64::from(self.page) | u64::from(self.pages) << 32
    }

    /// Return its two words in the sidecar.
    pub(in crate::page) fn words(self) -> [u64; 2] {
        [self.word(), self.sum]
    }
}

/// A decoded meta page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Meta {
    pub(crate) uuid: [u64; 2],
    pub(crate) checkpoint: u64,
    pub(crate) root: u32,
    pub(crate) height: u32,
    pub(crate) root_sum: u64,
    pub(crate) file_pages: u64,
    pub(crate) logical: u64,
    pub(crate) next_id: u64,
    pub(crate) seed: u64,
    pub(crate) catalogue: Link,
    /// Where the redo log continues after this checkpoint.
    pub(crate) log: Place,
    /// All zeros: a state of this store only.
    pub(crate) origin: Origin,
}

/// Why a page is not a valid meta page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// All zeros: never written.
    Blank,
    /// Not a persist store.
    Magic,
    /// A persist store of another version.
    Version(u32),
    /// A persist store with pages of another size.
    PageSize(u32),
    /// Torn or damaged.
    Checksum,
}

impl Bad {
    /// Return the reason for refusing a store with such a meta page, if it is refused whatever the other page contains.
    pub(crate) fn refuses(&self) -> Option<String> {
        match self {
            Bad::Version(v) if *v > VERSION => Some(format!(
                "it was written in format version {v} by a newer persist; this build reads version {VERSION}: use the \
                 newer persist, or restore a backup"
            )),
            Bad::Version(v) => Some(format!(
                "it has format version {v}, which this build, of version {VERSION}, does not read: mount it with the \
                 persist that wrote it, and copy the tree (rsync -aX, or tar --xattrs) into the mount of a store of \
                 this build"
            )),
            Bad::PageSize(n) => Some(format!(
                "it has pages of {n} bytes, and this build reads pages of {PAGE_SIZE} bytes"
            )),
            Bad::Blank | Bad::Magic | Bad::Checksum => None,
        }
    }
}

fn u64_at(page: &[u8; PAGE_SIZE], at: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&page[at..at + 8]);
    u64::from_le_bytes(b)
}

impl Meta {
    /// Return the page's bytes.
    pub(crate) fn encode(&self) -> [u8; PAGE_SIZE] {
        let mut p = [0u8; PAGE_SIZE];
        p[..8].copy_from_slice(MAGIC);
        let mut put = |at: usize, v: u64| p[at..at + 8].copy_from_slice(&v.to_le_bytes());
        put(8, u64::from(VERSION) | (PAGE_SIZE as u64) << 32);
        put(16, self.uuid[0]);
        put(24, self.uuid[1]);
        put(32, self.checkpoint);
        put(40, u64::from(self.root) | u64::from(self.height) << 32);
        put(48, self.root_sum);
        put(56, self.file_pages);
        put(64, self.logical);
        put(72, self.next_id);
        put(80, self.seed);
        put(88, self.catalogue.word());
        put(104, self.catalogue.sum);
        put(96, self.log.generation);
        put(112, self.log.at);
        put(120, self.log.chain);
        p[ORIGIN_AT..ORIGIN_AT + ORIGIN].copy_from_slice(&self.origin.encode());
        let sum = xxh3_64(&p[..PAGE_SIZE - 8]);
        p[PAGE_SIZE - 8..].copy_from_slice(&sum.to_le_bytes());
        p
    }

    /// Decode a meta page.
    pub(crate) fn decode(p: &[u8; PAGE_SIZE]) -> Result<Meta, Bad> {
        if p.iter().all(|b| *b == 0) {
            return Err(Bad::Blank);
        }
        if &p[..8] != MAGIC {
            return Err(Bad::Magic);
        }
        let version = u64_at(p, 8) as u32;
        if (VERSION + 1..VERSION + 256).contains(&version) {
            // The place of that version's checksum is not known here, so a page that may belong to that version counts
            // as one.
            return Err(Bad::Version(version));
        }
        if u64_at(p, PAGE_SIZE - 8) != xxh3_64(&p[..PAGE_SIZE - 8]) {
            return Err(Bad::Checksum);
        }
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(Bad::Version(version));
        }
        let page_size = (u64_at(p, 8) >> 32) as u32;
        if page_size as usize != PAGE_SIZE {
            return Err(Bad::PageSize(page_size));
        }
        let mut origin = [0; ORIGIN];
        origin.copy_from_slice(&p[ORIGIN_AT..ORIGIN_AT + ORIGIN]);
        Ok(Meta {
            uuid: [u64_at(p, 16), u64_at(p, 24)],
            checkpoint: u64_at(p, 32),
            root: u64_at(p, 40) as u32,
            height: (u64_at(p, 40) >> 32) as u32,
            root_sum: u64_at(p, 48),
            file_pages: u64_at(p, 56),
            logical: u64_at(p, 64),
            next_id: u64_at(p, 72),
            seed: u64_at(p, 80),
            catalogue: Link::new(u64_at(p, 88), u64_at(p, 104)),
            log: Place {
                generation: u64_at(p, 96),
                at: u64_at(p, 112),
                chain: u64_at(p, 120),
            },
            origin: Origin::decode(&origin),
        })
    }

    /// Return meta page 0 or 1 of the file, if it is valid and in its place. A page that the disk cannot read counts as
    /// damaged; any other error (a limit, memory) does not concern the page.
    pub(crate) fn read(file: &File, i: u64) -> Result<Option<Meta>, Error> {
        let mut page = [0; PAGE_SIZE];
        match file.read_exact_at(&mut page, i * PAGE_SIZE as u64) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof || e.raw_os_error() == Some(libc::EIO) => {
                return Ok(None);
            }
            Err(e) => return Err(Error::io(format!("cannot read meta page {i} of the store"), e)),
        }
        match Meta::decode(&page) {
            Ok(m) => Ok(Some(m).filter(|m| m.checkpoint % 2 == i && m.is_possible())),
            Err(_) => Ok(None),
        }
    }

    /// Return the checkpoint before this one, which is the newest, from the other meta page, if that is valid.
    pub(crate) fn before(file: &File, newest: &Meta) -> Result<Option<Meta>, Error> {
        let other = Meta::read(file, (newest.checkpoint + 1) % 2)?;
        Ok(other.filter(|m| m.checkpoint + 1 == newest.checkpoint))
    }

    /// Return whether its numbers are possible for a store.
    pub(crate) fn is_possible(&self) -> bool {
        self.logical <= MAX_PAGES
            && self.checkpoint != 0
            && self.checkpoint <= LAST_CHECKPOINT + 1
            && self.height <= MAX_HEIGHT
            && self.logical <= covers(self.height)
            && u64::from(self.root) < MAX_PAGES
            && u64::from(self.catalogue.page) < MAX_PAGES
            && self.catalogue.pages <= MAX_CHAIN
            && self.log.at <= LOG_MOST
    }

    /// Return the root of its page table. Every checkpoint writes a new root.
    pub(crate) fn tree(&self) -> Tree {
        Tree {
            root: Entry {
                physical: self.root,
                birth: self.checkpoint as u32,
                sum: self.root_sum,
            },
            height: self.height,
        }
    }

    /// Return the state that it describes, under its original identity.
    pub(crate) fn state(&self) -> Origin {
        if self.origin != Origin::default() {
            return self.origin;
        }
        Origin {
            uuid: self.uuid,
            checkpoint: self.checkpoint,
            time: 0,
        }
    }

    /// Return the checksum of the encoded page, which identifies this checkpoint of this store.
    pub(crate) fn sum(page: &[u8; PAGE_SIZE]) -> u64 {
        u64_at(page, PAGE_SIZE - 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_bit_is_noticed() {
        let m = Meta {
            uuid: [1, 2],
            checkpoint: 3,
            root: 4,
            height: 2,
            root_sum: 5,
            file_pages: 6,
            logical: 7,
            next_id: 8,
            seed: 9,
            catalogue: Link {
                page: 10,
                pages: 11,
                sum: 12,
            },
            log: Place {
                generation: 13,
                at: 14,
                chain: 15,
            },
            origin: Origin {
                uuid: [20, 21],
                checkpoint: 22,
                time: 23,
            },
        };
        let page = m.encode();
        assert_eq!(Meta::decode(&page), Ok(m));
        for bit in (0..PAGE_SIZE * 8).step_by(37) {
            let mut bad = page;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::decode(&bad).is_err(), "bit {bit}");
        }
        assert_eq!(Meta::decode(&[0; PAGE_SIZE]), Err(Bad::Blank));
    }

    #[test]
    fn versions_that_only_lack_additions_are_read() {
        let m = Meta {
            checkpoint: 3,
            ..Meta::default()
        };
        for version in 0..VERSION + 3 {
            let mut page = m.encode();
            page[8..12].copy_from_slice(&version.to_le_bytes());
            let sum = xxh3_64(&page[..PAGE_SIZE - 8]);
            page[PAGE_SIZE - 8..].copy_from_slice(&sum.to_le_bytes());
            let wanted = match version {
                OLDEST..=VERSION => Ok(m),
                _ => Err(Bad::Version(version)),
            };
            assert_eq!(Meta::decode(&page), wanted, "{version}");
        }
    }

    #[test]
    fn a_log_position_at_the_end_of_a_word_is_refused() {
        let mut m = Meta {
            checkpoint: 3,
            ..Meta::default()
        };
        assert!(m.is_possible());
        for at in [u64::MAX, u64::MAX - 511, LOG_MOST + 1] {
            m.log.at = at;
            assert!(!m.is_possible(), "{at:#x}");
        }
    }
}
