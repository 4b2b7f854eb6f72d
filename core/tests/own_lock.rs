//! A change under a lock: the owner of the only lock of a container changes it on the fast path, and no other owner
//! changes it at all.
#![cfg(feature = "testing")]

use persist_core::store::door::{Member, Word, set_task};
use persist_core::store::{Actor, Error, In, Key, LockMode, LockTarget, Obj, Options, Store, Value, Wait};
use std::thread;

const X: Member<'_> = Member::Key(Key::Str(b"x"));

fn write_within(store: &Store, value: i64, wait: &mut Wait<'_>) -> Result<(), Error> {
    let root = store.root();
    store.write(Actor::Thread, wait, |w| {
        w.set(root, &Key::Str(b"x"), &In::Int(value))
    })
}

fn write(store: &Store, value: i64) {
    write_within(store, value, &mut Wait::default()).unwrap();
}

/// Replace the value on the fast path. It needs a lookup that is remembered and a page of this epoch, which a
/// checkpoint may take away for a moment; so several tries count.
fn replaces(store: &Store, value: i64) -> bool {
    let word = Word::small(&In::Int(value));
    (0..1000).any(|_| {
        thread::yield_now();
        read(store);
        store.fast_set(store.root(), X, word)
    })
}

/// As `replaces`, of an owner that may change the value.
fn may_replace(store: &Store, value: i64) -> bool {
    (0..1000).any(|_| {
        write(store, value - 1);
        read(store);
        store.fast_set(store.root(), X, Word::small(&In::Int(value))) && read(store) == value
    })
}

fn read(store: &Store) -> i64 {
    let root = store.root();
    let read = store.read(&mut Wait::default(), |r| r.get(root, &Key::Str(b"x")));
    match read.unwrap() {
        Some(Value::Int(value)) => value,
        other => panic!("{other:?}"),
    }
}

fn lock(store: &Store, target: LockTarget<'_>, mode: LockMode) {
    store
        .lock(Actor::Thread, target, mode, &mut Wait::default())
        .unwrap();
}

fn whole(obj: Obj) -> LockTarget<'static> {
    LockTarget { obj, key: None }
}

#[test]
fn only_the_owner_of_the_lock_changes_its_container() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    write(&store, 0);
    let root = store.root();
    for mode in [LockMode::Exclusive, LockMode::Shared] {
        assert!(may_replace(&store, 1) && read(&store) == 1);
        lock(&store, whole(root), mode);
        assert!(may_replace(&store, 2) && read(&store) == 2);
        write(&store, 3);
        let refused = || {
            assert!(!replaces(&store, 9));
            let written = write_within(&store, 9, &mut Wait::never());
            assert!(
                matches!(
                    written,
                    Err(Error::WouldBlock { .. } | Error::Timeout { .. } | Error::OtherTask { .. })
                ),
                "{written:?}"
            );
            assert_eq!(read(&store), 3);
        };
        // Another thread, and another task of the thread.
        thread::scope(|s| s.spawn(refused).join()).unwrap();
        let before = set_task(7);
        refused();
        set_task(before);
        // A waiter makes records of the lock; the owner still changes the container, by the slow path.
        thread::scope(|s| {
            let waiter = s.spawn(|| {
                lock(&store, whole(root), LockMode::Exclusive);
                store.unlock(Actor::Thread, whole(root)).unwrap();
            });
            while !store.locks().unwrap().iter().any(|l| l.waiting) {
                thread::yield_now();
            }
            write(&store, 4);
            assert_eq!(read(&store), 4);
            store.unlock(Actor::Thread, whole(root)).unwrap();
            waiter.join().unwrap();
        });
        assert!(store.locks().unwrap().is_empty() && may_replace(&store, 5));
    }
}

#[test]
fn a_try_gets_a_lock_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    write(&store, 0);
    let root = store.root();
    let entry = LockTarget {
        obj: root,
        key: Some(Key::Str(b"x")),
    };
    let tried = |target| store.try_acquire(Actor::Thread, target, LockMode::Exclusive);
    for target in [whole(root), entry] {
        let lock = tried(target).unwrap().unwrap();
        thread::scope(|s| s.spawn(|| assert!(tried(target).unwrap().is_none())).join()).unwrap();
        // The owner's levels end in any order, by a handle or by `unlock`.
        assert_eq!(tried(target).unwrap(), Some(lock));
        store.release(&lock, LockMode::Exclusive).unwrap();
        assert_eq!(store.unlock(Actor::Thread, target).unwrap(), lock);
        for end in [
            store.unlock(Actor::Thread, target).map(drop),
            store.release(&lock, LockMode::Exclusive),
        ] {
            assert!(matches!(end, Err(Error::NotLocked { .. })), "{end:?}");
        }
        thread::scope(|s| {
            s.spawn(|| {
                tried(target).unwrap().unwrap();
            })
            .join()
        })
        .unwrap();
        // A thread that ended holds nothing.
        tried(target).unwrap().unwrap();
        // In a transaction, a lock of another owner is a conflict, and a free lock is taken.
        thread::scope(|s| {
            s.spawn(|| {
                store.begin(&mut Wait::default()).unwrap();
                let refused = tried(target);
                assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
            })
            .join()
        })
        .unwrap();
        store.unlock(Actor::Thread, target).unwrap();
        store.begin(&mut Wait::default()).unwrap();
        assert_eq!(tried(target).unwrap(), Some(lock));
        store.commit().unwrap();
        store.unlock(Actor::Thread, target).unwrap();
    }
    store.close().unwrap();
    assert!(matches!(tried(whole(root)), Err(Error::Closed)));
}
