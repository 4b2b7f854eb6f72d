//! A leaf of the entry log: entries with the sequence numbers of one leaf number. A dense leaf has a place
//! for each number; a sparse leaf holds the few remaining entries of a leaf.
//!
//! Leaf:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | first sequence number: leaf number * `SPAN` |
//! | 8 | 2 | live: entries in it |
//! | 10 | 2 | capacity: `SPAN` (dense), `MAX_SPARSE` or `MIN_SPARSE` (sparse) |
//! | 12 | 4 | 0 |
//! | 16 | 16 n | dense: key word, value word; key 0: no entry |
//! | 16 | 24 n | sparse: key word, value word, sequence number; key 0: no entry |
//!
//! Place of an entry, as the index stores it (`LogPosition`):
//!
//! | BITS | FIELD |
//! | --- | --- |
//! | 0..47 | address of the entry |
//! | 48..55 | position in its leaf |
//! | 56 | 1 in a sparse leaf |

use crate::error::{Error, Result};
use crate::heap::{self, MAX_SEGMENT};
use crate::ids::Addr;
use crate::object::dict::entry::DictEntry;
use crate::object::dict::entry::put;
use crate::object::dict::entry::word_in;
use crate::object::word::Word;
use crate::page::access::{Pages, PagesMut};

const HEADER: usize = 16;
/// Entries of a dense leaf, and sequence numbers of any leaf.
pub(in crate::object::dict) const SPAN: u64 = 251;
/// Entries of a wide sparse leaf.
pub(in crate::object::dict) const MAX_SPARSE: usize = 32;
/// Entries of a narrow sparse leaf.
pub(in crate::object::dict) const MIN_SPARSE: usize = 4;
const ADDR: u64 = Addr::MAX;
/// The bit of a pointer to a leaf that marks it as sparse.
pub(in crate::object::dict) const SPARSE: u64 = 1 << 48;

const _: () = assert!(HEADER + SPAN as usize * 16 <= MAX_SEGMENT);

/// The place of an entry, as stored in the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::object::dict) struct LogPosition(u64);

impl LogPosition {
    /// Return the entry at a position of a leaf.
    pub(in crate::object::dict) fn new(leaf: Addr, sparse: bool, pos: usize) -> LogPosition {
        let entry = leaf.0 + (HEADER + pos * stride(sparse)) as u64;
        LogPosition(entry & ADDR | (pos as u64) << 48 | u64::from(sparse) << 56)
    }

    /// Return the place from the form in which the index stores it.
    #[inline]
    pub(in crate::object::dict) fn from_bits(bits: u64) -> LogPosition {
        LogPosition(bits)
    }

    /// Return the form in which the index stores it: never 0.
    #[inline]
    pub(in crate::object::dict) fn bits(self) -> u64 {
        self.0
    }

    /// Return the entry's address: key word, value word.
    #[inline]
    pub(in crate::object::dict) fn addr(self) -> Addr {
        Addr(self.0 & ADDR)
    }

    /// Return whether its leaf is sparse.
    pub(in crate::object::dict) fn sparse(self) -> bool {
        self.0 >> 56 & 1 != 0
    }

    /// Its position in its leaf.
    pub(in crate::object::dict) fn pos(self) -> usize {
        (self.0 >> 48 & 0xff) as usize
    }

    /// Return the leaf's address.
    pub(in crate::object::dict) fn leaf(self) -> Addr {
        Addr(
            self.addr()
                .0
                .wrapping_sub((HEADER + self.pos() * stride(self.sparse())) as u64),
        )
    }
}

#[inline]
const fn stride(sparse: bool) -> usize {
    if sparse { 24 } else { 16 }
}

/// A checked leaf.
pub(in crate::object::dict) struct Leaf<'a> {
    /// Its address.
    pub(in crate::object::dict) at: Addr,
    b: &'a [u8],
    /// Its first sequence number.
    pub(in crate::object::dict) first: u64,
    /// The number of entries according to the leaf.
    pub(in crate::object::dict) live: usize,
    /// Room for entries.
    pub(in crate::object::dict) cap: usize,
    sparse: bool,
}

/// Read a leaf.
pub(in crate::object::dict) fn read<P: Pages>(p: &P, at: Addr, sparse: bool) -> Result<Leaf<'_>> {
    let counts = p.u64_at(at + 8)?;
    let (live, cap) = ((counts & 0xffff) as usize, (counts >> 16 & 0xffff) as usize);
    let fits = if sparse {
        cap == MAX_SPARSE || cap == MIN_SPARSE
    } else {
        cap == SPAN as usize
    };
    if !fits || live > cap {
        return Err(Error::corrupt("a dict leaf with impossible counts", at));
    }
    let b = p.bytes(at, HEADER + cap * stride(sparse))?;
    Ok(Leaf {
        at,
        b,
        first: word_in(b, 0),
        live,
        cap,
        sparse,
    })
}

impl Leaf<'_> {
    /// Return the entry at a position.
    pub(in crate::object::dict) fn ent(&self, pos: usize) -> Option<DictEntry> {
        let at = HEADER + pos * stride(self.sparse);
        let key = Word(word_in(self.b, at));
        let seq = if self.sparse {
            word_in(self.b, at + 16)
        } else {
            self.first.wrapping_add(pos as u64)
        };
        (!key.is_empty()).then(|| DictEntry {
            seq,
            key,
            value: Word(word_in(self.b, at + 8)),
        })
    }

    /// Return the first entry after a sequence number.
    pub(in crate::object::dict) fn after(&self, seq: u64) -> Option<DictEntry> {
        let from = if self.sparse { 0 } else { skip(seq, self.first) };
        (from..self.cap).filter_map(|i| self.ent(i)).find(|e| e.seq > seq)
    }

    /// Return the last entry before a sequence number.
    pub(in crate::object::dict) fn before(&self, seq: u64) -> Option<DictEntry> {
        let to = if self.sparse {
            self.cap as u64
        } else {
            seq.saturating_sub(self.first).min(self.cap as u64)
        };
        (0..to as usize)
            .rev()
            .filter_map(|i| self.ent(i))
            .find(|e| e.seq < seq)
    }

    /// Return its size in bytes.
    pub(in crate::object::dict) fn size(&self) -> usize {
        self.b.len()
    }

    /// Return its entries in order, and their places.
    pub(in crate::object::dict) fn entries(&self) -> Vec<(DictEntry, LogPosition)> {
        (0..self.cap)
            .filter_map(|i| Some((self.ent(i)?, LogPosition::new(self.at, self.sparse, i))))
            .collect()
    }
}

/// Return the position in a dense leaf from which to look for entries after `seq`.
fn skip(seq: u64, first: u64) -> usize {
    if seq < first {
        0
    } else {
        (seq - first + 1).min(SPAN) as usize
    }
}

/// Store the counts of the leaf at an address.
pub(in crate::object::dict) fn set_counts<W: PagesMut>(
    w: &mut W,
    at: Addr,
    live: usize,
    cap: usize,
) -> Result<()> {
    w.set_u64(at + 8, live as u64 | (cap as u64) << 16)
}

/// Create a leaf with these entries. Return its pointer, and the place of each entry.
pub(in crate::object::dict) fn write<W: PagesMut>(
    w: &mut W,
    number: u64,
    entries: &[DictEntry],
    dense: bool,
) -> Result<(u64, Vec<LogPosition>)> {
    let sparse = !dense;
    let cap = match (dense, entries.len() <= MIN_SPARSE) {
        (true, _) => SPAN as usize,
        (false, true) => MIN_SPARSE,
        (false, false) => MAX_SPARSE,
    };
    let size = HEADER + cap * stride(sparse);
    let at = heap::alloc(w, size)?;
    let b = w.init(at, size)?;
    b.fill(0);
    let first = number * SPAN;
    put(b, 0, first);
    put(b, 8, entries.len() as u64 | (cap as u64) << 16);
    let mut locs = Vec::with_capacity(entries.len());
    for (i, e) in entries.iter().enumerate() {
        let pos = if dense {
            e.seq.wrapping_sub(first) as usize
        } else {
            i
        };
        if pos >= cap || e.seq / SPAN != number {
            return Err(Error::corrupt("a dict entry with an impossible number", at));
        }
        let entry = HEADER + pos * stride(sparse);
        put(b, entry, e.key.0);
        put(b, entry + 8, e.value.0);
        if sparse {
            put(b, entry + 16, e.seq);
        }
        locs.push(LogPosition::new(at, sparse, pos));
    }
    Ok((at.0 | if sparse { SPARSE } else { 0 }, locs))
}

/// Return the leaf of a number and pointer found in the tree.
pub(in crate::object::dict) fn read_numbered<P: Pages>(p: &P, number: u64, pointer: u64) -> Result<Leaf<'_>> {
    let leaf = read(p, Addr(pointer & ADDR), pointer & SPARSE != 0)?;
    if number.checked_mul(SPAN) != Some(leaf.first) {
        return Err(Error::corrupt("a dict leaf under the wrong number", leaf.at));
    }
    Ok(leaf)
}

/// Return the key and value words of an entry.
#[inline]
pub(in crate::object::dict) fn words<P: Pages>(p: &P, loc: LogPosition) -> Result<(Word, Word)> {
    let b = p.bytes(loc.addr(), 16)?;
    Ok((Word(word_in(b, 0)), Word(word_in(b, 8))))
}
