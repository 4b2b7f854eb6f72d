//! Page faults that the disk cannot serve: SIGBUS on a mapped file that another program has truncated, or
//! whose blocks cannot be read. Without a handler, the signal kills the process.
//!
//! 1. The handler is installed once per process, when the first file is mapped, and stays. It records the
//!    fault for its map, then maps a private page of zeros in its place and returns: the access completes,
//!    with zeros. The order matters: another thread that reads the zeros finds the record.
//! 2. So a reader of a map must check for faults before its result counts (`any`, one load; then the map
//!    itself). A map that has had a fault is never used again except for undo: the true content of a zeroed
//!    page is unknown.
//! 3. The handler uses only system calls and atomics, since it may interrupt any code. The table of maps is a
//!    list of blocks that are never freed; places in it are reused.
//! 4. A fault elsewhere goes to the previous handler, or kills the process as it would have.

use crate::raw::process::EVENTS;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, compiler_fence, fence};

/// The number of pages of a map that are replaced singly. The next fault replaces all the rest behind it, so
/// that the number of mappings stays bounded.
pub(crate) const SINGLY: u32 = 256;

/// The entry of a map in the table.
#[derive(Debug)]
pub(crate) struct Watch {
    taken: AtomicBool,
    /// Base address; 0: a free entry.
    base: AtomicUsize,
    len: AtomicUsize,
    /// Offset of the first fault + 1; 0: none.
    first: AtomicUsize,
    faults: AtomicU32,
}

const PLACES: usize = 64;

struct Block {
    places: [Watch; PLACES],
    next: AtomicPtr<Block>,
}

impl Block {
    const fn new() -> Block {
        Block {
            places: [const {
                Watch {
                    taken: AtomicBool::new(false),
                    base: AtomicUsize::new(0),
                    len: AtomicUsize::new(0),
                    first: AtomicUsize::new(0),
                    faults: AtomicU32::new(0),
                }
            }; PLACES],
            next: AtomicPtr::new(null_mut()),
        }
    }
}

static FIRST: Block = Block::new();

/// Return all blocks of the table.
fn blocks() -> impl Iterator<Item = &'static Block> {
    let mut next: *const Block = &raw const FIRST;
    std::iter::from_fn(move || {
        // SAFETY: null, or a block that is never freed.
        let block = unsafe { next.as_ref() }?;
        next = block.next.load(Ordering::Acquire);
        Some(block)
    })
}

/// Return whether any map of this process has had a fault. An earlier read counts only if not.
#[inline]
pub(crate) fn any() -> bool {
    // The check must follow the reads: the handler runs between two instructions of this thread, or in
    // another thread, whose zeros this one read.
    compiler_fence(Ordering::SeqCst);
    fence(Ordering::Acquire);
    EVENTS.faults.load(Ordering::Relaxed) != 0
}

impl Watch {
    /// Watch a new mapping.
    pub(crate) fn new(base: *const u8, len: usize) -> &'static Watch {
        install();
        let free = || {
            blocks().flat_map(|b| &b.places).find(|p| {
                !p.taken.load(Ordering::Relaxed)
                    && p.taken
                        .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok()
            })
        };
        let place = loop {
            if let Some(place) = free() {
                break place;
            }
            let block: &'static Block = Box::leak(Box::new(Block::new()));
            // Append the block to the list; if another thread has appended one first, append behind that.
            let mut last = &FIRST;
            while let Err(theirs) = last.next.compare_exchange(
                null_mut(),
                std::ptr::from_ref(block).cast_mut(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                // SAFETY: not null, and blocks are never freed.
                last = unsafe { &*theirs };
            }
        };
        place.first.store(0, Ordering::Relaxed);
        place.faults.store(0, Ordering::Relaxed);
        place.len.store(len, Ordering::Relaxed);
        place.base.store(base.addr(), Ordering::Release);
        place
    }

    /// Stop watching. Call this before unmapping, since another mapping may get the addresses.
    pub(crate) fn end(&self) {
        self.base.store(0, Ordering::Release);
        self.taken.store(false, Ordering::Release);
    }

    /// Return the offset of the first fault, if there was one.
    pub(crate) fn fault(&self) -> Option<usize> {
        compiler_fence(Ordering::SeqCst);
        fence(Ordering::Acquire);
        self.first.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Return whether whole ranges of the map were replaced.
    pub(crate) fn is_lost(&self) -> bool {
        self.faults.load(Ordering::Relaxed) > SINGLY
    }

    /// Handle a fault at this address. Return false if the address is outside this map.
    fn catch(&self, addr: usize, page_size: usize) -> bool {
        let base = self.base.load(Ordering::Acquire);
        let len = self.len.load(Ordering::Relaxed);
        if base == 0 || !(base..base + len).contains(&addr) {
            return false;
        }
        let page = addr & !(page_size - 1);
        let faults = self.faults.fetch_add(1, Ordering::Relaxed);
        let replaced = if faults < SINGLY {
            page_size
        } else {
            (base + len).next_multiple_of(page_size) - page
        };
        let _ = self
            .first
            .compare_exchange(0, addr - base + 1, Ordering::Relaxed, Ordering::Relaxed);
        EVENTS.faults.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // SAFETY: the range lies in a mapping that this module's user owns, and stays mapped. Its old content
        // is unreachable (or, behind the first pages, not used any more: rule 2).
        let zeros = unsafe {
            libc::mmap(
                page as *mut c_void,
                replaced,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        zeros != libc::MAP_FAILED
    }
}

/// The previous handler. Written once, before the new handler can run.
struct Previous(std::cell::UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written under `Once` before the handler is installed, and only read afterwards.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous = Previous(std::cell::UnsafeCell::new(MaybeUninit::uninit()));
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(4096);
static SENT: AtomicBool = AtomicBool::new(false);

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: plain system calls with structures that live long enough; the handlers have the signatures
        // that their flags declare. `PREVIOUS` is written before the handler can run.
        unsafe {
            let size = libc::sysconf(libc::_SC_PAGESIZE);
            if size > 0 {
                PAGE_SIZE.store(size as usize, Ordering::Relaxed);
            }
            let previous = (*PREVIOUS.0.get()).as_mut_ptr();
            previous.write_bytes(0, 1);
            libc::sigaction(libc::SIGBUS, null(), previous);
            let mut ours: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) = on_bus;
            ours.sa_sigaction = handler as usize;
            // Use the alternative stack, if there is one: the handlers of Rust and Python use it too.
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigaction(libc::SIGBUS, &raw const ours, null_mut());
            handle_file_limit_signal();
        }
    });
}

/// Make growing a file past RLIMIT_FSIZE return an error instead of killing the process. Installs a handler
/// that does nothing, since started programs would inherit "ignore". A handler that the program has set
/// stays.
///
/// # Safety
/// None beyond that of the system calls.
unsafe fn handle_file_limit_signal() {
    extern "C" fn nothing(_: i32) {}
    let handler: extern "C" fn(i32) = nothing;
    // SAFETY: plain system calls with structures that live long enough.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGXFSZ, null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_DFL {
            now.sa_sigaction = handler as usize;
            now.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGXFSZ, &raw const now, null_mut());
        }
    }
}

extern "C" fn on_bus(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: errno belongs to this thread; `info` comes from the kernel, and is valid while the handler
    // runs.
    unsafe {
        let errno = *libc::__errno_location();
        let code = (*info).si_code;
        // The signal comes from the kernel, and is not about alignment: so the address is the one that could
        // not be accessed.
        if code > 1 && code != libc::SI_KERNEL {
            let (addr, size) = ((*info).si_addr().addr(), PAGE_SIZE.load(Ordering::Relaxed));
            if blocks()
                .flat_map(|b| &b.places)
                .any(|place| place.catch(addr, size))
            {
                SENT.store(false, Ordering::Relaxed);
                *libc::__errno_location() = errno;
                return;
            }
        }
        pass_on(signal, info, context);
        *libc::__errno_location() = errno;
    }
}

/// Do what would have happened without the handler.
///
/// # Safety
/// Called from the handler, with its arguments.
unsafe fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: `PREVIOUS` was written before the handler was installed. A handler there has the signature that
    // its flags declare; `info` comes from the kernel.
    unsafe {
        let previous = (*PREVIOUS.0.get()).assume_init_ref();
        match previous.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                let sent = (*info).si_code <= 0;
                if sent && previous.sa_sigaction == libc::SIG_IGN {
                    return;
                }
                // If Python's fault handler was installed above this one, it removes itself and sends the
                // signal again. Then the access is retried, and is either handled here or fatal.
                let raised = (*info).si_code == libc::SI_TKILL && (*info).si_pid() == libc::getpid();
                if raised && !SENT.swap(true, Ordering::Relaxed) {
                    return;
                }
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const default, null_mut());
                if sent {
                    // The signal is delivered when this handler has returned.
                    libc::raise(signal);
                }
                // Otherwise the access is retried, and kills the process.
            }
            handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                let call: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) =
                    std::mem::transmute(handler);
                call(signal, info, context);
            }
            handler => {
                let call: extern "C" fn(i32) = std::mem::transmute(handler);
                call(signal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ids::PAGE_SIZE;
    use crate::raw::map::Map;
    use std::os::unix::fs::FileExt;
    use std::sync::Barrier;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_reader_of_the_zeros_finds_the_note() {
        const THREADS: usize = 4;
        const PAGES: usize = 8;
        let file = tempfile::tempfile().unwrap();
        for _ in 0..400 {
            // All bytes of the file are non-zero, so zeros mark replaced pages.
            file.write_all_at(&[0xff; PAGES * PAGE_SIZE], 0).unwrap();
            let map = Map::fixed(&file, PAGES * PAGE_SIZE).unwrap();
            file.set_len(0).unwrap();
            let together = Barrier::new(THREADS);
            let turn = || {
                together.wait();
                (0..PAGES).all(|page| {
                    let word = map.word(page * PAGE_SIZE).load(Ordering::Relaxed);
                    word == 0 && map.fault().is_some() && super::any()
                })
            };
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..THREADS).map(|_| scope.spawn(turn)).collect();
                for thread in all {
                    assert!(thread.join().unwrap(), "zeros and no note, or no zeros");
                }
            });
        }
    }
}
