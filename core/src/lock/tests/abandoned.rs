//! Requests abandoned without the latch, and other cases that random histories seldom reach.

use super::verify::verify;
use super::{Region, S, X, entry, object, owner, thread, try_lock};
use crate::lock::memory::layout::HOLD;
use crate::lock::memory::op::{Hold, Op};
use crate::lock::{LockMode, Mode, Owner, OwnerKind, Queued, Request, Table, Target, Ticket, Wakes};
use std::sync::atomic::Ordering;

fn wait(table: &Table<'_>, owner: Owner, target: Target, mode: LockMode) -> Ticket {
    match table
        .enqueue(&Request::lock(owner, target, mode).unwrap(), &mut Wakes::new())
        .unwrap()
    {
        Queued::Waiting { ticket, .. } => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_downgrade_grants_shared_waiters() {
    let region = Region::new();
    let t = region.table();
    let flock = owner(1, OwnerKind::Flock, 1);
    for target in [object(1), entry(1, 5)] {
        assert!(try_lock(&t, flock, target, X));
        let ticket = wait(&t, thread(2), target, S);
        let mut wakes = Wakes::new();
        assert!(
            t.set_lock(&flock, &target, Some(S), &mut wakes)
                .unwrap()
                .is_none()
        );
        assert_eq!(wakes.as_slice(), [ticket.signal]);
        verify(&t);
        t.release_process(1, 7, &mut wakes).unwrap();
    }
}

#[test]
fn a_killed_removal_of_abandoned_requests_is_repeated() {
    let region = Region::new();
    let t = region.table();
    assert!(try_lock(&t, thread(1), object(1), X));
    for id in 2..5 {
        t.abandon(wait(&t, thread(id), entry(1, id), X));
    }
    let image = region.image();
    for at in 0.. {
        region.restore(&image);
        t.fuse.store(at, Ordering::Relaxed);
        let swept = t.try_lock(
            &Request::lock(thread(9), object(9), X).unwrap(),
            &mut Wakes::new(),
        );
        t.fuse.store(u64::MAX, Ordering::Relaxed);
        t.recover(&mut Wakes::new()).unwrap();
        t.try_lock(
            &Request::lock(thread(9), object(9), X).unwrap(),
            &mut Wakes::new(),
        )
        .unwrap();
        assert!(verify(&t).queues.is_empty(), "cut at {at}");
        if swept.is_ok() {
            return;
        }
    }
}

#[test]
fn an_unclaimed_grant_is_undone_in_the_right_place() {
    let region = Region::new();
    let t = region.table();
    let w = &mut Wakes::new();
    // The request is granted, released with everything else of its owner, and its records are reused.
    assert!(try_lock(&t, thread(1), object(1), X));
    let ticket = wait(&t, thread(2), object(1), X);
    t.unlock(&thread(1), &object(1), w).unwrap();
    t.abandon(ticket);
    t.unlock_all(&thread(2), w).unwrap();
    t.recover(w).unwrap();
    // A plain store, so that the sweep does not run first.
    region.words[crate::lock::memory::layout::ABANDONED].store(0, Ordering::Relaxed);
    assert!(try_lock(&t, thread(2), object(2), X));
    t.abandon(ticket);
    assert!(!try_lock(&t, thread(3), object(2), S));
    assert_eq!(t.held(&thread(2), &object(2)).unwrap(), Some(Mode::X));
    verify(&t);
}

#[test]
fn an_unclaimed_upgrade_returns_to_shared() {
    let region = Region::new();
    let t = region.table();
    let w = &mut Wakes::new();
    let flock = owner(1, OwnerKind::Flock, 1);
    for target in [object(1), entry(1, 5)] {
        assert!(try_lock(&t, flock, target, S) && try_lock(&t, thread(1), target, S));
        let ticket = wait(&t, flock, target, X);
        let behind = wait(&t, thread(3), target, S);
        t.unlock(&thread(1), &target, w).unwrap();
        assert_eq!(t.held(&flock, &target).unwrap(), Some(Mode::X));
        t.abandon(ticket);
        assert!(t.granted(behind, w).unwrap());
        assert_eq!(t.held(&flock, &target).unwrap(), Some(Mode::S));
        verify(&t);
        t.release_process(1, 7, w).unwrap();
    }
}

#[test]
fn a_record_freed_and_taken_in_one_mutation_comes_back_whole() {
    let region = Region::new();
    let t = region.table();
    assert!(try_lock(&t, thread(1), object(1), X));
    let (before, image) = (verify(&t), region.image());
    let mut op = Op::new(&t);
    let h = Hold::from(1);
    op.free(h).unwrap();
    assert_eq!(op.alloc::<HOLD>([9; 8]).unwrap(), h);
    t.replay().unwrap();
    assert!(verify(&t) == before);
    // Compare everything but the undo log itself.
    let pools = crate::lock::memory::layout::BASE[0];
    assert!(region.image().words[pools..] == image.words[pools..]);
}
