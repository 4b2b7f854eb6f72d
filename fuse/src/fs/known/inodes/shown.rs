//! Which attributes of an inode the kernel has, and whether it may answer programs from those of the next reply.
//!
//! The kernel marks the attributes of a reply as valid before it stores them one by one. A thread that looks at the
//! inode in this moment, without a request, gets earlier values, also of a change that was acknowledged long ago. So a
//! reply that brings new values has no time to live, and each look is a request. The kernel ignores a reply if it has
//! stored another one since the request. So a second reply, `STORED` after the first one, has no time to live either,
//! and those that come `STORED` after that one live: the kernel has the values, and to store them once more changes
//! nothing. Two replies live at once:
//!
//! 1. The first one for an inode that the kernel does not have: no other thread finds the inode before it is made.
//! 2. One to a thread that is the only one that ever asked for the attributes of this inode, or has been the only one
//!    to ask for any for `SINGLE_AFTER`, so that a tool that makes or changes many entries does not ask twice. A
//!    thread that looks often at what another one changes asks before long, because each change ends what the kernel
//!    keeps. What is left is a rare look within the 100 ns in which the kernel stores a reply, of a thread that has
//!    not asked.

use persist_core::store::door::lease_clock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// When the kernel has the values of a reply: in ticks of 4 ms after it.
const STORED: u16 = 6;
const TICK: u64 = 4_000_000;
/// After how long, in nanoseconds, a thread without others that send requests is alone.
const SINGLE_AFTER: u64 = 1_000_000_000;

/// This bit of the hash is set once the attributes were sent again.
const AGAIN: u32 = 1;

/// The attributes that were noted last for an inode, to be sent to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Shown {
    /// A hash of them, without `AGAIN`.
    print: u32,
    /// When they were sent first, or again, in ticks; 0: nothing was sent.
    since: u16,
    /// The only thread that asked, as `short`; 0: several.
    asker: u16,
}

/// The time in ticks, which begins again after four minutes, and is not 0.
fn ticks(now: u64) -> u16 {
    ((now / TICK) as u16).max(1)
}

/// A part of a thread's number that is not 0; 0 if it is not known.
fn short(thread: u32) -> u16 {
    match thread {
        0 => 0,
        _ => (thread.wrapping_mul(0x9E37_79B1) >> 16) as u16 | 1,
    }
}

impl Shown {
    /// Note that attributes are sent to a thread (0: not known), at a time (`lease_clock`). `is_single`: no other
    /// thread has asked for any for long. Return whether the reply may have a time to live.
    pub(crate) fn sent(&mut self, print: u32, now: u64, thread: u32, is_single: bool) -> bool {
        let (now, print) = (ticks(now), print & !AGAIN);
        let is_first = self.since == 0;
        if is_first {
            self.asker = short(thread);
        } else if self.asker != short(thread) {
            self.asker = 0;
        }
        let is_single = is_single || self.asker != 0;
        let is_stored = now.wrapping_sub(self.since) >= STORED;
        if is_first || is_single || self.print == print | AGAIN && is_stored {
            // Also where the kernel has them for long: the counter may begin again.
            (self.print, self.since) = (print | AGAIN, now.wrapping_sub(STORED).max(1));
            return true;
        }
        if self.print & !AGAIN != print {
            (self.print, self.since) = (print, now);
        } else if self.print == print && is_stored {
            (self.print, self.since) = (print | AGAIN, now);
        }
        false
    }

    /// Return what is known after a reply that was noted and not sent, or sent with other values: nothing.
    pub(crate) fn unknown() -> Shown {
        Shown {
            print: 0,
            since: ticks(lease_clock()),
            asker: 0,
        }
    }
}

/// The thread whose requests come without those of others.
#[derive(Default, Debug)]
pub(crate) struct Single {
    thread: AtomicU32,
    /// Since when (`lease_clock`).
    since: AtomicU64,
}

impl Single {
    /// Note a request of a thread (0: not known). Return whether it is alone.
    pub(crate) fn asks(&self, thread: u32, now: u64) -> bool {
        if thread == 0 || self.thread.load(Ordering::Relaxed) != thread {
            // In this order, a thread that finds itself finds the time of its first request, or a later one.
            self.since.store(now, Ordering::Relaxed);
            self.thread.store(thread, Ordering::Release);
            return false;
        }
        now.saturating_sub(self.since.load(Ordering::Relaxed)) >= SINGLE_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Shown to two threads already.
    fn shared() -> Shown {
        let mut shown = Shown::default();
        assert!(shown.sent(6, TICK * 1000, 1, false));
        assert!(shown.sent(6, TICK * 1000, 2, false));
        shown
    }

    #[test]
    fn new_attributes_live_once_they_were_sent_again_and_the_kernel_has_them() {
        let mut shown = shared();
        let mut sent = |print, tick: u64| shown.sent(print, tick * TICK, 1, false);
        let stored = u64::from(STORED);
        assert!(!sent(8, 1001) && !sent(8, 1001 + stored - 1));
        assert!(!sent(8, 1001 + stored), "the second time");
        assert!(!sent(8, 1001 + 2 * stored - 1) && sent(8, 1001 + 2 * stored) && sent(8, 1001 + 2 * stored));
        assert!(!sent(6, 2000), "the earlier ones are new again");
        assert!(!sent(8, 2005) && !sent(6, 2010) && !sent(6, 2016) && !sent(6, 2021) && sent(6, 2022));
    }

    #[test]
    fn what_the_kernel_has_stays_so_when_the_counter_begins_again() {
        let mut shown = shared();
        for tick in (1..100).map(|n| 1000 + n * (1 << 16) / 16) {
            assert!(shown.sent(6, tick * TICK, 1, false), "{tick}");
        }
    }

    #[test]
    fn a_single_thread_gets_all_at_once_and_the_kernel_has_what_it_got() {
        let mut shown = Shown::default();
        for print in [6, 8, 10] {
            assert!(shown.sent(print, TICK, 1, false), "the only one of the inode");
        }
        assert!(shown.sent(10, TICK, 2, false));
        assert!(!shown.sent(12, TICK, 1, false));
        assert!(shown.sent(14, TICK, 1, true), "the only one of the mount");
        assert!(shown.sent(14, TICK, 2, false));
    }

    #[test]
    fn a_thread_that_is_not_known_is_never_single() {
        let mut shown = Shown::default();
        assert!(shown.sent(6, TICK, 0, false));
        assert!(!shown.sent(8, TICK, 0, false));
        assert!((1..5000).all(|thread| short(thread) != 0));
    }

    #[test]
    fn after_a_reply_that_was_not_sent_the_next_does_not_live() {
        let mut shown = Shown::unknown();
        assert!(!shown.sent(7, lease_clock(), 1, false));
    }

    #[test]
    fn a_thread_is_single_a_while_after_the_last_request_of_another() {
        let single = Single::default();
        let second = Duration::from_secs(1).as_nanos() as u64;
        let asks = |thread, at: u64| single.asks(thread, at * second);
        assert!(!asks(1, 5) && asks(1, 6) && asks(1, 7));
        assert!(!asks(2, 7) && !asks(1, 8) && asks(1, 9));
        assert!(!asks(0, 9) && !asks(0, 20) && !asks(1, 20) && asks(1, 21));
    }
}
