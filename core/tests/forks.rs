//! Forking with a store open: what the child has from its first instruction on, and what it leaves behind.

mod common;
mod support;

use common::{Model, scratch};
use persist_core::raw::observe::{Moment, observe};
use persist_core::store::door::Changes;
use persist_core::store::{Actor, Durability, Error, In, Key, Obj, Options, Result, Store, Wait};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use support::plain::{self, get, set, wait_for};
use support::process::{self, Stop};

/// One test at a time: a child has all stores that its process has open.
static ONE: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(path: &Path) -> Store {
    plain::open(path, 60)
}

/// A pinned dict of one entry, in the root.
fn pinned(s: &Store) -> Obj {
    let d = s
        .write(Actor::Thread, &mut Wait::default(), |w| {
            let d = w.new_dict()?;
            w.set(d, &Key::Str(b"x"), &In::str("a string in a segment of its own"))?;
            w.set(s.root(), &Key::Str(b"d"), &In::Obj(d))?;
            Ok(d)
        })
        .unwrap();
    s.read(&mut Wait::default(), |r| r.pin(d)).unwrap();
    d
}

fn length(s: &Store, d: Obj) -> Result<u64> {
    s.read(&mut Wait::default(), |r| r.len(d))
}

/// Release the pin and the last reference.
fn drop_pinned(s: &Store, d: Obj) {
    s.unpin(d);
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.remove(s.root(), &Key::Str(b"d")).map(drop)
    })
    .unwrap();
    s.gc().unwrap();
}

#[test]
fn a_childs_pins_are_its_own_from_the_fork_on() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let store = open(&dir.path().join("a.store"));
    // Many other containers, some of them deleted again, so that the tables are not trivial.
    let others: Vec<Obj> = (0..2000)
        .map(|i| {
            let d = store
                .write(Actor::Thread, &mut Wait::default(), |w| {
                    let d = w.new_dict()?;
                    w.set(store.root(), &Key::Int(i), &In::Obj(d))?;
                    Ok(d)
                })
                .unwrap();
            store.read(&mut Wait::default(), |r| r.pin(d)).unwrap();
            d
        })
        .collect();
    others.iter().step_by(3).for_each(|d| store.unpin(*d));
    for round in 0..4 {
        let d = pinned(&store);
        let sign = dir.path().join(format!("sign{round}"));
        let in_transaction = round % 2 == 1;
        if in_transaction {
            store.begin(&mut Wait::default()).unwrap();
            set(&store, "in the transaction", round).unwrap();
        }
        // The child does not use the store until the parent has released its pin.
        let child = process::fork(|| {
            wait_for(&sign);
            let there = length(&store, d);
            // The child releases its own pin.
            store.unpin(d);
            let gone = set(&store, "from the child", 1).and_then(|()| length(&store, d));
            i32::from(!matches!((there, gone), (Ok(1), Err(Error::Gone(_)))))
        });
        if in_transaction {
            store.commit().unwrap();
        }
        drop_pinned(&store, d);
        // The child's pin keeps the container for all.
        assert_eq!(length(&store, d).unwrap(), 1, "round {round}");
        std::fs::write(&sign, "").unwrap();
        assert_eq!(process::reap(child), Stop::Exited(0), "round {round}");
        assert!(matches!(length(&store, d), Err(Error::Gone(_))), "round {round}");
    }
    store.check().unwrap();
    store.close().unwrap();
}

/// The child's reader of the change feed first says that changes may be missing, and then watches by itself. That of
/// the parent continues.
#[test]
fn a_change_feed_continues_in_the_child() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let store = open(&dir.path().join("a.store"));
    let other = pinned(&store);
    let mut feed = store.feed().unwrap();
    feed.watch(store.root(), &mut Wait::default()).unwrap();
    let one =
        |found: Result<Option<Changes>>| matches!(found, Ok(Some(Changes::These(all))) if all.len() == 1);
    let child = process::fork(|| {
        let watched = feed.watch(other, &mut Wait::default());
        let lost = feed.next(&mut Wait::never());
        let is_lost = matches!((watched, lost), (Ok(()), Ok(Some(Changes::Lost))));
        let told = set(&store, "x", 1).is_ok() && one(feed.next(&mut Wait::never()));
        feed.unwatch(store.root().id);
        let ended = set(&store, "x", 2).is_ok() && matches!(feed.next(&mut Wait::never()), Ok(None));
        i32::from(!(is_lost && told && ended))
    });
    assert_eq!(process::reap(child), Stop::Exited(0));
    let all = feed.next(&mut Wait::never()).unwrap();
    assert!(
        matches!(&all, Some(Changes::These(all)) if all.len() == 2),
        "{all:?}"
    );
    assert!(set(&store, "x", 3).is_ok() && one(feed.next(&mut Wait::never())));
    store.close().unwrap();
}

#[test]
fn a_dead_childs_pins_go_with_it() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let store = open(&dir.path().join("a.store"));
    let d = pinned(&store);
    let sign = dir.path().join("sign");
    let child = process::fork(|| {
        wait_for(&sign);
        process::die()
    });
    drop_pinned(&store, d);
    assert_eq!(length(&store, d).unwrap(), 1);
    std::fs::write(&sign, "").unwrap();
    assert_eq!(process::reap(child), Stop::Killed(libc::SIGKILL));
    // The child is recovered at a checkpoint at the latest.
    store.sync().unwrap();
    store.gc().unwrap();
    assert!(matches!(length(&store, d), Err(Error::Gone(_))));
    assert_eq!(store.stat().unwrap().processes, 1);
    store.close().unwrap();
}

/// Slots are few; children that do not close the store must not use them up.
#[test]
fn many_children_leave_no_slots_behind() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    set(&store, "n", 0).unwrap();
    for _ in 0..300 {
        let child = process::fork(|| 0);
        assert_eq!(process::reap(child), Stop::Exited(0));
    }
    assert!(store.stat().unwrap().processes < 100);
    let children: Vec<i32> = (0..40)
        .map(|n| process::fork(|| i32::from(set(&store, &format!("child {n}"), n).is_err())))
        .collect();
    for child in children {
        assert_eq!(process::reap(child), Stop::Exited(0));
    }
    let other = open(&path);
    for n in 0..40 {
        assert!(matches!(get(&other, &format!("child {n}")), Ok(Some(m)) if m == n));
    }
    other.close().unwrap();
    store.check().unwrap();
    store.close().unwrap();
}

/// A fork at any moment of other threads' operations: the child finds nothing locked for ever.
#[test]
fn a_fork_while_other_threads_are_active() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let store = open(&dir.path().join("a.store"));
    let d = pinned(&store);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for t in 0..3 {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    match t {
                        0 => {
                            store.begin(&mut Wait::default()).unwrap();
                            set(store, "t", n).unwrap();
                            store.commit().unwrap();
                        }
                        1 => {
                            store.read(&mut Wait::default(), |r| r.pin(d)).unwrap();
                            store.unpin(d);
                        }
                        _ => set(store, "x", n).unwrap(),
                    }
                }
            });
        }
        for n in 0..40 {
            let child = process::fork(|| {
                let done = (0..10).try_for_each(|i| set(&store, "child", i));
                let pinned = store.read(&mut Wait::default(), |r| r.pin(d));
                i32::from(done.is_err() || pinned.is_err())
            });
            assert_eq!(process::reap(child), Stop::Exited(0), "child {n}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    store.check().unwrap();
    store.close().unwrap();
}

/// A child that executes another program, or whose parent ends first, does not block other processes.
#[test]
fn a_child_that_executes_another_program_releases_its_slot() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let store = open(&dir.path().join("a.store"));
    let child = process::fork(|| {
        use std::os::unix::process::CommandExt;
        let _ = std::process::Command::new("sleep").arg("600").exec();
        1
    });
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        store.sync().unwrap();
        set(&store, "n", 1).unwrap();
        if store.stat().unwrap().processes == 1 {
            break;
        }
        assert!(
            Instant::now() < until,
            "the slot of a child that is another program"
        );
    }
    process::signal(child, libc::SIGKILL);
    process::reap(child);
    store.close().unwrap();
}

/// A closing process makes the checkpoint, and does not leave it to children that never close.
#[test]
fn closing_beside_living_children_is_a_checkpoint() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let path = dir.path().join("a.store");
    for used in [false, true] {
        let store = open(&path);
        let (ready, sign) = (
            dir.path().join(format!("ready{used}")),
            dir.path().join(format!("sign{used}")),
        );
        let child = process::fork(|| {
            let done = !used || set(&store, "child", 1).is_ok();
            std::fs::write(&ready, "").unwrap();
            wait_for(&sign);
            // The child still has the store open.
            i32::from(!done || set(&store, "later", i64::from(used)).is_err())
        });
        wait_for(&ready);
        set(&store, "parent", i64::from(used)).unwrap();
        store.close().unwrap();
        // The files after a power failure: the file as it was flushed, and no sidecar.
        let copy = dir.path().join(format!("copy{used}"));
        std::fs::copy(&path, &copy).unwrap();
        let left = open(&copy);
        assert_eq!(get(&left, "parent").unwrap(), Some(i64::from(used)));
        assert_eq!(get(&left, "child").unwrap(), used.then_some(1));
        left.check().unwrap();
        left.close().unwrap();
        std::fs::write(&sign, "").unwrap();
        assert_eq!(process::reap(child), Stop::Exited(0));
        drop(store);
        let store = open(&path);
        assert_eq!(get(&store, "later").unwrap(), Some(i64::from(used)));
        store.close().unwrap();
    }
}

/// A file that is truncated while both have it open is an error in both. This is not among the tests of such files
/// (`faults`): a fork there would have the stores open that other tests truncate.
#[test]
fn a_child_handles_a_missing_page_as_its_parent_does() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    for n in 0..2000 {
        set(&store, &format!("an entry that takes some place, number {n}"), n).unwrap();
    }
    store.sync().unwrap();
    let lost = || matches!(Model::read(&store), Err(e @ Error::Io { .. }) if e.errno() == libc::EIO);
    assert!(!lost());
    let child = process::fork(|| {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("its file");
        file.set_len(10 * 4096).expect("cut");
        i32::from(!lost())
    });
    assert_eq!(process::reap(child), Stop::Exited(0));
    assert!(lost(), "the parent");
}

/// Run a child's part; if it takes very long, the child fails instead of hanging.
fn soon(part: impl FnOnce() -> bool) -> i32 {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(100));
        process::die()
    });
    i32::from(!part())
}

/// Another thread is in the middle of closing, which never ends in the child.
#[test]
fn a_fork_while_another_thread_closes() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let store = plain::open(&dir.path().join("a.store"), 60);
    store.begin(&mut Wait::default()).unwrap();
    set(&store, "x", 1).unwrap();
    std::thread::scope(|scope| {
        let (begun, wait) = std::sync::mpsc::channel();
        let store = &store;
        scope.spawn(move || {
            begun.send(()).unwrap();
            // Closing waits for the transaction.
            store.close().unwrap();
        });
        wait.recv().unwrap();
        // After this time the other thread usually waits.
        std::thread::sleep(Duration::from_millis(100));
        let child = process::fork(|| soon(|| store.close().is_ok()));
        let ended = process::reap(child);
        store.commit().unwrap();
        assert_eq!(ended, Stop::Exited(0));
    });
}

/// The flush of another thread takes longer than any wait of a fork.
#[test]
fn a_fork_during_a_slow_flush_of_the_log() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let options = Options {
        durability: Durability::Commit,
        lock_timeout: Duration::from_secs(60),
        ..Options::default()
    };
    let store = Store::open(dir.path().join("a.store"), &options).unwrap();
    set(&store, "x", 0).unwrap();
    std::thread::scope(|scope| {
        let (begun, wait) = std::sync::mpsc::channel();
        let store = &store;
        scope.spawn(move || {
            observe(Some(Box::new(move |moment| {
                if moment == Moment::LogFlushing {
                    let _ = begun.send(());
                    std::thread::sleep(Duration::from_millis(1500));
                }
                Ok(())
            })));
            set(store, "x", 1).unwrap();
            observe(None);
        });
        wait.recv().unwrap();
        let child = process::fork(|| soon(|| set(store, "child", 1).is_ok()));
        assert_eq!(process::reap(child), Stop::Exited(0));
    });
    assert_eq!(get(&store, "child").unwrap(), Some(1));
    store.close().unwrap();
}
