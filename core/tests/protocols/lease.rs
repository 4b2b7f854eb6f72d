//! Leases: what a holder keeps is known to every later change, and given up before it.

use crate::gate;
use crate::gate::Gate;
use crate::leases::{Lease, WANTED};
use crate::model::{LatchWords, Without, holds_only_with, name, without};
use crate::raw::sync::{AtomicU64, Ordering};
use loom::thread;
use std::time::Duration;

/// A stamp.
const STAMP: u64 = 8;

#[derive(Clone)]
struct World {
    words: LatchWords,
    gate: LatchWords,
    mark: AtomicU64,
    word: AtomicU64,
    count: AtomicU64,
    grants: AtomicU64,
    /// The number of grants, + 1, at which a change found no lease; 0: none has looked. For the latch's holder.
    noted: AtomicU64,
    value: AtomicU64,
    /// What the kernel keeps of the value, + 1; 0: nothing.
    kept: AtomicU64,
}

impl World {
    fn new() -> World {
        World {
            words: LatchWords::new(0),
            gate: LatchWords::new(0),
            mark: AtomicU64::new(0),
            word: AtomicU64::new(0),
            count: AtomicU64::new(0),
            grants: AtomicU64::new(0),
            noted: AtomicU64::new(0),
            value: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        }
    }

    fn lease(&self) -> Lease<'_> {
        Lease {
            word: &self.word,
            count: &self.count,
            grants: &self.grants,
            one: 1,
        }
    }

    /// page/section/leases.rs: `grant_lease`, in a read section. Return the value, and whether it may be kept.
    fn read(&self) -> (u64, bool) {
        while self.gate.gate().try_enter(&self.mark).is_none() {
            self.gate.gate().sleep(gate::RAISED, Duration::ZERO);
        }
        let mut granted = false;
        if !without(Without::LeaseFirst) {
            granted = self.lease().grant(STAMP, STAMP).is_some();
        }
        let value = self.value.load(Ordering::Relaxed);
        Gate::leave(&self.mark);
        if without(Without::LeaseFirst) {
            granted = self.lease().grant(STAMP, STAMP).is_some();
        }
        (value, granted)
    }

    /// As `may_be_leased` of page/section/leases.rs. Return the word of a lease that is in the way.
    fn look(&self) -> Option<u64> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (grants, noted) = (
            self.grants.load(Ordering::Relaxed),
            self.noted.load(Ordering::Relaxed),
        );
        if noted == grants + 1 || noted != 0 && without(Without::GrantCount) {
            return None;
        }
        let seen = self.lease().want();
        if seen.is_none() {
            self.noted.store(grants + 1, Ordering::Relaxed);
        }
        seen
    }

    /// Change the value, as page/section/write.rs does; if a lease is in the way, return its word and change nothing.
    fn change(&self) -> Option<u64> {
        self.words.take(1);
        self.gate.gate().raise();
        while self.mark.load(Ordering::SeqCst) != 0 {
            thread::yield_now();
        }
        let seen = self.look();
        if seen.is_none() {
            self.value
                .store(self.value.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        self.gate.gate().lower_without_wake(false);
        self.words.latch().release();
        self.gate.gate().wake_waiters();
        seen
    }
}

#[test]
fn a_change_sees_the_lease_of_what_was_read_before_it() {
    holds_only_with(
        name!("a_change_sees_the_lease_of_what_was_read_before_it"),
        &[Without::LeaseFirst],
        3,
        || {
            let world = World::new();
            let reader = {
                let world = world.clone();
                thread::spawn(move || world.read())
            };
            let seen = world.change();
            let (value, granted) = reader.join().unwrap();
            assert!(!granted || value == 1 || seen.is_some(), "the old value is kept");
        },
    );
}

#[test]
fn a_change_looks_again_after_a_grant() {
    holds_only_with(
        name!("a_change_looks_again_after_a_grant"),
        &[Without::GrantCount],
        3,
        || {
            let world = World::new();
            // Another entry is leased all the time.
            world.count.store(1, Ordering::SeqCst);
            let reader = {
                let world = world.clone();
                thread::spawn(move || world.read())
            };
            let seen = world.change().or_else(|| world.change());
            let (value, granted) = reader.join().unwrap();
            assert!(!granted || value == 2 || seen.is_some(), "an old value is kept");
        },
    );
}

#[test]
fn the_kernel_keeps_nothing_old_once_a_change_is_done() {
    holds_only_with(
        name!("the_kernel_keeps_nothing_old_once_a_change_is_done"),
        &[Without::LeaseFirst, Without::GiveUpFirst],
        3,
        || {
            let world = World::new();
            let over = AtomicU64::new(0);
            let changer = {
                let (world, over) = (world.clone(), over.clone());
                thread::spawn(move || {
                    while let Some(seen) = world.change() {
                        while world.word.load(Ordering::Acquire) == seen {
                            thread::yield_now();
                        }
                    }
                    assert_ne!(world.kept.load(Ordering::SeqCst), 1, "the old value is kept");
                    over.store(1, Ordering::Release);
                })
            };
            let (value, granted) = world.read();
            if granted {
                world.kept.store(value + 1, Ordering::SeqCst);
            }
            // The holder's thread that gives leases up.
            while over.load(Ordering::Acquire) == 0 {
                let word = world.word.load(Ordering::Acquire);
                if word & WANTED != 0 {
                    if without(Without::GiveUpFirst) {
                        assert!(world.lease().end(word));
                    }
                    world.kept.store(0, Ordering::SeqCst);
                    if !without(Without::GiveUpFirst) {
                        assert!(world.lease().end(word));
                    }
                }
                thread::yield_now();
            }
            changer.join().unwrap();
        },
    );
}
