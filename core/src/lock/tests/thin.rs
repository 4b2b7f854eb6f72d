//! Thin locks against the same table with records only, and killed at every store.

use super::model::{Act, Answer, any_act, run};
use super::verify::{State, verify};
use super::{Region, S, X, entry, object, owner, thread, try_lock};
use crate::error::Error;
use crate::lock::memory::layout::{
    ABANDONED, CAP, COUNTERS, DEFERRED, HOLD, LOCKABLE, OWNER, PENDING, POOL_USED, POOLS, THIN, THIN_COUNT,
    UNDO_LEN, bucket,
};
use crate::lock::{Holder, Mode, OwnerKind, Queued, Request, Table, Target, Wakes};
use proptest::prelude::*;
use std::sync::atomic::Ordering;

/// Return whether the container's lock is thin.
fn is_thin(region: &Region, id: u64) -> bool {
    region.counts[bucket(id, None)].load(Ordering::Relaxed) == THIN
}

fn used(region: &Region) -> [u64; 3] {
    [LOCKABLE, HOLD, OWNER].map(|pool| region.words[POOLS + 4 * pool + POOL_USED].load(Ordering::Relaxed))
}

fn unlock(table: &Table<'_>, id: u64) -> bool {
    match table.unlock(&thread(1), &object(id), &mut Wakes::new()) {
        Ok(()) => true,
        Err(Error::NotLocked { .. }) => false,
        Err(e) => panic!("{e}"),
    }
}

fn queue(table: &Table<'_>, request: Request) -> Queued {
    table.enqueue(&request, &mut Wakes::new()).unwrap()
}

/// Return containers whose buckets have this number modulo `THIN_COUNT`, each of another bucket.
fn of_one_slot(count: usize) -> Vec<u64> {
    let mut seen = vec![bucket(1, None)];
    let mut ids = vec![1];
    for id in 2.. {
        let b = bucket(id, None);
        if ids.len() == count {
            break;
        }
        if b % THIN_COUNT == seen[0] % THIN_COUNT && !seen.contains(&b) {
            seen.push(b);
            ids.push(id);
        }
    }
    ids
}

#[test]
fn a_lock_that_nothing_else_concerns_has_no_records() {
    let region = Region::new();
    let t = region.table();
    assert!(try_lock(&t, thread(1), object(1), S) && is_thin(&region, 1));
    assert!(try_lock(&t, thread(1), object(1), X) && is_thin(&region, 1));
    assert!(t.may_concern(object(1).id) && !t.is_idle());
    assert!(t.holds(&thread(1)).unwrap() && !t.holds(&thread(2)).unwrap());
    assert_eq!(t.processes().unwrap().as_slice(), [thread(1)]);
    let listed = t.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].count, 2);
    let holder = Holder {
        owner: thread(1),
        target: object(1),
        mode: Mode::X,
        waiting: false,
        change: false,
    };
    assert_eq!(listed[0].holder, holder);
    assert_eq!(t.held(&thread(1), &object(1)).unwrap(), Some(Mode::X));
    assert_eq!(t.held(&thread(2), &object(1)).unwrap(), None);
    assert_eq!(t.held(&thread(1), &entry(1, 1)).unwrap(), None);
    assert_eq!(t.change_blocked(&thread(1), object(1).id, Some(3)).unwrap(), None);
    assert_eq!(
        t.change_blocked(&thread(2), object(1).id, Some(3)).unwrap(),
        Some(holder)
    );
    assert_eq!(t.test(&thread(2), &entry(1, 1), S).unwrap(), Some(holder));
    // A refusal makes no records.
    assert!(!try_lock(&t, thread(2), object(1), S) && !try_lock(&t, thread(2), entry(1, 1), S));
    assert!(is_thin(&region, 1) && used(&region) == [0; 3]);
    assert!(unlock(&t, 1) && is_thin(&region, 1));
    assert_eq!(t.held(&thread(1), &object(1)).unwrap(), Some(Mode::S));
    assert!(unlock(&t, 1) && !t.may_concern(object(1).id) && !unlock(&t, 1));
    assert!(t.is_idle());
    verify(&t);
}

#[test]
fn whatever_else_concerns_the_container_makes_records_first() {
    let mount = owner(2, OwnerKind::Flock, 1);
    let requests = [
        (Request::lock(thread(2), object(1), S).unwrap(), (2, 0)),
        (Request::lock(thread(1), entry(1, 5), X).unwrap(), (2, 0)),
        (Request::lock(thread(2), entry(1, 5), S).unwrap(), (2, 0)),
        (Request::lock(mount, object(1), X).unwrap(), (1, 1)),
        (Request::change(thread(1), object(1).id, None), (1, 0)),
        (Request::change(mount, object(1).id, Some(1)), (1, 1)),
    ];
    for (request, expected) in requests {
        let region = Region::new();
        let t = region.table();
        assert!(try_lock(&t, thread(1), object(1), S) && is_thin(&region, 1));
        queue(&t, request);
        assert!(!is_thin(&region, 1), "{request:?}");
        let state = verify(&t);
        assert_eq!((state.holds.len(), state.queues.len()), expected, "{request:?}");
        assert!(unlock(&t, 1), "{request:?}");
        verify(&t);
        t.release_process(1, 7, &mut Wakes::new()).unwrap();
        t.release_process(2, 7, &mut Wakes::new()).unwrap();
        assert!(t.is_idle());
        // After that the next lock of the container is thin again.
        assert!(try_lock(&t, thread(1), object(1), X) && is_thin(&region, 1));
    }
}

#[test]
fn a_second_container_of_a_slot_gets_records() {
    let region = Region::new();
    let t = region.table();
    let ids = of_one_slot(3);
    for id in &ids {
        assert!(try_lock(&t, thread(1), object(*id), X));
        verify(&t);
    }
    assert!(is_thin(&region, ids[0]) && !is_thin(&region, ids[1]) && !is_thin(&region, ids[2]));
    assert!(unlock(&t, ids[0]) && try_lock(&t, thread(2), object(ids[0]), X));
    assert!(is_thin(&region, ids[0]) && !unlock(&t, ids[0]));
    // Another container of the bucket makes records of its thin lock.
    let other = (ids[0] + 1..)
        .find(|id| bucket(*id, None) == bucket(ids[0], None))
        .unwrap();
    assert!(!unlock(&t, other) && is_thin(&region, ids[0]));
    assert!(try_lock(&t, thread(1), object(other), X) && !is_thin(&region, ids[0]));
    assert_eq!(verify(&t).holds.len(), 4);
}

#[test]
fn thin_locks_take_no_room_from_records() {
    let region = Region::new();
    let t = region.table();
    let mut thin = 0;
    for id in 0..CAP[LOCKABLE] as u64 {
        assert!(try_lock(&t, thread(1), object(id), X), "container {id}");
        thin += u64::from(is_thin(&region, id));
    }
    assert!(thin > THIN_COUNT as u64 / 2, "{thin} thin locks");
    let request = Request::lock(thread(1), object(CAP[LOCKABLE] as u64), X).unwrap();
    let full = t.try_lock(&request, &mut Wakes::new());
    assert!(matches!(full, Err(Error::TooMany { .. })), "{full:?}");
    assert_eq!(used(&region)[0], CAP[LOCKABLE] as u64);
    assert_eq!(verify(&t).holds.len(), CAP[LOCKABLE]);
    t.unlock_all(&thread(1), &mut Wakes::new()).unwrap();
    assert!(t.is_idle());
}

#[test]
fn an_ended_owner_loses_its_thin_locks() {
    let other = owner(2, OwnerKind::Thread, 1);
    type End = fn(&Table<'_>) -> crate::error::Result<()>;
    let ends: [(End, bool); 4] = [
        (|t| t.unlock_all(&thread(1), &mut Wakes::new()), false),
        (|t| t.release_owner(&thread(1), &mut Wakes::new()), false),
        (|t| t.release_thread(&thread(1), &mut Wakes::new()), true),
        (|t| t.release_process(1, 7, &mut Wakes::new()), true),
    ];
    for (end, with_tasks) in ends {
        let region = Region::new();
        let t = region.table();
        let task = thread(1 | 5 << 16);
        for (actor, id) in [(thread(1), 1), (thread(1), 2), (task, 3), (other, 4)] {
            assert!(try_lock(&t, actor, object(id), X) && is_thin(&region, id));
        }
        let kept: Vec<Target> = if with_tasks {
            vec![object(4)]
        } else {
            vec![object(3), object(4)]
        };
        end(&t).unwrap();
        let listed: Vec<Target> = t.list().unwrap().iter().map(|l| l.holder.target).collect();
        assert!(
            listed.len() == kept.len() && kept.iter().all(|k| listed.contains(k)),
            "{listed:?}"
        );
        verify(&t);
    }
}

#[test]
fn a_deferred_release_finds_a_thin_lock() {
    let region = Region::new();
    let t = region.table();
    assert!(try_lock(&t, thread(1), object(1), X) && is_thin(&region, 1));
    assert!(t.defer(&thread(1), crate::lock::Release::Level(object(1))));
    assert!(try_lock(&t, thread(2), object(1), X) && is_thin(&region, 1));
    verify(&t);
}

#[test]
fn a_lock_at_once_needs_no_records_and_no_earlier_work() {
    let region = Region::new();
    let t = region.table();
    let (me, other, id) = (thread(1), thread(2), object(1).id);
    assert!(!t.unlock_at_once(&me, id, None) && !t.is_thin_of(&me, id));
    assert!(t.lock_at_once(&me, id, false) && t.lock_at_once(&me, id, true) && is_thin(&region, 1));
    assert!(t.is_thin_of(&me, id) && !t.is_thin_of(&other, id) && !t.is_thin_of(&me, object(2).id));
    let request = |owner, mode| Request::lock(owner, object(1), mode).unwrap();
    assert!(t.seems_blocked(&request(other, S)) && !t.seems_blocked(&request(me, X)));
    let image = region.image();
    assert!(!t.lock_at_once(&other, id, true) && !t.unlock_at_once(&other, id, None));
    assert!(!t.lock_at_once(&owner(1, OwnerKind::Flock, 1), id, true));
    assert!(image == region.image());
    assert!(t.unlock_at_once(&me, id, Some(X)) && t.unlock_at_once(&me, id, Some(S)));
    assert!(!t.may_concern(id) && !t.unlock_at_once(&me, id, None));
    // A request that waits, and work that an earlier operation left.
    assert!(t.lock_at_once(&me, id, true));
    queue(&t, request(other, X));
    assert!(!t.unlock_at_once(&me, id, None) && !t.is_thin_of(&me, id) && unlock(&t, 1));
    let region = Region::new();
    let t = region.table();
    assert!(t.lock_at_once(&me, id, true));
    for word in [UNDO_LEN, PENDING, ABANDONED, DEFERRED] {
        region.words[word].store(1, Ordering::Relaxed);
        let image = region.image();
        assert!(
            !t.lock_at_once(&me, id, true) && !t.unlock_at_once(&me, id, None),
            "{word}"
        );
        assert!(!t.is_thin_of(&me, id) && image == region.image(), "{word}");
        region.words[word].store(0, Ordering::Relaxed);
    }
    assert!(t.unlock_at_once(&me, id, None) && t.is_idle());
}

/// Kill `act` at each of its stores; after recovery the state is one of those that it passes through.
fn kill(before: impl Fn(&Table<'_>), act: impl Fn(&Table<'_>) -> crate::error::Result<()>, least: u64) {
    let region = Region::new();
    let t = region.table();
    before(&t);
    let (image, first) = (region.image(), verify(&t));
    act(&t).unwrap();
    let last = verify(&t);
    for at in 0.. {
        region.restore(&image);
        t.fuse.store(at, Ordering::Relaxed);
        let done = act(&t);
        t.fuse.store(u64::MAX, Ordering::Relaxed);
        t.recover(&mut Wakes::new()).unwrap();
        let state = verify(&t);
        assert!(state == first || state == last, "cut at {at}: {state:?}");
        if done.is_ok() {
            assert!(state == last && at >= least, "only {at} stores");
            return;
        }
        // What follows works as well from there.
        t.release_process(1, 7, &mut Wakes::new()).unwrap();
        t.release_process(2, 7, &mut Wakes::new()).unwrap();
        assert!(t.is_idle() && verify(&t) == State::default());
    }
}

#[test]
fn every_store_can_be_the_last() {
    let lock = |t: &Table<'_>| {
        let request = Request::lock(thread(1), object(1), X)?;
        t.try_lock(&request, &mut Wakes::new()).map(drop)
    };
    let begin = |t: &Table<'_>| lock(t).unwrap();
    let release = |t: &Table<'_>| t.unlock(&thread(1), &object(1), &mut Wakes::new());
    kill(|_| {}, lock, 5);
    kill(begin, lock, 1);
    kill(begin, release, 1);
    kill(|t| (begin(t), begin(t)).0, release, 1);
    // The slot has the words of an earlier lock of another container.
    let second = of_one_slot(2)[1];
    let earlier = |t: &Table<'_>| {
        assert!(try_lock(t, owner(2, OwnerKind::Thread, 3), object(second), S));
        t.release_process(2, 7, &mut Wakes::new()).unwrap();
    };
    kill(earlier, lock, 5);
    let join = |t: &Table<'_>| {
        let request = Request::lock(owner(2, OwnerKind::Thread, 3), object(1), X)?;
        t.enqueue(&request, &mut Wakes::new()).map(drop)
    };
    kill(begin, join, 50);
    let change = |t: &Table<'_>| {
        let request = Request::change(thread(1), object(1).id, Some(3));
        t.enqueue(&request, &mut Wakes::new()).map(drop)
    };
    kill(begin, change, 50);
}

#[test]
fn a_damaged_thin_lock_is_an_error() {
    for (word, value) in [(0, 0), (0, u64::MAX), (2, 99), (3, 0)] {
        let region = Region::new();
        let t = region.table();
        assert!(try_lock(&t, thread(1), object(1), X));
        let slot = crate::lock::memory::layout::THINS
            + bucket(1, None) % THIN_COUNT * crate::lock::memory::layout::THIN_WORDS;
        region.words[slot + word].store(value, Ordering::Relaxed);
        let tried = t.try_lock(
            &Request::lock(thread(2), object(1), X).unwrap(),
            &mut Wakes::new(),
        );
        assert!(matches!(tried, Err(Error::Corrupt { .. })), "{word}: {tried:?}");
        let blocked = t.change_blocked(&thread(2), object(1).id, None);
        assert!(
            matches!(blocked, Err(Error::Corrupt { .. })),
            "{word}: {blocked:?}"
        );
    }
    // A counter that is neither `THIN` nor a count.
    let region = Region::new();
    let t = region.table();
    region.counts[bucket(1, None)].store(THIN | 1, Ordering::Relaxed);
    let request = Request::lock(thread(1), object(1), X).unwrap();
    let tried = t.try_lock(&request, &mut Wakes::new());
    assert!(matches!(tried, Err(Error::Corrupt { .. })), "{tried:?}");
    assert_eq!(region.counts.len(), COUNTERS);
}

/// Run a history on a table with thin locks and on one without: answers and states agree.
fn twins(acts: &[Act]) {
    let (with, without) = (Region::new(), Region::new());
    let (thin, thick) = (with.table(), without.table());
    thick.without_thin.store(true, Ordering::Relaxed);
    let mut tickets = Vec::new();
    let mut seen = 0;
    for act in acts {
        if matches!(act, Act::Granted(_) | Act::Cancel(_) | Act::Abandon(_)) && tickets.is_empty() {
            continue;
        }
        let answers = [&thin, &thick].map(|t| match run(t, act, &tickets) {
            Ok(answer) => Ok(answer),
            Err(Error::NotLocked { .. }) => Err("not locked"),
            Err(e) => panic!("{act:?}: {e}"),
        });
        assert_eq!(answers[0], answers[1], "{act:?}");
        assert_eq!(verify(&thin), verify(&thick), "after {act:?}");
        seen += thin.thin_locks().count();
        assert_eq!(thick.thin_locks().count(), 0);
        if let Ok(Answer::Queued(Some(ticket))) = answers[0] {
            tickets.push(ticket);
        }
    }
    THIN_SEEN.fetch_add(seen as u64, Ordering::Relaxed);
}

static THIN_SEEN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

fn histories() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(any_act(), 1..80)
}

#[test]
fn a_table_without_thin_locks_gives_the_same_answers() {
    proptest!(ProptestConfig { cases: 96, ..ProptestConfig::default() }, |(acts in histories())| {
        twins(&acts);
    });
    let seen = THIN_SEEN.load(Ordering::Relaxed);
    assert!(seen > 20, "only {seen} thin locks in all histories");
}
