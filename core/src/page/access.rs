//! The interface through which upper layers access bytes: two traits that read and write sections implement. The heap
//! and object managers are written once against these traits and tested without a file (`page::mem`).
//!
//! Rules for callers:
//! 1. A range never crosses a page. Every call checks the range and the page number, and returns `Error::Corrupt`
//!    otherwise, because addresses come from a file that may be hostile.
//! 2. `set_*` is undo-logged. `init` is not: it may only write memory allocated in the same operation (since the last
//!    savepoint), which is unreachable if the operation rolls back.
//! 3. Freed memory stays unchanged until commit (`defer_free`). Rule 2 depends on this.

use crate::error::{Error, Result};
use crate::ids::{Addr, Obj, ObjectId, PAGE_SIZE, PageNo};
use crate::page::lookups::Lookups;

/// Message for an address past the last page.
pub const BEYOND: &str = "an address beyond the store";
/// Message for an address in a page that was freed.
pub const ABSENT: &str = "an address in a page that does not exist";

/// Read access to bytes of the store, inside a section.
pub trait Pages {
    /// Return the bytes `[addr, addr + len)`, which must lie in one page.
    fn bytes(&self, addr: Addr, len: usize) -> Result<&[u8]>;

    /// Prefetch the cache line at `addr`. This is a hint: any address is allowed.
    #[inline(always)]
    fn prefetch(&self, _addr: Addr) {}

    /// Return the seed of the store's key hash.
    fn hash_seed(&self) -> u64;

    /// Return an upper bound on the number of words in the store. No structure is longer.
    #[inline]
    fn words(&self) -> u64 {
        u64::MAX
    }

    /// Called before a container is read. Returns `Error::Busy` if an open transaction of another owner has changed it;
    /// the store then waits and runs the read again.
    #[inline]
    fn reading(&self, _id: ObjectId) -> Result<()> {
        Ok(())
    }

    /// Return the cached lookups that are valid in this section.
    #[inline(always)]
    fn lookups(&self) -> Lookups<'_> {
        Lookups::NONE
    }

    /// Return whether everything read so far is consistent. The caller keeps a result beyond the section only after
    /// this has returned true.
    #[inline]
    fn holds(&self) -> bool {
        true
    }

    /// Return the little-endian u64 at `addr`, which must be 8-aligned.
    #[inline(always)]
    fn u64_at(&self, addr: Addr) -> Result<u64> {
        if addr.0 & 7 != 0 {
            return Err(Error::corrupt("misaligned word", addr));
        }
        let b = self.bytes(addr, 8)?;
        Ok(u64::from_le_bytes([
            b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7],
        ]))
    }

    /// Return the little-endian u32 at `addr`.
    #[inline]
    fn u32_at(&self, addr: Addr) -> Result<u32> {
        let b = self.bytes(addr, 4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// Return the little-endian u16 at `addr`.
    #[inline]
    fn u16_at(&self, addr: Addr) -> Result<u16> {
        let b = self.bytes(addr, 2)?;
        Ok(u16::from_le_bytes([b[0], b[1]]))
    }

    /// Return the byte at `addr`.
    #[inline]
    fn u8_at(&self, addr: Addr) -> Result<u8> {
        Ok(self.bytes(addr, 1)?[0])
    }
}

/// Words of a record of the change feed before the key (`section::notices`).
pub const NOTICE_WORDS: usize = 6;

/// What is reported of a change of a watched container.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// The container.
    pub container: Obj,
    /// What was changed; the numbers belong to the upper layers.
    pub kind: u16,
    /// First index of the items.
    pub at: u64,
    /// Number of entries or items that were removed.
    pub removed: u64,
    /// Number of entries or items that were added.
    pub added: u64,
    /// The entry's key, in the form of the upper layers.
    pub key: &'a [u8],
}

/// A state that an operation can return to: how much there was to undo and to free.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {
    pub(crate) undo: u64,
    pub(crate) deferred: usize,
}

/// Write access to bytes of the store, inside a write section.
pub trait PagesMut: Pages {
    /// Store a u64 (8-aligned), undo-logged. It is one aligned store, so it is never seen torn.
    fn set_u64(&mut self, addr: Addr, value: u64) -> Result<()>;

    /// `set_u64` that replaces one value by another. Nothing else moves or changes.
    #[inline]
    fn set_value(&mut self, addr: Addr, value: u64) -> Result<()> {
        self.set_u64(addr, value)
    }

    /// Store a time of change that is later than the one there. The old one need not be restored: a rollback or a kill
    /// of a single operation may leave the new one. The store is undo-logged in a transaction only.
    fn set_time(&mut self, addr: Addr, now: u64) -> Result<()> {
        self.set_u64(addr, now)
    }

    /// Store bytes within one page, undo-logged.
    fn set_bytes(&mut self, addr: Addr, bytes: &[u8]) -> Result<()>;

    /// Return memory allocated in this operation, to be filled without undo.
    fn init(&mut self, addr: Addr, len: usize) -> Result<&mut [u8]>;

    /// Allocate a logical page of zeros.
    fn alloc_page(&mut self) -> Result<PageNo>;

    /// Free a logical page. The change is undo-logged. It is called only while commit applies the frees, so the page is
    /// not allocated again in the same transaction.
    fn free_page(&mut self, page: PageNo) -> Result<()>;

    /// Free a logical page of the heap, as `free_page`. Its first word becomes 0, or its content goes with its physical
    /// page; if the process dies after the commit, the content may also stay. So no address that is kept beyond the
    /// operation may point into it without being checked elsewhere.
    fn retire_page(&mut self, page: PageNo) -> Result<()> {
        self.set_u64(page.addr(), 0)?;
        self.free_page(page)
    }

    /// Defer the free of a heap segment to the commit.
    fn defer_free(&mut self, addr: Addr) -> Result<()>;

    /// Take the deferred segments, at commit.
    fn take_deferred(&mut self) -> Vec<Addr>;

    /// Called before a container is changed. `key` is the hash of the entry, or None for a change of the whole
    /// container. Returns `Error::Locked` if another owner's lock forbids the change. Marks the container as changed by
    /// the open transaction.
    fn changing(&mut self, _obj: Obj, _key: Option<u64>) -> Result<()> {
        Ok(())
    }

    /// Return whether any process watches the container: its changes are to be announced.
    #[inline]
    fn is_watched(&self, _id: ObjectId) -> bool {
        false
    }

    /// Announce a change of a watched container, which counts when the operation is committed.
    fn announce(&mut self, _notice: &Notice<'_>) {}

    /// Called before entries of a dict or object change that are not named one by one.
    fn changing_all(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called before the home of a container changes although no entry of it does: what its path showed as a container
    /// becomes a reference, or the reverse.
    fn rehomed(&mut self) -> Result<()> {
        Ok(())
    }

    /// Return whether any process pins this container.
    fn is_pinned(&self, _id: ObjectId) -> bool {
        false
    }

    /// Let waiting readers in. Call it only when the operation has not yet changed anything a reader can reach (while a
    /// large value is written into fresh memory).
    fn yield_to_readers(&mut self) -> Result<()> {
        Ok(())
    }

    /// Return a state of the operation that `back_to` can restore. Memory allocated before it no longer counts as new.
    fn savepoint(&mut self) -> Result<Savepoint>;

    /// Undo everything since the savepoint.
    fn back_to(&mut self, savepoint: Savepoint) -> Result<()>;

    /// Run `f`, which allocates memory for an optional improvement. Return None, with everything `f` did undone, if
    /// there is no room for it.
    fn attempt<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<Option<R>>
    where
        Self: Sized,
    {
        let before = self.savepoint()?;
        match f(self) {
            Err(Error::NoSpace { .. }) => self.back_to(before).map(|()| None),
            done => done.map(Some),
        }
    }

    /// Return an id that was never used and is never used again.
    fn next_id(&mut self) -> Result<ObjectId>;

    /// Return the time to stamp changes with, in nanoseconds since 1970.
    fn now(&mut self) -> u64;
}

/// Check that `[addr, addr + len)` lies in one page. Return its page and offset.
#[inline(always)]
pub fn within_page(addr: Addr, len: usize) -> Result<(PageNo, usize)> {
    let offset = addr.offset();
    if len > PAGE_SIZE - offset {
        return Err(Error::corrupt("a range that crosses a page", addr));
    }
    Ok((addr.page(), offset))
}
