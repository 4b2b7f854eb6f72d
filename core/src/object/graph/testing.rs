//! The in-memory store for the tests of the graph and the operations: `HeapMem` with pins.

use crate::error::Result;
use crate::heap;
use crate::heap::testing::HeapMem;
use crate::ids::{Addr, Obj, ObjectId, PageNo};
use crate::object::ops;
use crate::page::access::{Pages, PagesMut, Savepoint};
use crate::page::superblock as sb;
use std::collections::HashSet;

pub(crate) struct GraphMem {
    pub(crate) heap: HeapMem,
    pub(crate) pins: HashSet<ObjectId>,
    /// The arguments of `changing`.
    pub(crate) changes: Vec<(ObjectId, Option<u64>)>,
    pub(crate) root: Obj,
}

impl GraphMem {
    pub(crate) fn new() -> GraphMem {
        let mut heap = HeapMem::new();
        let root = ops::create_root(&mut heap).unwrap();
        heap.commit().unwrap();
        GraphMem {
            heap,
            pins: HashSet::new(),
            changes: Vec::new(),
            root,
        }
    }

    pub(crate) fn commit(&mut self) {
        self.heap.commit().unwrap();
    }

    /// End an operation and commit it.
    pub(crate) fn end(&mut self) {
        ops::end_operation(self, 64).unwrap();
        self.commit();
    }

    /// Return the allocated segments: their sizes and first words.
    pub(crate) fn left(&self) -> Vec<(Addr, usize, u64)> {
        (1..self.u64_at(sb::NEXT_PAGE).unwrap())
            .filter_map(|n| heap::page_segments(self, PageNo(n)).ok())
            .flatten()
            .filter(|s| s.allocated)
            .map(|s| (s.addr, s.size, self.u64_at(s.addr).unwrap()))
            .collect()
    }

    /// Allocated heap segments.
    pub(crate) fn segments(&self) -> usize {
        self.left().len()
    }
}

impl Pages for GraphMem {
    fn bytes(&self, addr: Addr, len: usize) -> Result<&[u8]> {
        self.heap.bytes(addr, len)
    }
    fn hash_seed(&self) -> u64 {
        self.heap.hash_seed()
    }
}

impl PagesMut for GraphMem {
    fn set_u64(&mut self, addr: Addr, value: u64) -> Result<()> {
        self.heap.set_u64(addr, value)
    }
    fn set_bytes(&mut self, addr: Addr, bytes: &[u8]) -> Result<()> {
        self.heap.set_bytes(addr, bytes)
    }
    fn init(&mut self, addr: Addr, len: usize) -> Result<&mut [u8]> {
        self.heap.init(addr, len)
    }
    fn alloc_page(&mut self) -> Result<PageNo> {
        self.heap.alloc_page()
    }
    fn free_page(&mut self, page: PageNo) -> Result<()> {
        self.heap.free_page(page)
    }
    fn defer_free(&mut self, addr: Addr) -> Result<()> {
        self.heap.defer_free(addr)
    }
    fn take_deferred(&mut self) -> Vec<Addr> {
        self.heap.take_deferred()
    }
    fn changing(&mut self, obj: Obj, key: Option<u64>) -> Result<()> {
        self.changes.push((obj.id, key));
        Ok(())
    }
    fn is_pinned(&self, id: ObjectId) -> bool {
        self.pins.contains(&id)
    }
    fn savepoint(&mut self) -> Result<Savepoint> {
        self.heap.savepoint()
    }
    fn back_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.heap.back_to(savepoint)
    }
    fn next_id(&mut self) -> Result<ObjectId> {
        self.heap.next_id()
    }
    fn now(&mut self) -> u64 {
        self.heap.now()
    }
}
