//! Transactions: blocks as savepoints, dead transactions, tasks of one thread, blocks that end on other threads.

use persist_core::store::door::{LockReply, Member, set_task};
use persist_core::store::{
    Actor, Durability, Error, In, Key, LockMode, LockTarget, Obj, Options, Result, Store, Value, Wait,
};
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn open(durability: Durability) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        durability,
        ..Options::default()
    };
    let store = Store::open(dir.path().join("a.store"), &options).unwrap();
    (dir, store)
}

fn fresh() -> (tempfile::TempDir, Store) {
    open(Durability::Checkpoint)
}

fn begin(s: &Store) -> persist_core::store::Block {
    s.begin(&mut Wait::default()).unwrap()
}

fn set(s: &Store, k: &str, v: In<'_>) -> Result<()> {
    set_in(s, s.root(), k, v)
}

fn set_in(s: &Store, o: Obj, k: &str, v: In<'_>) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(o, &Key::Str(k.as_bytes()), &v)
    })
}

fn get(s: &Store, k: &str) -> Result<Option<Value>> {
    s.read(&mut Wait::default(), |r| r.get(s.root(), &Key::Str(k.as_bytes())))
}

fn int(s: &Store, k: &str) -> Option<i64> {
    match get(s, k).unwrap() {
        Some(Value::Int(n)) => Some(n),
        None => None,
        other => panic!("{other:?}"),
    }
}

fn a_dict(s: &Store, k: &str) -> Obj {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        let d = w.new_dict()?;
        for i in 0..200 {
            w.set(d, &Key::Int(i), &In::str("a text that has a segment of its own"))?;
        }
        w.set(s.root(), &Key::Str(k.as_bytes()), &In::Obj(d))?;
        Ok(d)
    })
    .unwrap()
}

fn remove(s: &Store, k: &str) {
    let removed = s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.remove(s.root(), &Key::Str(k.as_bytes()))
    });
    assert!(removed.unwrap());
}

fn whole(obj: Obj) -> LockTarget<'static> {
    LockTarget { obj, key: None }
}

fn sound(s: &Store) {
    s.check().unwrap();
    s.check_pages().unwrap();
}

/// Run `f` as a task of this thread.
fn as_task<R>(task: u64, f: impl FnOnce() -> R) -> R {
    let before = set_task(task);
    let done = f();
    set_task(before);
    done
}

#[test]
fn an_inner_block_is_undone_by_itself() {
    for durability in [Durability::Checkpoint, Durability::Commit] {
        let (dir, s) = open(durability);
        let kept = a_dict(&s, "kept");
        a_dict(&s, "outer");
        begin(&s);
        remove(&s, "outer");
        set(&s, "x", In::Int(1)).unwrap();
        begin(&s);
        remove(&s, "kept");
        set(&s, "x", In::Int(2)).unwrap();
        a_dict(&s, "new");
        begin(&s);
        set(&s, "x", In::Int(3)).unwrap();
        s.commit().unwrap();
        s.rollback().unwrap();
        assert!(s.in_transaction());
        assert_eq!(int(&s, "x"), Some(1));
        assert_eq!(get(&s, "kept").unwrap(), Some(Value::Obj(kept)));
        assert_eq!(get(&s, "new").unwrap(), None);
        begin(&s);
        set(&s, "y", In::Int(4)).unwrap();
        s.commit().unwrap();
        a_dict(&s, "after");
        s.commit().unwrap();
        assert!(!s.in_transaction());
        let see = |s: &Store| {
            assert_eq!((int(s, "x"), int(s, "y")), (Some(1), Some(4)));
            assert_eq!(get(s, "outer").unwrap(), None);
            assert_eq!(get(s, "kept").unwrap(), Some(Value::Obj(kept)));
            let len = s.read(&mut Wait::default(), |r| r.len(kept)).unwrap();
            assert_eq!(len, 200);
            sound(s);
        };
        see(&s);
        if durability == Durability::Commit {
            // As after a power failure: from the checkpoint and the redo log alone.
            let copy = dir.path().join("copy.store");
            std::fs::copy(dir.path().join("a.store"), &copy).unwrap();
            std::fs::copy(dir.path().join("a.store-wal"), dir.path().join("copy.store-wal")).unwrap();
            see(&Store::open(&copy, &Options::default()).unwrap());
        }
        s.close().unwrap();
    }
}

#[test]
fn after_a_conflict_the_transaction_is_dead_until_its_outermost_block_is_left() {
    let (_dir, s) = fresh();
    let locked = a_dict(&s, "locked");
    set(&s, "x", In::Int(0)).unwrap();
    let ((held, is_held), (leave, may_leave)) = (mpsc::channel(), mpsc::channel());
    std::thread::scope(|scope| {
        let store = &s;
        scope.spawn(move || {
            store
                .lock(
                    Actor::Thread,
                    whole(locked),
                    LockMode::Exclusive,
                    &mut Wait::default(),
                )
                .unwrap();
            held.send(()).unwrap();
            may_leave.recv().unwrap();
            store.unlock(Actor::Thread, whole(locked)).unwrap();
        });
        is_held.recv().unwrap();
        let (outer, inner) = (begin(&s), begin(&s));
        set(&s, "x", In::Int(1)).unwrap();
        let met = s.write(Actor::Thread, &mut Wait::never(), |w| {
            w.set(locked, &Key::Int(1), &In::Int(1))
        });
        assert!(matches!(met, Err(Error::Conflict { .. })), "{met:?}");
        assert!(s.in_transaction() && s.level_of(inner).is_none() && s.level_of(outer).is_none());
        let refused = |done: Result<()>| match done {
            Err(Error::Aborted { again: true, why }) => assert!(why.contains("lock"), "{why}"),
            other => panic!("{other:?}"),
        };
        for _ in 0..2 {
            refused(set(&s, "x", In::Int(2)));
            refused(get(&s, "x").map(|_| ()));
            refused(s.begin(&mut Wait::default()).map(|_| ()));
            refused(
                s.lock(
                    Actor::Thread,
                    whole(s.root()),
                    LockMode::Shared,
                    &mut Wait::never(),
                )
                .map(drop),
            );
            assert!(!s.fast_set(
                s.root(),
                Member::Key(Key::Str(b"x")),
                persist_core::store::door::Word::small(&In::Int(5))
            ));
            assert!(s.sync().is_err());
        }
        // Others continue: another task of the thread, other threads.
        as_task(7, || set(&s, "other task", In::Int(1)).unwrap());
        scope
            .spawn(|| set(&s, "other thread", In::Int(1)).unwrap())
            .join()
            .unwrap();
        refused(s.commit());
        refused(set(&s, "x", In::Int(3)));
        s.rollback().unwrap();
        assert!(!s.in_transaction());
        assert_eq!(int(&s, "x"), Some(0));
        set(&s, "x", In::Int(4)).unwrap();
        leave.send(()).unwrap();
    });
    begin(&s);
    set_in(&s, locked, "x", In::Int(1)).unwrap();
    s.commit().unwrap();
    assert_eq!(
        (int(&s, "other task"), int(&s, "other thread")),
        (Some(1), Some(1))
    );
    sound(&s);
    s.close().unwrap();
}

#[test]
fn two_tasks_of_a_thread_share_no_transaction() {
    let (_dir, s) = fresh();
    let (d, e) = (a_dict(&s, "d"), a_dict(&s, "e"));
    set(&s, "x", In::Int(0)).unwrap();
    as_task(1, || {
        begin(&s);
        set_in(&s, d, "x", In::Int(1)).unwrap();
    });
    let started = Instant::now();
    as_task(2, || {
        assert!(!s.in_transaction());
        let write = set(&s, "x", In::Int(2));
        assert!(matches!(write, Err(Error::OtherTask { .. })), "{write:?}");
        // It reads the committed state.
        let read = s.read(&mut Wait::default(), |r| {
            Ok((r.len(d)?, r.get(d, &Key::Str(b"x"))?))
        });
        assert_eq!(read.unwrap(), (200, None));
        let untouched = s.read(&mut Wait::default(), |r| r.len(e));
        assert_eq!(untouched.unwrap(), 200);
        let block = s.begin(&mut Wait::default());
        assert!(matches!(block, Err(Error::OtherTask { .. })), "{block:?}");
        let none = s.rollback();
        assert!(matches!(none, Err(Error::Invalid { .. })), "{none:?}");
        let none = s.commit();
        assert!(matches!(none, Err(Error::Invalid { .. })), "{none:?}");
        // Locks are not part of the transaction.
        s.lock(Actor::Thread, whole(e), LockMode::Exclusive, &mut Wait::never())
            .unwrap();
        s.unlock(Actor::Thread, whole(e)).unwrap();
    });
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "it waited for itself"
    );
    as_task(1, || s.rollback().unwrap());
    as_task(2, || set(&s, "x", In::Int(2)).unwrap());
    assert_eq!(int(&s, "x"), Some(2));
    sound(&s);
}

#[test]
fn inner_blocks_end_beside_a_dead_transaction_of_another_task() {
    let (_dir, s) = fresh();
    let d = a_dict(&s, "d");
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let exclusive = |mode| s.lock(Actor::Thread, whole(d), mode, &mut Wait::never()).unwrap();
        as_task(3, || exclusive(LockMode::Exclusive));
        as_task(1, || {
            begin(&s);
            let met = s.write(Actor::Thread, &mut Wait::never(), |w| {
                w.set(d, &Key::Int(1), &In::Int(1))
            });
            assert!(matches!(met, Err(Error::Conflict { .. })), "{met:?}");
        });
        as_task(2, || begin(&s));
        as_task(1, || {
            let all = [
                s.begin(&mut Wait::never()).map(drop),
                s.sync(),
                s.snapshot("n").map(drop),
            ];
            assert!(
                all.iter().all(|r| matches!(r, Err(Error::Aborted { .. }))),
                "{all:?}"
            );
        });
        as_task(2, || s.commit().unwrap());
        as_task(2, || {
            begin(&s);
            set(&s, "x", In::Int(1)).unwrap();
            begin(&s);
            set(&s, "x", In::Int(2)).unwrap();
            s.rollback().unwrap();
            begin(&s);
            set(&s, "y", In::Int(3)).unwrap();
            s.commit().unwrap();
            s.commit().unwrap();
        });
        as_task(1, || s.rollback().unwrap());
        assert_eq!((int(&s, "x"), int(&s, "y")), (Some(1), Some(3)));
        sound(&s);
        ended.send(()).unwrap();
    });
    if end.recv_timeout(Duration::from_secs(120)) == Err(mpsc::RecvTimeoutError::Timeout) {
        eprintln!("an inner block did not end");
        std::process::abort(); // The end of the process would wait for that thread, too.
    }
}

#[test]
fn two_tasks_of_a_thread_share_no_lock() {
    let (_dir, s) = fresh();
    let d = a_dict(&s, "d");
    let lock = |mode, wait: &mut Wait<'_>| s.lock(Actor::Thread, whole(d), mode, wait);
    as_task(1, || lock(LockMode::Exclusive, &mut Wait::default()).unwrap());
    let started = Instant::now();
    let queued = as_task(2, || {
        for mode in [LockMode::Exclusive, LockMode::Shared] {
            let met = lock(mode, &mut Wait::default());
            assert!(matches!(met, Err(Error::OtherTask { .. })), "{met:?}");
            let met = lock(mode, &mut Wait::never());
            assert!(matches!(met, Err(Error::Timeout { .. })), "{met:?}");
        }
        let met = set_in(&s, d, "x", In::Int(1));
        assert!(matches!(met, Err(Error::OtherTask { .. })), "{met:?}");
        let not_mine = s.unlock(Actor::Thread, whole(d));
        assert!(matches!(not_mine, Err(Error::NotLocked { .. })), "{not_mine:?}");
        match s
            .lock_later(Actor::Thread, whole(d), LockMode::Exclusive, None)
            .unwrap()
        {
            LockReply::Queued(pending) => pending,
            other => panic!("{other:?}"),
        }
    });
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "it waited for itself"
    );
    assert!(!s.lock_poll(&queued).unwrap());
    as_task(1, || {
        set_in(&s, d, "x", In::Int(1)).unwrap();
        s.unlock(Actor::Thread, whole(d)).unwrap();
    });
    assert!(s.lock_poll(&queued).unwrap());
    as_task(1, || {
        let met = lock(LockMode::Shared, &mut Wait::never());
        assert!(matches!(met, Err(Error::Timeout { .. })), "{met:?}");
    });
    as_task(2, || s.unlock(Actor::Thread, whole(d)).unwrap());
    assert_eq!(s.locks().unwrap(), []);
}

#[test]
fn a_deadlock_of_tasks_is_found() {
    let (_dir, s) = fresh();
    let (a, b) = (a_dict(&s, "a"), a_dict(&s, "b"));
    let ask = |obj| s.lock_later(Actor::Thread, whole(obj), LockMode::Exclusive, None);
    as_task(1, || assert!(matches!(ask(a), Ok(LockReply::Held))));
    as_task(2, || assert!(matches!(ask(b), Ok(LockReply::Held))));
    let first = match as_task(1, || ask(b)).unwrap() {
        LockReply::Queued(pending) => pending,
        other => panic!("{other:?}"),
    };
    let second = as_task(2, || ask(a));
    assert!(matches!(second, Err(Error::Deadlock { .. })), "{second:?}");
    assert!(!s.lock_cancel(&first).unwrap());
    // The locks of a task end with it.
    for task in [1, 2] {
        let owner = as_task(task, || s.lock_handle(Actor::Thread, whole(a)).unwrap().owner());
        assert!(s.release_task(owner).unwrap());
    }
    assert_eq!(s.locks().unwrap(), []);
}

#[test]
fn a_thread_that_ends_leaves_no_locks_of_its_tasks() {
    let (_dir, s) = fresh();
    let d = a_dict(&s, "d");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_task(3);
            s.lock(Actor::Thread, whole(d), LockMode::Exclusive, &mut Wait::default())
                .unwrap();
        });
        // The end of a scope does not wait for the thread's destructors; a join does.
        thread.join().unwrap();
    });
    assert_eq!(s.locks().unwrap(), []);
}

#[test]
fn a_block_is_left_from_any_thread() {
    for (commits, task) in [(true, 0), (false, 0), (true, 5), (false, 5)] {
        let (_dir, s) = fresh();
        set(&s, "x", In::Int(0)).unwrap();
        let block = begin(&s);
        set(&s, "x", In::Int(1)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                set_task(task);
                assert!(!s.in_transaction());
                s.end(block, commits).unwrap();
                assert!(!s.in_transaction());
                set(&s, "y", In::Int(1)).unwrap();
            });
        });
        assert!(!s.in_transaction());
        assert_eq!(int(&s, "x"), Some(i64::from(commits)));
        set(&s, "x", In::Int(2)).unwrap();
        begin(&s);
        set(&s, "x", In::Int(3)).unwrap();
        // Ending an old block does not end the present transaction.
        s.end(block, false).unwrap();
        let again = s.end(block, true);
        assert!(matches!(again, Err(Error::Aborted { .. })), "{again:?}");
        s.commit().unwrap();
        assert_eq!(int(&s, "x"), Some(3));
        sound(&s);
    }
}

#[test]
fn an_inner_block_that_another_thread_undoes_ends_the_whole() {
    let (_dir, s) = fresh();
    set(&s, "x", In::Int(0)).unwrap();
    for commits in [true, false] {
        let outer = begin(&s);
        set(&s, "x", In::Int(1)).unwrap();
        let inner = begin(&s);
        set(&s, "x", In::Int(2)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| s.end(inner, commits).unwrap());
        });
        assert!(s.in_transaction());
        let next = set(&s, "y", In::Int(1));
        let ended = s.end(outer, true);
        if commits {
            next.unwrap();
            ended.unwrap();
            assert_eq!((int(&s, "x"), int(&s, "y")), (Some(2), Some(1)));
            remove(&s, "y");
        } else {
            assert!(matches!(next, Err(Error::Aborted { .. })), "{next:?}");
            assert!(matches!(ended, Err(Error::Aborted { .. })), "{ended:?}");
            assert_eq!((int(&s, "x"), int(&s, "y")), (Some(2), None));
        }
        assert!(!s.in_transaction());
    }
    sound(&s);
}

#[test]
fn what_a_thread_left_open_when_it_ended_has_ended() {
    let (_dir, s) = fresh();
    set(&s, "x", In::Int(0)).unwrap();
    let block = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let block = begin(&s);
                set(&s, "x", In::Int(1)).unwrap();
                block
            })
            .join()
            .unwrap()
    });
    assert_eq!(int(&s, "x"), Some(0));
    let ended = s.end(block, true);
    assert!(matches!(ended, Err(Error::Aborted { .. })), "{ended:?}");
    s.end(block, false).unwrap();
    set(&s, "x", In::Int(2)).unwrap();
    sound(&s);
}

/// Blocks end in other threads while their owner continues: each transaction is present as a whole or not at all.
#[test]
fn blocks_that_end_elsewhere_while_their_owner_works() {
    let (_dir, s) = fresh();
    set(&s, "a", In::Int(0)).unwrap();
    set(&s, "b", In::Int(0)).unwrap();
    std::thread::scope(|scope| {
        let (give, take) = mpsc::channel();
        let store = &s;
        scope.spawn(move || {
            for block in take {
                // The owner may be in the middle of an operation.
                let _ = store.end(block, false);
            }
        });
        for i in 0..400 {
            let block = begin(&s);
            give.send(block).unwrap();
            // In the transaction, or without one if it was ended in between.
            for key in ["a", "b"] {
                set(&s, key, In::Int(i)).unwrap();
            }
            let _ = s.end(block, true);
            assert!(!s.in_transaction());
            // A transaction that ends between the two changes leaves the second alone, never the first alone.
            let (a, b) = (int(&s, "a"), int(&s, "b"));
            assert!(a != Some(i) || b == Some(i), "{a:?} and {b:?} after {i}");
        }
    });
    set(&s, "a", In::Int(-1)).unwrap();
    sound(&s);
    s.close().unwrap();
}
