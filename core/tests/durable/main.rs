//! Durable commits between processes, and on failing disks. Concurrent commits share flushes. A killed committer does
//! not block others. A log that cannot be written or is missing causes an error or a checkpoint; a change that was
//! reported durable is not lost.

#[path = "../common/mod.rs"]
mod common;
#[path = "../support/mod.rs"]
mod support;
mod waits;

use common::{Model, Rng, compare, scratch, step};
use persist_core::raw::observe::{Moment, observe};
use persist_core::store::door::{Member, Word};
use persist_core::store::{Actor, Durability, Error, In, Key, Obj, Options, Store, Value, Wait, Writer};
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::again;

fn options(durability: Durability) -> Options {
    Options {
        durability,
        max_age: None,
        ..Options::default()
    }
}

fn open(path: &Path) -> Store {
    Store::open(path, &options(Durability::Commit)).unwrap()
}

fn beside(path: &Path, what: &str) -> PathBuf {
    PathBuf::from(format!("{}-{what}", path.display()))
}

fn set(store: &Store, key: &str, n: i64) -> Result<(), Error> {
    let root = store.root();
    store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(root, &Key::Str(key.as_bytes()), &In::Int(n))
    })
}

fn get(store: &Store, key: &str) -> Option<Value> {
    let root = store.root();
    store
        .read(&mut Wait::default(), |r| r.get(root, &Key::Str(key.as_bytes())))
        .unwrap()
}

/// The files after a power failure of a disk that has everything: store and log, no sidecar.
fn copy(path: &Path, to: &Path) {
    std::fs::copy(path, to).unwrap();
    std::fs::copy(beside(path, "wal"), beside(to, "wal")).unwrap();
    let _ = std::fs::remove_file(beside(to, "shm"));
}

/// A child process that commits until it is killed, and reports each commit.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn committing() {
    let (Ok(path), Ok(key)) = (
        std::env::var("PERSIST_DURABLE_STORE"),
        std::env::var("PERSIST_DURABLE_KEY"),
    ) else {
        return;
    };
    let store = open(Path::new(&path));
    for n in 1.. {
        set(&store, &key, n).expect("commit");
        let mut out = io::stderr();
        if writeln!(out, "{n}").is_err() {
            return;
        }
    }
}

struct Committer {
    child: Child,
    key: String,
    said: std::sync::Arc<std::sync::atomic::AtomicI64>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Committer {
    fn new(path: &Path, key: String) -> Committer {
        let mut child = again("committing")
            .env("PERSIST_DURABLE_STORE", path)
            .env("PERSIST_DURABLE_KEY", &key)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(0));
        let (out, note) = (child.stderr.take().unwrap(), said.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(n) = line.trim().parse() {
                    note.store(n, std::sync::atomic::Ordering::SeqCst);
                }
            }
        });
        Committer {
            child,
            key,
            said,
            reader: Some(reader),
        }
    }

    fn said(&self) -> i64 {
        self.said.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Wait until the process has reported `n` commits.
    fn until(&self, n: i64) {
        let end = Instant::now() + Duration::from_secs(120);
        while self.said() < n {
            assert!(Instant::now() < end, "{} commits no more", self.key);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kill the process. Returns its last reports.
    fn kill(mut self) -> (String, i64) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.reader.take().unwrap().join();
        (self.key.clone(), self.said())
    }
}

/// Eight processes commit. They are killed one after the other, at any moment, including leaders of a flush. At every
/// moment the files alone contain the changes that were reported before.
#[test]
fn eight_processes_commit_and_are_killed() {
    // On a disk if there is one: flushes take time there, and are shared.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let watcher = Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    let mut committers: Vec<_> = (0..8)
        .map(|i| Committer::new(&path, format!("committer {i}")))
        .collect();
    for c in &committers {
        c.until(20);
    }
    let mut dead: Vec<(String, i64)> = Vec::new();
    let mut rng = Rng(u64::from(std::process::id()));
    while !committers.is_empty() {
        let reported: Vec<_> = committers.iter().map(|c| (c.key.clone(), c.said())).collect();
        dead.push(committers.swap_remove(rng.below(committers.len())).kill());
        // The others continue.
        for c in &committers {
            c.until(c.said() + 3);
        }
        for (key, n) in dead.iter().chain(&reported) {
            let found = get(&watcher, key);
            assert!(
                matches!(found, Some(Value::Int(m)) if m >= *n),
                "{key}: {found:?} of {n}"
            );
        }
    }
    // No sidecar, and no process has closed the store.
    let cut = dir.path().join("cut.store");
    copy(&path, &cut);
    let store = Store::open(
        &cut,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    for (key, n) in &dead {
        let found = get(&store, key);
        // The commit in progress at the kill may be present.
        assert!(
            matches!(found, Some(Value::Int(m)) if m == *n || m == *n + 1),
            "{key}: {found:?} of {n}"
        );
    }
    store.check().unwrap();
    store.check_pages().unwrap();
    watcher.check().unwrap();
    watcher.close().unwrap();
}

/// The word with the leader of a flush names a slot. If that slot has since been given to a thread of another process
/// with the same number of openings, the dead leader must not seem alive.
#[test]
fn a_killed_leader_is_replaced_though_another_process_has_its_slot() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let patient = Options {
        lock_timeout: Duration::from_secs(30),
        ..options(Durability::Commit)
    };
    // This process has the first slot, and the other process the second, both for the first time.
    let store = Store::open(&path, &patient).unwrap();
    set(&store, "x", 1).unwrap();
    let died = again("committing")
        .env("PERSIST_DURABLE_STORE", &path)
        .env("PERSIST_DURABLE_KEY", "killed")
        .env("PERSIST_FAIL", "log.flushed=5")
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!died.success());
    // The dead process is recovered, and its slot goes to a thread of this process.
    store.sync().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            set(&store, "y", 1).unwrap();
            set(&store, "y", 2).unwrap();
        });
    });
    assert_eq!(get(&store, "killed"), Some(Value::Int(5)));
    assert_eq!(get(&store, "y"), Some(Value::Int(2)));
    store.close().unwrap();
}

/// The next commit that finds no opening with durability `commit` turns the log off. Until then every change must be in
/// the log, including those that replace one value and need no undo.
#[test]
fn no_change_escapes_the_log_while_it_is_on() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let plain = Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    let mut at_once = 0;
    for round in 0..4 {
        let durable = open(&path);
        set(&durable, "x", round).unwrap();
        set(&plain, "y", round).unwrap();
        durable.close().unwrap();
        drop(durable);
        // The page already belongs to this epoch.
        let key = Key::Str(b"x");
        let word = Word::small(&In::Int(100 + round));
        // From here on this thread has the entry in its lookup cache.
        let _ = plain.fast_get(plain.root(), Member::Key(key), |_, _| Some(()));
        let _ = get(&plain, "x");
        at_once += u32::from(plain.fast_set(plain.root(), Member::Key(key), word));
        if get(&plain, "x") != Some(Value::Int(100 + round)) {
            set(&plain, "x", 100 + round).unwrap();
        }
        let durable = open(&path);
        set(&durable, "y", 200 + round).unwrap();
        let cut = dir.path().join(format!("cut{round}.store"));
        copy(&path, &cut);
        let found = Store::open(
            &cut,
            &Options {
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap();
        assert_eq!(get(&found, "x"), Some(Value::Int(100 + round)), "round {round}");
        assert_eq!(get(&found, "y"), Some(Value::Int(200 + round)), "round {round}");
        durable.close().unwrap();
    }
    // With the log on, the fast path is refused.
    assert_eq!(at_once, 0);
}

/// Let every moment of this kind fail with this error, from the `n`-th on, `times` times.
fn fail(kind: Moment, n: usize, times: usize, errno: i32) -> Rc<Cell<usize>> {
    let seen = Rc::new(Cell::new(0));
    let counter = seen.clone();
    observe(Some(Box::new(move |moment| {
        if moment == kind {
            counter.set(counter.get() + 1);
            if counter.get() >= n && counter.get() < n + times {
                return Err(io::Error::from_raw_os_error(errno));
            }
        }
        Ok(())
    })));
    seen
}

#[test]
fn a_flush_of_the_log_that_fails_is_final_and_loses_nothing_reported() {
    for kind in [Moment::LogFlushing, Moment::LogFlushed] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = open(&path);
        let second = Store::open(
            &path,
            &Options {
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap();
        set(&store, "x", 1).unwrap();
        let seen = fail(kind, 1, 1, libc::EIO);
        // The change was made; the disk did not report whether it is durable.
        let failed = set(&store, "x", 2);
        let Err(Error::DurabilityUnknown { source }) = &failed else {
            panic!("{failed:?}");
        };
        assert!(matches!(**source, Error::Poisoned { .. }), "{failed:?}");
        assert_eq!(failed.unwrap_err().errno(), libc::EIO);
        assert_eq!(get(&store, "x"), Some(Value::Int(2)));
        assert_eq!(seen.get(), 1);
        observe(None);
        // For all openings, though the disk works again.
        for s in [&store, &second] {
            assert!(matches!(set(s, "x", 3), Err(Error::Poisoned { .. })));
            assert!(matches!(s.sync(), Err(Error::Poisoned { .. })));
        }
        let _ = second.close();
        let _ = store.close();
        drop((store, second));
        let store = open(&path);
        let found = get(&store, "x");
        assert!(matches!(found, Some(Value::Int(1 | 2))), "{found:?}");
        set(&store, "x", 4).unwrap();
        store.check_pages().unwrap();
        store.close().unwrap();
    }
}

/// The log is given up, a checkpoint makes its changes durable, and a new log begins.
#[test]
fn a_log_that_cannot_be_written_is_replaced_by_checkpoints() {
    for (errno, times) in [(libc::ENOSPC, 1), (libc::ENOSPC, usize::MAX / 2), (libc::EIO, 3)] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = open(&path);
        let mut model = Model::read(&store).unwrap();
        let mut rng = Rng(errno as u64 + times as u64);
        step(&store, &mut model, &mut rng, 100_000).unwrap();
        let before = store.stat().unwrap().checkpoint;
        fail(Moment::LogWriting, 1, times, errno);
        for i in 0..20 {
            step(&store, &mut model, &mut rng, 100_000).unwrap_or_else(|e| panic!("errno {errno}: {e}"));
            // It was reported durable: it is present without the sidecar.
            let cut = dir.path().join(format!("cut{i}.store"));
            std::fs::copy(&path, &cut).unwrap();
            if beside(&path, "wal").exists() {
                std::fs::copy(beside(&path, "wal"), beside(&cut, "wal")).unwrap();
            }
            let cut = std::thread::spawn(move || {
                let found = Store::open(
                    &cut,
                    &Options {
                        max_age: None,
                        ..Options::default()
                    },
                )
                .unwrap();
                Model::read(&found).unwrap().text()
            });
            assert_eq!(cut.join().unwrap(), model.text(), "errno {errno}, operation {i}");
        }
        observe(None);
        assert!(store.stat().unwrap().checkpoint > before);
        compare(&store, &model, "given up");
        store.close().unwrap();
        assert!(times > 20 || !beside(&path, "wal").exists());
    }
}

/// Either meta page can replace the other: neither names a log that was removed.
#[test]
fn after_a_clean_close_either_meta_page_opens_the_store() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    for round in 0..2 {
        let store = open(&path);
        set(&store, "x", round).unwrap();
        store.sync().unwrap();
        set(&store, "x", 10 + round).unwrap();
        store.close().unwrap();
        assert!(!beside(&path, "wal").exists());
        let whole = std::fs::read(&path).unwrap();
        for page in 0..2 {
            let mut bad = whole.clone();
            bad[page * 4096 + 100] ^= 1;
            let damaged = dir.path().join(format!("damaged{round}{page}.store"));
            std::fs::write(&damaged, &bad).unwrap();
            let found = open(&damaged);
            assert_eq!(get(&found, "x"), Some(Value::Int(10 + round)), "meta page {page}");
            found.check().unwrap();
            found.close().unwrap();
        }
    }
}

#[test]
fn a_log_that_is_missing_or_another_is_refused_and_can_be_forgotten() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    set(&store, "x", 1).unwrap();
    store.sync().unwrap();
    set(&store, "x", 2).unwrap();
    let cut = dir.path().join("cut.store");
    copy(&path, &cut);
    let whole = std::fs::read(beside(&cut, "wal")).unwrap();
    let refused = |what: &str| {
        let _ = std::fs::remove_file(beside(&cut, "shm"));
        let done = Store::open(
            &cut,
            &Options {
                max_age: None,
                ..Options::default()
            },
        );
        let Err(e @ Error::Refused { .. }) = done else {
            panic!("{what}: {done:?}");
        };
        assert!(
            e.to_string().contains("cut.store-wal") && e.to_string().contains("empty file"),
            "{e}"
        );
    };
    std::fs::remove_file(beside(&cut, "wal")).unwrap();
    refused("missing");
    // The log of another store.
    let other = dir.path().join("other.store");
    let second = open(&other);
    set(&second, "x", 1).unwrap();
    std::fs::copy(beside(&other, "wal"), beside(&cut, "wal")).unwrap();
    refused("another store's");
    std::fs::write(beside(&cut, "wal"), &whole[..1000]).unwrap();
    refused("cut short");
    // The right log is restored.
    std::fs::write(beside(&cut, "wal"), &whole).unwrap();
    let found = Store::open(
        &cut,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!(get(&found, "x"), Some(Value::Int(2)));
    drop(found);
    // Or the log is explicitly dropped.
    copy(&path, &cut);
    std::fs::write(beside(&cut, "wal"), b"").unwrap();
    let found = Store::open(
        &cut,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!(get(&found, "x"), Some(Value::Int(1)));
    drop(found);
    // A log with invalid data after its header counts as a log without records.
    copy(&path, &cut);
    let mut rng = Rng(5);
    for round in 0..200 {
        std::fs::copy(&path, &cut).unwrap();
        let _ = std::fs::remove_file(beside(&cut, "shm"));
        let mut bad = whole.clone();
        for _ in 0..1 + rng.below(8) {
            let at = 4096 + rng.below(bad.len() - 4096);
            bad[at] ^= 1 << rng.below(8);
        }
        std::fs::write(beside(&cut, "wal"), &bad).unwrap();
        let found = Store::open(
            &cut,
            &Options {
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap_or_else(|e| panic!("round {round}: {e}"));
        let x = get(&found, "x");
        assert!(matches!(x, Some(Value::Int(1 | 2))), "round {round}: {x:?}");
        found.check().unwrap();
    }
}
