//! The sidecar's life: removed, copied, of another boot or version, beside a store that was moved, replaced,
//! linked or copied; and how it is left by those who close, exit and abandon.

mod common;
mod support;

use common::{Model, Rng, compare, scratch, step};
use persist_core::store::{Actor, Error, In, Key, Options, Result, Store, Value, Wait};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{again, ptrace};

/// Words of the sidecar's header (`page/shm.rs`).
const LAYOUT: u64 = 8;
const BOOT: u64 = 24;

fn options() -> Options {
    Options {
        lock_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

fn open(path: &Path) -> Store {
    Store::open(path, &options()).unwrap_or_else(|e| panic!("{e}"))
}

fn sidecar(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-shm", path.display()))
}

fn set(s: &Store, key: &str, value: i64) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::forever(), |w| {
        w.set(s.root(), &Key::Str(key.as_bytes()), &In::Int(value))
    })
}

fn get(s: &Store, key: &str) -> Option<i64> {
    match s
        .read(&mut Wait::forever(), |r| {
            r.get(s.root(), &Key::Str(key.as_bytes()))
        })
        .unwrap()
    {
        Some(Value::Int(n)) => Some(n),
        _ => None,
    }
}

fn refused(path: &Path, part: &str) {
    match Store::open(path, &options()) {
        Err(e @ Error::Refused { .. }) => assert!(e.to_string().contains(part), "{e}"),
        other => panic!("{other:?}"),
    }
}

/// Another word in the header.
fn change_word(path: &Path, at: u64) -> u64 {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(sidecar(path))
        .unwrap();
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    let old = u64::from_le_bytes(word);
    file.write_all_at(&(old ^ 0x55).to_le_bytes(), at).unwrap();
    old
}

/// Does what `PERSIST_DO` says with the store `PERSIST_STORE`.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn neighbour() {
    let (Ok(path), Ok(task)) = (std::env::var("PERSIST_STORE"), std::env::var("PERSIST_DO")) else {
        return;
    };
    ptrace::die_with_parent();
    let store = open(Path::new(&path));
    set(&store, "neighbour", 1).unwrap();
    match task.as_str() {
        "die" => ptrace::die(),
        "exit" => std::process::exit(0),
        "increment" => {
            for _ in 0..1000 {
                store.begin(&mut Wait::forever()).unwrap();
                let n = get(&store, "n").unwrap_or(0);
                set(&store, "n", n + 1).unwrap();
                store.commit().unwrap();
            }
            store.close().unwrap();
        }
        "transaction" => {
            store.begin(&mut Wait::forever()).unwrap();
            set(&store, "neighbour", 2).unwrap();
            eprintln!("ready");
            std::thread::sleep(Duration::from_secs(60));
        }
        other => panic!("{other}"),
    }
}

fn run(path: &Path, task: &str) {
    let _ = again("neighbour")
        .env("PERSIST_STORE", path)
        .env("PERSIST_DO", task)
        .output()
        .unwrap();
}

#[test]
fn a_removed_sidecar_splits_nobody_and_is_made_anew() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    set(&store, "a", 1).unwrap();
    std::fs::remove_file(sidecar(&path)).unwrap();
    // Those who have it go on; others cannot come to a second one.
    set(&store, "b", 2).unwrap();
    refused(&path, "cannot be opened");
    assert!(!sidecar(&path).exists());
    store.sync().unwrap();
    set(&store, "c", 3).unwrap();
    store.close().unwrap();
    drop(store);
    let store = open(&path);
    assert_eq!((get(&store, "b"), get(&store, "c")), (Some(2), Some(3)));
    store.check().unwrap();
    store.close().unwrap();
    drop(store);
    // And while nobody has it.
    std::fs::remove_file(sidecar(&path)).unwrap();
    let store = open(&path);
    assert_eq!(get(&store, "c"), Some(3));
    store.close().unwrap();
}

#[test]
fn a_sidecar_copied_to_another_store_is_not_used() {
    let dir = scratch();
    let (a, b) = (dir.path().join("a.store"), dir.path().join("b.store"));
    for (path, n) in [(&a, 1), (&b, 2)] {
        let store = open(path);
        set(&store, "n", n).unwrap();
        store.close().unwrap();
    }
    std::fs::copy(sidecar(&a), sidecar(&b)).unwrap();
    let store = open(&b);
    assert_eq!(get(&store, "n"), Some(2));
    // Nor while it is in use: who comes next would be in another store's memory.
    std::fs::remove_file(sidecar(&b)).unwrap();
    std::fs::copy(sidecar(&a), sidecar(&b)).unwrap();
    refused(&b, "another sidecar");
    store.close().unwrap();
    drop(store);
    // A store that was copied together with its sidecar is another file.
    let c = dir.path().join("c.store");
    run(&a, "die");
    std::fs::copy(&a, &c).unwrap();
    std::fs::copy(sidecar(&a), sidecar(&c)).unwrap();
    let store = open(&c);
    assert_eq!((get(&store, "n"), get(&store, "neighbour")), (Some(1), None));
    store.check().unwrap();
    store.close().unwrap();
    let store = open(&a);
    assert_eq!((get(&store, "n"), get(&store, "neighbour")), (Some(1), Some(1)));
    store.close().unwrap();
}

#[test]
fn a_sidecar_of_another_boot_or_layout_is_not_used() {
    for (word, kept) in [(None, Some(1)), (Some(BOOT), None), (Some(LAYOUT), None)] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = open(&path);
        set(&store, "a", 1).unwrap();
        store.close().unwrap();
        drop(store);
        run(&path, "die");
        if let Some(word) = word {
            change_word(&path, word);
        }
        let store = open(&path);
        assert_eq!(
            (get(&store, "a"), get(&store, "neighbour")),
            (Some(1), kept),
            "{word:?}"
        );
        store.check().unwrap();
        if word == Some(LAYOUT) {
            // Another version of the program, at the same time.
            let old = change_word(&path, LAYOUT);
            assert!(matches!(
                Store::open(&path, &options()),
                Err(Error::Refused { .. })
            ));
            change_word(&path, LAYOUT);
            assert_eq!(change_word(&path, LAYOUT), old);
            change_word(&path, LAYOUT);
        }
        store.close().unwrap();
    }
}

#[test]
fn a_store_that_was_moved_while_open_is_found_with_its_sidecar_only() {
    let dir = scratch();
    let (a, b) = (dir.path().join("a.store"), dir.path().join("b.store"));
    let store = open(&a);
    set(&store, "n", 1).unwrap();
    std::fs::rename(&a, &b).unwrap();
    set(&store, "n", 2).unwrap();
    refused(&b, "cannot be opened");
    // The old name is free for another store, which does not touch this one.
    let other = open(&a);
    assert_eq!(get(&other, "n"), None);
    set(&other, "n", 100).unwrap();
    set(&store, "n", 3).unwrap();
    assert_eq!((get(&store, "n"), get(&other, "n")), (Some(3), Some(100)));
    other.close().unwrap();
    store.close().unwrap();
    drop((store, other));
    let store = open(&b);
    assert_eq!(get(&store, "n"), Some(3));
    // Moved with its sidecar it is met by all.
    let c = dir.path().join("c.store");
    std::fs::rename(&b, &c).unwrap();
    std::fs::rename(sidecar(&b), sidecar(&c)).unwrap();
    let second = open(&c);
    set(&second, "n", 4).unwrap();
    assert_eq!(get(&store, "n"), Some(4));
    second.close().unwrap();
    store.close().unwrap();
}

#[test]
fn a_store_that_was_replaced_while_open_is_two_stores() {
    let dir = scratch();
    let (a, b) = (dir.path().join("a.store"), dir.path().join("b.store"));
    for (path, n) in [(&a, 1), (&b, 2)] {
        let store = open(path);
        set(&store, "n", n).unwrap();
        store.close().unwrap();
    }
    let old = open(&a);
    std::fs::rename(&b, &a).unwrap();
    let new = open(&a);
    set(&old, "n", 10).unwrap();
    set(&new, "n", 20).unwrap();
    assert_eq!((get(&old, "n"), get(&new, "n")), (Some(10), Some(20)));
    old.close().unwrap();
    new.close().unwrap();
    drop((old, new));
    let store = open(&a);
    assert_eq!(get(&store, "n"), Some(20));
    store.check().unwrap();
    store.close().unwrap();
}

#[test]
fn a_store_with_two_names_is_used_by_one_at_a_time() {
    let dir = scratch();
    let (a, b) = (dir.path().join("a.store"), dir.path().join("b.store"));
    let store = open(&a);
    std::fs::hard_link(&a, &b).unwrap();
    refused(&b, "cannot be opened");
    set(&store, "n", 1).unwrap();
    store.close().unwrap();
    drop(store);
    let store = open(&b);
    assert_eq!(get(&store, "n"), Some(1));
    // By the first name there is an old sidecar, which is not that of this session.
    assert!(matches!(Store::open(&a, &options()), Err(Error::Refused { .. })));
    set(&store, "n", 2).unwrap();
    store.close().unwrap();
    drop(store);
    let store = open(&a);
    assert_eq!(get(&store, "n"), Some(2));
    store.check().unwrap();
    store.close().unwrap();
}

#[test]
fn a_live_copy_opens_at_the_checkpoint() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    let mut model = Model::read(&store).unwrap();
    let mut rng = Rng(1);
    for round in 0..5 {
        for _ in 0..40 {
            step(&store, &mut model, &mut rng, 400_000).unwrap();
        }
        store.sync().unwrap();
        let synced = model.clone();
        let copy = dir.path().join(format!("copy{round}"));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::fs::copy(&path, &copy).unwrap();
                done.store(true, Ordering::SeqCst);
            });
            while !done.load(Ordering::SeqCst) {
                step(&store, &mut model, &mut rng, 400_000).unwrap();
            }
        });
        let other = open(&copy);
        compare(&other, &synced, &format!("copy {round}"));
        other.check().unwrap();
        other.close().unwrap();
    }
    store.close().unwrap();
}

/// The same file by another path, in another mount namespace.
#[test]
fn two_mount_namespaces_share_a_store() {
    let dir = scratch();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    std::fs::create_dir(&here).unwrap();
    std::fs::create_dir(&there).unwrap();
    let path = here.join("a.store");
    let store = open(&path);
    let itself = std::env::current_exe().unwrap();
    let made = Command::new("unshare")
        .args(["-m", "sh", "-c"])
        .arg("mount --bind \"$1\" \"$2\" && exec \"$3\" --exact neighbour --ignored --nocapture")
        .arg("sh")
        .args([&here, &there, &itself])
        .env("PERSIST_STORE", there.join("a.store"))
        .env("PERSIST_DO", "increment")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = made else {
        panic!("there is no unshare: {made:?}");
    };
    let mut own = 0;
    while child.try_wait().unwrap().is_none() {
        store.begin(&mut Wait::forever()).unwrap();
        let n = get(&store, "n").unwrap_or(0);
        set(&store, "n", n + 1).unwrap();
        store.commit().unwrap();
        own += 1;
    }
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let may = std::env::var_os("PERSIST_NO_MOUNT").is_some_and(|v| v == "1");
        assert!(
            may,
            "run as root, or set PERSIST_NO_MOUNT=1 to leave this out: {text}"
        );
        return;
    }
    assert_eq!(get(&store, "neighbour"), Some(1));
    assert_eq!(get(&store, "n"), Some(own + 1000));
    store.close().unwrap();
}

#[test]
fn a_process_that_exits_without_closing_loses_nothing() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    open(&path).close().unwrap();
    run(&path, "exit");
    let store = open(&path);
    assert_eq!(get(&store, "neighbour"), Some(1));
    store.close().unwrap();
}

#[test]
fn closing_waits_for_a_transaction_of_another_thread() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let brief = Options {
        lock_timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let store = Store::open(&path, &brief).unwrap();
    let (begun, end) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            store.begin(&mut Wait::forever()).unwrap();
            set(&store, "a", 1).unwrap();
            begun.wait();
            end.wait();
            set(&store, "b", 2).unwrap();
            store.commit().unwrap();
        });
        begun.wait();
        assert!(matches!(store.close(), Err(Error::Timeout { .. })));
        end.wait();
    });
    // It is open as before.
    set(&store, "c", 3).unwrap();
    store.close().unwrap();
    assert!(matches!(set(&store, "d", 4), Err(Error::Closed)));
    drop(store);
    let store = open(&path);
    assert_eq!(
        (get(&store, "a"), get(&store, "b"), get(&store, "c")),
        (Some(1), Some(2), Some(3))
    );
    store.close().unwrap();
}

/// However the closing falls between the steps of the others, nothing of this process's stays behind.
#[test]
fn closing_while_threads_are_at_work_leaves_nothing_behind() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let other = open(&path);
    for round in 0..60u64 {
        let store = open(&path);
        std::thread::scope(|scope| {
            for t in 0..3 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0.. {
                        let done = if t == 0 {
                            store
                                .begin(&mut Wait::forever())
                                .and_then(|()| set(store, "t", n).and_then(|()| store.commit()))
                        } else {
                            set(store, "x", n).and_then(|()| {
                                store.read(&mut Wait::forever(), |r| r.len(store.root()).map(drop))
                            })
                        };
                        match done {
                            Ok(()) => {}
                            Err(Error::Closed) => return,
                            Err(e) => panic!("{e}"),
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(300 + 37 * (round % 30)));
            store.close().unwrap();
        });
        let begun = Instant::now();
        set(&other, "after", round as i64).unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "round {round}: waited {:?}",
            begun.elapsed()
        );
        assert_eq!(other.stat().unwrap().processes, 1, "round {round}");
    }
    other.check().unwrap();
    other.close().unwrap();
}

#[test]
fn an_abandoned_transaction_goes_with_the_last_handle() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let other = open(&path);
    let store = open(&path);
    let begun = std::sync::Barrier::new(2);
    let end = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            {
                let mine = store.clone();
                mine.begin(&mut Wait::forever()).unwrap();
                set(&mine, "a", 1).unwrap();
            }
            begun.wait();
            end.wait();
        });
        begun.wait();
        let mut all = Some(store.clone());
        all.take();
        end.wait();
    });
    drop(store);
    let since = Instant::now();
    set(&other, "b", 2).unwrap();
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!((get(&other, "a"), get(&other, "b")), (None, Some(2)));
    other.close().unwrap();
}

/// Another process's long transaction does not keep this one from closing.
#[test]
fn closing_does_not_wait_for_other_processes() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    let third = open(&path);
    let mut child = again("neighbour")
        .env("PERSIST_STORE", &path)
        .env("PERSIST_DO", "transaction")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap() == "ready"));
    let begun = Instant::now();
    store.close().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    child.kill().unwrap();
    child.wait().unwrap();
    set(&third, "a", 1).unwrap();
    third.sync().unwrap();
    assert_eq!(
        (get(&third, "neighbour"), third.stat().unwrap().processes),
        (Some(1), 1)
    );
    third.close().unwrap();
}
