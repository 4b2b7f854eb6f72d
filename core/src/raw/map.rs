//! A shared mapping of a file that may grow under it.
//!
//! The mapping is longer than the file. Pages beyond the file's end must not be touched: callers
//! grow the file first and check every offset against what they know to be allocated; this module
//! checks that an offset lies inside the mapping, so that no wrong number leaves it.

use crate::error::{Error, Result};
use crate::ids::{PAGE_SIZE, PhysNo};
use crate::raw::fault::Watch;
use crate::raw::process;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A mapping.
#[derive(Debug)]
pub(crate) struct Map {
    map: MmapRaw,
    base: *mut u8,
    len: usize,
    watch: &'static Watch,
}

/// A part of a mapping that lies elsewhere in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// Where it is in the mapping.
    pub(crate) at: usize,
    /// Where it is in the file.
    pub(crate) file: u64,
    pub(crate) len: usize,
}

// SAFETY: the mapping is plain shared memory at a fixed place until drop; who may touch which bytes
// when is the contract of the methods below, which holds across threads and processes alike.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

#[cold]
fn outside(at: usize, len: usize) -> ! {
    panic!("offset {at:#x}+{len:#x} outside the mapping")
}

impl Map {
    /// Maps `len` bytes of `file` from its start, or as much as the address space limit allows
    /// down to `least`.
    pub(crate) fn new(file: &File, len: usize, least: usize) -> Result<Map> {
        let mut len = len;
        let map = loop {
            match MmapOptions::new().len(len).no_reserve_swap().map_raw(file) {
                Ok(map) => break map,
                Err(_) if len / 2 >= least => len /= 2,
                Err(e) => {
                    let limit = match process::limit(libc::RLIMIT_AS) {
                        Some(n) => format!("; the limit of address space (ulimit -v) is {n} bytes"),
                        None => String::new(),
                    };
                    return Err(Error::io(
                        format!("cannot map {len} bytes of the store into memory{limit}"),
                        e,
                    ));
                }
            }
        };
        let base = map.as_mut_ptr();
        Ok(Map {
            map,
            base,
            len,
            watch: Watch::new(base, len),
        })
    }

    /// Maps `len` bytes, these pieces of them from elsewhere in the file.
    pub(crate) fn in_pieces(file: &File, len: usize, pieces: &[Piece]) -> Result<Map> {
        let map = Map::new(file, len, len)?;
        for piece in pieces {
            map.check(piece.at, piece.len, PAGE_SIZE);
            // SAFETY: the range lies in this mapping, which nobody uses yet, and the new part of it is of the
            // same kind.
            let done = unsafe {
                libc::mmap(
                    map.base.add(piece.at).cast(),
                    piece.len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE,
                    file.as_raw_fd(),
                    piece.file as libc::off_t,
                )
            };
            if done == libc::MAP_FAILED {
                return Err(Error::io(
                    "cannot map the sidecar into memory",
                    std::io::Error::last_os_error(),
                ));
            }
        }
        Ok(map)
    }

    /// The offset of the first access that the file could not answer, if there was one: from then on what
    /// the map shows need not be what the file holds.
    pub(crate) fn fault(&self) -> Option<usize> {
        self.watch.fault()
    }

    /// Whether more than single pages of it could not be reached.
    pub(crate) fn is_lost(&self) -> bool {
        self.watch.is_lost()
    }

    /// Maps `len` bytes of `file` from its start, for reading only: `page` alone may be used of it.
    pub(crate) fn read_only(file: &File, len: usize) -> Result<Map> {
        let map = MmapOptions::new()
            .len(len)
            .map_raw_read_only(file)
            .map_err(|e| Error::io("cannot map the store into memory (address space limit?)", e))?;
        let base = map.as_mut_ptr();
        Ok(Map {
            map,
            base,
            len,
            watch: Watch::new(base, len),
        })
    }

    /// Tells the kernel not to read ahead: accesses are scattered.
    pub(crate) fn advise_random(&self) {
        // Only a hint: an error changes nothing.
        let _ = self.map.advise(memmap2::Advice::Random);
    }

    /// Pages covered by the mapping.
    #[inline]
    pub(crate) fn pages(&self) -> u64 {
        (self.len / PAGE_SIZE) as u64
    }

    #[inline(always)]
    fn check(&self, at: usize, len: usize, align: usize) {
        if !at.is_multiple_of(align) || at.checked_add(len).is_none_or(|end| end > self.len) {
            outside(at, len);
        }
    }

    /// `count` shared 64-bit words from byte `at`. The range must be allocated in the file.
    #[inline]
    pub(crate) fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        self.check(at, count * 8, 8);
        // SAFETY: in bounds and aligned (checked above); the memory lives as long as `self`, and
        // any bytes are a valid AtomicU64. Other accesses to this range are atomic too: only
        // sidecar ranges are given out here.
        unsafe { std::slice::from_raw_parts(self.base.add(at).cast(), count) }
    }

    /// One shared 64-bit word.
    #[inline(always)]
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        self.check(at, 8, 8);
        // SAFETY: as for `words`.
        unsafe { &*self.base.add(at).cast::<AtomicU64>() }
    }

    /// `count` shared 32-bit words from byte `at`.
    #[inline]
    pub(crate) fn words32(&self, at: usize, count: usize) -> &[AtomicU32] {
        self.check(at, count * 4, 4);
        // SAFETY: as for `words`.
        unsafe { std::slice::from_raw_parts(self.base.add(at).cast(), count) }
    }

    /// One shared 32-bit word.
    #[inline]
    pub(crate) fn word32(&self, at: usize) -> &AtomicU32 {
        &self.words32(at, 1)[0]
    }

    #[inline(always)]
    fn page_ptr(&self, page: PhysNo) -> Result<*mut u8> {
        if u64::from(page.0) >= self.pages() {
            return Err(Error::Corrupt {
                what: "a physical page beyond the mapping (a limit of address space, ulimit -v?), file offset",
                at: u64::from(page.0) * PAGE_SIZE as u64,
            });
        }
        // SAFETY: inside the mapping.
        Ok(unsafe { self.base.add(page.0 as usize * PAGE_SIZE) })
    }

    /// The bytes of a physical page.
    ///
    /// # Safety
    /// For as long as the slice lives nobody writes the page: the caller is inside a read section
    /// or holds the latch, or the page is frozen (it belongs to an epoch that has ended).
    #[inline]
    pub(crate) unsafe fn page(&self, page: PhysNo) -> Result<&[u8; PAGE_SIZE]> {
        let p = self.page_ptr(page)?;
        // SAFETY: in bounds; not written meanwhile by the caller's promise.
        Ok(unsafe { &*p.cast::<[u8; PAGE_SIZE]>() })
    }

    /// Asks the processor to load a line, which is needed soon. Never fails, and changes nothing.
    #[inline(always)]
    pub(crate) fn prefetch(&self, page: PhysNo, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Ok(p) = self.page_ptr(page) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: in bounds; a prefetch reads nothing that anybody sees, and does not fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.add(offset & (PAGE_SIZE - 1)).cast::<i8>()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (page, offset);
    }

    /// The bytes of a physical page, to be changed.
    ///
    /// # Safety
    /// For as long as the slice lives nobody else reads or writes the page: the caller is inside a
    /// write section, or the page is one that it allocated and that nothing reaches yet.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn page_mut(&self, page: PhysNo) -> Result<&mut [u8; PAGE_SIZE]> {
        let p = self.page_ptr(page)?;
        // SAFETY: in bounds; exclusive by the caller's promise.
        Ok(unsafe { &mut *p.cast::<[u8; PAGE_SIZE]>() })
    }

    /// Stores one aligned word into a physical page in a single instruction.
    ///
    /// # Safety
    /// As for `page_mut`.
    #[inline]
    pub(crate) unsafe fn store_u64(&self, page: PhysNo, offset: usize, value: u64) -> Result<()> {
        debug_assert!(offset.is_multiple_of(8) && offset + 8 <= PAGE_SIZE);
        let p = self.page_ptr(page)?;
        // SAFETY: in bounds, aligned; exclusive by the caller's promise. An atomic store so that the
        // compiler cannot split it: a process killed in between leaves the old or the new word.
        unsafe {
            (*p.add(offset & (PAGE_SIZE - 8)).cast::<AtomicU64>())
                .store(value.to_le(), std::sync::atomic::Ordering::Release)
        };
        Ok(())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        self.watch.end();
    }
}
