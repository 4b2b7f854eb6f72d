//! `close()` gives back descriptors, mappings and disk space at once, whatever handles still exist. Any use of a handle
//! at that moment or later returns `Error::Closed` and does not crash.

use persist_core::store::door::{Member, Word};
use persist_core::store::{
    Actor, Durability, Error, In, Key, LockMode, LockTarget, Options, Result, Store, Value, Wait,
};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn open(path: &Path, durability: Durability) -> Store {
    let options = Options {
        durability,
        lock_timeout: Duration::from_secs(20),
        ..Options::default()
    };
    Store::open(path, &options).unwrap()
}

fn set(s: &Store, key: i64, value: i64) -> Result<()> {
    let root = s.root();
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(root, &Key::Int(key), &In::Int(value))
    })
}

fn get(s: &Store, key: i64) -> Result<Option<Value>> {
    s.read(&mut Wait::default(), |r| r.get(s.root(), &Key::Int(key)))
}

fn target(s: &Store) -> LockTarget<'static> {
    LockTarget {
        obj: s.root(),
        key: Some(Key::Int(1)),
    }
}

/// Descriptors and mappings of this process that name a file of the folder.
fn of_folder(folder: &Path) -> Vec<String> {
    let name = folder.to_str().unwrap();
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(|e| {
        std::fs::read_link(e.path()).map_or_else(|_| String::new(), |to| format!("fd of {}", to.display()))
    });
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let maps = maps.lines().map(|l| format!("mapping {l}"));
    fds.chain(maps).filter(|l| l.contains(name)).collect()
}

/// The kernel grants this only for a file that is not open or mapped elsewhere, so removing the file frees its blocks.
fn nothing_has_it_open(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    // SAFETY: plain system calls on a descriptor of this function.
    unsafe {
        let granted = libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) == 0;
        libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK);
        granted
    }
}

/// Poll for what follows close: a descriptor in use at that moment is closed after that use, and the forked child of
/// another test of this process has copies of all descriptors until it ends.
fn soon(is_true: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !is_true() {
        if begun.elapsed() > Duration::from_secs(60) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

type Use = (&'static str, fn(&Store) -> Result<()>);

/// Every kind of use of a handle; each must return that the store is closed.
const USES: &[Use] = &[
    ("read", |s| get(s, 1).map(drop)),
    ("write", |s| set(s, 1, 1)),
    ("begin", |s| s.begin(&mut Wait::default()).map(drop)),
    ("lock", |s| {
        s.lock(Actor::Thread, target(s), LockMode::Shared, &mut Wait::default())
            .map(drop)
    }),
    ("unlock", |s| s.unlock(Actor::Thread, target(s)).map(drop)),
    ("lock_later", |s| {
        s.lock_later(Actor::Thread, target(s), LockMode::Shared, None)
            .map(drop)
    }),
    ("locks", |s| s.locks().map(drop)),
    ("sync", Store::sync),
    ("gc", |s| s.gc().map(drop)),
    ("stat", |s| s.stat().map(drop)),
    ("check", |s| s.check().map(drop)),
    ("check_pages", |s| s.check_pages().map(drop)),
    ("snapshot", |s| s.snapshot("x").map(drop)),
    ("snapshots", |s| s.snapshots().map(drop)),
    ("shorten_max_age", |s| s.shorten_max_age(Duration::from_millis(1))),
];

#[test]
fn a_closed_store_has_no_descriptor_and_no_mapping_whatever_handles_there_are() {
    for durability in [Durability::None, Durability::Checkpoint, Durability::Commit] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.store");
        let store = open(&path, durability);
        let clone = store.clone();
        store
            .write(Actor::Thread, &mut Wait::default(), |w| {
                (0..5000).try_for_each(|i| w.set(store.root(), &Key::Int(i), &In::Int(i)))
            })
            .unwrap();
        store
            .lock(
                Actor::Thread,
                target(&store),
                LockMode::Shared,
                &mut Wait::default(),
            )
            .unwrap();
        let handle = store.lock_handle(Actor::Thread, target(&store)).unwrap();
        let obj = store
            .write(Actor::Thread, &mut Wait::default(), |w| {
                let list = w.new_list()?;
                w.set(store.root(), &Key::Int(-1), &In::Obj(list))?;
                Ok(list)
            })
            .unwrap();
        store.read(&mut Wait::default(), |r| r.pin(obj)).unwrap();
        // A thread that has used the store keeps running.
        let (begun, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                set(&clone, -2, 1).unwrap();
                begun.store(true, Ordering::Release);
                while !ended.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                assert!(matches!(get(&clone, 1), Err(Error::Closed)));
            });
            while !begun.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let used = of_folder(dir.path()).len();
            let closed = store.close();
            let is_left = soon(|| of_folder(dir.path()).is_empty());
            let is_free = soon(|| nothing_has_it_open(&path));
            // The thread ends before a failed assertion would wait for it.
            ended.store(true, Ordering::Release);
            closed.unwrap();
            assert!(used > 4, "{used}");
            assert!(is_left, "{durability:?}: {:?}", of_folder(dir.path()));
            assert!(is_free, "{durability:?}");
        });
        for (name, call) in USES {
            for s in [&store, &clone] {
                let done = call(s);
                assert!(matches!(done, Err(Error::Closed)), "{name}: {done:?}");
            }
        }
        assert!(clone.release(&handle, LockMode::Exclusive).is_err());
        clone.unpin(obj);
        let _ = (
            clone.change_count(),
            clone.in_transaction(),
            clone.must_await_durability(),
        );
        clone.close().unwrap();
        std::fs::remove_file(&path).unwrap();
        drop((store, clone));
        assert_eq!(of_folder(dir.path()), Vec::<String>::new());
    }
}

#[test]
fn another_opening_of_the_store_stays_usable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let (one, two) = (
        open(&path, Durability::Checkpoint),
        open(&path, Durability::Checkpoint),
    );
    set(&one, 1, 1).unwrap();
    one.snapshot("s").unwrap();
    let view = one.open_snapshot("s").unwrap();
    let all = of_folder(dir.path()).len();
    one.close().unwrap();
    let left = of_folder(dir.path()).len();
    assert!(left < all, "{left} of {all}");
    assert_eq!(get(&two, 1).unwrap(), Some(Value::Int(1)));
    assert_eq!(get(&view, 1).unwrap(), Some(Value::Int(1)));
    set(&two, 2, 2).unwrap();
    view.close().unwrap();
    two.close().unwrap();
    assert_eq!(of_folder(dir.path()), Vec::<String>::new());
    let again = open(&path, Durability::Checkpoint);
    assert_eq!(get(&again, 2).unwrap(), Some(Value::Int(2)));
}

/// Threads use a store in every way while another thread closes it: acknowledged changes are present afterwards.
#[test]
fn active_threads_find_the_store_closed_and_nothing_acknowledged_is_lost() {
    for round in 0..12u64 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.store");
        let durability = [Durability::None, Durability::Checkpoint, Durability::Commit][round as usize % 3];
        let store = open(&path, durability);
        store
            .write(Actor::Thread, &mut Wait::default(), |w| {
                (0..200).try_for_each(|i| w.set(store.root(), &Key::Int(i), &In::Int(0)))
            })
            .unwrap();
        let done = [const { AtomicU64::new(0) }; 8];
        let ran = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for (t, done) in done.iter().enumerate() {
                let (store, ran) = (store.clone(), &ran);
                scope.spawn(move || {
                    for n in 1.. {
                        let (key, n) = (t as i64, n as i64);
                        let (went, counts) = match t {
                            0 | 1 => (set(&store, key, n), true),
                            2 => {
                                let word = Word::small(&In::Int(n));
                                if store.fast_set(store.root(), Member::Key(Key::Int(key)), word) {
                                    (Ok(()), true)
                                } else {
                                    (set(&store, key, n), true)
                                }
                            }
                            3 => {
                                let went = store
                                    .begin(&mut Wait::default())
                                    .and_then(|_| set(&store, key, n).and_then(|()| store.commit()));
                                (went, true)
                            }
                            4 => {
                                let lock = target(&store);
                                let went = store
                                    .lock(Actor::Thread, lock, LockMode::Exclusive, &mut Wait::default())
                                    .and_then(|_| store.unlock(Actor::Thread, lock))
                                    .map(drop);
                                (went, false)
                            }
                            5 => {
                                let lock = target(&store);
                                let went = store.lock(
                                    Actor::Thread,
                                    lock,
                                    LockMode::Shared,
                                    &mut Wait::at_most(Duration::from_micros(300)),
                                );
                                let went = match went {
                                    Err(Error::Timeout { .. }) => Ok(()),
                                    went => went.and_then(|_| store.unlock(Actor::Thread, lock)).map(drop),
                                };
                                (went, false)
                            }
                            6 => (store.sync(), false),
                            _ => (get(&store, n % 200).map(|v| assert!(v.is_some())), false),
                        };
                        match went {
                            Ok(()) if counts => done.store(n as u64, Ordering::Relaxed),
                            Ok(()) => {}
                            Err(Error::Closed) => break,
                            // The change is done.
                            Err(Error::DurabilityUnknown { source }) => {
                                assert!(matches!(*source, Error::Closed), "{source}");
                                done.store(n as u64, Ordering::Relaxed);
                                break;
                            }
                            Err(e) => panic!("thread {t}: {e}"),
                        }
                        ran.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while ran.load(Ordering::Relaxed) < 100 * (1 + round % 7) {
                std::thread::yield_now();
            }
            store.close().unwrap();
            // A descriptor that a thread is using at that moment is closed after that use.
            let begun = std::time::Instant::now();
            while !of_folder(dir.path()).is_empty() && begun.elapsed() < Duration::from_secs(20) {
                std::thread::yield_now();
            }
            assert_eq!(of_folder(dir.path()), Vec::<String>::new());
        });
        drop(store);
        let again = open(&path, Durability::None);
        for (t, done) in done.iter().enumerate() {
            let acknowledged = done.load(Ordering::Relaxed) as i64;
            let found = get(&again, t as i64).unwrap();
            // One more change may have been made when the store was closed.
            let fits = [acknowledged, acknowledged + 1].map(|n| Some(Value::Int(n)));
            assert!(
                fits.contains(&found),
                "round {round}, thread {t}: {acknowledged}, {found:?}"
            );
        }
        again.check().unwrap();
    }
}

/// A forked child has a copy of everything: it continues, and gives back its own copy.
#[test]
fn a_child_continues_after_its_parent_has_closed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let store = open(&path, Durability::None);
    set(&store, 1, 1).unwrap();
    let (mut told, tell) = std::io::pipe().unwrap();
    // SAFETY: the child calls only functions of this library and `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(tell);
        // Wait until the parent has closed its end.
        let _ = std::io::copy(&mut told, &mut std::io::sink());
        let ok = get(&store, 1).is_ok_and(|v| v == Some(Value::Int(1)))
            && set(&store, 2, 2).is_ok()
            && store.close().is_ok()
            && of_folder(dir.path()).is_empty()
            && matches!(get(&store, 1), Err(Error::Closed));
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!ok)) };
    }
    store.close().unwrap();
    assert_eq!(of_folder(dir.path()), Vec::<String>::new());
    drop(tell);
    let mut status = 0;
    // SAFETY: waits for the child that was just made.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    assert_eq!(
        get(&open(&path, Durability::None), 2).unwrap(),
        Some(Value::Int(2))
    );
}
