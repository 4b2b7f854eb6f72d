//! The record of a large dict body. See `large` for its format.

use super::entry::{put, word_in};
use crate::error::Result;
use crate::ids::Addr;
use crate::page::access::{Pages, PagesMut};

/// Bytes of the record.
pub(super) const SIZE: usize = 48;

/// The record, read.
#[derive(Clone, Copy, Debug)]
pub(super) struct DictRecord {
    /// Its address.
    pub(super) at: Addr,
    /// See the table above.
    pub(super) next: u64,
    /// See the table above.
    pub(super) live: u64,
    /// See the table above.
    pub(super) log: u64,
    /// See the table above.
    pub(super) index: u64,
    /// See the table above.
    pub(super) tail: Addr,
}

impl DictRecord {
    #[inline]
    pub(super) fn read<P: Pages>(p: &P, at: Addr) -> Result<DictRecord> {
        let b = p.bytes(at, SIZE)?;
        Ok(DictRecord {
            at,
            next: word_in(b, 0),
            live: word_in(b, 8),
            log: word_in(b, 16),
            index: word_in(b, 24),
            tail: Addr(word_in(b, 32)),
        })
    }

    /// Return the address of the log's root pointer.
    pub(super) fn log_at(&self) -> Addr {
        self.at + 16
    }

    pub(super) fn set_log<W: PagesMut>(&mut self, w: &mut W, root: u64) -> Result<()> {
        self.log = root;
        w.set_u64(self.at + 16, root)
    }

    pub(super) fn set_index<W: PagesMut>(&mut self, w: &mut W, root: u64) -> Result<()> {
        self.index = root;
        w.set_u64(self.at + 24, root)
    }

    pub(super) fn set_tail<W: PagesMut>(&mut self, w: &mut W, tail: Addr) -> Result<()> {
        self.tail = tail;
        w.set_u64(self.at + 32, tail.0)
    }

    pub(super) fn set_counts<W: PagesMut>(&mut self, w: &mut W, next: u64, live: u64) -> Result<()> {
        (self.next, self.live) = (next, live);
        let mut b = [0; 16];
        put(&mut b, 0, next);
        put(&mut b, 8, live);
        w.set_bytes(self.at, &b)
    }
}
