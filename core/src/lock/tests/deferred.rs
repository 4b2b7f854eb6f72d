//! Releases that are recorded without the latch.

use super::verify::verify;
use super::{Region, S, X, entry, object, thread, try_lock};
use crate::lock::{LockMode, Queued, Release, Request, Table, Target, Wakes};
use std::sync::atomic::Ordering;

fn levels(table: &Table<'_>) -> Vec<(u32, u32, u32)> {
    verify(table).holds.into_values().collect()
}

fn touch(table: &Table<'_>) -> crate::error::Result<()> {
    table
        .try_lock(
            &Request::lock(thread(9), object(9), LockMode::Exclusive)?,
            &mut Wakes::new(),
        )
        .map(|_| ())
}

#[test]
fn a_noted_release_lets_the_next_waiter_in() {
    for target in [object(1), entry(1, 5)] {
        let region = Region::new();
        let t = region.table();
        assert!(try_lock(&t, thread(1), target, X));
        let queued = t
            .enqueue(&Request::lock(thread(2), target, S).unwrap(), &mut Wakes::new())
            .unwrap();
        let Queued::Waiting { ticket, .. } = queued else {
            panic!("{queued:?}")
        };
        assert!(t.defer(&thread(1), Release::Level(target)));
        let mut wakes = Wakes::new();
        t.finish_deferred(&mut wakes).unwrap();
        assert_eq!(wakes.as_slice(), [ticket.signal]);
        assert!(t.granted(ticket, &mut wakes).unwrap());
        assert!(!t.has_deferred());
        verify(&t);
    }
}

#[test]
fn one_level_is_released_by_one_note() {
    let region = Region::new();
    let t = region.table();
    for _ in 0..3 {
        assert!(try_lock(&t, thread(1), object(1), X));
    }
    assert!(t.defer(&thread(1), Release::Level(object(1))));
    t.finish_deferred(&mut Wakes::new()).unwrap();
    t.finish_deferred(&mut Wakes::new()).unwrap();
    assert_eq!(levels(&t), [(0, 2, 0)]);
    assert!(t.defer(&thread(1), Release::Locks));
    t.finish_deferred(&mut Wakes::new()).unwrap();
    assert_eq!(levels(&t), []);
}

#[test]
fn a_later_request_of_any_owner_comes_after_the_note() {
    let region = Region::new();
    let t = region.table();
    assert!(try_lock(&t, thread(1), object(1), X));
    assert!(t.defer(&thread(1), Release::Level(object(1))));
    assert!(try_lock(&t, thread(2), object(1), X));
}

#[test]
fn finishing_notes_can_be_killed_at_every_store() {
    let region = Region::new();
    let t = region.table();
    for id in 1..4 {
        assert!(try_lock(&t, thread(id), object(id), X));
        assert!(try_lock(&t, thread(id), object(id), X));
    }
    assert!(t.defer(&thread(1), Release::Level(object(1))));
    assert!(t.defer(&thread(2), Release::Locks));
    assert!(t.defer(&thread(3), Release::Level(object(3))));
    let image = region.image();
    for at in 0.. {
        region.restore(&image);
        t.fuse.store(at, Ordering::Relaxed);
        let done = touch(&t);
        t.fuse.store(u64::MAX, Ordering::Relaxed);
        t.recover(&mut Wakes::new()).unwrap();
        t.unlock_all(&thread(9), &mut Wakes::new()).unwrap();
        assert_eq!(levels(&t), [(0, 1, 0), (0, 1, 0)], "cut at {at}");
        if done.is_ok() {
            assert!(at > 20);
            return;
        }
    }
}

#[test]
fn notes_are_bounded_and_those_of_a_dead_claimant_are_freed() {
    let region = Region::new();
    let t = region.table();
    let what = Release::Level(Target::container(crate::ids::ObjectId(7)));
    let mut room = 0;
    while t.defer(&thread(1), what) {
        room += 1;
    }
    assert_eq!(room, crate::lock::memory::layout::NOTE_COUNT);
    t.finish_deferred(&mut Wakes::new()).unwrap();
    // The state that a process leaves when it is killed while it fills its note.
    let owner = thread(1);
    let claim = 1 | u64::from(owner.slot) << 16 | u64::from(owner.generation) << 32;
    region.words[crate::lock::memory::layout::NOTES].store(claim, Ordering::Relaxed);
    t.finish_deferred(&mut Wakes::new()).unwrap();
    t.release_process(owner.slot, owner.generation, &mut Wakes::new())
        .unwrap();
    assert_eq!(
        region.words[crate::lock::memory::layout::NOTES].load(Ordering::Relaxed),
        0
    );
}

/// Levels end in any order: the remaining lock is as strong as what was granted for the remaining levels.
#[test]
fn a_level_is_released_by_its_mode() {
    for noted in [false, true] {
        let release = |t: &Table<'_>, target, mode| {
            if noted {
                assert!(t.defer(&thread(1), Release::LevelOf(target, mode)));
                t.finish_deferred(&mut Wakes::new()).unwrap();
            } else {
                t.unlock_mode(&thread(1), &target, mode, &mut Wakes::new())
                    .unwrap();
            }
        };
        // Every order of acquiring and releasing three levels.
        for target in [object(1), entry(1, 5)] {
            for bits in 0..8u32 {
                let modes = [0, 1, 2].map(|i| if bits >> i & 1 == 0 { S } else { X });
                for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                    let region = Region::new();
                    let t = region.table();
                    for mode in modes {
                        assert!(try_lock(&t, thread(1), target, mode));
                    }
                    for i in 0..3 {
                        release(&t, target, modes[order[i]]);
                        let left = &order[i + 1..];
                        let exclusive = left.iter().any(|k| modes[*k] == X);
                        if exclusive {
                            assert!(!try_lock(&t, thread(2), target, S), "{modes:?} {order:?} {i}");
                        } else if !left.is_empty() {
                            assert!(!try_lock(&t, thread(2), target, X), "{modes:?} {order:?} {i}");
                        }
                        verify(&t);
                    }
                    assert!(try_lock(&t, thread(2), target, X));
                }
            }
        }
    }
}
