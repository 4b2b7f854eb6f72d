//! Check every invariant of a table between two mutations, and return its content.

use crate::lock::memory::layout::*;
use crate::lock::memory::op::{Hold, Link, Lockable, Op, OwnerRec, Waiter};
use crate::lock::{Owner, OwnerKind, Table, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

/// The content of a table, independent of its layout.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct State {
    /// (owner, target) -> shared levels, exclusive levels, reservations.
    pub(super) holds: BTreeMap<String, (u32, u32, u32)>,
    /// Container -> queue, in order.
    pub(super) queues: BTreeMap<u64, Vec<String>>,
    /// Signals of requests that were granted and not yet seen by their waiters.
    pub(super) granted: BTreeSet<u32>,
}

pub(super) fn hold_name(owner: &Owner, target: &Target) -> String {
    format!("{owner} {target}")
}

pub(super) fn wait_name(
    owner: &Owner,
    target: &Target,
    exclusive: bool,
    change: bool,
    signal: u32,
) -> String {
    format!("{owner} {target} {exclusive} {change} {signal}")
}

fn free_records<const P: usize>(op: &Op<'_, '_>) -> BTreeSet<u32> {
    let mut free = BTreeSet::new();
    let mut link = lo(op.load(POOLS + 4 * P + POOL_FREE).unwrap());
    while link != 0 {
        assert!(free.insert(link), "pool {P}: a free record twice");
        link = op.lo(Link::<P>(link), 0).unwrap();
    }
    let (high, used) = (
        op.load(POOLS + 4 * P + POOL_HIGH).unwrap(),
        op.load(POOLS + 4 * P + POOL_USED).unwrap(),
    );
    assert_eq!(free.len() as u64 + used, high, "pool {P}: records lost");
    free
}

/// Return the content of a table. Panics if the table is inconsistent.
pub(super) fn verify(table: &Table<'_>) -> State {
    let op = Op::new(table);
    let mut state = State::default();
    assert_eq!(op.load(UNDO_LEN).unwrap(), 0, "a mutation is open");
    assert_eq!(op.load(PENDING).unwrap(), 0, "grants are pending");
    let free = (
        free_records::<LOCKABLE>(&op),
        free_records::<HOLD>(&op),
        free_records::<OWNER>(&op),
        free_records::<WAITER>(&op),
    );
    let (mut lockables, mut thin_locks) = (0, 0);
    let (mut holds, mut waiting) = (BTreeMap::new(), BTreeSet::new());
    let mut counts = vec![0; COUNTERS];
    // (owner, container) -> entries shared, exclusive, reserved.
    let mut intended: BTreeMap<(u32, u32), (u32, u32, u32)> = BTreeMap::new();
    let mut noted = intended.clone();
    for (at, count) in counts.iter_mut().enumerate() {
        if let Some(thin) = table.thin(at).unwrap() {
            *count = THIN;
            let name = hold_name(&thin.owner, &Target::container(thin.id));
            let was = state.holds.insert(name, (lo(thin.levels), hi(thin.levels), 0));
            assert!(was.is_none() && thin.owner.kind == OwnerKind::Thread);
            thin_locks += 1;
        }
        let mut l: Lockable = Link(lo(op.load(BUCKETS + at).unwrap()));
        while !l.is_none() {
            assert!(!free.0.contains(&l.0), "a lockable in use is free");
            lockables += 1;
            let target = op.target(l).unwrap();
            assert_eq!(bucket(target.id.0, target.key), at);
            let c = op.container(l).unwrap();
            let is_container = target.key.is_none();
            assert_eq!(
                op.hi(l, 3).unwrap(),
                if is_container { KIND_CONTAINER } else { KIND_ENTRY }
            );
            assert_eq!(op.find(target.id.0, None).unwrap(), c);
            *count += u32::from(is_container);
            let mut h: Hold = Link(op.lo(l, 3).unwrap());
            assert!(
                !h.is_none() || (is_container && op.get(l, 4).unwrap() != 0),
                "an unused lockable"
            );
            while !h.is_none() {
                assert!(!free.1.contains(&h.0), "a hold in use is free");
                assert_eq!(op.hi(h, 0).unwrap(), l.0);
                let o: OwnerRec = Link(op.lo(h, 2).unwrap());
                let owner = op.owner(o).unwrap();
                assert_eq!(op.hi(h, 2).unwrap() != 0, owner.kind.is_mount());
                assert!(holds.insert(h.0, o.0).is_none());
                let (levels, entries, changes) = (
                    op.get(h, 3).unwrap(),
                    op.get(h, 4).unwrap(),
                    op.get(h, 5).unwrap(),
                );
                assert!(levels != 0 || entries != 0 || changes != 0, "an empty hold");
                if levels != 0 || lo(changes) != 0 {
                    let was = state
                        .holds
                        .insert(hold_name(&owner, &target), (lo(levels), hi(levels), lo(changes)));
                    assert!(was.is_none(), "two holds of one owner");
                }
                if is_container {
                    if entries != 0 || hi(changes) != 0 {
                        noted.insert((o.0, l.0), (lo(entries), hi(entries), hi(changes)));
                    }
                } else {
                    assert!(entries == 0 && hi(changes) == 0);
                    let sum = intended.entry((o.0, c.0)).or_default();
                    sum.0 += u32::from(hi(levels) == 0 && lo(levels) != 0);
                    sum.1 += u32::from(hi(levels) != 0);
                    sum.2 += lo(changes);
                }
                check_compatible(&op, l, h);
                h = Link(op.lo(h, 0).unwrap());
            }
            walk_queue(&op, l, &mut waiting, &mut state);
            l = Link(op.lo(l, 0).unwrap());
        }
    }
    assert_eq!(intended, noted, "intentions do not match the entries held");
    let real: Vec<u32> = table.counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
    assert!(counts == real, "counters are wrong");
    assert_eq!(
        table.thin_locks().count(),
        thin_locks,
        "two thin locks share a slot"
    );
    assert_eq!(op.load(WAITING).unwrap(), waiting.len() as u64);
    let (mut owners, mut waiters) = (0, 0);
    for at in 0..OWNER_BUCKET_COUNT {
        let mut o: OwnerRec = Link(lo(op.load(OWNER_BUCKETS + at).unwrap()));
        while !o.is_none() {
            assert!(!free.2.contains(&o.0), "an owner in use is free");
            owners += 1;
            assert_eq!(owner_bucket(op.get(o, 1).unwrap(), op.get(o, 2).unwrap()), at);
            assert_ne!(op.get(o, 3).unwrap(), 0, "an owner of nothing");
            let (mut h, mut previous): (Hold, _) = (Link(op.lo(o, 3).unwrap()), 0);
            while !h.is_none() {
                assert_eq!(holds.remove(&h.0), Some(o.0), "a hold on the wrong list");
                assert_eq!(op.hi(h, 1).unwrap(), previous);
                previous = h.0;
                h = Link(op.lo(h, 1).unwrap());
            }
            let (mut w, mut previous): (Waiter, _) = (Link(op.hi(o, 3).unwrap()), 0);
            while !w.is_none() {
                assert!(!free.3.contains(&w.0), "a waiter in use is free");
                waiters += 1;
                assert_eq!(op.hi(w, 6).unwrap(), previous);
                assert_eq!(op.hi(w, 1).unwrap(), o.0);
                if !waiting.remove(&w.0) {
                    assert_eq!(op.get(w, 3).unwrap() & STATE_MASK, STATE_GRANTED);
                    state.granted.insert(w.0 - 1);
                }
                previous = w.0;
                w = Link(op.lo(w, 6).unwrap());
            }
            o = Link(op.lo(o, 0).unwrap());
        }
    }
    assert!(
        holds.is_empty() && waiting.is_empty(),
        "of no owner: {holds:?} {waiting:?}"
    );
    let used = |pool: usize| op.load(POOLS + 4 * pool + POOL_USED).unwrap();
    assert_eq!(
        (used(LOCKABLE), used(OWNER), used(WAITER)),
        (lockables, owners, waiters)
    );
    state
}

/// Check that no two owners have conflicting holds.
fn check_compatible(op: &Op<'_, '_>, l: Lockable, h: Hold) {
    let (lock, change) = op.modes(h).unwrap();
    let mount = op.hi(h, 2).unwrap() != 0;
    let owner = op.owner(Link(op.lo(h, 2).unwrap())).unwrap();
    let through_mount = |o: &Owner| matches!(o.kind, OwnerKind::Flock | OwnerKind::Posix);
    let mut other: Hold = Link(op.lo(h, 0).unwrap());
    while !other.is_none() {
        let (their_lock, their_change) = op.modes(other).unwrap();
        let both_mount = mount && op.hi(other, 2).unwrap() != 0;
        let clash = |a: u8, b: u8| {
            [IS, IX, S, X]
                .into_iter()
                .any(|m| a & m != 0 && clashes(m) & b != 0)
        };
        let their_owner = op.owner(Link(op.lo(other, 2).unwrap())).unwrap();
        // The mount decides among its locks of the target itself.
        let target =
            if through_mount(&owner) && through_mount(&their_owner) && owner.same_process(&their_owner) {
                S | X
            } else {
                0
            };
        assert!(
            !clash(lock & !target, their_lock) && !clash(lock, their_lock & !target),
            "two locks exclude each other on {:?}",
            op.target(l)
        );
        assert!(
            both_mount || (!clash(lock, their_change) && !clash(change, their_lock)),
            "a lock and a reservation exclude each other on {:?}",
            op.target(l)
        );
        other = Link(op.lo(other, 0).unwrap());
    }
}

fn walk_queue(op: &Op<'_, '_>, l: Lockable, waiting: &mut BTreeSet<u32>, state: &mut State) {
    let target = op.target(l).unwrap();
    let (mut w, mut previous) = (op.first_waiter(l).unwrap(), 0);
    let mut ahead = Vec::new();
    while !w.is_none() {
        assert!(target.key.is_none(), "a queue at an entry");
        assert!(waiting.insert(w.0));
        assert_eq!((op.lo(w, 0).unwrap(), op.lo(w, 1).unwrap()), (previous, l.0));
        let flags = op.get(w, 3).unwrap();
        assert_eq!(flags & STATE_MASK, STATE_WAITING);
        let want = op.want(w).unwrap();
        let free = op.blocking_hold(l, &want, |_| Ok(true)).unwrap().is_none();
        assert!(
            !free || ahead.iter().any(|a| want.clashes_with(a)),
            "a waiter was forgotten: {:?}",
            op.describe_waiter(w)
        );
        ahead.push(want);
        let owner = op.owner(want.owner).unwrap();
        let name = wait_name(
            &owner,
            &Target {
                key: want.key,
                ..target
            },
            want.exclusive,
            want.change,
            w.0 - 1,
        );
        state.queues.entry(target.id.0).or_default().push(name);
        previous = w.0;
        w = op.next_waiter(w).unwrap();
    }
    assert_eq!(op.hi(l, 4).unwrap(), previous);
}
