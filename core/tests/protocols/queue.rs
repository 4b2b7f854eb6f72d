//! The lock queue: requests that wait, are granted by the thread that makes room, give up, and die.
//!
//! The lock manager is the engine's own (`persist_core::lock`: table, queue, cycles, the waiting loop). Its words are
//! plain ones that the latch guards, which the model checks (`Shared::changes`). Latch and sleeping belong to the
//! model; a thread stands for the end of a sleep by time ("a slice"). When a part of the waiting loop is removed,
//! `without_a_part` replaces `lock/waiting/wait.rs`.

use crate::model::{Bytes, Without, holds_only_with, name, without};
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};
use persist_core::ids::ObjectId;
use persist_core::lock::waiting::env::Env;
use persist_core::lock::waiting::wait::{acquire, release, wait_change};
use persist_core::lock::{
    COUNTERS, Cancelled, LockMode, Owner, OwnerKind, Queued, Release, Request, SIGNALS, Table, Target, WORDS,
    WaitState, Wakes,
};
use persist_core::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

const X: LockMode = LockMode::Exclusive;
const S: LockMode = LockMode::Shared;
/// The maximal number of requests at one time in a model.
const PLACES: usize = 3;
/// The dead process.
const DEAD: u16 = 9;

/// A store's lock table, and its sleepers.
struct Shared {
    words: Vec<AtomicU64>,
    signals: Vec<AtomicU32>,
    counts: Vec<AtomicU32>,
    latch: Mutex<()>,
    /// The state that the latch guards, in the model.
    changes: Arc<Bytes>,
    /// For each signal, how often its sleepers were woken.
    asleep: Vec<(Mutex<u64>, Condvar)>,
    /// Slices pass at any time, and end every sleep.
    slices: bool,
    /// The value that the lock guards.
    value: Arc<Bytes>,
}

fn zeros<T: Default>(n: usize) -> Vec<T> {
    (0..n).map(|_| T::default()).collect()
}

fn shared() -> Arc<Shared> {
    Arc::new(empty(false))
}

fn empty(slices: bool) -> Shared {
    Shared {
        words: zeros(WORDS),
        signals: zeros(SIGNALS),
        counts: zeros(COUNTERS),
        latch: Mutex::new(()),
        changes: Bytes::new(0),
        asleep: (0..PLACES).map(|_| (Mutex::new(0), Condvar::new())).collect(),
        slices,
        value: Bytes::new(0),
    }
}

fn owner(process: u16) -> Owner {
    Owner {
        slot: process,
        generation: 1,
        kind: OwnerKind::Thread,
        id: 0,
        caller: 0,
    }
}

fn target() -> Target {
    Target::container(ObjectId(1))
}

impl Shared {
    fn table(&self) -> Table<'_> {
        Table::new(&self.words, &self.signals, &self.counts).unwrap()
    }

    fn wake_waiter(&self, signal: u32) {
        let (times, bell) = &self.asleep[signal as usize];
        *times.lock().unwrap() += 1;
        bell.notify_all();
    }

    /// End a slice for all sleepers.
    fn slice_ends(&self) {
        if without(Without::Slice) {
            return;
        }
        for signal in 0..PLACES {
            self.wake_waiter(signal as u32);
        }
    }

    /// True if there are no holders and no requests.
    fn is_idle(&self) -> bool {
        self.table().is_idle()
    }
}

impl Env for Shared {
    fn latched<R>(&self, _at_most: Option<Duration>, f: impl FnOnce(&Table<'_>) -> Result<R>) -> Result<R> {
        let _held = self.latch.lock().unwrap();
        self.changes.set(self.changes.get() + 1);
        f(&self.table())
    }

    fn unlatched<R>(&self, f: impl FnOnce(&Table<'_>) -> R) -> R {
        f(&self.table())
    }

    fn holder_is_dead(&self, owner: &Owner) -> bool {
        owner.slot == DEAD
    }

    fn recover_owner(&self, owner: &Owner) -> Result<()> {
        if without(Without::Recovery) {
            return Ok(());
        }
        let mut wakes = Wakes::new();
        self.latched(None, |t| {
            t.release_process(owner.slot, owner.generation, &mut wakes)
        })?;
        wakes.into_iter().for_each(|signal| self.wake(signal));
        Ok(())
    }

    /// As in the kernel, comparing and falling asleep are one step.
    fn sleep(&self, signal: u32, expected: u32, _at_most: Duration) {
        if self.slices {
            return thread::yield_now();
        }
        let (times, bell) = &self.asleep[signal as usize];
        let mut woken = times.lock().unwrap();
        let value = self.signals[signal as usize].load(std::sync::atomic::Ordering::Acquire);
        if !without(Without::Comparison) && value != expected {
            return;
        }
        let before = *woken;
        while *woken == before {
            woken = bell.wait(woken).unwrap();
        }
    }

    fn wake(&self, signal: u32) {
        if !without(Without::Wake) {
            self.wake_waiter(signal);
        }
    }

    fn describe(&self, owner: &Owner) -> String {
        owner.to_string()
    }
}

/// Wait for a lock. Returns whether it was granted.
fn take(store: &Shared, me: Owner, mode: LockMode, mut gives_up: impl FnMut() -> bool) -> bool {
    let parts = [Without::Grant, Without::Cycle];
    if parts.into_iter().any(without) {
        return without_a_part(store, &Request::lock(me, target(), mode).unwrap(), gives_up);
    }
    match acquire(store, &me, &target(), mode, None, Some(&mut gives_up)) {
        Ok(()) => true,
        Err(Error::Interrupted | Error::Deadlock { .. }) => false,
        Err(e) => panic!("{e}"),
    }
}

/// Run `f` under the latch, and then wake.
fn latched<R>(store: &Shared, f: impl FnOnce(&Table<'_>, &mut Wakes) -> Result<R>) -> R {
    let mut wakes = Wakes::new();
    let done = store.latched(None, |t| f(t, &mut wakes)).unwrap();
    wakes.into_iter().for_each(|signal| store.wake(signal));
    done
}

/// lock/waiting/wait.rs: `obtain`, with one part removed.
fn without_a_part(store: &Shared, request: &Request, mut gives_up: impl FnMut() -> bool) -> bool {
    let (ticket, mut seen) = match latched(store, |t, wakes| t.enqueue(request, wakes)) {
        Queued::Granted => return true,
        // Sleep as if it waited.
        Queued::Deadlock(_) if without(Without::Cycle) => loop {
            store.sleep(
                0,
                store.signals[0].load(std::sync::atomic::Ordering::Acquire),
                Duration::ZERO,
            );
        },
        Queued::Deadlock(_) => return false,
        Queued::Waiting { ticket, seen } => (ticket, seen),
    };
    loop {
        store.sleep(ticket.signal, seen, Duration::ZERO);
        match latched(store, |t, wakes| t.wait_state(ticket, wakes)) {
            WaitState::Granted => return true,
            WaitState::Waiting { seen: now, .. } => seen = now,
        }
        if gives_up() {
            return match latched(store, |t, wakes| t.cancel(ticket, wakes)) {
                Cancelled::Granted => !without(Without::Grant),
                Cancelled::Withdrawn(_) => false,
            };
        }
    }
}

fn never() -> bool {
    false
}

/// Change the value that the lock guards, and release the lock.
fn use_and_release(store: &Shared, me: Owner) {
    store.value.set(store.value.get() + 1);
    release(store, &me, Release::Level(target())).unwrap();
}

/// Another process, which waits for the lock without a limit, and uses it.
fn user(store: &Arc<Shared>, process: u16) -> JoinHandle<()> {
    let store = store.clone();
    thread::spawn(move || {
        assert!(take(&store, owner(process), X, never));
        use_and_release(&store, owner(process));
    })
}

/// When all have ended, the lock was used this many times, and is free.
fn all_have_used_it(store: &Shared, others: impl IntoIterator<Item = JoinHandle<()>>, times: u64) {
    for other in others {
        other.join().unwrap();
    }
    assert_eq!(store.value.get(), times);
    assert!(store.is_idle(), "a lock was not released");
}

#[test]
fn one_holds_it_and_no_waiter_is_forgotten() {
    holds_only_with(
        name!("one_holds_it_and_no_waiter_is_forgotten"),
        &[Without::Comparison, Without::Wake],
        3,
        || {
            let store = shared();
            let others = [1, 2].map(|process| user(&store, process));
            assert!(take(&store, owner(0), X, never));
            use_and_release(&store, owner(0));
            all_have_used_it(&store, others, 3);
        },
    );
}

/// A waiter times out while the holder makes room.
#[test]
fn a_waiter_that_gives_up_while_being_granted_has_the_lock_or_leaves_nothing() {
    holds_only_with(
        name!("a_waiter_that_gives_up_while_being_granted_has_the_lock_or_leaves_nothing"),
        &[Without::Grant],
        3,
        || {
            let store = shared();
            assert!(take(&store, owner(0), X, never));
            let over = Arc::new(AtomicBool::new(false));
            let waiter = {
                let (store, over) = (store.clone(), over.clone());
                thread::spawn(move || {
                    if take(&store, owner(1), X, || over.load(Ordering::SeqCst)) {
                        use_and_release(&store, owner(1));
                    }
                })
            };
            let clock = {
                let (store, over) = (store.clone(), over.clone());
                thread::spawn(move || {
                    over.store(true, Ordering::SeqCst);
                    store.slice_ends();
                })
            };
            use_and_release(&store, owner(0));
            waiter.join().unwrap();
            clock.join().unwrap();
            assert!(store.is_idle(), "a lock was not released");
        },
    );
}

/// A process died with the lock while another of its threads waited for it. The living processes detect that at the end
/// of a slice.
#[test]
fn the_dead_neither_hold_nor_wait() {
    holds_only_with(
        name!("the_dead_neither_hold_nor_wait"),
        &[Without::Recovery],
        3,
        || {
            let store = Arc::new(empty(true));
            latched(&store, |t, wakes| {
                let held = t.try_lock(&Request::lock(owner(DEAD), target(), X)?, wakes)?;
                assert_eq!(held, None);
                // Another thread of the process waits.
                let other = Owner { id: 1, ..owner(DEAD) };
                t.enqueue(&Request::lock(other, target(), X)?, wakes).map(|_| ())
            });
            let waiters = [1, 2].map(|process| user(&store, process));
            all_have_used_it(&store, waiters, 2);
        },
    );
}

/// A releasing process was killed after it had made room, and before it could wake a waiter.
#[test]
fn a_lost_wake_costs_a_slice_and_no_more() {
    holds_only_with(
        name!("a_lost_wake_costs_a_slice_and_no_more"),
        &[Without::Slice],
        3,
        || {
            let store = shared();
            assert!(take(&store, owner(0), X, never));
            let waiter = user(&store, 1);
            let mut lost = Wakes::new();
            store
                .latched(None, |t| t.unlock(&owner(0), &target(), &mut lost))
                .unwrap();
            store.slice_ends();
            all_have_used_it(&store, [waiter], 1);
        },
    );
}

/// Two holders of a shared lock both request it exclusively.
#[test]
fn one_of_two_upgraders_gets_a_deadlock_at_once() {
    holds_only_with(
        name!("one_of_two_upgraders_gets_a_deadlock_at_once"),
        &[Without::Cycle],
        3,
        || {
            let store = shared();
            let won = Arc::new(AtomicUsize::new(0));
            let upgrade = |store: &Shared, won: &AtomicUsize, me: Owner| {
                assert!(take(store, me, S, never));
                store.value.get();
                if take(store, me, X, never) {
                    won.fetch_add(1, Ordering::SeqCst);
                    use_and_release(store, me);
                }
                release(store, &me, Release::Level(target())).unwrap();
            };
            let other = {
                let (store, won) = (store.clone(), won.clone());
                thread::spawn(move || upgrade(&store, &won, owner(1)))
            };
            upgrade(&store, &won, owner(0));
            other.join().unwrap();
            assert!(won.load(Ordering::SeqCst) >= 1, "both gave way");
            assert!(store.is_idle());
        },
    );
}

/// Locks are granted in the order of arrival, however often a waiter checks its condition.
#[test]
fn no_waiter_is_overtaken() {
    holds_only_with(name!("no_waiter_is_overtaken"), &[Without::Place], 3, || {
        let store = shared();
        assert!(take(&store, owner(0), X, never));
        // The arrivals, in this order; both change under the latch only.
        let arrived = Arc::new(AtomicUsize::new(0));
        let next = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = (1..3)
            .map(|process| {
                let (store, arrived, next) = (store.clone(), arrived.clone(), next.clone());
                thread::spawn(move || {
                    let request = Request::lock(owner(process), target(), X).unwrap();
                    let mut mine = None;
                    let mut queue = || {
                        latched(&store, |t, wakes| {
                            mine = mine.or_else(|| Some(arrived.fetch_add(1, Ordering::SeqCst)));
                            t.enqueue(&request, wakes)
                        })
                    };
                    let mut standing = queue();
                    while let Queued::Waiting { ticket, seen } = standing {
                        store.sleep(ticket.signal, seen, Duration::ZERO);
                        standing = match latched(&store, |t, wakes| t.wait_state(ticket, wakes)) {
                            WaitState::Granted => Queued::Granted,
                            // The waiter leaves its place and queues again.
                            WaitState::Waiting { .. } if without(Without::Place) => {
                                match latched(&store, |t, wakes| t.cancel(ticket, wakes)) {
                                    Cancelled::Granted => Queued::Granted,
                                    Cancelled::Withdrawn(_) => queue(),
                                }
                            }
                            WaitState::Waiting { seen, .. } => Queued::Waiting { ticket, seen },
                        };
                    }
                    assert_eq!(standing, Queued::Granted);
                    assert_eq!(Some(next.fetch_add(1, Ordering::SeqCst)), mine, "overtaken");
                    use_and_release(&store, owner(process));
                })
            })
            .collect();
        store.slice_ends();
        use_and_release(&store, owner(0));
        all_have_used_it(&store, waiters, 3);
    });
}

/// A change by an owner without locks, against a locker: store/run.rs `write` and lock/waiting/wait.rs `wait_change`.
#[test]
fn a_change_and_a_lock_keep_each_other_out() {
    holds_only_with(
        name!("a_change_and_a_lock_keep_each_other_out"),
        &[Without::ChangeLatch, Without::Comparison],
        3,
        || {
            let store = shared();
            let locker = user(&store, 1);
            let (me, id) = (owner(0), ObjectId(1));
            let blocked = |t: &Table<'_>| Ok(t.may_concern(id) && t.change_blocked(&me, id, None)?.is_some());
            loop {
                let early = without(Without::ChangeLatch).then(|| store.unlatched(blocked).unwrap());
                let changed = latched(&store, |t, _| {
                    if early.map_or_else(|| blocked(t), Ok)? {
                        return Ok(false);
                    }
                    store.value.set(store.value.get() + 1);
                    Ok(true)
                });
                if changed {
                    break;
                }
                wait_change(&*store, &me, id, None, None, None).unwrap();
            }
            release(&*store, &me, Release::Reservations).unwrap();
            all_have_used_it(&store, [locker], 2);
        },
    );
}
