//! A shared mapping of a file that may grow.
//!
//! 1. The mapping is longer than the file. Pages beyond the file's end must not be touched: callers grow the
//!    file first and check every offset against the allocated size. This module checks that an offset lies
//!    inside the mapping, so that a wrong offset cannot reach other memory.
//! 2. A mapping takes only the addresses that the file needs, with room to grow: a *window*. An access past
//!    its end maps a longer window of the same file. Both windows show the same memory. The older windows
//!    stay mapped until the end: references into them are valid for as long as the mapping.
//! 3. A mapping can be retired while references into it may exist (`Map::retire`): zeroed memory replaces it
//!    at the same addresses. So blocks and file are released at once. A thread that does not know yet reads
//!    zeros, or changes memory that belongs to no file: addresses stay valid for as long as the mapping, as
//!    its users were promised. (Unmapping, or making the memory inaccessible, would crash safe code; and an
//!    unmapped address would soon be reused.) A reader checks afterwards whether the store was closed
//!    (`page::session::close`).
//! 4. A window is published base first, then length: a thread that sees the new length sees the new base. The
//!    length never shrinks.

use crate::error::{Error, Result};
use crate::ids::{PAGE_SIZE, PhysicalPage};
use crate::raw::fault::Watch;
use crate::raw::files::held;
use crate::raw::files::held::Held;
use crate::raw::process;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The minimum length of a window, if the limit of address space allows. Short in tests, so that stores
/// outgrow it.
const LEAST: usize = if cfg!(feature = "testing") {
    1 << 20
} else {
    256 << 20
};
/// The ratio of a new window's length to the needed length. Growth is rare, and all windows together are at
/// most a third longer than the last.
const AHEAD: usize = if cfg!(feature = "testing") { 2 } else { 4 };

/// One mapping of the start of the file.
#[derive(Debug)]
pub(crate) struct Window {
    map: MmapRaw,
    watch: &'static Watch,
}

/// A mapping of a file.
#[derive(Debug, Default)]
pub(crate) struct Map {
    /// Base address of the newest window.
    base: AtomicPtr<u8>,
    len: AtomicUsize,
    /// All windows, the newest last.
    windows: Mutex<Vec<Window>>,
    /// Length of the longest allowed window.
    most: usize,
    writable: bool,
    random: bool,
    /// Set when the mapping is retired, under the mutex of `windows`.
    retired: AtomicBool,
    /// The file for further windows; None for a mapping that does not grow.
    source: Option<Arc<Held>>,
}

#[cold]
fn outside(at: usize, len: usize) -> ! {
    panic!("offset {at:#x}+{len:#x} outside the mapping")
}

/// The windows of a mapping, locked: none is added while this value lives.
pub(crate) type Windows<'a> = MutexGuard<'a, Vec<Window>>;

impl Window {
    fn new(file: &File, len: usize, writable: bool, random: bool) -> std::io::Result<Window> {
        let mut options = MmapOptions::new();
        options.len(len).no_reserve_swap();
        let map = match writable {
            true => options.map_raw(file)?,
            false => options.map_raw_read_only(file)?,
        };
        if random {
            // Only a hint: an error changes nothing.
            let _ = map.advise(memmap2::Advice::Random);
        }
        let watch = Watch::new(map.as_ptr(), len);
        Ok(Window { map, watch })
    }

    /// Replace the window's memory by zeros. Can be repeated. The watch stays, but has no more faults to
    /// catch.
    fn retire(&self, writable: bool) -> std::io::Result<()> {
        let protection = match writable {
            true => libc::PROT_READ | libc::PROT_WRITE,
            false => libc::PROT_READ,
        };
        // Shared memory does not count against the limit of a process's data (`ulimit -d`). A child that is
        // forked later shares it: both see the store as closed.
        for sharing in [libc::MAP_SHARED, libc::MAP_PRIVATE] {
            // SAFETY: the range is this window's mapping, which it owns until it is dropped. References into
            // it stay valid: any bytes are valid for the types that are handed out. A race with writers of
            // other processes becomes one with the kernel's change of pages, and its result does not count
            // (`page`).
            let at = unsafe {
                libc::mmap(
                    self.map.as_mut_ptr().cast(),
                    self.map.len(),
                    protection,
                    sharing | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                    -1,
                    0,
                )
            };
            if at != libc::MAP_FAILED {
                return Ok(());
            }
        }
        Err(std::io::Error::last_os_error())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.watch.end();
    }
}

/// Return the length of a new window for a file of which `need` bytes are used.
fn window(need: usize, most: usize) -> usize {
    need.saturating_mul(AHEAD)
        .clamp(LEAST, 1 << 60)
        .next_power_of_two()
        .min(most)
}

fn cannot_map(len: usize, e: std::io::Error) -> Error {
    let limit = match process::limit(libc::RLIMIT_AS) {
        Some(n) => format!("; the limit of address space (ulimit -v) is {n} bytes"),
        None => "; the limits are address space and the number of mappings (vm.max_map_count)".to_owned(),
    };
    Error::io(
        format!("cannot map {len} bytes of the store into memory{limit}"),
        e,
    )
}

impl Map {
    /// Map `file` from its start, for random access: the first `need` bytes at once, and up to `most` bytes
    /// as they are used.
    pub(crate) fn growing(file: Arc<Held>, need: usize, most: usize) -> Result<Map> {
        let mut map = Map {
            most,
            writable: true,
            random: true,
            ..Map::default()
        };
        map.add(&*file.using()?, need, window(need, most))?;
        map.source = Some(file);
        Ok(map)
    }

    /// Map exactly `len` bytes of `file` from its start, for random access: where most of the file is holes, reading
    /// ahead clears 8 MiB of memory in a single access.
    pub(crate) fn fixed(file: &File, len: usize) -> Result<Map> {
        let map = Map {
            writable: true,
            random: true,
            ..Map::default()
        };
        map.add(file, len, len)?;
        Ok(map)
    }

    /// Map `len` bytes of `file` from its start, read-only: only `page` may be used on the result. `random`
    /// says that accesses are scattered, so that the kernel does not read ahead.
    pub(crate) fn read_only(file: &File, len: usize, random: bool) -> Result<Map> {
        let map = Map {
            random,
            ..Map::default()
        };
        map.add(file, len, len)?;
        Ok(map)
    }

    /// Lock the windows, so that none is added.
    pub(crate) fn hold(&self) -> Windows<'_> {
        self.windows()
    }

    fn windows(&self) -> Windows<'_> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Map a window of `want` bytes, or of as many as the limits allow, down to `need`.
    fn add(&self, file: &File, need: usize, want: usize) -> Result<()> {
        self.push(&mut self.windows(), file, need, want)
    }

    fn push(&self, windows: &mut Vec<Window>, file: &File, need: usize, mut want: usize) -> Result<()> {
        if self.retired.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        let window = loop {
            match Window::new(file, want, self.writable, self.random) {
                Ok(window) => break window,
                Err(_) if want > need => want = (want / 2).max(need),
                Err(e) => return Err(cannot_map(want, e)),
            }
        };
        // The order matters: see rule 4 of this file.
        self.base.store(window.map.as_mut_ptr(), Ordering::Release);
        self.len.store(want, Ordering::Release);
        windows.push(window);
        Ok(())
    }

    /// Extend the mapping to at least `need` bytes. An error leaves it unchanged.
    #[inline]
    pub(crate) fn reach(&self, need: usize) -> Result<()> {
        if need <= self.len.load(Ordering::Acquire) {
            return Ok(());
        }
        self.widen(need)
    }

    #[cold]
    fn widen(&self, need: usize) -> Result<()> {
        let Some(file) = self.source.as_ref().filter(|_| need <= self.most) else {
            return Err(Error::Corrupt {
                what: "a page beyond the largest store, file offset",
                at: need as u64,
            });
        };
        let mut windows = self.windows();
        if need <= self.len.load(Ordering::Acquire) {
            return Ok(());
        }
        // The program may have closed the descriptor, and its number may now belong to another file.
        let file = held::ours(file, "the store cannot be mapped further")?;
        let have = file.metadata().map_err(|e| Error::io("fstat", e))?.len();
        if need as u64 > have.next_multiple_of(PAGE_SIZE as u64) {
            return Err(Error::Corrupt {
                what: "a physical page beyond the end of the file, file offset",
                at: need as u64 - PAGE_SIZE as u64,
            });
        }
        self.push(&mut windows, &file, need, window(need, self.most))
    }

    /// Release the file's memory: zeros replace it, and no file is mapped any more. Can be repeated.
    pub(crate) fn retire(&self) -> Result<()> {
        let mut windows = self.windows();
        if self.retired.load(Ordering::Relaxed) {
            return Ok(());
        }
        for window in windows.iter_mut() {
            window.retire(self.writable).map_err(|e| {
                Error::io(
                    "the store is closed, but its mapping cannot be given back before the last handle is dropped",
                    e,
                )
            })?;
        }
        self.retired.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Take the file's pages out of this process's memory. They stay in the kernel's cache, and are mapped again
    /// when they are used.
    pub(crate) fn forget_pages(&self) {
        let windows = self.windows();
        let live = windows.iter().filter(|w| w.watch.fault().is_none());
        for window in live.filter(|_| !self.retired.load(Ordering::Relaxed)) {
            // SAFETY: shared pages of a file keep their content, and references into them stay valid.
            let _ = unsafe { window.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    /// Return the offset of the first access that the file could not serve, if there was one. After it, the
    /// map's content may differ from the file's.
    pub(crate) fn fault(&self) -> Option<usize> {
        self.windows().iter().find_map(|w| w.watch.fault())
    }

    /// Return whether more than single pages of it could not be read.
    pub(crate) fn is_lost(&self) -> bool {
        self.windows().iter().any(|w| w.watch.is_lost())
    }

    #[inline(always)]
    fn base(&self) -> *mut u8 {
        self.base.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn check(&self, at: usize, len: usize, align: usize) {
        let whole = self.len.load(Ordering::Acquire);
        if !at.is_multiple_of(align) || at.checked_add(len).is_none_or(|end| end > whole) {
            outside(at, len);
        }
    }

    /// Return `count` shared 64-bit words from byte `at`. The range must be allocated in the file.
    #[inline]
    pub(crate) fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        self.check(at, count * 8, 8);
        // SAFETY: in bounds and aligned (checked above); the memory lives as long as `self`, and
        // any bytes are a valid AtomicU64. Other accesses to this range are atomic too: only
        // sidecar ranges are given out here.
        unsafe { std::slice::from_raw_parts(self.base().add(at).cast(), count) }
    }

    /// Return one shared 64-bit word.
    #[inline(always)]
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        self.check(at, 8, 8);
        // SAFETY: as for `words`.
        unsafe { &*self.base().add(at).cast::<AtomicU64>() }
    }

    /// Return `count` shared 32-bit words from byte `at`.
    #[inline]
    pub(crate) fn words32(&self, at: usize, count: usize) -> &[AtomicU32] {
        self.check(at, count * 4, 4);
        // SAFETY: as for `words`.
        unsafe { std::slice::from_raw_parts(self.base().add(at).cast(), count) }
    }

    /// Return one shared 32-bit word.
    #[inline]
    pub(crate) fn word32(&self, at: usize) -> &AtomicU32 {
        &self.words32(at, 1)[0]
    }

    #[inline(always)]
    fn page_ptr(&self, page: PhysicalPage) -> Result<*mut u8> {
        let end = (page.0 as usize + 1) * PAGE_SIZE;
        if end > self.len.load(Ordering::Acquire) {
            self.widen(end)?;
        }
        // SAFETY: inside the newest window.
        Ok(unsafe { self.base().add(page.0 as usize * PAGE_SIZE) })
    }

    /// Return the bytes of a physical page.
    ///
    /// # Safety
    /// No thread or process writes the page while the slice lives: the caller is inside a read section or
    /// holds the latch, or the page is frozen (it belongs to an epoch that has ended).
    #[inline]
    pub(crate) unsafe fn page(&self, page: PhysicalPage) -> Result<&[u8; PAGE_SIZE]> {
        let p = self.page_ptr(page)?;
        // SAFETY: in bounds; not written while the slice lives, by the caller's promise.
        Ok(unsafe { &*p.cast::<[u8; PAGE_SIZE]>() })
    }

    /// Copy a physical page that other threads may be changing: each word of the copy is one that the page
    /// contained.
    pub(crate) fn copy_page(&self, page: PhysicalPage, to: &mut [u8; PAGE_SIZE]) -> Result<()> {
        let p = self.page_ptr(page)?;
        for (i, to) in to.chunks_exact_mut(8).enumerate() {
            // SAFETY: in bounds and aligned; an atomic load, so that the compiler neither splits nor repeats it.
            let word =
                unsafe { (*p.add(i * 8).cast::<AtomicU64>()).load(std::sync::atomic::Ordering::Relaxed) };
            to.copy_from_slice(&word.to_ne_bytes());
        }
        Ok(())
    }

    /// Prefetch a cache line that is needed soon. Never fails, and changes nothing.
    #[inline(always)]
    pub(crate) fn prefetch(&self, page: PhysicalPage, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        if (page.0 as usize + 1) * PAGE_SIZE <= self.len.load(Ordering::Acquire) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: in bounds; a prefetch has no visible effect and does not fault.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(
                    self.base()
                        .add(page.0 as usize * PAGE_SIZE + (offset & (PAGE_SIZE - 1)))
                        .cast::<i8>(),
                )
            };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (page, offset);
    }

    /// Return the bytes of a physical page, to be changed.
    ///
    /// # Safety
    /// No other thread or process reads or writes the page while the slice lives: the caller is inside a
    /// write section, or the page is one that it allocated and that is not reachable yet.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn page_mut(&self, page: PhysicalPage) -> Result<&mut [u8; PAGE_SIZE]> {
        let p = self.page_ptr(page)?;
        // SAFETY: in bounds; exclusive by the caller's promise.
        Ok(unsafe { &mut *p.cast::<[u8; PAGE_SIZE]>() })
    }

    /// Store one aligned word into a physical page in a single instruction.
    ///
    /// # Safety
    /// As for `page_mut`.
    #[inline]
    pub(crate) unsafe fn store_u64(&self, page: PhysicalPage, offset: usize, value: u64) -> Result<()> {
        debug_assert!(offset.is_multiple_of(8) && offset + 8 <= PAGE_SIZE);
        let p = self.page_ptr(page)?;
        // SAFETY: in bounds, aligned; exclusive by the caller's promise. The store is atomic so that the
        // compiler cannot split it: a process killed around it leaves the old or the new word.
        unsafe {
            (*p.add(offset & (PAGE_SIZE - 8)).cast::<AtomicU64>())
                .store(value.to_le(), std::sync::atomic::Ordering::Release)
        };
        Ok(())
    }

    /// Store a time of change, in nanoseconds: `now`, or the next nanosecond after the time that is there if the
    /// clock, which counts in ticks, has not moved beyond it. So two states of a container have two times. A clock
    /// that was set back by a second or more is followed.
    ///
    /// # Safety
    /// As for `page_mut`.
    #[inline]
    pub(crate) unsafe fn store_time(&self, page: PhysicalPage, offset: usize, now: u64) -> Result<()> {
        debug_assert!(offset.is_multiple_of(8) && offset + 8 <= PAGE_SIZE);
        let p = self.page_ptr(page)?;
        // SAFETY: in bounds, aligned; exclusive by the caller's promise. The store is atomic as in `store_u64`.
        unsafe {
            let word = &*p.add(offset & (PAGE_SIZE - 8)).cast::<AtomicU64>();
            let old = u64::from_le(word.load(std::sync::atomic::Ordering::Relaxed));
            let time = if old.wrapping_sub(now) < 1_000_000_000 {
                old.wrapping_add(1)
            } else {
                now
            };
            word.store(time.to_le(), std::sync::atomic::Ordering::Release);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
