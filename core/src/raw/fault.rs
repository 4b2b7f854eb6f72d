//! Page faults that the disk cannot answer: SIGBUS on a mapped file that somebody else has cut short, or whose
//! blocks cannot be read. Without a handler it kills the process.
//!
//! 1. The handler is installed once per process, when the first file is mapped, and stays. It notes the fault
//!    for its map, then puts a private page of zeros in the place and returns: the access ends, with zeros. In
//!    this order: another thread that meets the zeros finds the note.
//! 2. So whoever took something from a map has to ask afterwards, before it counts (`any`, one load; then the
//!    map itself). A map that has had a fault is never used again for anything but undoing: what a page of
//!    zeros stands for is not known any more.
//! 3. Only system calls and atomics in the handler, which may interrupt anything. The table of maps is a list
//!    of blocks that are never freed; places in it are.
//! 4. A fault anywhere else goes to the handler that was there before, or kills as it would have.

use crate::raw::process::EVENTS;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, compiler_fence, fence};

/// Pages replaced one by one in a map; then all the rest behind the next one, so that the number of mappings
/// stays bounded.
pub(crate) const SINGLY: u32 = 256;

/// A map's place in the table.
#[derive(Debug)]
pub(crate) struct Watch {
    taken: AtomicBool,
    /// 0: nothing here.
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

/// All blocks of the table.
fn blocks() -> impl Iterator<Item = &'static Block> {
    let mut next: *const Block = &raw const FIRST;
    std::iter::from_fn(move || {
        // SAFETY: null, or a block that is never freed.
        let block = unsafe { next.as_ref() }?;
        next = block.next.load(Ordering::Acquire);
        Some(block)
    })
}

/// Whether any map of this process has had a fault. What was read before counts only if not.
#[inline]
pub(crate) fn any() -> bool {
    // After what was read: the handler runs between two instructions of this thread, or in another one whose
    // zeros this one met.
    compiler_fence(Ordering::SeqCst);
    fence(Ordering::Acquire);
    EVENTS.faults.load(Ordering::Relaxed) != 0
}

impl Watch {
    /// Watches a new mapping.
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
            // At the end of the list; if another thread was quicker, behind its block.
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

    /// Stops watching. Before the mapping goes, since another may come to its place.
    pub(crate) fn end(&self) {
        self.base.store(0, Ordering::Release);
        self.taken.store(false, Ordering::Release);
    }

    /// The offset of the first fault, if there was one.
    pub(crate) fn fault(&self) -> Option<usize> {
        compiler_fence(Ordering::SeqCst);
        fence(Ordering::Acquire);
        self.first.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Whether whole stretches of the map were given up.
    pub(crate) fn is_lost(&self) -> bool {
        self.faults.load(Ordering::Relaxed) > SINGLY
    }

    /// Handles a fault at this address; false if it is not this map's.
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
        // SAFETY: the range lies in a mapping that this module's user owns, and stays mapped. What was there
        // cannot be reached any more (or, behind the first pages, is not used any more: rule 2).
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

/// What was there before. Written once, before the handler can run.
struct Previous(std::cell::UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written under `Once` before the handler is installed, and only read afterwards.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous = Previous(std::cell::UnsafeCell::new(MaybeUninit::uninit()));
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(4096);
static SENT: AtomicBool = AtomicBool::new(false);

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: plain system calls with structures that live long enough; the handlers have the
        // signatures that their flags say. `PREVIOUS` is written before the handler can run.
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
            // On the alternative stack, where there is one: also Rust's and Python's handlers use it.
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigaction(libc::SIGBUS, &raw const ours, null_mut());
            quiet_file_limit();
        }
    });
}

/// Growing a file past RLIMIT_FSIZE is an error to be reported, not a reason to die. A handler that does
/// nothing and not "ignore", which programs started from here would inherit. Somebody else's setting stays.
///
/// # Safety
/// None beyond that of the system calls.
unsafe fn quiet_file_limit() {
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
    // SAFETY: errno is this thread's own; `info` is the kernel's, valid while the handler runs.
    unsafe {
        let errno = *libc::__errno_location();
        let code = (*info).si_code;
        // From the kernel, and not about alignment: then the address is the one that could not be reached.
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

/// Does what would have happened without the handler.
///
/// # Safety
/// Called from the handler, with its arguments.
unsafe fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: `PREVIOUS` was written before the handler was installed. A handler there has the signature
    // that its flags say; `info` is the kernel's.
    unsafe {
        let previous = (*PREVIOUS.0.get()).assume_init_ref();
        match previous.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                let sent = (*info).si_code <= 0;
                if sent && previous.sa_sigaction == libc::SIG_IGN {
                    return;
                }
                // Python's fault handler, if it was put above this one, gives way to it and sends the signal
                // once more: then the access is tried again, and is either ours or fatal.
                let raised = (*info).si_code == libc::SI_TKILL && (*info).si_pid() == libc::getpid();
                if raised && !SENT.swap(true, Ordering::Relaxed) {
                    return;
                }
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const default, null_mut());
                if sent {
                    // Delivered when this handler has returned.
                    libc::raise(signal);
                }
                // Else the access is tried again, and kills.
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
    fn who_meets_the_zeros_finds_the_note() {
        const THREADS: usize = 4;
        const PAGES: usize = 8;
        let file = tempfile::tempfile().unwrap();
        for _ in 0..400 {
            // Nothing of it is 0 but what stands in for what is gone.
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
