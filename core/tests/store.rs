//! The public behaviour of a store: values, containers, transactions, locks, reopening.

use persist_core::raw::observe::{Moment, observe};
use persist_core::store::{
    Actor, Error, In, Key, Kind, LockMode, LockTarget, Obj, Options, Result, Store, Value, Wait,
};
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn fresh() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    (dir, store)
}

fn set(s: &Store, o: Obj, k: &str, v: In<'_>) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(o, &Key::Str(k.as_bytes()), &v)
    })
}

fn get(s: &Store, o: Obj, k: &str) -> Result<Option<Value>> {
    s.read(&mut Wait::default(), |r| r.get(o, &Key::Str(k.as_bytes())))
}

#[test]
fn values_survive_reopening_with_and_without_the_sidecar() {
    let (dir, s) = fresh();
    let root = s.root();
    set(&s, root, "i", In::Int(-7)).unwrap();
    set(&s, root, "s", In::str("a longer string than a word")).unwrap();
    set(&s, root, "f", In::Float(2.5)).unwrap();
    let child = s
        .write(Actor::Thread, &mut Wait::default(), |w| {
            let d = w.new_dict()?;
            w.set(d, &Key::Int(1), &In::Bool(true))?;
            w.set(root, &Key::Str(b"d"), &In::Obj(d))?;
            Ok(d)
        })
        .unwrap();
    s.close().unwrap();
    assert!(matches!(get(&s, root, "i"), Err(Error::Closed)));
    for _ in 0..2 {
        let s = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
        assert_eq!(get(&s, s.root(), "i").unwrap(), Some(Value::Int(-7)));
        assert_eq!(get(&s, s.root(), "d").unwrap(), Some(Value::Obj(child)));
        let v = s
            .read(&mut Wait::default(), |r| r.get(child, &Key::Float(1.0)))
            .unwrap();
        assert_eq!(v, Some(Value::Bool(true)));
        s.check().unwrap();
        s.close().unwrap();
        std::fs::remove_file(dir.path().join("a.store-shm")).unwrap();
    }
}

#[test]
fn a_failed_closure_leaves_nothing() {
    let (_dir, s) = fresh();
    let root = s.root();
    set(&s, root, "x", In::Int(1)).unwrap();
    let r: Result<()> = s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(root, &Key::Str(b"x"), &In::Int(2))?;
        let l = w.new_list()?;
        w.set(root, &Key::Str(b"l"), &In::Obj(l))?;
        Err(Error::NoKey)
    });
    assert!(r.is_err());
    assert_eq!(get(&s, root, "x").unwrap(), Some(Value::Int(1)));
    assert_eq!(get(&s, root, "l").unwrap(), None);
    s.check().unwrap();
}

#[test]
fn transactions_are_seen_completely_or_not_at_all() {
    let (_dir, s) = fresh();
    let root = s.root();
    set(&s, root, "a", In::Int(0)).unwrap();
    set(&s, root, "b", In::Int(0)).unwrap();
    std::thread::scope(|t| {
        t.spawn(|| {
            for i in 1..300 {
                s.begin(&mut Wait::default()).unwrap();
                set(&s, root, "a", In::Int(i)).unwrap();
                std::thread::yield_now();
                set(&s, root, "b", In::Int(i)).unwrap();
                s.commit().unwrap();
            }
        });
        t.spawn(|| {
            for _ in 0..300 {
                let (a, b) = s
                    .read(&mut Wait::default(), |r| {
                        Ok((r.get(root, &Key::Str(b"a"))?, r.get(root, &Key::Str(b"b"))?))
                    })
                    .unwrap();
                assert_eq!(a, b);
            }
        });
    });
    s.begin(&mut Wait::default()).unwrap();
    set(&s, root, "a", In::Int(-1)).unwrap();
    assert_eq!(get(&s, root, "a").unwrap(), Some(Value::Int(-1)));
    s.rollback().unwrap();
    assert_eq!(get(&s, root, "a").unwrap(), Some(Value::Int(299)));
}

/// The thread cannot release its locks itself, and the thread that gets its slot is not their owner.
#[test]
fn a_thread_that_ends_during_a_transaction_of_another_leaves_no_locks() {
    let (_dir, s) = fresh();
    let root = s.root();
    let whole = LockTarget { obj: root, key: None };
    std::thread::scope(|scope| {
        let ((locked, is_locked), (begun, is_begun)) = (mpsc::channel(), mpsc::channel());
        let s = &s;
        let first = scope.spawn(move || {
            s.lock(Actor::Thread, whole, LockMode::Exclusive, &mut Wait::default())
                .unwrap();
            locked.send(()).unwrap();
            is_begun.recv().unwrap();
        });
        is_locked.recv().unwrap();
        s.begin(&mut Wait::default()).unwrap();
        begun.send(()).unwrap();
        first.join().unwrap();
        s.commit().unwrap();
        let second = scope.spawn(move || s.unlock(Actor::Thread, whole));
        let unlocked = second.join().unwrap();
        assert!(matches!(unlocked, Err(Error::NotLocked { .. })), "{unlocked:?}");
        set(s, root, "x", In::Int(1)).unwrap();
        assert!(s.locks().unwrap().is_empty());
    });
    s.close().unwrap();
}

#[test]
fn locks_keep_others_changes_out() {
    let (_dir, s) = fresh();
    let root = s.root();
    let whole = LockTarget { obj: root, key: None };
    let x = LockTarget {
        obj: root,
        key: Some(Key::Str(b"x")),
    };
    let y = LockTarget {
        obj: root,
        key: Some(Key::Str(b"y")),
    };
    set(&s, root, "x", In::Int(0)).unwrap();
    s.lock(Actor::Thread, x, LockMode::Exclusive, &mut Wait::default())
        .unwrap();
    set(&s, root, "x", In::Int(1)).unwrap();
    std::thread::scope(|t| {
        t.spawn(|| {
            let mut short = Wait::at_most(Duration::from_millis(100));
            assert!(matches!(
                s.lock(Actor::Thread, whole, LockMode::Exclusive, &mut short),
                Err(Error::Timeout { .. })
            ));
            s.lock(Actor::Thread, y, LockMode::Exclusive, &mut short).unwrap();
            let mut short = Wait::at_most(Duration::from_millis(100));
            let r = s.write(Actor::Thread, &mut short, |w| {
                w.set(root, &Key::Str(b"x"), &In::Int(9))
            });
            assert!(matches!(r, Err(Error::Timeout { .. })), "{r:?}");
            assert_eq!(get(&s, root, "x").unwrap(), Some(Value::Int(1)));
            s.unlock(Actor::Thread, y).unwrap();
        });
    });
    let begun = Instant::now();
    std::thread::scope(|t| {
        let waiter = t.spawn(|| set(&s, root, "x", In::Int(2)));
        std::thread::sleep(Duration::from_millis(60));
        s.unlock(Actor::Thread, x).unwrap();
        waiter.join().unwrap().unwrap();
    });
    // Less than the bound of such a wait.
    assert!(begun.elapsed() < Options::default().lock_timeout);
    assert_eq!(get(&s, root, "x").unwrap(), Some(Value::Int(2)));
    assert!(s.locks().unwrap().is_empty());
}

#[test]
fn a_pinned_object_outlives_its_last_reference() {
    let (_dir, s) = fresh();
    let root = s.root();
    let l = s
        .write(Actor::Thread, &mut Wait::default(), |w| {
            let l = w.new_list()?;
            w.insert(l, 0, &In::Int(5))?;
            w.set(root, &Key::Str(b"l"), &In::Obj(l))?;
            w.pin(l)?;
            Ok(l)
        })
        .unwrap();
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.remove(root, &Key::Str(b"l"))
    })
    .unwrap();
    assert_eq!(
        s.read(&mut Wait::default(), |r| r.item(l, 0)).unwrap(),
        Some(Value::Int(5))
    );
    s.unpin(l);
    s.gc().unwrap();
    assert!(matches!(
        s.read(&mut Wait::default(), |r| r.kind(l)),
        Err(Error::Gone(_))
    ));
    s.check().unwrap();
}

#[test]
fn cycles_are_collected() {
    let (_dir, s) = fresh();
    let root = s.root();
    let a = s
        .write(Actor::Thread, &mut Wait::default(), |w| {
            let (a, b) = (w.new_dict()?, w.new_object("m:C")?);
            w.set(a, &Key::Str(b"b"), &In::Obj(b))?;
            w.set(b, &Key::Str(b"a"), &In::Obj(a))?;
            w.set(root, &Key::Str(b"a"), &In::Obj(a))?;
            Ok(a)
        })
        .unwrap();
    assert_eq!(s.read(&mut Wait::default(), |r| r.kind(a)).unwrap(), Kind::Dict);
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.remove(root, &Key::Str(b"a"))
    })
    .unwrap();
    s.gc().unwrap();
    assert!(matches!(
        s.read(&mut Wait::default(), |r| r.kind(a)),
        Err(Error::Gone(_))
    ));
    s.check().unwrap();
}

#[test]
fn many_entries_grow_and_shrink() {
    let (_dir, s) = fresh();
    let root = s.root();
    let n = 20_000;
    for i in 0..n {
        set(&s, root, &format!("key number {i}"), In::Int(i)).unwrap();
    }
    assert_eq!(s.read(&mut Wait::default(), |r| r.len(root)).unwrap(), n as u64);
    s.sync().unwrap();
    for i in 0..n {
        assert_eq!(
            get(&s, root, &format!("key number {i}")).unwrap(),
            Some(Value::Int(i))
        );
    }
    for i in 0..n {
        s.write(Actor::Thread, &mut Wait::default(), |w| {
            w.remove(root, &Key::Str(format!("key number {i}").as_bytes()))
        })
        .unwrap();
    }
    s.check().unwrap();
    s.close().unwrap();
}

#[test]
fn commit_durability_survives_the_loss_of_the_sidecar_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let options = Options {
        durability: persist_core::store::Durability::Commit,
        ..Options::default()
    };
    let s = Store::open(&path, &options).unwrap();
    for i in 0..20 {
        set(&s, s.root(), "x", In::Int(i)).unwrap();
        let copy = dir.path().join("copy.store");
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(dir.path().join("a.store-wal"), dir.path().join("copy.store-wal")).unwrap();
        let _ = std::fs::remove_file(dir.path().join("copy.store-shm"));
        let c = Store::open(&copy, &Options::default()).unwrap();
        assert_eq!(get(&c, c.root(), "x").unwrap(), Some(Value::Int(i)));
    }
}

#[test]
fn a_thread_ends_that_used_several_stores() {
    let (_a, one) = fresh();
    let (_b, two) = fresh();
    let (_c, three) = fresh();
    let locked = |s: &Store| LockTarget {
        obj: s.root(),
        key: None,
    };
    let worker = {
        let all = [one.clone(), two.clone(), three.clone()];
        std::thread::spawn(move || {
            for s in &all {
                set(s, s.root(), "x", In::Int(1)).unwrap();
                s.lock(
                    Actor::Thread,
                    locked(s),
                    LockMode::Exclusive,
                    &mut Wait::default(),
                )
                .unwrap();
            }
            // One ends inside a transaction, and not of the store that was used last.
            all[1].begin(&mut Wait::default()).unwrap();
            set(&all[1], all[1].root(), "x", In::Int(2)).unwrap();
            get(&all[0], all[0].root(), "x").unwrap();
        })
    };
    worker.join().unwrap();
    for s in [&one, &two, &three] {
        assert_eq!(get(s, s.root(), "x").unwrap(), Some(Value::Int(1)));
        // Its locks have ended with it.
        let wait = &mut Wait::at_most(Duration::from_secs(60));
        s.lock(Actor::Thread, locked(s), LockMode::Exclusive, wait)
            .unwrap();
        set(s, s.root(), "x", In::Int(3)).unwrap();
        s.close().unwrap();
    }
}

#[test]
fn closing_waits_for_the_checkpoint_of_another_thread() {
    let (_dir, s) = fresh();
    let path = s.path().to_owned();
    // This is not the last opening to be closed: the last one makes a checkpoint of its own, after the other.
    let stays = Store::open(&path, &Options::default()).unwrap();
    set(&s, s.root(), "key", In::Int(1)).unwrap();
    let (flushing, begun) = mpsc::channel();
    let (proceed, wait) = mpsc::channel::<()>();
    let syncer = {
        let s = s.clone();
        std::thread::spawn(move || {
            let mut held = false;
            observe(Some(Box::new(move |moment| {
                if moment == Moment::Flushing && !std::mem::replace(&mut held, true) {
                    flushing.send(()).unwrap();
                    wait.recv().unwrap();
                }
                Ok(())
            })));
            let done = s.sync();
            observe(None);
            done
        })
    };
    begun.recv().unwrap();
    let closer = {
        let s = s.clone();
        std::thread::spawn(move || {
            s.close().unwrap();
            Instant::now()
        })
    };
    // If closing did not wait, it would end soon: it gets the time for that.
    let given = Instant::now() + Duration::from_millis(100);
    while Instant::now() < given && !closer.is_finished() {
        std::thread::yield_now();
    }
    let released = Instant::now();
    proceed.send(()).unwrap();
    let closed = closer.join().unwrap();
    syncer.join().unwrap().unwrap();
    assert!(closed >= released, "closed while a checkpoint was under way");
    stays.sync().unwrap();
    stays.check_pages().unwrap();
    stays.check().unwrap();
}

#[test]
fn errors_of_locks_name_the_path_and_the_process() {
    let (_dir, store) = fresh();
    let root = store.root();
    let joe = store
        .write(Actor::Thread, &mut Wait::default(), |w| {
            let (dict, joe) = (w.new_dict()?, w.new_object("m:Person")?);
            w.set(root, &Key::Str(b"people"), &In::Obj(dict))?;
            w.set(dict, &Key::Int(7), &In::Obj(joe))?;
            w.set(joe, &Key::Str(b"age"), &In::Int(27))?;
            Ok(joe)
        })
        .unwrap();
    let whole = LockTarget { obj: joe, key: None };
    let age = LockTarget {
        obj: joe,
        key: Some(Key::Str(b"age")),
    };
    let moment = || Wait::at_most(Duration::from_millis(100));
    let pid = std::process::id();
    let command = std::fs::read_to_string("/proc/self/comm").unwrap();
    let holder = format!(
        "locked exclusively through the mount (flock, pid {pid}, \"{}\")",
        command.trim_end()
    );
    let says = |done: Result<()>, path: &str| {
        let e = done.unwrap_err().to_string();
        assert!(
            e.starts_with("timed out after ") && e.contains(" s waiting for "),
            "{e}"
        );
        assert!(e.ends_with(&format!("{path}: {holder}")), "{e}");
    };

    let exclusive = LockMode::Exclusive;
    store
        .lock(Actor::Flock(7, pid), whole, exclusive, &mut Wait::default())
        .unwrap();
    says(
        store
            .lock(Actor::Thread, whole, exclusive, &mut moment())
            .map(drop),
        "waiting for root['people'][7]",
    );
    says(
        store.lock(Actor::Thread, age, exclusive, &mut moment()).map(drop),
        "waiting for root['people'][7].age",
    );
    // A request that does not wait names no time.
    let e = store
        .lock(Actor::Thread, whole, exclusive, &mut Wait::never())
        .unwrap_err()
        .to_string();
    assert_eq!(e, format!("timed out waiting for root['people'][7]: {holder}"));
    // The list of locks names path, pid and command.
    let listed: Vec<_> = store
        .locks()
        .unwrap()
        .into_iter()
        .map(|l| (l.path, l.owner, l.mode))
        .collect();
    let owner = holder
        .strip_prefix("locked exclusively through ")
        .unwrap()
        .to_owned();
    assert_eq!(
        listed,
        [(Some("root['people'][7]".to_owned()), owner, "X".to_owned())]
    );
    let change = |key: &'static [u8]| {
        store.write(Actor::Thread, &mut moment(), |w| {
            w.set(joe, &Key::Str(key), &In::Int(28))
        })
    };
    says(change(b"age"), "waiting for root['people'][7].age");
    // A new entry has no name yet.
    says(change(b"new"), "waiting for an entry of root['people'][7]");
    let e = store.unlock(Actor::Thread, age).unwrap_err().to_string();
    assert_eq!(
        e,
        "root['people'][7].age is not locked by this owner, so it cannot be unlocked"
    );
}
