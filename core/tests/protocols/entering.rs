//! The latch and the gate.

use crate::gate;
use crate::model::{Bytes, LatchWords, Without, holds_only_with, name};
use crate::raw::sync::{AtomicU64, Ordering};
use loom::thread;
use std::time::Duration;

#[test]
fn the_latch_has_one_owner_and_loses_no_sleeper() {
    holds_only_with(
        name!("the_latch_has_one_owner_and_loses_no_sleeper"),
        &[Without::Fences, Without::Comparison],
        3,
        || {
            let (words, bytes) = (LatchWords::new(0), Bytes::new(0));
            let others: Vec<_> = (0..2)
                .map(|slot| {
                    let (words, bytes) = (words.clone(), bytes.clone());
                    thread::spawn(move || {
                        words.take(slot);
                        bytes.set(bytes.get() + 1);
                        words.latch().release();
                    })
                })
                .collect();
            words.take(2);
            bytes.set(bytes.get() + 1);
            words.latch().release();
            for other in others {
                other.join().unwrap();
            }
            assert_eq!(bytes.get(), 3);
        },
    );
}

#[test]
fn a_reader_and_the_writer_are_never_inside_together() {
    holds_only_with(
        name!("a_reader_and_the_writer_are_never_inside_together"),
        &[Without::Fences, Without::Comparison],
        3,
        || {
            let (words, mark, bytes) = (LatchWords::new(0), AtomicU64::new(0), Bytes::new(0));
            let reader = {
                let (words, mark, bytes) = (words.clone(), mark.clone(), bytes.clone());
                thread::spawn(move || {
                    while words.gate().try_enter(&mark).is_none() {
                        words.gate().sleep(gate::RAISED, Duration::ZERO);
                    }
                    assert_ne!(bytes.get(), 1, "half a change");
                    gate::Gate::leave(&mark);
                })
            };
            let held = LatchWords::new(0);
            held.take(1);
            words.gate().raise();
            while mark.load(Ordering::SeqCst) != 0 {
                thread::yield_now();
            }
            bytes.set(1);
            bytes.set(2);
            // Like the end of a write section: the release of the latch is the barrier for both words.
            words.gate().lower_without_wake(false);
            held.latch().release();
            words.gate().wake_waiters();
            reader.join().unwrap();
        },
    );
}
