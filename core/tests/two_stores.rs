//! Deadlocks over two stores of one process: the last request gets the error, whatever each of the others waits for,
//! and waits without a cycle are not reported.

use persist_core::store::door::{LockReply, set_task};
use persist_core::store::{
    Actor, Durability, Error, In, Key, LockMode, LockTarget, Options, Result, Store, Wait,
};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than any test waits if a cycle is found, shorter than a wait without a limit.
const BOUND: Duration = Duration::from_secs(60);

fn stores(n: usize) -> (TempDir, Vec<Store>) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        durability: Durability::None,
        lock_timeout: BOUND,
        ..Options::default()
    };
    let all = (0..n)
        .map(|i| Store::open(dir.path().join(format!("{i}.store")), &options).unwrap())
        .collect();
    (dir, all)
}

fn root(store: &Store) -> LockTarget<'static> {
    LockTarget {
        obj: store.root(),
        key: None,
    }
}

fn lock(store: &Store) -> Result<()> {
    store
        .lock(
            Actor::Thread,
            root(store),
            LockMode::Exclusive,
            &mut Wait::default(),
        )
        .map(drop)
}

fn unlock(store: &Store) {
    store.unlock(Actor::Thread, root(store)).unwrap();
}

fn change(store: &Store) -> Result<()> {
    let root = store.root();
    store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(root, &Key::Int(1), &In::Int(1))
    })
}

/// How a thread holds one store, and how it waits for the next.
type Hold = (fn(&Store) -> Result<()>, fn(&Store));
type Reach = fn(&Store) -> Result<()>;

const LOCK: Hold = (lock, unlock);
const TRANSACTION: Hold = (
    |s| s.begin(&mut Wait::default()).map(drop),
    |s| s.rollback().unwrap(),
);

const FOR_LOCK: Reach = |s| lock(s).inspect(|()| unlock(s));
const FOR_CHANGE: Reach = change;
const FOR_TRANSACTION: Reach = |s| s.begin(&mut Wait::default()).and_then(|_| s.rollback());

/// Thread i holds store i in the given way, and requests the next one. Returns how each ended.
fn ring(stores: &[Store], players: &[(Hold, Reach)]) -> Vec<Result<()>> {
    let all_hold = Barrier::new(players.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = players
            .iter()
            .enumerate()
            .map(|(i, ((take, give), reach))| {
                let (mine, next, all_hold) = (&stores[i], &stores[(i + 1) % stores.len()], &all_hold);
                scope.spawn(move || {
                    take(mine).unwrap();
                    all_hold.wait();
                    let done = reach(next);
                    give(mine);
                    done
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

#[track_caller]
fn one_gets_a_deadlock(stores: &[Store], ended: &[Result<()>], begun: Instant) {
    assert!(begun.elapsed() < BOUND, "nothing was found: the bound ended it");
    let told: Vec<_> = ended.iter().filter_map(|r| r.as_ref().err()).collect();
    assert!(matches!(told[..], [Error::Deadlock { .. }]), "{ended:?}");
    let text = told[0].to_string();
    for store in stores {
        let path = store.path().display().to_string();
        assert!(text.contains(&path), "{path} is not named: {text}");
    }
}

#[test]
fn a_deadlock_over_two_stores_is_found_for_all_kinds_of_waits() {
    let cases: [[(Hold, Reach); 2]; 6] = [
        [(LOCK, FOR_LOCK), (LOCK, FOR_LOCK)],
        [(LOCK, FOR_CHANGE), (LOCK, FOR_LOCK)],
        [(LOCK, FOR_LOCK), (TRANSACTION, FOR_LOCK)],
        [(LOCK, FOR_TRANSACTION), (TRANSACTION, FOR_CHANGE)],
        [(TRANSACTION, FOR_CHANGE), (TRANSACTION, FOR_TRANSACTION)],
        [(TRANSACTION, FOR_LOCK), (TRANSACTION, FOR_LOCK)],
    ];
    for (i, players) in cases.iter().enumerate() {
        let (_dir, all) = stores(2);
        let begun = Instant::now();
        let ended = ring(&all, players);
        println!("case {i}: {:?} {ended:?}", begun.elapsed());
        one_gets_a_deadlock(&all, &ended, begun);
        // No lock is left.
        all.iter().for_each(|s| lock(s).unwrap());
    }
}

#[test]
fn a_deadlock_over_three_stores_is_found_by_one_waiter() {
    let (_dir, all) = stores(3);
    let begun = Instant::now();
    let ended = ring(
        &all,
        &[(LOCK, FOR_LOCK), (TRANSACTION, FOR_CHANGE), (LOCK, FOR_LOCK)],
    );
    one_gets_a_deadlock(&all, &ended, begun);
}

/// A holds in the first store, and waits in the second for B, which waits there for C, which waits in the first for A.
#[test]
fn a_deadlock_through_a_thread_that_uses_one_store_is_found() {
    let (_dir, all) = stores(2);
    let (x, y) = (&all[0], &all[1]);
    let keyed = |key| LockTarget {
        obj: y.root(),
        key: Some(Key::Int(key)),
    };
    let take = |key| {
        y.lock(
            Actor::Thread,
            keyed(key),
            LockMode::Exclusive,
            &mut Wait::default(),
        )
        .map(drop)
    };
    let give = |key| y.unlock(Actor::Thread, keyed(key)).map(drop).unwrap();
    let all_hold = Barrier::new(3);
    let begun = Instant::now();
    let ended: Vec<Result<()>> = std::thread::scope(|scope| {
        let a = scope.spawn(|| {
            lock(x)?;
            all_hold.wait();
            let done = take(1).inspect(|()| give(1));
            unlock(x);
            done
        });
        let b = scope.spawn(|| {
            take(1)?;
            all_hold.wait();
            let done = take(2).inspect(|()| give(2));
            give(1);
            done
        });
        let c = scope.spawn(|| {
            take(2)?;
            all_hold.wait();
            let done = FOR_LOCK(x);
            give(2);
            done
        });
        [a, b, c].into_iter().map(|t| t.join().unwrap()).collect()
    });
    one_gets_a_deadlock(&all, &ended, begun);
}

/// Tasks of one thread, which wait without blocking it.
#[test]
fn tasks_of_one_thread_are_distinguished() {
    let (_dir, all) = stores(2);
    let ask = |task: u64, store: &Store| {
        set_task(task);
        store
            .lock_later(Actor::Thread, root(store), LockMode::Exclusive, None)
            .unwrap()
    };
    assert!(matches!(ask(1, &all[0]), LockReply::Held));
    assert!(matches!(ask(2, &all[1]), LockReply::Held));
    let (LockReply::Queued(first), LockReply::Queued(second)) = (ask(1, &all[1]), ask(2, &all[0])) else {
        panic!("both are held");
    };
    let begun = Instant::now();
    let told = loop {
        assert!(begun.elapsed() < BOUND, "nothing was found");
        if let Err(e) = all[1].lock_poll(&first) {
            break (1, e);
        }
        if let Err(e) = all[0].lock_poll(&second) {
            break (2, e);
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(matches!(told.1, Error::Deadlock { .. }), "{told:?}");
    // The victim releases its locks, and the other continues.
    set_task(told.0);
    if told.0 == 1 {
        all[1].lock_cancel(&first).unwrap();
        unlock(&all[0]);
        assert!(all[0].lock_poll(&second).unwrap());
    } else {
        all[0].lock_cancel(&second).unwrap();
        unlock(&all[1]);
        assert!(all[1].lock_poll(&first).unwrap());
    }
    set_task(0);
}

/// All threads take the stores in the same order, and hold them longer than a wait sleeps before it checks for a cycle.
#[test]
fn threads_with_a_lock_order_never_get_a_deadlock() {
    let (_dir, all) = stores(3);
    let (ended, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for seed in 0..4u64 {
            let (all, ended, rounds) = (&all, &ended, &rounds);
            scope.spawn(move || {
                let mut draw = seed + 1;
                while !ended.load(Ordering::Relaxed) {
                    draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let taken: Vec<_> = (0..3).filter(|i| draw >> (40 + i) & 1 == 1).collect();
                    for i in &taken {
                        lock(&all[*i]).unwrap();
                        std::thread::sleep(Duration::from_millis(draw >> 50 & 31));
                    }
                    taken.iter().for_each(|i| unlock(&all[*i]));
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begun = Instant::now();
        while rounds.load(Ordering::Relaxed) < 60 && begun.elapsed() < BOUND {
            std::thread::sleep(Duration::from_millis(10));
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(rounds.load(Ordering::Relaxed) >= 60);
}

/// The thread that gets the error breaks the cycle, and a thread that waits for another reason continues to wait.
#[test]
fn a_bystander_continues_to_wait() {
    let (_dir, all) = stores(2);
    let (x, y) = (&all[0], &all[1]);
    let (held, done) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            lock(x).unwrap();
            held.wait();
            // The thread holds one lock and waits for none: a long time is not a cycle.
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            unlock(x);
        });
        held.wait();
        let waiting = scope.spawn(|| {
            lock(y).unwrap();
            let done = FOR_LOCK(x);
            unlock(y);
            done
        });
        let other = scope.spawn(|| FOR_LOCK(y));
        std::thread::sleep(Duration::from_millis(300));
        done.store(true, Ordering::Relaxed);
        assert!(matches!(waiting.join().unwrap(), Ok(())));
        assert!(matches!(other.join().unwrap(), Ok(())));
    });
}
