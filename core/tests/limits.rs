//! Limits of this process: of file sizes (which raise a signal that kills by default) and of address space. Reaching
//! one is an error that names it; nothing is lost.

mod common;
mod support;

use common::scratch;
use persist_core::store::{Actor, Error, In, Key, Options, Result, Store, Wait};
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{again, sys, worker_task};

fn set(s: &Store, n: u32, len: usize) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(s.root(), &Key::Int(n.into()), &In::Bytes(&vec![n as u8; len]))
    })
}

fn len(s: &Store) -> u64 {
    s.read(&mut Wait::default(), |r| r.len(s.root())).unwrap()
}

fn open(path: &Path) -> Result<Store> {
    Store::open(
        path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
}

/// Run a task in a separate process, since not every user can raise limits again.
fn limited(task: &str) {
    let dir = scratch();
    let output = again("neighbour")
        .env("PERSIST_DIR", dir.path())
        .env("PERSIST_DO", task)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{task}: {:?}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn neighbour() {
    let Some((dir, task)) = worker_task("PERSIST_DIR") else {
        return;
    };
    let path = Path::new(&dir).join("a.store");
    match task.as_str() {
        "small files" => small_files(&path),
        "tiny files" => {
            sys::set_limit(libc::RLIMIT_FSIZE, 1 << 20);
            let e = open(&path).unwrap_err();
            assert!(e.to_string().contains("ulimit -f"), "{e}");
            sys::set_limit(libc::RLIMIT_FSIZE, libc::RLIM_INFINITY);
            let store = open(&path).unwrap();
            set(&store, 1, 10).unwrap();
            store.close().unwrap();
        }
        "little memory" => {
            sys::set_limit(libc::RLIMIT_AS, 1 << 30);
            let e = open(&path).unwrap_err();
            assert!(e.to_string().contains("ulimit -v"), "{e}");
            assert_eq!(e.errno(), libc::ENOMEM);
        }
        "enough memory" => enough_memory(&path),
        "many stores" => many_stores(Path::new(&dir)),
        "many threads" => many_threads(&path),
        "stay" => match open(&path) {
            Ok(store) => {
                println!("open");
                let _ = std::io::stdin().read_line(&mut String::new());
                store.close().unwrap();
            }
            Err(e) => println!("{e}"),
        },
        other => panic!("{other}"),
    }
}

fn small_files(path: &Path) {
    sys::set_limit(libc::RLIMIT_FSIZE, 24 << 20);
    let store = open(path).unwrap();
    let mut n = 0;
    let e = loop {
        match set(&store, n, 100_000) {
            Ok(()) => n += 1,
            Err(e) => break e,
        }
        assert!(n < 1000, "there was no limit");
    };
    assert!(matches!(e, Error::NoSpace { .. }), "{e}");
    assert!(e.to_string().contains("ulimit -f"), "{e}");
    assert_eq!(e.errno(), libc::EFBIG);
    assert!(n > 100, "{n}");
    // Reading, syncing and removing continue to work, and there is room again.
    assert_eq!(len(&store), n.into());
    store.sync().unwrap();
    for i in 0..n / 2 {
        store
            .write(Actor::Thread, &mut Wait::default(), |w| {
                w.remove(store.root(), &Key::Int(i.into())).map(drop)
            })
            .unwrap();
    }
    store.gc().unwrap();
    for i in 0..n / 4 {
        set(&store, i, 100_000).unwrap_or_else(|e| panic!("{i} of {n}: {e}; {:?}", store.stat()));
    }
    store.check().unwrap();
    let found = len(&store);
    store.close().unwrap();
    drop(store);
    let store = open(path).unwrap();
    assert_eq!(len(&store), found);
    store.close().unwrap();
}

fn enough_memory(path: &Path) {
    // The sidecar's mappings, and at least 200 MiB for a store.
    sys::set_limit(libc::RLIMIT_AS, 5 << 30);
    let store = open(path).unwrap();
    for n in 0..200 {
        set(&store, n, 100_000).unwrap();
    }
    store.check().unwrap();
    store.close().unwrap();
}

/// Each open store takes a few mappings and only the addresses that it needs, not those of the largest store.
fn many_stores(dir: &Path) {
    const STORES: u32 = 2000;
    sys::allow_descriptors(9 * u64::from(STORES));
    let addresses = || sys::status("VmSize:");
    let path = |n: u32| dir.join(format!("{n}.store"));
    let mut stores = vec![open(&path(0)).unwrap()];
    let (before, mappings) = (addresses(), sys::mappings());
    for n in 1..STORES {
        let store = open(&path(n)).unwrap_or_else(|e| panic!("store {n}: {e}"));
        set(&store, n, 10).unwrap_or_else(|e| panic!("store {n}: {e}"));
        stores.push(store);
    }
    let each = (addresses() - before) / u64::from(STORES - 1);
    assert!(each < 4 << 20, "{each} KiB of addresses for each store");
    let maps = sys::mappings() - mappings;
    // The store and its sidecar, and one for the locks on each of them and on the lock file.
    let most = 5 * STORES as usize + 100;
    assert!(maps <= most, "{maps} mappings for {STORES} stores");
    // Each of them grows, and holds its content.
    for (n, store) in stores.iter().enumerate().step_by(100) {
        for i in 0..20 {
            set(store, 10_000 + i, 100_000).unwrap_or_else(|e| panic!("store {n}: {e}"));
        }
    }
    for (n, store) in stores.iter().enumerate() {
        let more = if n % 100 == 0 { 20 } else { 0 };
        assert_eq!(len(store), u64::from(n > 0) + more, "store {n}");
    }
    for store in &stores {
        store.close().unwrap();
    }
}

/// Threads use a store until its table of them is full. The error names the limit; each end makes room.
fn many_threads(path: &Path) {
    const THREADS: usize = 1024;
    let store = open(path).unwrap();
    let (all, end) = (Barrier::new(THREADS + 101), Barrier::new(THREADS + 101));
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..THREADS + 100 {
            let body = || {
                let done = set(&store, 1, 10);
                if let Err(e) = done {
                    assert!(
                        e.to_string()
                            .contains("threads using the store at once (limit 1024)"),
                        "{e}"
                    );
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                all.wait();
                end.wait();
            };
            let thread = std::thread::Builder::new().stack_size(256 << 10);
            thread
                .spawn_scoped(scope, body)
                .unwrap_or_else(|e| panic!("thread {n}: {e}"));
        }
        all.wait();
        // Threads of the opening itself have places as well.
        let refused = refused.load(Ordering::SeqCst);
        assert!((100..110).contains(&refused), "{refused}");
        end.wait();
    });
    std::thread::scope(|scope| {
        for _ in 0..THREADS / 2 {
            scope.spawn(|| set(&store, 1, 10).unwrap());
        }
    });
    store.check().unwrap();
    store.close().unwrap();
}

#[test]
fn the_threads_of_a_store_are_limited() {
    limited("many threads");
}

/// A process that has the store open until its input ends.
struct User {
    child: Child,
    said: String,
    /// Keeps its output open.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl User {
    fn new(dir: &Path) -> User {
        let mut child = again("neighbour")
            .env("PERSIST_DIR", dir)
            .env("PERSIST_DO", "stay")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_said = |line: &String| line.starts_with("open") || line.contains("too many");
        let said = lines
            .by_ref()
            .map(|line| line.unwrap())
            .find(is_said)
            .unwrap_or_default();
        User {
            child,
            said,
            _lines: lines,
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_processes_of_a_store_are_limited() {
    const PROCESSES: usize = 128;
    let dir = scratch();
    let store = open(&dir.path().join("a.store")).unwrap();
    let mut users: Vec<User> = (1..PROCESSES).map(|_| User::new(dir.path())).collect();
    assert!(users.iter().all(|user| user.said == "open"));
    let one_more = User::new(dir.path());
    assert!(
        one_more
            .said
            .contains("processes using the store at once (limit 128)"),
        "{}",
        one_more.said
    );
    set(&store, 1, 10).unwrap();
    // One that ends makes room.
    let mut last = users.pop().unwrap();
    drop(last.child.stdin.take());
    assert!(last.child.wait().unwrap().success());
    users.push(User::new(dir.path()));
    assert_eq!(users.last().map(|user| user.said.as_str()), Some("open"));
    drop(users);
    store.check().unwrap();
    store.close().unwrap();
}

#[test]
fn thousands_of_stores_are_open_in_one_process() {
    limited("many stores");
}

#[test]
fn a_limit_of_file_sizes_is_an_error_and_no_signal() {
    limited("small files");
}

#[test]
fn a_limit_that_leaves_no_room_for_a_store_is_named() {
    limited("tiny files");
}

#[test]
fn a_limit_of_address_space_is_named() {
    limited("little memory");
}

#[test]
fn a_sufficient_limit_of_address_space_has_no_effect() {
    limited("enough memory");
}
