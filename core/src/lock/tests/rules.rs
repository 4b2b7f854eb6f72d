//! The rules, one by one.

use super::verify::verify;
use super::{Region, S, X, entry, object, owner, thread, try_lock};
use crate::error::Error;
use crate::ids::ObjectId;
use crate::lock::memory::layout::{CAP, HOLD, SIGNALS};
use crate::lock::{
    Cancelled, LockMode, Mode, Owner, OwnerKind, Queued, Request, Table, Target, Ticket, Wakes,
};

fn enqueue(table: &Table<'_>, owner: Owner, target: Target, mode: LockMode) -> Queued {
    table
        .enqueue(&Request::lock(owner, target, mode).unwrap(), &mut Wakes::new())
        .unwrap()
}

fn wait(table: &Table<'_>, owner: Owner, target: Target, mode: LockMode) -> Ticket {
    match enqueue(table, owner, target, mode) {
        Queued::Waiting { ticket, .. } => ticket,
        other => panic!("{other:?}"),
    }
}

fn unlock(table: &Table<'_>, owner: Owner, target: Target) {
    table.unlock(&owner, &target, &mut Wakes::new()).unwrap();
}

fn granted(table: &Table<'_>, ticket: Ticket) -> bool {
    table.granted(ticket, &mut Wakes::new()).unwrap()
}

#[test]
fn levels_unlock_in_reverse() {
    let region = Region::new();
    let t = region.table();
    for mode in [S, X, S] {
        assert!(try_lock(&t, thread(1), object(1), mode));
    }
    assert!(!try_lock(&t, thread(2), object(1), S));
    unlock(&t, thread(1), object(1));
    assert!(
        !try_lock(&t, thread(2), object(1), S),
        "the exclusive level is still held"
    );
    unlock(&t, thread(1), object(1));
    assert!(
        try_lock(&t, thread(2), object(1), S),
        "the first, shared level is left"
    );
    unlock(&t, thread(1), object(1));
    unlock(&t, thread(2), object(1));
    assert!(matches!(
        t.unlock(&thread(1), &object(1), &mut Wakes::new()),
        Err(Error::NotLocked { .. })
    ));
    assert!(t.is_idle() && !t.may_concern(ObjectId(1)));
}

#[test]
fn containers_and_entries_exclude_each_other() {
    let region = Region::new();
    let t = region.table();
    assert!(try_lock(&t, thread(1), entry(1, 1), X));
    assert!(try_lock(&t, thread(2), entry(1, 2), X), "another entry");
    assert!(!try_lock(&t, thread(3), object(1), S), "S against IX");
    unlock(&t, thread(1), entry(1, 1));
    unlock(&t, thread(2), entry(1, 2));
    assert!(try_lock(&t, thread(1), entry(1, 1), S));
    assert!(try_lock(&t, thread(2), object(1), S), "S against IS");
    assert!(
        !try_lock(&t, thread(1), entry(1, 2), X),
        "IX against S of another"
    );
    assert!(
        try_lock(&t, thread(2), entry(1, 2), X),
        "S and IX of one owner: SIX"
    );
    assert!(!try_lock(&t, thread(3), object(1), S), "S against SIX");
    assert!(!try_lock(&t, thread(3), entry(1, 3), X), "IX against SIX");
    assert!(try_lock(&t, thread(3), entry(1, 1), S), "IS against SIX");
    assert!(
        t.list()
            .unwrap()
            .iter()
            .any(|l| l.holder.mode == Mode::Six && l.holder.owner == thread(2))
    );
    verify(&t);
}

#[test]
fn shared_does_not_overtake_exclusive() {
    let region = Region::new();
    let t = region.table();
    assert!(try_lock(&t, thread(1), object(1), S));
    let second = wait(&t, thread(2), object(1), X);
    assert!(!try_lock(&t, thread(3), object(1), S));
    let third = wait(&t, thread(3), object(1), S);
    assert!(
        try_lock(&t, thread(1), object(1), S),
        "a holder goes deeper past the requests that wait for it"
    );
    unlock(&t, thread(1), object(1));
    unlock(&t, thread(1), object(1));
    assert!(granted(&t, second) && !granted(&t, third));
    unlock(&t, thread(2), object(1));
    assert!(granted(&t, third));
}

#[test]
fn upgrades_go_first_and_two_are_a_deadlock() {
    let region = Region::new();
    let t = region.table();
    assert!(try_lock(&t, thread(1), object(1), S));
    assert!(try_lock(&t, thread(2), object(1), S));
    let stranger = wait(&t, thread(3), object(1), X);
    let upgrade = wait(&t, thread(1), object(1), X);
    assert!(matches!(enqueue(&t, thread(2), object(1), X), Queued::Deadlock(h) if h.owner == thread(1)));
    unlock(&t, thread(2), object(1));
    assert!(granted(&t, upgrade) && !granted(&t, stranger));
    unlock(&t, thread(1), object(1));
    unlock(&t, thread(1), object(1));
    assert!(granted(&t, stranger));
    verify(&t);
}

#[test]
fn deadlocks_are_found_when_they_arise() {
    let region = Region::new();
    let t = region.table();
    for id in 1..=20 {
        assert!(try_lock(&t, thread(id), object(id), X));
    }
    for id in 1..20 {
        wait(&t, thread(id), object(id + 1), S);
    }
    assert!(matches!(
        enqueue(&t, thread(20), object(1), S),
        Queued::Deadlock(_)
    ));
    // The second half of a request counts from the start.
    let (a, b) = (thread(31), thread(32));
    assert!(try_lock(&t, thread(33), object(30), S));
    assert!(try_lock(&t, b, entry(30, 1), S) && try_lock(&t, a, object(31), X));
    wait(&t, a, entry(30, 1), X);
    assert!(matches!(enqueue(&t, b, object(31), X), Queued::Deadlock(h) if h.owner == a));
    verify(&t);
}

#[test]
fn mounts_convert_and_are_advisory_among_themselves() {
    let region = Region::new();
    let t = region.table();
    let (flock, posix) = (owner(2, OwnerKind::Flock, 1), owner(2, OwnerKind::Posix, 1));
    let command = owner(2, OwnerKind::Command, 5);
    let set = |o: &Owner, mode| {
        t.set_lock(o, &object(1), mode, &mut Wakes::new())
            .unwrap()
            .is_none()
    };
    assert!(set(&flock, Some(X)) && set(&flock, Some(X)));
    assert!(
        set(&posix, Some(S)) && set(&posix, None),
        "the mount decides which of its commands exclude each other"
    );
    let other_mount = owner(3, OwnerKind::Posix, 1);
    assert!(!set(&other_mount, Some(S)), "two mounts exclude each other");
    assert!(
        t.set_lock(&posix, &entry(1, 7), Some(S), &mut Wakes::new())
            .unwrap()
            .is_some(),
        "a container and an entry of it are different targets"
    );
    let id = ObjectId(1);
    let blocked = |o: &Owner, key| t.change_blocked(o, id, key).unwrap().is_some();
    assert!(!blocked(&command, None) && !blocked(&posix, Some(1)) && blocked(&thread(1), Some(1)));
    assert!(set(&flock, Some(S)) && set(&posix, Some(S)), "a downgrade");
    assert!(set(&flock, None) && set(&flock, None) && set(&posix, None));
    assert!(try_lock(&t, thread(1), entry(1, 1), S));
    assert!(blocked(&command, Some(1)) && blocked(&flock, None) && !blocked(&command, Some(2)));
    assert!(!blocked(&thread(1), None), "one's own lock");
    assert!(
        blocked(&owner(2, OwnerKind::Thread, 1), Some(1)),
        "an equal id in another process"
    );
    assert!(matches!(
        Request::lock(command, object(1), S),
        Err(Error::Invalid { .. })
    ));
}

#[test]
fn a_change_is_granted_in_turn_and_reserved() {
    let region = Region::new();
    let t = region.table();
    let w = &mut Wakes::new();
    assert!(try_lock(&t, thread(1), object(1), X));
    let change = Request::change(thread(2), ObjectId(1), Some(4));
    let Queued::Waiting { ticket, .. } = t.enqueue(&change, w).unwrap() else {
        panic!()
    };
    let locker = wait(&t, thread(3), entry(1, 4), X);
    unlock(&t, thread(1), object(1));
    assert!(granted(&t, ticket) && !granted(&t, locker));
    assert!(
        t.change_blocked(&thread(2), ObjectId(1), Some(4))
            .unwrap()
            .is_none()
    );
    assert!(
        t.change_blocked(&thread(4), ObjectId(1), Some(4))
            .unwrap()
            .is_none(),
        "changes do not exclude"
    );
    assert!(!try_lock(&t, thread(4), object(1), S));
    t.release_reservations(&thread(2), w).unwrap();
    assert!(granted(&t, locker));
    verify(&t);
}

#[test]
fn cancelled_requests_let_others_pass_or_keep_their_grant() {
    let region = Region::new();
    let t = region.table();
    let w = &mut Wakes::new();
    assert!(try_lock(&t, thread(1), object(1), S));
    let second = wait(&t, thread(2), object(1), X);
    let third = wait(&t, thread(3), object(1), S);
    let Cancelled::Withdrawn(Some(holder)) = t.cancel(second, w).unwrap() else {
        panic!()
    };
    assert_eq!(holder.owner, thread(1));
    assert_eq!(t.cancel(third, w).unwrap(), Cancelled::Granted);
    assert_eq!(t.held(&thread(3), &object(1)).unwrap(), Some(Mode::S));
    assert!(t.cancel(third, w).is_err(), "used up");
    // Abandoned without the latch, before and after the grant.
    for grant_first in [false, true] {
        let fourth = wait(&t, thread(4), object(1), X);
        if !grant_first {
            t.abandon(fourth);
        }
        unlock(&t, thread(1), object(1));
        unlock(&t, thread(3), object(1));
        t.abandon(fourth);
        assert!(try_lock(&t, thread(1), object(1), S) && try_lock(&t, thread(3), object(1), S));
    }
    verify(&t);
}

#[test]
fn limits_are_errors_and_leave_room_to_grant() {
    let region = Region::new();
    let t = region.table();
    let w = &mut Wakes::new();
    assert!(try_lock(&t, thread(1), object(0), X));
    let mut tickets = Vec::new();
    let full = loop {
        let other = thread(1000 + tickets.len() as u64);
        match t.enqueue(&Request::lock(other, entry(0, other.id), X).unwrap(), w) {
            Ok(Queued::Waiting { ticket, .. }) => tickets.push((other, ticket)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::TooMany { .. }));
    assert_eq!(tickets.len(), SIGNALS);
    let mut taken = 0;
    let full = loop {
        match t.try_lock(&Request::lock(thread(2), object(taken + 1), S).unwrap(), w) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::TooMany { .. }) && full.errno() == libc::ENOLCK);
    assert!(taken as usize > CAP[HOLD] / 2);
    w.clear();
    t.unlock(&thread(1), &object(0), w).unwrap();
    assert_eq!(w.len(), SIGNALS, "all are granted though the table is full");
    assert!(tickets.iter().all(|(_, ticket)| granted(&t, *ticket)));
    verify(&t);
    t.unlock_all(&thread(2), w).unwrap();
    t.release_process(1, 7, w).unwrap();
    verify(&t);
    assert!(t.is_idle());
}

/// A file's owner that waits for both modes gets the weaker one last. The request between the two is granted then.
#[test]
fn a_weakened_lock_lets_earlier_requests_in() {
    let region = Region::new();
    let t = region.table();
    let file = owner(1, OwnerKind::Flock, 9);
    assert!(try_lock(&t, thread(1), object(1), X));
    let first = wait(&t, file, entry(1, 1), X);
    let between = wait(&t, thread(2), object(1), S);
    let last = wait(&t, file, entry(1, 1), S);
    unlock(&t, thread(1), object(1));
    verify(&t);
    for ticket in [first, last, between] {
        assert!(granted(&t, ticket));
    }
    unlock(&t, thread(2), object(1));
    verify(&t);
}
