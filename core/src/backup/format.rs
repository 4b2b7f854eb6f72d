//! The incremental backup: a stream of a header, a record for each logical page that differs, and an end.
//!
//! The header:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | magic `persist+` |
//! | 8 | 4 | version of this format |
//! | 12 | 4 | page size |
//! | 16 | 32 | the state it was made from (`Origin`, see `page::format::meta`) |
//! | 48 | 32 | the state it leads to |
//! | 80 | 8 | logical pages of that |
//! | 88 | 8 | next object id of that |
//! | 96 | 8 | seed of the key hash, which never changes |
//! | 104 | 8 | height of that one's page table |
//! | 112 | 8 | records with a page |
//! | 120 | 8 | records of pages that are gone |
//! | 128 | 8 | xxh3 of bytes 0..128 |
//!
//! A record, in ascending order of the logical pages:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | logical page; bit 63: it is gone, and nothing follows the checksum |
//! | 8 | 8 | xxh3 of the page (0: it is gone) |
//! | 16 | 4096 | the page |
//!
//! The end: all bits of the word set where a record would have its page, then xxh3 of the header's checksum and of
//! the first 16 bytes of all records, one after the other. Nothing follows it.

use crate::ids::PAGE_SIZE;
use crate::page::format::meta::{ORIGIN, Origin};
use crate::page::format::page_table::{MAX_HEIGHT, covers};
use crate::page::shared::layout::MAX_PAGES;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// The first bytes of an incremental backup.
pub(super) const MAGIC: &[u8; 8] = b"persist+";
/// Version 2 is version 1 with pages of a store of format version 5.
const VERSION: u32 = 2;
const OLDEST: u32 = 1;
/// Bytes of a header.
pub(super) const HEADER: usize = 136;
/// Bytes of a record without its page.
pub(super) const HEAD: usize = 16;
/// The value at the end, in place of a page number.
pub(super) const END: u64 = u64::MAX;
const GONE: u64 = 1 << 63;

/// The fields of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Header {
    pub(super) base: Origin,
    pub(super) target: Origin,
    pub(super) logical: u64,
    pub(super) next_id: u64,
    pub(super) seed: u64,
    pub(super) height: u32,
    pub(super) pages: u64,
    pub(super) gone: u64,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(b)
}

fn origin(bytes: &[u8], at: usize) -> Origin {
    let mut b = [0; ORIGIN];
    b.copy_from_slice(&bytes[at..at + ORIGIN]);
    Origin::decode(&b)
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[..8].copy_from_slice(MAGIC);
        b[16..48].copy_from_slice(&self.base.encode());
        b[48..80].copy_from_slice(&self.target.encode());
        for (at, value) in [
            (8, u64::from(VERSION) | (PAGE_SIZE as u64) << 32),
            (80, self.logical),
            (88, self.next_id),
            (96, self.seed),
            (104, u64::from(self.height)),
            (112, self.pages),
            (120, self.gone),
        ] {
            b[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let sum = xxh3_64(&b[..HEADER - 8]);
        b[HEADER - 8..].copy_from_slice(&sum.to_le_bytes());
        b
    }

    /// Decode a header. `Err` contains the reason why it is invalid.
    pub(super) fn decode(b: &[u8; HEADER]) -> Result<Header, String> {
        if &b[..8] != MAGIC {
            return Err("it is not an incremental backup".to_owned());
        }
        let version = word(b, 8) as u32;
        if !(OLDEST..=VERSION).contains(&version) || word(b, 8) >> 32 != PAGE_SIZE as u64 {
            return Err(format!(
                "an incremental backup of version {version}, this build reads {VERSION}"
            ));
        }
        if word(b, HEADER - 8) != xxh3_64(&b[..HEADER - 8]) {
            return Err("its header is damaged".to_owned());
        }
        let height = word(b, 104);
        let header = Header {
            base: origin(b, 16),
            target: origin(b, 48),
            logical: word(b, 80),
            next_id: word(b, 88),
            seed: word(b, 96),
            height: height.min(u64::from(MAX_HEIGHT)) as u32,
            pages: word(b, 112),
            gone: word(b, 120),
        };
        let possible = height <= u64::from(MAX_HEIGHT)
            && header.logical <= MAX_PAGES.min(covers(header.height))
            && header.pages <= header.logical
            && header.gone <= MAX_PAGES;
        if possible {
            Ok(header)
        } else {
            Err("its header holds impossible numbers".to_owned())
        }
    }

    /// Return the hash state for the heads of the records.
    pub(super) fn digest(encoded: &[u8; HEADER]) -> Xxh3Default {
        let mut digest = Xxh3Default::new();
        digest.update(&encoded[HEADER - 8..]);
        digest
    }
}

/// The head of a record: before a page, or in place of one that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Head {
    Page { page: u64, sum: u64 },
    Gone { page: u64 },
    End { digest: u64 },
}

impl Head {
    pub(super) fn encode(self) -> [u8; HEAD] {
        let (page, sum) = match self {
            Head::Page { page, sum } => (page, sum),
            Head::Gone { page } => (page | GONE, 0),
            Head::End { digest } => (END, digest),
        };
        let mut b = [0; HEAD];
        b[..8].copy_from_slice(&page.to_le_bytes());
        b[8..].copy_from_slice(&sum.to_le_bytes());
        b
    }

    pub(super) fn decode(b: &[u8; HEAD]) -> Head {
        let (page, sum) = (word(b, 0), word(b, 8));
        match page {
            END => Head::End { digest: sum },
            _ if page & GONE != 0 => Head::Gone { page: page & !GONE },
            _ => Head::Page { page, sum },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Header {
        let origin = |n| Origin {
            uuid: [n, n + 1],
            checkpoint: n + 2,
            time: n + 3,
        };
        Header {
            base: origin(10),
            target: origin(20),
            logical: 300,
            next_id: 4,
            seed: 5,
            height: 2,
            pages: 7,
            gone: 8,
        }
    }

    #[test]
    fn headers_and_heads_come_back() {
        assert_eq!(Header::decode(&some().encode()), Ok(some()));
        for head in [
            Head::Page { page: 0, sum: 9 },
            Head::Page {
                page: MAX_PAGES,
                sum: u64::MAX,
            },
            Head::Gone { page: 3 },
            Head::End { digest: 4 },
        ] {
            assert_eq!(Head::decode(&head.encode()), head);
        }
    }

    #[test]
    fn an_incremental_backup_of_the_version_before_is_read() {
        for version in 0..VERSION + 3 {
            let mut b = some().encode();
            b[8..12].copy_from_slice(&version.to_le_bytes());
            let sum = xxh3_64(&b[..HEADER - 8]);
            b[HEADER - 8..].copy_from_slice(&sum.to_le_bytes());
            let read = Header::decode(&b);
            assert_eq!(
                read.is_ok(),
                (OLDEST..=VERSION).contains(&version),
                "{version}: {read:?}"
            );
        }
    }

    #[test]
    fn every_flipped_bit_and_impossible_numbers_are_noticed() {
        let good = some().encode();
        for bit in 0..HEADER * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            Header::decode(&bad).unwrap_err();
        }
        for wrong in [
            |h: &mut Header| h.logical = 65537,
            |h: &mut Header| h.logical = u64::MAX,
            |h: &mut Header| h.height = 5,
            |h: &mut Header| h.height = u32::MAX,
            |h: &mut Header| h.height = 0,
            |h: &mut Header| h.pages = 301,
            |h: &mut Header| h.gone = u64::MAX,
        ] {
            let mut header = some();
            wrong(&mut header);
            assert_eq!(
                Header::decode(&header.encode()),
                Err("its header holds impossible numbers".to_owned())
            );
        }
    }
}
