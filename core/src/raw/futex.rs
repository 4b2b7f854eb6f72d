//! Futex waits and wakes on words shared between processes. Every wait is bounded.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while `*word == expected`, at most `at_most`. Wakes early on signals; callers re-check.
pub(crate) fn wait(word: &AtomicU32, expected: u32, at_most: Duration) {
    let ts = libc::timespec {
        tv_sec: at_most.as_secs().min(3600) as libc::time_t,
        tv_nsec: libc::c_long::from(at_most.subsec_nanos() as i32),
    };
    // SAFETY: `word` is a live, aligned u32; FUTEX_WAIT reads it and the timespec, nothing else.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &raw const ts,
            0usize,
            0u32,
        );
    }
}

/// Wakes up to `count` sleepers on the word; the number woken.
pub(crate) fn wake(word: &AtomicU32, count: i32) -> i32 {
    // SAFETY: FUTEX_WAKE uses the address as a key only.
    let n = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE,
            count,
            0usize,
            0usize,
            0u32,
        )
    };
    n as i32
}
