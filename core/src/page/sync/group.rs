//! Group commit: one of the processes that wait for their records to be durable flushes for all of them.
//!
//! 1. `ready` is the end of the last record that is committed and ends with its sector. Bytes before it in the ring do
//!    not change any more. Only the latch's holder moves it.
//! 2. The leader (`leader` names it as the latch's word names its owner) writes the bytes between `written` and
//!    `ready`, flushes, and only then moves `written` and `durable`. Repeating this is harmless: a process that takes
//!    the lead over from a dead leader starts again. Process slot and generation distinguish a dead leader from a
//!    living process that was given its slots.
//! 3. While `hold` is set (to a position + 1), records from that position on depend on a checkpoint that is not durable
//!    yet: they may be written, but do not count. It is set before the first such record is `ready`, so a leader reads
//!    it after `ready`.
//! 4. A leader steps down and then wakes the sleepers; a sleeper counts itself and then reads the word (`waiters`). So
//!    no sleeper misses the wake-up.

use crate::page::sync::waiters::Waiters;
use crate::raw::sync::{AtomicU32, AtomicU64, FutexWord, Ordering};
use std::time::Duration;

/// The words.
pub(crate) struct Group<'a> {
    pub(crate) leader: &'a AtomicU64,
    pub(crate) futex: &'a FutexWord,
    pub(crate) waiters: &'a AtomicU32,
    pub(crate) ready: &'a AtomicU64,
    pub(crate) written: &'a AtomicU64,
    pub(crate) durable: &'a AtomicU64,
    pub(crate) hold: &'a AtomicU64,
}

impl Group<'_> {
    /// Return whether everything before `end` survives a power failure.
    pub(crate) fn is_durable(&self, end: u64) -> bool {
        self.durable.load(Ordering::Acquire) >= end
    }

    /// Return whether a record that ends at `end` must wait for a checkpoint before it can count.
    pub(crate) fn is_held(&self, end: u64) -> bool {
        let hold = self.hold.load(Ordering::Acquire);
        hold != 0 && end >= hold
    }

    /// Take the lead if there is no leader.
    pub(crate) fn try_lead(&self, me: u64) -> bool {
        self.take_over(0, me)
    }

    /// Take the lead from a dead leader.
    pub(crate) fn take_over(&self, dead: u64, me: u64) -> bool {
        self.leader
            .compare_exchange(dead, me, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Return the leader; 0: none.
    pub(crate) fn leader(&self) -> u64 {
        self.leader.load(Ordering::Acquire)
    }

    /// Return the range that the leader has to write: from, to.
    pub(crate) fn due(&self) -> (u64, u64) {
        let to = self.ready.load(Ordering::Acquire);
        (self.written.load(Ordering::Acquire).min(to), to)
    }

    /// Record that the leader has flushed everything before `to`.
    pub(crate) fn flushed(&self, to: u64) {
        self.written.store(to, Ordering::Release);
        let hold = self.hold.load(Ordering::Acquire);
        self.raise(if hold == 0 { to } else { to.min(hold - 1) });
    }

    /// Record that everything before `to` survives a power failure.
    pub(crate) fn raise(&self, to: u64) {
        let mut durable = self.durable.load(Ordering::Relaxed);
        while durable < to
            && let Err(now) = self
                .durable
                .compare_exchange(durable, to, Ordering::SeqCst, Ordering::Relaxed)
        {
            durable = now;
        }
    }

    /// Give up the lead and wake the processes that wait for that.
    pub(crate) fn step_down(&self) {
        self.leader.store(0, Ordering::SeqCst);
        self.sleepers().wake(i32::MAX);
    }

    /// Sleep while there is a leader, for at most `slice`.
    pub(crate) fn sleep(&self, slice: Duration) {
        self.sleepers().sleep(u32::MAX, slice);
    }

    fn sleepers(&self) -> Waiters<'_> {
        Waiters {
            count: self.waiters,
            futex: self.futex,
        }
    }
}
