//! Facts about this process and this boot: fork generations, boot id, randomness, clocks.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(1);

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// A number that differs between a process and its forked child. The first call installs the hook.
pub(crate) fn watch_forks() -> u32 {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // SAFETY: `forked` is an extern "C" fn without arguments that only touches an atomic, which
        // is allowed in a forked child.
        unsafe {
            libc::pthread_atfork(None, None, Some(forked));
        }
    });
    FORKS.load(Ordering::Relaxed)
}

/// The current fork generation (one load).
#[inline]
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// A number that names this boot of the machine.
pub(crate) fn boot_id() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    xxhash_rust::xxh3::xxh3_64(text.trim().as_bytes())
}

/// Random bytes from the kernel.
pub(crate) fn random_u64() -> u64 {
    let mut b = [0u8; 8];
    // SAFETY: the buffer is 8 writable bytes.
    let n = unsafe { libc::getrandom(b.as_mut_ptr().cast(), 8, 0) };
    if n == 8 {
        return u64::from_ne_bytes(b);
    }
    // Kernels without getrandom: the hasher's own keys are random per process.
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Wall-clock time in nanoseconds since 1970, to the tick (a few ns to read; steps of 1-4 ms).
#[inline]
pub(crate) fn coarse_now() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is writable; the clock id is a constant the kernel knows.
    unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut ts);
    }
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// This process's id.
pub(crate) fn pid() -> u32 {
    std::process::id()
}
