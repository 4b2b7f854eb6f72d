//! The record of a large dict body. See `large` for its format.

use crate::error::Result;
use crate::ids::Addr;
use crate::object::dict::entry::put;
use crate::object::dict::entry::word_in;
use crate::page::access::{Pages, PagesMut};

/// Bytes of the record.
pub(in crate::object::dict) const SIZE: usize = 48;

/// The record, read.
#[derive(Clone, Copy, Debug)]
pub(in crate::object::dict) struct DictRecord {
    /// Its address.
    pub(in crate::object::dict) at: Addr,
    /// See the table above.
    pub(in crate::object::dict) next: u64,
    /// See the table above.
    pub(in crate::object::dict) live: u64,
    /// See the table above.
    pub(in crate::object::dict) log: u64,
    /// See the table above.
    pub(in crate::object::dict) index: u64,
    /// See the table above.
    pub(in crate::object::dict) tail: Addr,
}

impl DictRecord {
    #[inline]
    pub(in crate::object::dict) fn read<P: Pages>(p: &P, at: Addr) -> Result<DictRecord> {
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
    pub(in crate::object::dict) fn log_at(&self) -> Addr {
        self.at + 16
    }

    pub(in crate::object::dict) fn set_log<W: PagesMut>(&mut self, w: &mut W, root: u64) -> Result<()> {
        self.log = root;
        w.set_u64(self.at + 16, root)
    }

    pub(in crate::object::dict) fn set_index<W: PagesMut>(&mut self, w: &mut W, root: u64) -> Result<()> {
        self.index = root;
        w.set_u64(self.at + 24, root)
    }

    pub(in crate::object::dict) fn set_tail<W: PagesMut>(&mut self, w: &mut W, tail: Addr) -> Result<()> {
        self.tail = tail;
        w.set_u64(self.at + 32, tail.0)
    }

    pub(in crate::object::dict) fn set_counts<W: PagesMut>(
        &mut self,
        w: &mut W,
        next: u64,
        live: u64,
    ) -> Result<()> {
        (self.next, self.live) = (next, live);
        let mut b = [0; 16];
        put(&mut b, 0, next);
        put(&mut b, 8, live);
        w.set_bytes(self.at, &b)
    }
}
