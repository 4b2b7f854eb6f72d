//! How upper layers reach bytes: the two traits that read and write sections implement, so that
//! the heap and object managers are written once and tested without a file (`page::mem`).
//!
//! Rules for callers:
//! 1. A range never crosses a page. Every call checks it, and the page number, and answers
//!    `Error::Corrupt` otherwise: addresses come from a file that may be hostile.
//! 2. `set_*` is undo-logged. `init` is not: it may only touch memory allocated in the same
//!    operation (since the last savepoint), which nothing can reach if the operation rolls back.
//! 3. Memory that is freed stays untouched until commit (`defer_free`): rule 2 depends on it.

use crate::error::{Error, Result};
use crate::ids::{Addr, Obj, ObjectId, PAGE_SIZE, PageNo};

/// What is said of an address behind the last page.
pub const BEYOND: &str = "an address beyond the store";
/// What is said of an address in a page that was given back.
pub const ABSENT: &str = "an address in a page that does not exist";

/// Reading bytes of the store, inside a section.
pub trait Pages {
    /// The bytes of `[addr, addr + len)`, which must lie in one page.
    fn bytes(&self, addr: Addr, len: usize) -> Result<&[u8]>;

    /// Asks for the line at `addr`, which is needed soon. A hint: any address will do.
    #[inline(always)]
    fn prefetch(&self, _addr: Addr) {}

    /// The seed of the store's key hash.
    fn hash_seed(&self) -> u64;

    /// The words that there are at most: nothing is longer.
    #[inline]
    fn words(&self) -> u64 {
        u64::MAX
    }

    /// Called before a container is read: `Error::Busy` when an open transaction of another owner
    /// has changed it (the store then waits and runs the read again).
    #[inline]
    fn reading(&self, _id: ObjectId) -> Result<()> {
        Ok(())
    }

    /// What was noted about something, if nothing but values has changed in the store since.
    #[inline]
    fn recall(&self, _about: [u64; 3]) -> Option<[u64; 2]> {
        None
    }

    /// A number that is another after every change of the store but the replacing of values, inside sections; 0 where
    /// it says nothing.
    #[inline]
    fn structure(&self) -> u64 {
        0
    }

    /// Whether everything that was read so far belongs together. What is kept beyond a section is kept only after it
    /// has answered yes.
    #[inline]
    fn holds(&self) -> bool {
        true
    }

    /// Notes what was found about something: where an entry lies.
    #[inline]
    fn note(&self, _about: [u64; 3], _found: [u64; 2]) {}

    /// The little-endian u64 at `addr`, which must be 8-aligned.
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

    /// The little-endian u32 at `addr`.
    #[inline]
    fn u32_at(&self, addr: Addr) -> Result<u32> {
        let b = self.bytes(addr, 4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// The little-endian u16 at `addr`.
    #[inline]
    fn u16_at(&self, addr: Addr) -> Result<u16> {
        let b = self.bytes(addr, 2)?;
        Ok(u16::from_le_bytes([b[0], b[1]]))
    }

    /// The byte at `addr`.
    #[inline]
    fn u8_at(&self, addr: Addr) -> Result<u8> {
        Ok(self.bytes(addr, 1)?[0])
    }
}

/// A state that an operation can come back to: how much was to be undone and to be freed.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {
    pub(crate) undo: u64,
    pub(crate) deferred: usize,
}

/// Changing bytes of the store, inside a write section.
pub trait PagesMut: Pages {
    /// Stores a u64 (8-aligned), undo-logged. One aligned store: never seen torn.
    fn set_u64(&mut self, addr: Addr, value: u64) -> Result<()>;

    /// `set_u64` that replaces one value by another: every other thing stays where it is and what it is.
    #[inline]
    fn set_value(&mut self, addr: Addr, value: u64) -> Result<()> {
        self.set_u64(addr, value)
    }

    /// Stores a u64 whose old value nobody needs back: a rollback or a kill may leave the new one
    /// (times of change). Not undo-logged where that saves something.
    fn touch(&mut self, addr: Addr, value: u64) -> Result<()> {
        self.set_u64(addr, value)
    }

    /// Stores bytes within one page, undo-logged.
    fn set_bytes(&mut self, addr: Addr, bytes: &[u8]) -> Result<()>;

    /// Memory allocated in this operation, to be filled without undo.
    fn init(&mut self, addr: Addr, len: usize) -> Result<&mut [u8]>;

    /// A logical page of zeros that nothing else uses.
    fn alloc_page(&mut self) -> Result<PageNo>;

    /// Gives a logical page back (undo-logged; called only while commit applies the frees, so
    /// the page is not handed out again in the same transaction).
    fn free_page(&mut self, page: PageNo) -> Result<()>;

    /// Remembers a heap segment to be freed at commit.
    fn defer_free(&mut self, addr: Addr) -> Result<()>;

    /// Takes the remembered segments, at commit.
    fn take_deferred(&mut self) -> Vec<Addr>;

    /// Called before a container is changed; `key` is the hash of the entry concerned, or None for
    /// a change of the whole container. `Error::Locked` when another owner's lock forbids it.
    /// Marks the container as changed by the open transaction.
    fn changing(&mut self, _obj: Obj, _key: Option<u64>) -> Result<()> {
        Ok(())
    }

    /// Whether any process pins this container.
    fn is_pinned(&self, _id: ObjectId) -> bool {
        false
    }

    /// Lets waiting readers in. Only where the operation has not yet changed anything a reader can
    /// reach (while a large value is being written into fresh memory).
    fn yield_to_readers(&mut self) -> Result<()> {
        Ok(())
    }

    /// A state of the operation that can be come back to. Memory that was new so far is old from here on.
    fn savepoint(&mut self) -> Result<Savepoint>;

    /// Undoes what was done since the savepoint.
    fn back_to(&mut self, savepoint: Savepoint) -> Result<()>;

    /// Runs `f`, which allocates memory for something that can also be left as it is. If there is no room for it,
    /// None, and nothing of what `f` did.
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

    /// An id that was never used and never will be.
    fn next_id(&mut self) -> Result<ObjectId>;

    /// The time to stamp changes with, in nanoseconds since 1970.
    fn now(&mut self) -> u64;
}

/// Checks that `[addr, addr + len)` lies in one page; gives its page and offset.
#[inline(always)]
pub fn within_page(addr: Addr, len: usize) -> Result<(PageNo, usize)> {
    let offset = addr.offset();
    if len > PAGE_SIZE - offset {
        return Err(Error::corrupt("a range that crosses a page", addr));
    }
    Ok((addr.page(), offset))
}
