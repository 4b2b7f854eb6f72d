//! A store's memory without a file: the test double of a write section. It keeps an undo log and refuses `init` on
//! memory that was not allocated since the last savepoint. A wrong unlogged store therefore fails a unit test instead
//! of losing data after a crash.

use crate::error::{Error, Result};
use crate::ids::{Addr, ObjectId, PAGE_SIZE, PageNo};
use crate::page::access::{Pages, PagesMut, Savepoint, within_page};
use crate::page::superblock as sb;
use std::collections::HashSet;

/// Pages in ordinary memory, with undo.
#[derive(Debug)]
pub struct MemPages {
    pages: Vec<Box<[u8; PAGE_SIZE]>>,
    undo: Vec<(Addr, Vec<u8>)>,
    deferred: Vec<Addr>,
    /// 8-byte units whose old content need not be restored: allocated pages, and segments allocated since the last
    /// savepoint (reported by the heap through `note_alloc`).
    fresh_pages: HashSet<u64>,
    fresh: HashSet<u64>,
    /// If false, `init` is not checked (the heap cannot report its segments to this double).
    pub check_init: bool,
    next_id: u64,
    clock: u64,
    /// Number of page allocations left before every further one fails with ENOSPC.
    pub pages_left: usize,
}

impl Default for MemPages {
    fn default() -> Self {
        Self::new()
    }
}

impl MemPages {
    /// Create an empty store: only the superblock, page 0.
    #[must_use]
    pub fn new() -> MemPages {
        let mut m = MemPages {
            pages: vec![Box::new([0; PAGE_SIZE])],
            undo: Vec::new(),
            deferred: Vec::new(),
            fresh_pages: HashSet::new(),
            fresh: HashSet::new(),
            check_init: false,
            next_id: 1,
            clock: 1,
            pages_left: usize::MAX,
        };
        m.pages[0][..8].copy_from_slice(&sb::MAGIC_VALUE.to_le_bytes());
        m.pages[0][8..16].copy_from_slice(&1u64.to_le_bytes());
        m
    }

    /// Report a segment as just allocated, so that `init` on it is allowed.
    pub fn note_alloc(&mut self, addr: Addr, len: usize) {
        for unit in (addr.0 / 8)..(addr.0 + len as u64).div_ceil(8) {
            self.fresh.insert(unit);
        }
    }

    /// Undo everything since the last `commit`.
    pub fn rollback(&mut self) {
        self.undo_to(0);
        self.deferred.clear();
        self.fresh.clear();
        self.fresh_pages.clear();
    }

    /// End the transaction. The caller applies the deferred frees first (`heap::apply_frees`).
    pub fn commit(&mut self) {
        assert!(self.deferred.is_empty(), "commit with frees not applied");
        self.undo.clear();
        self.fresh.clear();
        self.fresh_pages.clear();
    }

    /// Return the number of pages in use, including the superblock.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    fn undo_to(&mut self, left: usize) {
        for (addr, old) in self.undo.drain(left..).rev() {
            let (page, offset) = (addr.page().0 as usize, addr.offset());
            self.pages[page][offset..offset + old.len()].copy_from_slice(&old);
        }
    }

    fn log(&mut self, addr: Addr, len: usize) -> Result<()> {
        let old = self.bytes(addr, len)?.to_vec();
        self.undo.push((addr, old));
        Ok(())
    }
}

impl Pages for MemPages {
    fn bytes(&self, addr: Addr, len: usize) -> Result<&[u8]> {
        let (page, offset) = within_page(addr, len)?;
        let page = self
            .pages
            .get(page.0 as usize)
            .ok_or_else(|| Error::corrupt(crate::page::access::BEYOND, addr))?;
        Ok(&page[offset..offset + len])
    }

    fn hash_seed(&self) -> u64 {
        0x5eed
    }
}

impl PagesMut for MemPages {
    fn set_u64(&mut self, addr: Addr, value: u64) -> Result<()> {
        if addr.0 & 7 != 0 {
            return Err(Error::corrupt("misaligned word", addr));
        }
        self.set_bytes(addr, &value.to_le_bytes())
    }

    fn set_bytes(&mut self, addr: Addr, bytes: &[u8]) -> Result<()> {
        self.log(addr, bytes.len())?;
        let (page, offset) = (addr.page().0 as usize, addr.offset());
        self.pages[page][offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn init(&mut self, addr: Addr, len: usize) -> Result<&mut [u8]> {
        let (page, offset) = within_page(addr, len)?;
        if self.check_init && !self.fresh_pages.contains(&page.0) {
            for unit in (addr.0 / 8)..(addr.0 + len as u64).div_ceil(8) {
                assert!(self.fresh.contains(&unit), "init of {addr:?} that is not fresh");
            }
        }
        let page = self
            .pages
            .get_mut(page.0 as usize)
            .ok_or_else(|| Error::corrupt(crate::page::access::BEYOND, addr))?;
        Ok(&mut page[offset..offset + len])
    }

    fn alloc_page(&mut self) -> Result<PageNo> {
        if self.pages_left == 0 {
            return Err(Error::NoSpace {
                what: "test pages",
                source: std::io::Error::from_raw_os_error(libc::ENOSPC),
            });
        }
        self.pages_left -= 1;
        let head = self.u64_at(sb::FREE_PAGE)?;
        let no = if head != 0 {
            let next = self.u64_at(PageNo(head).addr())?;
            let count = self.u64_at(sb::FREE_PAGES)?;
            self.set_u64(sb::FREE_PAGE, next)?;
            self.set_u64(sb::FREE_PAGES, count - 1)?;
            // The double logs the whole page; the real section allocates a fresh physical page.
            self.set_bytes(PageNo(head).addr(), &[0; PAGE_SIZE])?;
            head
        } else {
            let no = self.u64_at(sb::NEXT_PAGE)?;
            if no as usize == self.pages.len() {
                self.pages.push(Box::new([0; PAGE_SIZE]));
            } else {
                self.set_bytes(PageNo(no).addr(), &[0; PAGE_SIZE])?;
            }
            self.set_u64(sb::NEXT_PAGE, no + 1)?;
            no
        };
        self.fresh_pages.insert(no);
        Ok(PageNo(no))
    }

    fn free_page(&mut self, page: PageNo) -> Result<()> {
        let head = self.u64_at(sb::FREE_PAGE)?;
        let count = self.u64_at(sb::FREE_PAGES)?;
        self.set_u64(page.addr(), head)?;
        self.set_u64(sb::FREE_PAGE, page.0)?;
        self.set_u64(sb::FREE_PAGES, count + 1)
    }

    fn defer_free(&mut self, addr: Addr) -> Result<()> {
        self.deferred.push(addr);
        Ok(())
    }

    fn take_deferred(&mut self) -> Vec<Addr> {
        std::mem::take(&mut self.deferred)
    }

    fn savepoint(&mut self) -> Result<Savepoint> {
        Ok(Savepoint {
            undo: self.undo.len() as u64,
            deferred: self.deferred.len(),
        })
    }

    fn back_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.undo_to(savepoint.undo as usize);
        self.deferred.truncate(savepoint.deferred);
        Ok(())
    }

    fn next_id(&mut self) -> Result<ObjectId> {
        self.next_id += 1;
        Ok(ObjectId(self.next_id))
    }

    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}
