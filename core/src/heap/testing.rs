//! A `MemPages` that tracks the heap: it sees in the bitmap stores which segments are allocated, so it can
//! check `init` for everything built on the heap.

use super::class::{HEADER, MAP_WORDS};
use super::slab::Slab;
use crate::error::Result;
use crate::ids::{Addr, ObjectId, PageNo};
use crate::page::access::{Pages, PagesMut, Savepoint};
use crate::page::mem::MemPages;

/// Pages in memory that track the heap; see the module.
#[derive(Debug)]
pub(crate) struct HeapMem {
    pub(crate) mem: MemPages,
    /// Calls of `set_u64` and `set_bytes` so far.
    pub(crate) logged: usize,
    /// Calls of `yield_to_readers` so far.
    pub(crate) yields: usize,
}

impl HeapMem {
    pub(crate) fn new() -> HeapMem {
        let mut mem = MemPages::new();
        mem.check_init = true;
        HeapMem {
            mem,
            logged: 0,
            yields: 0,
        }
    }

    /// Apply the frees and commit.
    pub(crate) fn commit(&mut self) -> Result<()> {
        super::apply_frees(self)?;
        self.mem.commit();
        Ok(())
    }

    pub(crate) fn rollback(&mut self) {
        self.mem.rollback();
    }
}

impl Pages for HeapMem {
    fn bytes(&self, addr: Addr, len: usize) -> Result<&[u8]> {
        self.mem.bytes(addr, len)
    }
    fn hash_seed(&self) -> u64 {
        self.mem.hash_seed()
    }
}

impl PagesMut for HeapMem {
    fn set_u64(&mut self, addr: Addr, value: u64) -> Result<()> {
        self.logged += 1;
        let word = (addr.offset() / 8).wrapping_sub(HEADER / 8 - MAP_WORDS);
        if word < MAP_WORDS
            && let Ok(slab) = Slab::read(&self.mem, addr.page())
        {
            for bit in (0..64).filter(|bit| value >> bit & 1 != 0 && slab.map[word] >> bit & 1 == 0) {
                let start = slab.addr() + slab.class.offset_of(word * 64 + bit);
                self.mem.note_alloc(start, slab.class.size as usize);
            }
        }
        self.mem.set_u64(addr, value)
    }
    fn set_bytes(&mut self, addr: Addr, bytes: &[u8]) -> Result<()> {
        self.logged += 1;
        self.mem.set_bytes(addr, bytes)
    }
    fn init(&mut self, addr: Addr, len: usize) -> Result<&mut [u8]> {
        self.mem.init(addr, len)
    }
    fn alloc_page(&mut self) -> Result<PageNo> {
        self.mem.alloc_page()
    }
    fn free_page(&mut self, page: PageNo) -> Result<()> {
        self.mem.free_page(page)
    }
    fn defer_free(&mut self, addr: Addr) -> Result<()> {
        self.mem.defer_free(addr)
    }
    fn take_deferred(&mut self) -> Vec<Addr> {
        self.mem.take_deferred()
    }
    fn yield_to_readers(&mut self) -> Result<()> {
        self.yields += 1;
        Ok(())
    }
    fn savepoint(&mut self) -> Result<Savepoint> {
        self.mem.savepoint()
    }
    fn back_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.mem.back_to(savepoint)
    }
    fn next_id(&mut self) -> Result<ObjectId> {
        self.mem.next_id()
    }
    fn now(&mut self) -> u64 {
        self.mem.now()
    }
}
