//! A record of the redo log: the new content of the bytes that one committed change touched.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | xxh3 of bytes 8.. of the record, seeded with this field of the record before |
//! | 8 | 8 | position of the record in the log (positions only grow; the ring's offset is the rest) |
//! | 16 | 8 | generation of the log |
//! | 24 | 4 | length of the record in bytes, padding included: a multiple of 8 |
//! | 28 | 4 | number of ranges |
//! | 32 | 8 | next object id |
//! | 40 | .. | the ranges, then zeros |
//!
//! A range:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | logical address (48 bits), number of bytes n << 48, `WHOLE` |
//! | 8 | n rounded up to 8 | the bytes |
//!
//! 1. Positions, generation and the chain of checksums together make a record valid in one place of one log only, after
//!    one other record. So the remains of an older lap or of an interrupted run are not accepted as a record, and
//!    nothing is replayed over a state to which it does not belong.
//! 2. A record ends inside its own sector, or, if a process waits for it, at a sector's end (`SECTOR`). A sector that
//!    was flushed for a waiting process is not written again, so a power failure during the next write cannot destroy
//!    it.

use crate::error::{Error, Result};
use crate::ids::{Addr, PAGE_SIZE};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The unit that a disk writes atomically and does not change otherwise.
pub(crate) const SECTOR: u64 = 512;
/// Bytes before the ranges.
pub(crate) const HEADER: usize = 40;
/// Flag in a range's first word: the page consists of these bytes, from its start, followed by zeros.
const WHOLE: u64 = 1 << 63;
const ADDRESS: u64 = (1 << 48) - 1;
/// Overhead of a range in bytes.
const RANGE: usize = 8;

/// The place where a log continues: which log, at which position, after which record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    /// The generation of the log; 0: none.
    pub(crate) generation: u64,
    /// Position of the next record.
    pub(crate) at: u64,
    /// Checksum of the record before it.
    pub(crate) chain: u64,
}

/// One range of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range<'r> {
    /// The first byte.
    pub(crate) addr: Addr,
    /// The rest of the page after `bytes` is zero.
    pub(crate) whole: bool,
    pub(crate) bytes: &'r [u8],
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(b)
}

/// A record being written.
#[derive(Debug)]
pub(crate) struct Builder<'b> {
    buf: &'b mut Vec<u8>,
    place: Place,
    /// Its maximum length.
    most: usize,
    ranges: u32,
}

impl<'b> Builder<'b> {
    /// Begin a record of at most `most` bytes in `buf`, whose content is discarded.
    pub(crate) fn new(buf: &'b mut Vec<u8>, place: Place, next_id: u64, most: usize) -> Builder<'b> {
        buf.clear();
        buf.extend_from_slice(&[0; HEADER]);
        buf[8..16].copy_from_slice(&place.at.to_le_bytes());
        buf[16..24].copy_from_slice(&place.generation.to_le_bytes());
        buf[32..40].copy_from_slice(&next_id.to_le_bytes());
        Builder {
            buf,
            place,
            most,
            ranges: 0,
        }
    }

    fn push(&mut self, addr: Addr, bytes: &[u8], flag: u64) -> bool {
        let len = bytes.len().next_multiple_of(8);
        if self.buf.len() + RANGE + len > self.most {
            return false;
        }
        self.buf
            .extend_from_slice(&(addr.0 | (bytes.len() as u64) << 48 | flag).to_le_bytes());
        self.buf.extend_from_slice(bytes);
        self.buf.resize(self.buf.len() + len - bytes.len(), 0);
        self.ranges += 1;
        true
    }

    /// Add bytes of one page. Return false if there is no room.
    pub(crate) fn range(&mut self, addr: Addr, bytes: &[u8]) -> bool {
        self.push(addr, bytes, 0)
    }

    /// Add a page from its start, without its trailing zeros. Return false if there is no room.
    pub(crate) fn whole(&mut self, addr: Addr, page: &[u8; PAGE_SIZE]) -> bool {
        let len = page.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        self.push(addr, &page[..len], WHOLE)
    }

    /// Complete the record, up to a sector's end if `pad`. Return the place of the next one, or None if there is no
    /// room.
    pub(crate) fn finish(self, pad: bool) -> Option<Place> {
        let mut end = self.place.at + self.buf.len() as u64;
        if pad {
            end = end.next_multiple_of(SECTOR);
        }
        let len = (end - self.place.at) as usize;
        if len > self.most {
            return None;
        }
        self.buf.resize(len, 0);
        self.buf[24..28].copy_from_slice(&(len as u32).to_le_bytes());
        self.buf[28..32].copy_from_slice(&self.ranges.to_le_bytes());
        let sum = xxh3_64_with_seed(&self.buf[8..], self.place.chain);
        self.buf[..8].copy_from_slice(&sum.to_le_bytes());
        Some(Place {
            at: end,
            chain: sum,
            ..self.place
        })
    }
}

/// Return the length of the record with this header, if it belongs to this place and is not longer than `most`.
pub(crate) fn length(header: &[u8; HEADER], place: Place, most: usize) -> Option<usize> {
    let len = word(header, 24) as u32 as usize;
    let fits = word(header, 8) == place.at
        && word(header, 16) == place.generation
        && len.is_multiple_of(8)
        && (HEADER..=most).contains(&len);
    fits.then_some(len)
}

/// A record that was read and validated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'r> {
    bytes: &'r [u8],
}

impl<'r> Record<'r> {
    /// Interpret `bytes` (of the length that their header gives) as a record. Return it, and the place of the next one,
    /// if they are a record for this place.
    pub(crate) fn read(bytes: &'r [u8], place: Place) -> Option<(Record<'r>, Place)> {
        let header = bytes.first_chunk::<HEADER>()?;
        let len = length(header, place, bytes.len())?;
        let sum = word(bytes, 0);
        if len != bytes.len() || xxh3_64_with_seed(&bytes[8..], place.chain) != sum {
            return None;
        }
        let next = Place {
            at: place.at + len as u64,
            chain: sum,
            ..place
        };
        Some((Record { bytes }, next))
    }

    /// Return the next object id after this change.
    pub(crate) fn next_id(&self) -> u64 {
        word(self.bytes, 32)
    }

    /// Call `f` with every range. A record with a valid checksum may still be forged: a range that does not lie in the
    /// record and in one page is reported as damage.
    pub(crate) fn ranges(&self, mut f: impl FnMut(Range<'r>) -> Result<()>) -> Result<()> {
        let bad = || Error::Corrupt {
            what: "a record of the redo log (position)",
            at: word(self.bytes, 8),
        };
        let mut at = HEADER;
        for _ in 0..(word(self.bytes, 24) >> 32) {
            if at + RANGE > self.bytes.len() {
                return Err(bad());
            }
            let head = word(self.bytes, at);
            let (addr, len) = (Addr(head & ADDRESS), ((head & !WHOLE) >> 48) as usize);
            let whole = head & WHOLE != 0;
            at += RANGE;
            let bytes = self.bytes.get(at..at + len).ok_or_else(bad)?;
            if addr.offset() + len > PAGE_SIZE || (whole && addr.offset() != 0) {
                return Err(bad());
            }
            f(Range { addr, whole, bytes })?;
            at += len.next_multiple_of(8);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Place = Place {
        generation: 77,
        at: 1024,
        chain: 5,
    };

    fn page(with: &[u8]) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        page[..with.len()].copy_from_slice(with);
        page
    }

    fn build(buf: &mut Vec<u8>, place: Place, pad: bool) -> Place {
        let mut b = Builder::new(buf, place, 9, 100_000);
        assert!(b.range(Addr(4096 + 17), b"odd bytes"));
        assert!(b.whole(Addr(8192), &page(b"a page")));
        assert!(b.whole(Addr(12288), &page(b"")));
        assert!(b.range(Addr(0), &[7; PAGE_SIZE]));
        b.finish(pad).unwrap()
    }

    fn read(record: &Record<'_>) -> Vec<(u64, bool, Vec<u8>)> {
        let mut all = Vec::new();
        record
            .ranges(|r| {
                all.push((r.addr.0, r.whole, r.bytes.to_vec()));
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn round_trip() {
        for pad in [false, true] {
            let mut buf = Vec::new();
            let next = build(&mut buf, AT, pad);
            assert_eq!(next.at, AT.at + buf.len() as u64);
            assert!(!pad || next.at.is_multiple_of(SECTOR));
            assert_eq!(length(buf.first_chunk().unwrap(), AT, 100_000), Some(buf.len()));
            let (record, then) = Record::read(&buf, AT).unwrap();
            assert_eq!((then, record.next_id()), (next, 9));
            assert_eq!(
                read(&record),
                [
                    (4096 + 17, false, b"odd bytes".to_vec()),
                    (8192, true, b"a page".to_vec()),
                    (12288, true, Vec::new()),
                    (0, false, vec![7; PAGE_SIZE]),
                ]
            );
        }
    }

    #[test]
    fn it_is_valid_in_its_own_place_only_and_every_flipped_bit_is_noticed() {
        let mut buf = Vec::new();
        build(&mut buf, AT, true);
        for other in [
            Place { at: 1032, ..AT },
            Place { generation: 78, ..AT },
            Place { chain: 6, ..AT },
        ] {
            assert!(Record::read(&buf, other).is_none());
        }
        assert!(Record::read(&buf[..buf.len() - 8], AT).is_none());
        for bit in (0..buf.len() * 8).step_by(29) {
            let mut bad = buf.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::read(&bad, AT).is_none(), "bit {bit}");
        }
        // Zeros, as in a part of the log that has not been written yet.
        assert!(Record::read(&[0; 512], Place { at: 0, ..AT }).is_none());
        assert!(length(&[0; HEADER], Place::default(), 1000).is_none());
    }

    #[test]
    fn what_has_no_room_is_refused() {
        let mut buf = Vec::new();
        let mut b = Builder::new(&mut buf, AT, 1, 120);
        assert!(b.range(Addr(0), &[1; 64]));
        assert!(!b.range(Addr(64), &[1; 8]));
        // Padded to the sector's end, it would exceed its maximum length.
        assert!(b.finish(true).is_none());
    }

    /// An attacker that can write the file can also make valid checksums.
    #[test]
    fn forged_ranges_are_damage() {
        let forge = |edit: &dyn Fn(&mut [u8])| {
            let mut buf = Vec::new();
            let mut b = Builder::new(&mut buf, AT, 9, 1000);
            assert!(b.range(Addr(4096), &[1; 16]));
            b.finish(false).unwrap();
            edit(&mut buf);
            let sum = xxh3_64_with_seed(&buf[8..], AT.chain);
            buf[..8].copy_from_slice(&sum.to_le_bytes());
            let (record, _) = Record::read(&buf, AT).expect("a record");
            record.ranges(|r| {
                assert!(r.addr.offset() + r.bytes.len() <= PAGE_SIZE);
                Ok(())
            })
        };
        let head = |v: u64| move |b: &mut [u8]| b[HEADER..HEADER + 8].copy_from_slice(&v.to_le_bytes());
        assert!(forge(&|_| ()).is_ok());
        for v in [
            4096 | 17 << 48,
            4096 | 0x7fff << 48,
            8190 | 16 << 48,
            8 | 16 << 48 | WHOLE,
        ] {
            assert!(matches!(forge(&head(v)), Err(Error::Corrupt { .. })), "{v:#x}");
        }
        let count = |n: u32| move |b: &mut [u8]| b[28..32].copy_from_slice(&n.to_le_bytes());
        for n in [2, u32::MAX] {
            assert!(matches!(forge(&count(n)), Err(Error::Corrupt { .. })), "{n}");
        }
    }
}
