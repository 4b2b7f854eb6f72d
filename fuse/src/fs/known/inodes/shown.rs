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
//! 2. One to a thread that has been the only one to ask for attributes for `SINGLE_AFTER`, so that a tool that changes
//!    many entries by itself does not ask twice. A thread that looks often at what another one changes asks before
//!    long, because each change ends what the kernel keeps. What is left is a rare look within the 100 ns in which the
//!    kernel stores a reply, of a thread that has not asked for so long.

use persist_core::store::door::lease_clock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// When the kernel has the values of a reply, in milliseconds after it.
const STORED: u32 = 20;
/// After how long, in nanoseconds, a thread without others that send requests is alone.
const SINGLE_AFTER: u64 = 1_000_000_000;

/// This bit of the hash is set once the attributes were sent again.
const AGAIN: u32 = 1;

/// The attributes that were noted last for an inode, to be sent to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Shown {
    /// A hash of them, without `AGAIN`.
    print: u32,
    /// When they were sent first, or again, in milliseconds; 0: nothing was sent.
    since: u32,
}

/// The time in milliseconds, which begins again after 49 days, and is not 0.
fn milliseconds(now: u64) -> u32 {
    ((now / 1_000_000) as u32).max(1)
}

impl Shown {
    /// Note that attributes are sent, at a time (`lease_clock`). Return whether the reply may have a time to live.
    pub(crate) fn sent(&mut self, print: u32, now: u64, is_single: bool) -> bool {
        let (now, print) = (milliseconds(now), print & !AGAIN);
        let long_ago = now.wrapping_sub(STORED).max(1);
        let is_first = self.since == 0;
        let is_stored = now.wrapping_sub(self.since) >= STORED;
        if is_first || is_single || self.print == print | AGAIN && is_stored {
            // Also where the kernel has them for long: the counter may begin again.
            *self = Shown {
                print: print | AGAIN,
                since: long_ago,
            };
            return true;
        }
        if self.print & !AGAIN != print {
            *self = Shown { print, since: now };
        } else if self.print == print && is_stored {
            *self = Shown {
                print: print | AGAIN,
                since: now,
            };
        }
        false
    }

    /// Return what is known after a reply that was noted and not sent, or sent with other values: nothing.
    pub(crate) fn unknown() -> Shown {
        Shown {
            print: 0,
            since: milliseconds(lease_clock()),
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

    const MS: u64 = 1_000_000;

    #[test]
    fn new_attributes_live_once_they_were_sent_again_and_the_kernel_has_them() {
        let mut shown = Shown::default();
        let mut sent = |print, ms: u64| shown.sent(print, ms * MS, false);
        let stored = u64::from(STORED);
        assert!(sent(6, 1000) && sent(6, 1000), "the first of an inode");
        assert!(!sent(8, 1001) && !sent(8, 1001 + stored - 1));
        assert!(!sent(8, 1001 + stored), "the second time");
        assert!(!sent(8, 1001 + 2 * stored - 1) && sent(8, 1001 + 2 * stored) && sent(8, 1001 + 2 * stored));
        assert!(!sent(6, 2000), "the earlier ones are new again");
        assert!(!sent(8, 2019) && !sent(6, 2038) && !sent(6, 2058) && !sent(6, 2077) && sent(6, 2078));
    }

    #[test]
    fn what_the_kernel_has_stays_so_when_the_counter_begins_again() {
        let mut shown = Shown::default();
        let turn = 1 << 32;
        for ms in (1..100).map(|n| n * turn / 16) {
            assert!(shown.sent(6, ms * MS, false), "{ms}");
        }
    }

    #[test]
    fn a_single_thread_gets_all_at_once_and_what_it_got_x() {
        let mut shown = Shown::default();
        assert!(shown.sent(6, MS, true) && shown.sent(8, MS, true) && shown.sent(10, MS, true));
        assert!(shown.sent(10, MS, false) && !shown.sent(12, MS, false));
    }

    #[test]
    fn after_a_reply_that_was_not_sent_the_next_does_not_live() {
        let mut shown = Shown::unknown();
        assert!(!shown.sent(7, lease_clock(), false));
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
