//! Random histories against the reference, with a kill inside every operation.

use super::reference::{RefQueued, Reference};
use super::verify::verify;
use super::{Region, S, X, entry, object, owner};
use crate::error::Error;
use crate::lock::memory::layout::{ABANDONED, UNDO_CAP};
use crate::lock::{Cancelled, LockMode, Owner, OwnerKind, Queued, Request, Table, Target, Ticket, Wakes};
use proptest::prelude::*;
use std::sync::atomic::Ordering;

#[derive(Clone, Debug)]
pub(super) enum Act {
    Try(Owner, Target, LockMode),
    Enqueue(Owner, Target, LockMode),
    Change(Owner, Target),
    Unlock(Owner, Target),
    Unset(Owner, Target),
    UnlockAll(Owner),
    Reservation(Owner, Target),
    Reservations(Owner),
    Granted(usize),
    Cancel(usize),
    Abandon(usize),
    EndThread(Owner),
    EndProcess(u16),
}

const KINDS: [(u16, OwnerKind, u64); 9] = [
    (1, OwnerKind::Thread, 1),
    (1, OwnerKind::Thread, 2),
    (1, OwnerKind::Flock, 1),
    (1, OwnerKind::Flock, 2),
    (1, OwnerKind::Posix, 1),
    (1, OwnerKind::Command, 1),
    (2, OwnerKind::Thread, 1),
    (2, OwnerKind::Thread, 2),
    (2, OwnerKind::Flock, 1),
];

fn any_owner() -> impl Strategy<Value = Owner> {
    prop::sample::select(KINDS.to_vec()).prop_map(|(slot, kind, id)| owner(slot, kind, id))
}

fn any_locker() -> impl Strategy<Value = Owner> {
    any_owner().prop_filter("locks", |o| o.kind != OwnerKind::Command)
}

fn any_target() -> impl Strategy<Value = Target> {
    (1u64..3, prop::option::weighted(0.6, 0u64..3)).prop_map(|(id, key)| match key {
        None => object(id),
        Some(key) => entry(id, key),
    })
}

fn any_mode() -> impl Strategy<Value = LockMode> {
    prop_oneof![Just(S), Just(X)]
}

pub(super) fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (any_locker(), any_target(), any_mode()).prop_map(|(o, t, m)| Act::Try(o, t, m)),
        8 => (any_locker(), any_target(), any_mode()).prop_map(|(o, t, m)| Act::Enqueue(o, t, m)),
        2 => (any_owner(), any_target()).prop_map(|(o, t)| Act::Change(o, t)),
        6 => (any_locker(), any_target()).prop_map(|(o, t)| Act::Unlock(o, t)),
        1 => (any_locker(), any_target()).prop_map(|(o, t)| Act::Unset(o, t)),
        1 => any_locker().prop_map(Act::UnlockAll),
        1 => (any_owner(), any_target()).prop_map(|(o, t)| Act::Reservation(o, t)),
        1 => any_owner().prop_map(Act::Reservations),
        3 => (0usize..8).prop_map(Act::Granted),
        2 => (0usize..8).prop_map(Act::Cancel),
        1 => (0usize..8).prop_map(Act::Abandon),
        1 => any_owner().prop_map(Act::EndThread),
        1 => (1u16..3).prop_map(Act::EndProcess),
    ]
}

/// The result of a call, as far as the reference can predict it.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Answer {
    Done(bool),
    Queued(Option<Ticket>),
    Deadlock,
}

pub(super) fn run(table: &Table<'_>, act: &Act, tickets: &[Ticket]) -> Result<Answer, Error> {
    let wakes = &mut Wakes::new();
    let pick = |i: usize| tickets[i % tickets.len()];
    let enqueue = |request: &Request, wakes: &mut Wakes| {
        Ok(match table.enqueue(request, wakes)? {
            Queued::Granted => Answer::Queued(None),
            Queued::Waiting { ticket, .. } => Answer::Queued(Some(ticket)),
            Queued::Deadlock(holder) => {
                assert_ne!(holder.owner, request.owner);
                Answer::Deadlock
            }
        })
    };
    match act {
        // As the store does: first without records, then by them.
        Act::Try(o, t, m) if t.key.is_none() && table.lock_at_once(o, t.id, *m == X) => {
            Ok(Answer::Done(true))
        }
        Act::Unlock(o, t) if t.key.is_none() && table.unlock_at_once(o, t.id, None) => Ok(Answer::Done(true)),
        Act::Try(o, t, m) => {
            let blocker = table.try_lock(&Request::lock(*o, *t, *m)?, wakes)?;
            Ok(Answer::Done(blocker.is_none()))
        }
        Act::Enqueue(o, t, m) => enqueue(&Request::lock(*o, *t, *m)?, wakes),
        Act::Change(o, t) => enqueue(&Request::change(*o, t.id, t.key), wakes),
        Act::Unlock(o, t) => match table.unlock(o, t, wakes) {
            Ok(()) => Ok(Answer::Done(true)),
            Err(Error::NotLocked { .. }) => Ok(Answer::Done(false)),
            Err(error) => Err(error),
        },
        Act::Unset(o, t) => table
            .set_lock(o, t, None, wakes)
            .map(|b| Answer::Done(b.is_none())),
        Act::UnlockAll(o) => table.unlock_all(o, wakes).map(|()| Answer::Done(true)),
        Act::Reservation(o, t) => table.release_reservation(o, t, wakes).map(Answer::Done),
        Act::Reservations(o) => table.release_reservations(o, wakes).map(|()| Answer::Done(true)),
        Act::Granted(i) => table.granted(pick(*i), wakes).map(Answer::Done),
        Act::Cancel(i) => table
            .cancel(pick(*i), wakes)
            .map(|c| Answer::Done(c == Cancelled::Granted)),
        Act::Abandon(i) => {
            table.abandon(pick(*i));
            Ok(Answer::Done(true))
        }
        Act::EndThread(o) => table.release_thread(o, wakes).map(|()| Answer::Done(true)),
        Act::EndProcess(slot) => table
            .release_process(*slot, 7, wakes)
            .map(|()| Answer::Done(true)),
    }
}

/// Perform the same act on the reference, with the ticket that the table returned; drop consumed tickets.
fn mirror(
    reference: &mut Reference,
    act: &Act,
    tickets: &mut Vec<(Ticket, Request)>,
    answer: &Answer,
) -> Answer {
    let mut enqueue =
        |request: Request, tickets: &mut Vec<(Ticket, Request)>| match reference.enqueue(&request) {
            RefQueued::Granted => Answer::Queued(None),
            RefQueued::Deadlock => Answer::Deadlock,
            RefQueued::Waiting(place) => {
                let Answer::Queued(Some(ticket)) = answer else {
                    panic!("{act:?} should wait, got {answer:?}")
                };
                reference.name(place, ticket.signal);
                tickets.push((*ticket, request));
                Answer::Queued(Some(*ticket))
            }
        };
    match act {
        Act::Try(o, t, m) => Answer::Done(reference.try_lock(&Reference::request(*o, *t, *m))),
        Act::Enqueue(o, t, m) => enqueue(Reference::request(*o, *t, *m), tickets),
        Act::Change(o, t) => enqueue(Request::change(*o, t.id, t.key), tickets),
        Act::Unlock(o, t) => Answer::Done(reference.unlock(o, t)),
        Act::Unset(o, t) => {
            reference.unset(o, t);
            Answer::Done(true)
        }
        Act::UnlockAll(o) => {
            reference.unlock_all(o);
            Answer::Done(true)
        }
        Act::Reservation(o, t) => Answer::Done(reference.release_reservation(o, t)),
        Act::Reservations(o) => {
            reference.release_reservations(o);
            Answer::Done(true)
        }
        Act::Granted(i) => {
            let i = i % tickets.len();
            let granted = reference.granted(tickets[i].0.signal);
            if granted {
                tickets.remove(i);
            }
            Answer::Done(granted)
        }
        Act::Cancel(i) => {
            let ticket = tickets.remove(i % tickets.len()).0;
            Answer::Done(reference.cancel(ticket.signal))
        }
        Act::Abandon(i) => {
            let ticket = tickets.remove(i % tickets.len()).0;
            reference.abandon(ticket.signal);
            Answer::Done(true)
        }
        Act::EndThread(o) => {
            tickets.retain(|(_, r)| r.owner != *o);
            reference.release_owners(|owner| owner == o);
            Answer::Done(true)
        }
        Act::EndProcess(slot) => {
            tickets.retain(|(_, r)| r.owner.slot != *slot);
            reference.release_owners(|owner| owner.slot == *slot);
            Answer::Done(true)
        }
    }
}

/// Return whether the act is several mutations, between which it may be interrupted.
fn is_many(act: &Act) -> bool {
    matches!(
        act,
        Act::UnlockAll(_) | Act::Reservations(_) | Act::EndThread(_) | Act::EndProcess(_)
    )
}

/// Run the history; `kills` are places (in stores) at which each act is killed; the region is restored first.
fn history(acts: &[Act], kills: &[(u64, u64)]) {
    let region = Region::new();
    let table = region.table();
    let mut reference = Reference::default();
    let mut tickets: Vec<(Ticket, Request)> = Vec::new();
    for (step, act) in acts.iter().enumerate() {
        if matches!(act, Act::Granted(_) | Act::Cancel(_) | Act::Abandon(_)) && tickets.is_empty() {
            continue;
        }
        // Two requests of one owner for one lock may be granted in either order: the table releases what blocks
        // them step by step, the reference at once. The order decides what a thread's levels count as if their
        // modes differ, and which mode a mount's owner has in the end.
        if let Act::Enqueue(o, t, mode) = act {
            let exclusive = *mode == LockMode::Exclusive;
            let same = |r: &Request| (r.owner, r.target, r.change) == (*o, *t, false);
            let matters = |r: &Request| same(r) && (o.kind.is_mount() || r.exclusive != exclusive);
            if tickets.iter().any(|(_, r)| matters(r)) {
                continue;
            }
        }
        let plain: Vec<Ticket> = tickets.iter().map(|t| t.0).collect();
        let many = is_many(act) || region.words[ABANDONED].load(Ordering::Relaxed) != 0;
        let (before, image) = (verify(&table), region.image());
        let answer = run(&table, act, &plain).unwrap();
        let (after, done) = (verify(&table), region.image());
        // The number of stores is unknown: kill early, within 64 stores, and anywhere.
        let (kill, again) = kills[step % kills.len()];
        for at in [kill % 12, kill % 64, kill] {
            region.restore(&image);
            table.fuse.store(at, Ordering::Relaxed);
            let cut = run(&table, act, &plain);
            // The recovery is killed too, and repeated.
            let killed = table.fuse.swap(u64::MAX, Ordering::Relaxed) == 0 && cut.is_err();
            if killed {
                table.fuse.store(again, Ordering::Relaxed);
                let _ = table.recover(&mut Wakes::new());
                table.fuse.store(u64::MAX, Ordering::Relaxed);
            }
            table.recover(&mut Wakes::new()).unwrap();
            let state = verify(&table);
            if !many {
                assert!(
                    state == before || state == after,
                    "{act:?} cut at {at} left {state:#?}"
                );
            } else if is_many(act) {
                run(&table, act, &plain).unwrap();
                assert_eq!(verify(&table), after, "{act:?} cut at {at} and done again");
            }
        }
        region.restore(&done);
        let expected = mirror(&mut reference, act, &mut tickets, &answer);
        assert_eq!(answer, expected, "{act:?} from {before:#?}");
        assert_eq!(after, reference.state(), "after {act:?}");
        for (slot, kind, id) in KINDS {
            let target = if step % 2 == 0 { object(1) } else { entry(2, 1) };
            let actor = owner(slot, kind, id);
            let blocked = table
                .change_blocked(&actor, target.id, target.key)
                .unwrap()
                .is_some();
            assert_eq!(
                blocked,
                reference.blocked(&Request::change(actor, target.id, target.key))
            );
            assert!(!blocked || table.may_concern(target.id));
            assert!(!blocked || !table.is_thin_of(&actor, target.id));
            if kind != OwnerKind::Command {
                let tested = table.test(&actor, &target, S).unwrap().is_some();
                assert_eq!(tested, reference.blocked(&Reference::request(actor, target, S)));
            }
        }
    }
    for slot in [1, 2] {
        table.release_process(slot, 7, &mut Wakes::new()).unwrap();
    }
    verify(&table);
    assert!(table.is_idle());
    assert!(region.counts.iter().all(|c| c.load(Ordering::Relaxed) == 0));
    let longest = (0..UNDO_CAP).rev().find(|i| {
        let at = crate::lock::memory::layout::UNDO + 2 * i;
        region.words[at].load(Ordering::Relaxed) != 0
    });
    assert!(
        longest.unwrap_or(0) < UNDO_CAP / 4,
        "mutations grew to {longest:?} words"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn history_matches_the_reference(
        acts in prop::collection::vec(any_act(), 1..80),
        kills in prop::collection::vec((0u64..256, 0u64..80), 1..40),
    ) {
        history(&acts, &kills);
    }
}
