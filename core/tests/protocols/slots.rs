//! Dead processes and their slots.

use crate::gate;
use crate::model::{Bytes, DEAD_PROCESS, LatchWords, Without, holds_only_with, name, of_the_dead, without};
use crate::raw::sync::{AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;

/// page/recovery/process_recovery.rs: `recover_process`. The process in the slot died with the latch and half a change.
struct Dead {
    state: AtomicU64,
    byte: loom::sync::Mutex<()>,
    latch: LatchWords,
    change: Arc<Bytes>,
    recoveries: AtomicU64,
}

impl Dead {
    fn recover(&self, mine: u32) {
        let held = if without(Without::ByteLock) {
            None
        } else {
            Some(self.byte.try_lock())
        };
        if matches!(held, Some(Err(_))) {
            return;
        }
        if !without(Without::Recheck) && self.state.load(Ordering::Acquire) == 0 {
            return;
        }
        let latch = self.latch.latch();
        let taken = match latch.owner() {
            Some(dead) if dead.process() == DEAD_PROCESS => latch.take_over(dead, mine),
            _ => latch.try_take(mine),
        };
        if !taken {
            return;
        }
        // Recovery: undo the partial change, release the holdings of the slot, free the slot.
        self.change.set(0);
        self.recoveries.fetch_add(1, Ordering::Relaxed);
        self.state.store(0, Ordering::Release);
        latch.release();
    }
}

#[test]
fn a_dead_owner_is_recovered_once_and_before_any_other_process_has_the_latch() {
    holds_only_with(
        name!("a_dead_owner_is_recovered_once_and_before_any_other_process_has_the_latch"),
        &[Without::ByteLock, Without::Recheck],
        3,
        || {
            let dead = Arc::new(Dead {
                state: AtomicU64::new(1),
                byte: loom::sync::Mutex::new(()),
                latch: LatchWords::new(of_the_dead()),
                change: Bytes::new(1),
                recoveries: AtomicU64::new(0),
            });
            let threads: Vec<_> = (0..2)
                .map(|mine| {
                    let dead = dead.clone();
                    thread::spawn(move || {
                        // Both have seen that the byte lock is free.
                        dead.recover(mine);
                        if dead.latch.latch().try_take(mine) {
                            assert_eq!(dead.change.get(), 0, "half a change of the dead");
                            dead.latch.latch().release();
                        }
                    })
                })
                .collect();
            for t in threads {
                t.join().unwrap();
            }
            assert_eq!(dead.recoveries.load(Ordering::SeqCst), 1, "recoveries");
            assert_eq!(dead.state.load(Ordering::SeqCst), 0);
        },
    );
}

/// A process slot whose process died, and the word of one of its threads (page/recovery/process_recovery.rs:
/// `recover_process`; page/shared/users/slots.rs: `claim_process_slot`; page/shared/users/threads.rs:
/// `claim_thread_slot`). A live owner holds its byte.
struct Slot {
    state: AtomicU64,
    byte: loom::sync::Mutex<()>,
    generation: AtomicU64,
    thread: AtomicU64,
}

impl Slot {
    fn recover(&self) {
        if self.state.load(Ordering::Acquire) == 0 {
            return;
        }
        let held = (!without(Without::ByteLock)).then(|| self.byte.try_lock());
        if matches!(held, Some(Err(_))) || self.state.load(Ordering::Acquire) == 0 {
            return;
        }
        self.thread.store(0, Ordering::SeqCst);
        self.state.store(0, Ordering::Release);
    }

    /// Live in the slot for a while, if it is free.
    fn live(&self) {
        let Ok(_byte) = self.byte.try_lock() else {
            return;
        };
        if !without(Without::Recheck) && self.state.load(Ordering::Acquire) != 0 {
            return;
        }
        let mine = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        self.state.store(1, Ordering::SeqCst);
        let claimed = self
            .thread
            .compare_exchange(0, mine, Ordering::SeqCst, Ordering::Relaxed);
        assert!(claimed.is_ok(), "a slot with what the dead left");
        thread::yield_now();
        assert_eq!(
            self.thread.load(Ordering::SeqCst),
            mine,
            "a living thread was recovered"
        );
        self.thread.store(0, Ordering::SeqCst);
        self.state.store(0, Ordering::Release);
    }
}

#[test]
fn a_slot_is_reused_only_by_a_live_process_and_after_the_recovery() {
    holds_only_with(
        name!("a_slot_is_reused_only_by_a_live_process_and_after_the_recovery"),
        &[Without::ByteLock, Without::Recheck],
        3,
        || {
            let slot = Arc::new(Slot {
                state: AtomicU64::new(1),
                byte: loom::sync::Mutex::new(()),
                generation: AtomicU64::new(1),
                thread: AtomicU64::new(1),
            });
            let other = {
                let slot = slot.clone();
                thread::spawn(move || slot.recover())
            };
            slot.live();
            slot.recover();
            slot.live();
            other.join().unwrap();
        },
    );
}

/// page/shared/users/threads.rs: `claim_thread_slot` against page/shared/header/gate.rs: `raise_gate`. The writer
/// checks only the slots that were ever used.
#[test]
fn a_writer_sees_a_reader_in_a_slot_that_was_never_used() {
    holds_only_with(
        name!("a_writer_sees_a_reader_in_a_slot_that_was_never_used"),
        &[Without::HighFirst, Without::Fences],
        3,
        || {
            let (words, bytes) = (LatchWords::new(0), Bytes::new(0));
            let (high, mark) = (AtomicU64::new(0), AtomicU64::new(0));
            let reader = {
                let (words, bytes, high, mark) = (words.clone(), bytes.clone(), high.clone(), mark.clone());
                thread::spawn(move || {
                    if !without(Without::HighFirst) {
                        high.fetch_add(1, Ordering::SeqCst);
                    }
                    if words.gate().try_enter(&mark).is_none() {
                        // A retry follows, which does not matter here.
                        return;
                    }
                    if without(Without::HighFirst) {
                        high.fetch_add(1, Ordering::SeqCst);
                    }
                    assert_ne!(bytes.get(), 1, "half a change");
                    gate::Gate::leave(&mark);
                })
            };
            words.gate().raise();
            if high.load(Ordering::SeqCst) > 0 {
                while mark.load(Ordering::SeqCst) != 0 {
                    thread::yield_now();
                }
            }
            bytes.set(1);
            bytes.set(2);
            words.gate().lower(false);
            reader.join().unwrap();
        },
    );
}
