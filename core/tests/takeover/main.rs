//! Opening a store that killed processes have left: no completed change is discarded without an error, whatever fails
//! (`calls`), whatever the sidecar contains (`mutation`), and wherever a process is stopped (`stops`).

#[path = "../common/mod.rs"]
mod common;
#[path = "../support/mod.rs"]
mod support;

mod calls;
mod identity;
mod kept;
mod mutation;
mod stops;

use common::{scratch, time};
use persist_core::store::{Actor, Durability, Key, LockMode, LockTarget, Options, Store, Wait};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::plain::{self, set, sidecar};
use support::{again, process, sys, worker_task};

fn open(path: &Path) -> Store {
    plain::open(path, 60)
}

fn get(s: &Store, key: &str) -> Option<i64> {
    plain::get(s, key).unwrap()
}

/// The number of entries that the killed process completed.
const LEFT: i64 = 300;

/// Do what `PERSIST_DO` names with the store `PERSIST_STORE`.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn worker() {
    let Some((path, task)) = worker_task("PERSIST_STORE") else {
        return;
    };
    match task.as_str() {
        "die" => {
            let store = open(&path);
            for n in 0..LEFT {
                set(&store, &format!("left {n}"), n).unwrap();
            }
            process::die()
        }
        "die in use" => die_in_use(&path, false),
        "die in a transaction" => die_in_use(&path, true),
        "sync and die" => {
            let store = open(&path);
            store.sync().unwrap();
            for n in 0..LEFT {
                set(&store, &format!("old {n}"), n).unwrap();
                set(&store, &format!("more {n}"), n).unwrap();
            }
            process::die()
        }
        "look and die" => {
            let store = open(&path);
            assert_eq!(found(&store), LEFT);
            process::die()
        }
        "few files" => {
            let more = std::env::var("PERSIST_FILES").unwrap().parse().unwrap();
            sys::allow_more_files(more);
            let opened = plain::try_open(&path, 5);
            sys::allow_files();
            match opened {
                Ok(store) => {
                    assert_eq!(found(&store), LEFT);
                    process::die();
                }
                Err(e) => eprint!("{e}"),
            }
        }
        "count" => match plain::try_open(&path, 5) {
            Ok(store) => {
                let left = (0..LEFT).filter(|n| get(&store, &format!("left {n}")) == Some(*n));
                eprint!("{}", left.count());
                store.check().unwrap();
                store.close().unwrap();
            }
            Err(e) => eprint!("{e}"),
        },
        "unprivileged" => {
            sys::become_unprivileged();
            eprint!("{}", plain::try_open(&path, 5).unwrap_err());
        }
        "calls" => calls::work(&path, false),
        "durable calls" => calls::work(&path, true),
        "present" => calls::be_present(&path),
        "mutations" => mutation::work(&path, false),
        "mutations in a transaction" => mutation::work(&path, true),
        other => panic!("{other}"),
    }
}

/// Run the worker. Returns its standard error.
fn run(path: &Path, task: &str, variables: &[(&str, &str)]) -> String {
    let output = again("worker")
        .env("PERSIST_STORE", path)
        .env("PERSIST_DO", task)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A store with a checkpoint, and a sidecar with the changes that a killed process completed after it.
fn left_by_the_dead(dir: &Path) -> PathBuf {
    let path = dir.join("a.store");
    let store = open(&path);
    for n in 0..LEFT {
        set(&store, &format!("old {n}"), n).unwrap();
    }
    store.close().unwrap();
    drop(store);
    run(&path, "die", &[]);
    path
}

/// As `die`, with something in the regions that an idle process leaves empty: the redo log, a watched container, locks,
/// a view of a moment and pages kept for it, and in a `transaction` the undo log.
fn die_in_use(path: &Path, transaction: bool) -> ! {
    let options = Options {
        durability: Durability::Commit,
        ..Options::default()
    };
    let store = Store::open(path, &options).unwrap();
    let root = store.root();
    let mut feed = store.feed().unwrap();
    feed.watch(root, &mut Wait::default()).unwrap();
    std::mem::forget(store.frozen(&mut Wait::default()).unwrap());
    for _ in 0..3 {
        set(&store, "old 0", 0).unwrap();
        store.sync().unwrap();
    }
    for n in 0..LEFT {
        set(&store, &format!("left {n}"), n).unwrap();
    }
    for key in ["old 1", "old 2"] {
        let key = Some(Key::Str(key.as_bytes()));
        store
            .lock(
                Actor::Thread,
                LockTarget { obj: root, key },
                LockMode::Exclusive,
                &mut Wait::default(),
            )
            .unwrap();
    }
    if transaction {
        store.begin(&mut Wait::default()).unwrap();
        for n in 0..LEFT {
            set(&store, &format!("left {n}"), -1).unwrap();
        }
    }
    process::die()
}

/// As `left_by_the_dead`, of a process that used many parts of the sidecar, and died as this task says.
fn left_by_a_busy_process(dir: &Path, task: &str) -> PathBuf {
    let path = left_by_the_dead(dir);
    look(&path);
    run(&path, task, &[]);
    path
}

/// How many of the killed process's changes a store has. Asserts that the rest is right.
fn found(store: &Store) -> i64 {
    for n in 0..LEFT {
        assert_eq!(get(store, &format!("old {n}")), Some(n));
    }
    let left = (0..LEFT).filter(|n| get(store, &format!("left {n}")) == Some(*n));
    let count = left.count() as i64;
    store.check().unwrap();
    count
}

fn log(store: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", store.display()))
}

/// A file: its length, and its pages that are not blank.
struct Kept {
    path: PathBuf,
    len: u64,
    pages: Vec<(u64, Vec<u8>)>,
}

/// The files of a store, restored in place: the sidecar belongs to the store's inode.
struct Image {
    store: PathBuf,
    files: Vec<Kept>,
    session: Option<Vec<u8>>,
}

impl Image {
    fn take(store: &Path) -> Image {
        let all = [store.to_owned(), sidecar(store), log(store)];
        let files = all.into_iter().filter(|path| path.exists()).map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            let pages = bytes
                .chunks(4096)
                .enumerate()
                .filter(|(_, page)| page.iter().any(|b| *b != 0))
                .map(|(i, page)| (i as u64 * 4096, page.to_vec()))
                .collect();
            let len = bytes.len() as u64;
            Kept { path, len, pages }
        });
        Image {
            store: store.to_owned(),
            files: files.collect(),
            session: sys::session(store),
        }
    }

    fn restore(&self) {
        for Kept { path, len, pages } in &self.files {
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)
                .unwrap();
            file.set_len(*len).unwrap();
            for (at, page) in pages {
                file.write_all_at(page, *at).unwrap();
            }
        }
        if let Some(session) = &self.session {
            sys::set_session(&self.store, session);
        }
    }
}

/// The time that a long form takes: `quick`, or its share of PERSIST_TORTURE_SECONDS. Eight tests share them.
fn share(quick: u64) -> Duration {
    time(quick) / 8
}

/// Open and read the store without any failure.
fn look(path: &Path) -> i64 {
    let store = open(path);
    let count = found(&store);
    store.close().unwrap();
    count
}

#[test]
fn changes_of_killed_processes_are_kept() {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    assert_eq!(look(&path), LEFT);
    assert_eq!(look(&path), LEFT);
}
