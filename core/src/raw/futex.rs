//! Futex wait and wake on words shared between processes. Every wait is bounded.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleep while `*word == expected`, at most `at_most`. Signals cause an early return; callers re-check.
pub(crate) fn wait(word: &AtomicU32, expected: u32, at_most: Duration) {
    let ts = libc::timespec {
        tv_sec: at_most.as_secs().min(3600) as libc::time_t,
        tv_nsec: libc::c_long::from(at_most.subsec_nanos() as i32),
    };
    // SAFETY: `word` is a live, aligned u32; FUTEX_WAIT reads only it and the timespec.
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

/// Wake up to `count` sleepers on the word. Return the number woken.
pub(crate) fn wake(word: &AtomicU32, count: i32) -> i32 {
    // SAFETY: FUTEX_WAKE uses the address only as a key.
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
