//! Promise P2, the bound on loss: changes that completed longer than `max_age` ago are in a durable checkpoint,
//! whatever the processes of the store do. The thread that makes these checkpoints does not slow them down.

mod support;

use persist_core::raw::observe::observe;
use persist_core::store::{Options, Store};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use support::plain::{get, set, wait_for};
use support::process::{self, Stop, signal};
use support::{again, worker_task};

/// One test at a time: they count the threads of their process.
static ONE: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn open(path: &Path, max_age: Option<Duration>) -> Store {
    let options = Options {
        max_age,
        lock_timeout: Duration::from_secs(60),
        ..Options::default()
    };
    Store::open(path, &options).unwrap_or_else(|e| panic!("{e}"))
}

/// Create a store, which is a change too.
fn made(path: &Path) {
    open(path, None).close().unwrap();
}

fn soon() -> Option<Duration> {
    Some(Duration::from_millis(50))
}

/// Wait for an event that must happen.
fn until(what: &str, mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !come() {
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn durable(store: &Store) -> bool {
    store.stat().unwrap().undurable_age.is_none()
}

/// Threads of this process that make checkpoints.
fn helpers() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("persist-helper"))
        .count()
}

/// The content of the file one_at_a_time, as after a power failure (for the flushes before the meta page, see `power`).
fn after_a_cut(path: &Path, key: &str) -> Option<i64> {
    let dir = scratch();
    let copy = dir.path().join("copy.store");
    std::fs::copy(path, &copy).unwrap();
    let store = open(&copy, None);
    store.check().unwrap();
    get(&store, key).unwrap()
}

#[test]
fn what_is_older_than_the_bound_is_durable_without_a_sync() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path, soon());
    for round in 0..5 {
        set(&store, "x", round).unwrap();
        until("durability", || durable(&store));
        assert_eq!(after_a_cut(&path, "x"), Some(round));
    }
    // Without changes, no checkpoint is made.
    let rest = store.stat().unwrap().checkpoint;
    let other = open(&dir.path().join("b.store"), soon());
    for round in 0..3 {
        set(&other, "x", round).unwrap();
        until("durability elsewhere", || durable(&other));
    }
    assert_eq!(store.stat().unwrap().checkpoint, rest);
    other.close().unwrap();
    store.close().unwrap();
}

#[test]
fn without_max_age_no_helper_thread_runs_and_no_checkpoint_is_made() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let path = dir.path().join("a.store");
    made(&path);
    let store = open(&path, None);
    let before = store.stat().unwrap().checkpoint;
    set(&store, "x", 1).unwrap();
    assert_eq!(helpers(), 0);
    let other = open(&dir.path().join("b.store"), soon());
    for round in 0..3 {
        set(&other, "x", round).unwrap();
        until("durability elsewhere", || durable(&other));
    }
    other.close().unwrap();
    let stat = store.stat().unwrap();
    assert_eq!(stat.checkpoint, before);
    assert!(
        stat.undurable_age.is_some(),
        "it says what a power cut would take"
    );
    assert_eq!(after_a_cut(&path, "x"), None);
    // Another opening of this store sets a bound, which then applies to all.
    let strict = open(&path, soon());
    until("durability", || durable(&store));
    assert_eq!(after_a_cut(&path, "x"), Some(1));
    strict.close().unwrap();
    store.close().unwrap();
}

#[test]
fn no_thread_is_left_of_a_closed_or_dropped_store() {
    let _alone = one_at_a_time();
    let dir = scratch();
    made(&dir.path().join("a.store"));
    for close in [true, false] {
        let store = open(&dir.path().join("a.store"), Some(Duration::from_secs(3600)));
        assert_eq!(helpers(), 0, "it begins with the first change");
        set(&store, "x", 1).unwrap();
        until("a helper", || helpers() == 1);
        if close {
            store.close().unwrap();
        }
        drop(store);
        // The helper was joined; the kernel's list of threads may lag.
        until("the end of the helper", || helpers() == 0);
    }
}

#[test]
fn no_writer_makes_a_checkpoint_itself() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let store = open(&dir.path().join("a.store"), soon());
    set(&store, "x", 0).unwrap();
    until("durability", || durable(&store));
    let before = store.stat().unwrap().checkpoint;
    observe(Some(Box::new(|moment| panic!("the writer: {moment:?}"))));
    let mut n = 0;
    until("five checkpoints", || {
        for _ in 0..100 {
            n += 1;
            set(&store, "x", n).unwrap();
        }
        store.stat().unwrap().checkpoint >= before + 5
    });
    observe(None);
    store.close().unwrap();
}

/// The other process: `PERSIST_DO` is KIND AGE(ms, 0: none).
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn beside() {
    let Some((path, what)) = worker_task("PERSIST_BOUND") else {
        return;
    };
    let (kind, age) = what.split_once(' ').unwrap();
    let age: u64 = age.parse().unwrap();
    let sign = |name: &str| path.with_extension(name);
    let store = open(&path, (age > 0).then(|| Duration::from_millis(age)));
    match kind {
        // Change the store and keep it open.
        "change" => {
            set(&store, "beside", 1).unwrap();
            std::fs::write(sign("changed"), "").unwrap();
            wait_for(&sign("go on"));
            set(&store, "beside", 2).unwrap();
            store.sync().unwrap();
        }
        // Make a checkpoint, and stop in it.
        "sync" => {
            set(&store, "beside", 1).unwrap();
            std::fs::write(sign("changed"), "").unwrap();
            store.sync().unwrap();
            set(&store, "beside", 2).unwrap();
            store.sync().unwrap();
        }
        other => panic!("{other}?"),
    }
    store.close().unwrap();
}

fn start(path: &Path, what: &str, change: impl FnOnce(&mut Command)) -> Child {
    let mut command = again("beside");
    command.env("PERSIST_BOUND", path).env("PERSIST_DO", what);
    command.stdin(Stdio::null());
    change(&mut command);
    let child = command.spawn().unwrap();
    wait_for(&path.with_extension("changed"));
    child
}

fn is_stopped(child: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

/// The leader is killed, or stopped while it waits: the helper of another process becomes the leader.
#[test]
fn another_process_takes_the_lead() {
    let _alone = one_at_a_time();
    for sign in [libc::SIGKILL, libc::SIGSTOP] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let mut child = start(&path, "change 50", |_| {});
        let store = open(&path, soon());
        set(&store, "x", 0).unwrap();
        until("durability", || durable(&store));
        signal(child.id() as i32, sign);
        if sign == libc::SIGSTOP {
            until("a stop", || is_stopped(&child));
        }
        for round in 1..4 {
            set(&store, "x", round).unwrap();
            until("durability without the leader", || durable(&store));
            assert_eq!(after_a_cut(&path, "x"), Some(round));
        }
        if sign == libc::SIGSTOP {
            std::fs::write(path.with_extension("go on"), "").unwrap();
            signal(child.id() as i32, libc::SIGCONT);
            assert!(child.wait().unwrap().success());
            assert_eq!(get(&store, "beside").unwrap(), Some(2));
        } else {
            child.wait().unwrap();
        }
        store.check_pages().unwrap();
        store.close().unwrap();
    }
}

/// The owner of a checkpoint is stopped in it: another process finishes the checkpoint. When the stopped process
/// continues, it changes nothing that belongs to others.
#[test]
fn a_checkpoint_whose_owner_is_stopped_is_finished_by_another_process() {
    let _alone = one_at_a_time();
    for step in ["taken", "summed", "flushed", "meta", "freed"] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = open(&path, soon());
        for key in 0..400 {
            set(&store, &format!("key {key}"), key).unwrap();
        }
        until("durability", || durable(&store));
        let mut child = start(&path, "sync 0", |c| {
            c.env("PERSIST_FAIL", format!("checkpoint.{step}=1"))
                .env("PERSIST_FAIL_SIGNAL", "STOP");
        });
        until("a stop in the checkpoint", || is_stopped(&child));
        // More than two epochs: every page that the stopped process has in mind has been reused.
        for round in 0..6 {
            for key in 0..400 {
                set(&store, &format!("key {key}"), key + round).unwrap();
            }
            until("durability beside a stopped owner", || durable(&store));
            assert_eq!(after_a_cut(&path, "key 7"), Some(7 + round), "{step}");
        }
        store.check_pages().unwrap_or_else(|e| panic!("{step}: {e}"));
        signal(child.id() as i32, libc::SIGCONT);
        assert!(child.wait().unwrap().success(), "{step}");
        assert_eq!(get(&store, "beside").unwrap(), Some(2), "{step}");
        set(&store, "x", 1).unwrap();
        until("durability", || durable(&store));
        store.check().unwrap();
        store.check_pages().unwrap_or_else(|e| panic!("{step}: {e}"));
        store.close().unwrap();
    }
}

/// The writing of the meta page is the only step that cannot be fenced: no process takes over from an owner that is
/// stopped there, and the owner continues normally.
#[test]
fn no_process_takes_over_while_the_meta_page_is_written() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path, soon());
    set(&store, "x", 0).unwrap();
    until("durability", || durable(&store));
    let mut child = start(&path, "sync 0", |c| {
        c.env("PERSIST_FAIL", "checkpoint.written=1")
            .env("PERSIST_FAIL_SIGNAL", "STOP");
    });
    until("a stop", || is_stopped(&child));
    let before = store.stat().unwrap().checkpoint;
    set(&store, "x", 1).unwrap();
    // Longer than the time after which a silent owner is replaced.
    let begun = Instant::now();
    until("patience", || begun.elapsed() > Duration::from_secs(1));
    let stat = store.stat().unwrap();
    assert_eq!(stat.checkpoint, before);
    assert!(stat.undurable_age.is_some());
    signal(child.id() as i32, libc::SIGCONT);
    assert!(child.wait().unwrap().success());
    until("durability", || durable(&store));
    assert_eq!(after_a_cut(&path, "x"), Some(1));
    store.check_pages().unwrap();
    store.close().unwrap();
}

#[test]
fn a_forked_child_has_a_helper_of_its_own() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path, soon());
    for round in 0..20 {
        // The helper may be at any step during the fork.
        set(&store, "parent", round).unwrap();
        let child = process::fork(|| {
            let none = helpers() == 0;
            set(&store, "child", round).unwrap();
            // A thread has its name when it first runs, and may stay in the list for a moment after it was joined.
            let deadline = Instant::now() + Duration::from_secs(60);
            let comes = |come: &dyn Fn() -> bool| {
                while !come() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(1));
                }
                come()
            };
            let there = comes(&|| helpers() == 1) && comes(&|| durable(&store));
            let closed = round % 2 == 0 || store.close().is_ok() && comes(&|| helpers() == 0);
            [none, there, closed]
                .iter()
                .fold(0, |bad, ok| bad << 1 | i32::from(!ok))
        });
        assert_eq!(process::reap(child), Stop::Exited(0), "round {round}");
        until("durability", || durable(&store));
        assert_eq!(after_a_cut(&path, "child"), Some(round));
    }
    assert_eq!(helpers(), 1);
    store.close().unwrap();
}

/// An opening that changes the store closes while another one only reads: the remaining one has no helper.
#[test]
fn a_writer_that_leaves_only_readers_makes_its_changes_durable() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let path = dir.path().join("a.store");
    made(&path);
    let reader = open(&path, Some(Duration::from_secs(3600)));
    let mut child = start(&path, "sync 3600000", |_| {});
    assert!(child.wait().unwrap().success());
    assert_eq!(get(&reader, "beside").unwrap(), Some(2));
    assert_eq!(helpers(), 0);
    assert_eq!(after_a_cut(&path, "beside"), Some(2));
    reader.close().unwrap();
}

/// The opener makes the changes of a dead session durable, though it changes nothing itself.
#[test]
fn what_a_dead_process_left_is_made_durable() {
    let _alone = one_at_a_time();
    let dir = scratch();
    let path = dir.path().join("a.store");
    let mut child = start(&path, "change 3600000", |_| {});
    signal(child.id() as i32, libc::SIGKILL);
    child.wait().unwrap();
    assert_eq!(after_a_cut(&path, "beside"), None);
    let store = open(&path, soon());
    until("durability", || durable(&store));
    assert_eq!(after_a_cut(&path, "beside"), Some(1));
    store.close().unwrap();
}
