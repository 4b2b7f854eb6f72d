//! The redo log: group commit, and gaps in it.

use crate::group::Group;
use crate::model::{Bytes, LatchWords, Without, holds_only_with, name, without};
use crate::raw::sync::{AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;
use std::time::Duration;

/// page/redo: the words of group commit, the ring's records (of length 1) and the content of the disk.
struct Log {
    latch: LatchWords,
    leader: LatchWords,
    ready: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
    hold: AtomicU64,
    ring: Vec<Arc<Bytes>>,
    /// One leader at a time.
    file: Arc<Bytes>,
    disk: AtomicU64,
    /// A checkpoint is durable.
    checkpoint: AtomicU64,
}

impl Log {
    fn new(records: usize, leader: u64) -> Arc<Log> {
        Arc::new(Log {
            latch: LatchWords::new(0),
            leader: LatchWords::new(leader),
            ready: AtomicU64::new(0),
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            hold: AtomicU64::new(0),
            ring: (0..records).map(|_| Bytes::new(0)).collect(),
            file: Bytes::new(0),
            disk: AtomicU64::new(0),
            checkpoint: AtomicU64::new(0),
        })
    }

    fn group(&self) -> Group<'_> {
        Group {
            leader: &self.leader.word,
            futex: &self.leader.futex,
            waiters: &self.leader.waiters,
            ready: &self.ready,
            written: &self.written,
            durable: &self.durable,
            hold: &self.hold,
        }
    }

    /// Under the latch, add a record to the ring, which counts from then on. Returns its end.
    fn append(&self) -> u64 {
        let at = self.ready.load(Ordering::Relaxed);
        self.ring[at as usize].set(at + 1);
        self.ready.store(at + 1, Ordering::Release);
        at + 1
    }

    fn commit(&self, slot: u32) -> u64 {
        self.latch.take(slot);
        let end = self.append();
        self.latch.latch().release();
        end
    }

    /// page/durable/leader.rs: `lead`.
    fn lead(&self) {
        let group = self.group();
        let (from, to) = group.due();
        if without(Without::FlushFirst) {
            group.flushed(to);
        }
        for at in from..to {
            assert_eq!(
                self.ring[at as usize].get(),
                at + 1,
                "a record that is not complete"
            );
        }
        self.file.set(to);
        self.disk.store(to, Ordering::Relaxed);
        if !without(Without::FlushFirst) {
            group.flushed(to);
        }
        group.step_down();
    }

    /// page/durable/wait.rs: `flush_log`.
    fn wait(&self, end: u64, me: u64) {
        let group = self.group();
        while !group.is_durable(end) {
            let leader = group.leader();
            let takes = match leader {
                0 => group.try_lead(me),
                DEAD_LEADER => group.take_over(leader, me),
                _ => false,
            };
            if takes {
                self.lead();
            } else {
                group.sleep(Duration::ZERO);
            }
        }
        assert!(
            self.disk.load(Ordering::Relaxed) >= end,
            "reported durable and not on the disk"
        );
    }
}

const DEAD_LEADER: u64 = 7 | 1 << 32;

#[test]
fn a_waiter_for_the_log_finds_its_record_on_the_disk() {
    holds_only_with(
        name!("a_waiter_for_the_log_finds_its_record_on_the_disk"),
        &[Without::Fences, Without::Comparison, Without::FlushFirst],
        3,
        || {
            let log = Log::new(2, 0);
            let other = {
                let log = log.clone();
                thread::spawn(move || {
                    let end = log.commit(1);
                    log.wait(end, 1);
                })
            };
            let end = log.commit(2);
            log.wait(end, 2);
            other.join().unwrap();
            assert_eq!(log.group().leader(), 0);
        },
    );
}

/// The leader died, and another thread replaces it. At the same time the dead leader's slot is given to a living
/// process, which leads too: its word must not be mistaken for the earlier one.
#[test]
fn a_dead_leader_is_replaced_by_one() {
    holds_only_with(
        name!("a_dead_leader_is_replaced_by_one"),
        &[Without::Generation],
        3,
        || {
            let log = Log::new(2, DEAD_LEADER);
            let other = {
                let log = log.clone();
                thread::spawn(move || {
                    let end = log.commit(1);
                    log.wait(end, 1);
                    // The next thread of this process has the slot of the dead one.
                    let end = log.commit(6);
                    let again = if without(Without::Generation) { 1 } else { 2 };
                    log.wait(end, 7 | again << 32);
                })
            };
            let group = log.group();
            let leader = group.leader();
            if leader == DEAD_LEADER && group.take_over(leader, 2) {
                log.lead();
            }
            other.join().unwrap();
        },
    );
}

/// page/redo/words.rs: `finish_log_flip` and `switch_log`. A change is missing in the log. The flip of the checkpoint
/// that contains it turns the log on again. A record after it counts only when that checkpoint is durable.
#[test]
fn a_record_behind_a_gap_counts_with_its_checkpoint() {
    holds_only_with(
        name!("a_record_behind_a_gap_counts_with_its_checkpoint"),
        &[Without::HoldFirst],
        3,
        || {
            let log = Log::new(1, 0);
            let other = {
                let log = log.clone();
                thread::spawn(move || {
                    let group = log.group();
                    if group.try_lead(1) {
                        log.lead();
                    }
                    if group.is_durable(1) {
                        assert_eq!(log.checkpoint.load(Ordering::Relaxed), 1, "behind a gap");
                    }
                })
            };
            log.latch.take(2);
            let begin = log.ready.load(Ordering::Relaxed);
            if !without(Without::HoldFirst) {
                log.hold.store(begin + 1, Ordering::Release);
            }
            log.append();
            if without(Without::HoldFirst) {
                log.hold.store(begin + 1, Ordering::Release);
            }
            log.latch.latch().release();
            log.checkpoint.store(1, Ordering::Relaxed);
            log.group().raise(begin);
            log.hold.store(0, Ordering::Release);
            other.join().unwrap();
        },
    );
}
