//! Process death as seen by other processes: what dead, stopped, ended and forked processes leave to the others, and
//! how soon.

mod support;

use persist_core::store::{
    Actor, Error, In, Key, LockMode, LockTarget, Obj, Options, Result, Store, Value, Wait,
};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use support::process::{self, Stop};
use support::state::sound;
use support::{again, memory_dir, worker_task};

/// The promised time. It is compared with the best of several deaths, because other load of the machine is not the
/// store's delay.
const PROMISED: Duration = Duration::from_millis(100);
const DEATHS: usize = 5;
const DEATHS_AT_MOST: usize = 30;
/// Longer than anything that does not wait for the wrong event: less than the stores' own waits, and less than the life
/// of children for which no process may wait.
const FOREVER: Duration = Duration::from_secs(300);

fn options() -> Options {
    Options {
        lock_timeout: Duration::from_secs(60),
        ..Options::default()
    }
}

fn set(s: &Store, k: &str, v: i64) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(s.root(), &Key::Str(k.as_bytes()), &In::Int(v))
    })
}

fn get(s: &Store, k: &str) -> Option<i64> {
    match s
        .read(&mut Wait::default(), |r| r.get(s.root(), &Key::Str(k.as_bytes())))
        .expect("read")
    {
        Some(Value::Int(n)) => Some(n),
        _ => None,
    }
}

fn whole(root: Obj) -> LockTarget<'static> {
    LockTarget { obj: root, key: None }
}

/// A neighbour process: do what `PERSIST_DO` names, report it, and wait for the kill.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn neighbour() {
    let Some((path, task)) = worker_task("PERSIST_STORE") else {
        return;
    };
    let s = Store::open(path, &options()).expect("open");
    let ready = || eprintln!("ready");
    let forever = || -> ! {
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    };
    match task.as_str() {
        "lock" => {
            s.lock(
                Actor::Thread,
                whole(s.root()),
                LockMode::Exclusive,
                &mut Wait::default(),
            )
            .expect("lock");
            ready();
            forever();
        }
        "read" => {
            let _ = s.read(&mut Wait::default(), |_| -> Result<()> {
                ready();
                forever()
            });
        }
        "write" => {
            let _ = s.write(Actor::Thread, &mut Wait::default(), |w| -> Result<()> {
                w.set(s.root(), &Key::Str(b"a"), &In::Int(-1))?;
                ready();
                forever()
            });
        }
        "transaction" => {
            s.begin(&mut Wait::default()).expect("begin");
            set(&s, "a", -1).expect("set");
            ready();
            forever();
        }
        "fork" => {
            // Its child does nothing, inherits everything, and outlives it.
            s.begin(&mut Wait::default()).expect("begin");
            set(&s, "a", -1).expect("set");
            let child = process::fork(|| {
                std::thread::sleep(Duration::from_secs(600));
                0
            });
            eprintln!("{CHILD}{child}");
            ready();
            forever();
        }
        other => panic!("{other}"),
    }
}

/// The beginning of the line that reports a neighbour's child.
const CHILD: &str = "child ";

struct Neighbour(Child);

/// A process that is not a child of this one, ended when a test ends.
struct Orphan(i32);

impl Drop for Orphan {
    fn drop(&mut self) {
        process::signal(self.0, libc::SIGKILL);
    }
}

impl Neighbour {
    fn start(path: &PathBuf, task: &str) -> Neighbour {
        Neighbour::with_child(path, task).0
    }

    /// The neighbour with its child, if it reports one.
    fn with_child(path: &PathBuf, task: &str) -> (Neighbour, Option<Orphan>) {
        let mut command = again("neighbour");
        command
            .env("PERSIST_STORE", path)
            .env("PERSIST_DO", task)
            .stderr(Stdio::piped());
        let mut neighbour = Neighbour(command.spawn().expect("start"));
        let mut lines = BufReader::new(neighbour.0.stderr.take().expect("piped")).lines();
        let mut child = None;
        while let Some(Ok(line)) = lines.next() {
            if line == "ready" {
                return (neighbour, child);
            }
            if let Some(pid) = line.strip_prefix(CHILD) {
                child = Some(Orphan(pid.parse().expect("its child's number")));
            }
        }
        panic!("the neighbour did not get ready");
    }

    fn signal(&self, signal: i32) {
        process::signal(self.0.id() as i32, signal);
    }

    fn kill(mut self) -> Instant {
        let at = Instant::now();
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
        at
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fresh() -> (tempfile::TempDir, PathBuf, Store) {
    let dir = memory_dir();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    set(&store, "a", 1).unwrap();
    (dir, path, store)
}

/// Kill neighbours that are at `task`, while this process waits in `wait`, and check how long it waited.
fn death_at(task: &str, wait: impl Fn(&Store) + Send + Sync) {
    let (_dir, path, store) = fresh();
    let mut waits = Vec::new();
    let mut best = Duration::MAX;
    while waits.len() < DEATHS || best >= PROMISED && waits.len() < DEATHS_AT_MOST {
        let neighbour = Neighbour::start(&path, task);
        let took = std::thread::scope(|t| {
            let waiter = t.spawn(|| {
                wait(&store);
                Instant::now()
            });
            std::thread::sleep(Duration::from_millis(60));
            assert!(!waiter.is_finished(), "nothing was waited for");
            let killed = neighbour.kill();
            waiter.join().expect("the waiter").duration_since(killed)
        });
        assert!(took < FOREVER, "{task}: the others waited {took:?}");
        best = best.min(took);
        waits.push(took);
        assert!(get(&store, "a") != Some(-1), "{task}: half a change is there");
        sound(&store).unwrap();
    }
    println!("death at {task}: the others went on after {waits:?}");
    assert!(best < PROMISED, "{task}: the others waited {waits:?}");
}

/// Check how long `proceed` takes beside a living neighbour that is stopped at `task`. When the neighbour dies after
/// that, nothing of its operation is left.
fn delay_at(task: &str, proceed: impl Fn(&Store)) {
    let (_dir, path, store) = fresh();
    let mut delays = Vec::new();
    let mut best = Duration::MAX;
    while delays.len() < DEATHS || best >= PROMISED && delays.len() < DEATHS_AT_MOST {
        let neighbour = Neighbour::start(&path, task);
        let begun = Instant::now();
        proceed(&store);
        let took = begun.elapsed();
        assert!(took < FOREVER, "{task}: the others waited {took:?}");
        best = best.min(took);
        delays.push(took);
        neighbour.kill();
        set(&store, "c", 3).unwrap();
        assert!(get(&store, "a") != Some(-1), "{task}: half a change is there");
        sound(&store).unwrap();
    }
    println!("beside a process at {task}: the others went on after {delays:?}");
    assert!(best < PROMISED, "{task}: the others waited {delays:?}");
}

#[test]
fn a_dead_holder_of_a_lock_frees_it() {
    death_at("lock", |s| {
        s.lock(
            Actor::Thread,
            whole(s.root()),
            LockMode::Exclusive,
            &mut Wait::default(),
        )
        .unwrap();
        s.unlock(Actor::Thread, whole(s.root())).unwrap();
    });
}

#[test]
fn a_change_that_waits_for_a_dead_holders_lock_continues() {
    death_at("lock", |s| set(s, "b", 2).unwrap());
}

#[test]
fn a_reader_that_is_stopped_inside_a_section_and_dies_does_not_block_writers() {
    delay_at("read", |s| set(s, "b", 2).unwrap());
}

#[test]
fn a_writer_that_is_stopped_inside_a_section_and_dies_does_not_block_readers() {
    delay_at("write", |s| assert_eq!(get(s, "a"), Some(1)));
}

#[test]
fn a_writer_that_dies_inside_a_section_does_not_block_writers() {
    death_at("write", |s| set(s, "b", 2).unwrap());
}

#[test]
fn a_transaction_that_dies_does_not_block_writers() {
    death_at("transaction", |s| set(s, "b", 2).unwrap());
}

#[test]
fn a_transaction_that_is_stopped_and_dies_does_not_block_readers() {
    delay_at("transaction", |s| assert_eq!(get(s, "a"), Some(1)));
}

#[test]
fn a_forked_child_that_does_nothing_does_not_keep_its_parents_latch() {
    let (_dir, path, store) = fresh();
    let (neighbour, child) = Neighbour::with_child(&path, "fork");
    let child = child.expect("a neighbour with a child");
    let killed = neighbour.kill();
    set(&store, "b", 2).unwrap();
    let took = killed.elapsed();
    assert!(took < FOREVER, "waited {took:?}");
    assert!(process::is_alive(child.0), "the child was to outlive it");
    assert_eq!(get(&store, "a"), Some(1));
    sound(&store).unwrap();
    println!("death of a parent with a living child: the others went on after {took:?}");
}

#[test]
fn a_stopped_holder_of_the_latch_is_named_and_others_continue_when_it_does() {
    let (_dir, path, store) = fresh();
    let neighbour = Neighbour::start(&path, "transaction");
    neighbour.signal(libc::SIGSTOP);
    let begun = Instant::now();
    let bound = Duration::from_millis(150);
    let mut short = Wait::at_most(bound);
    let failed = store.write(Actor::Thread, &mut short, |w| {
        w.set(store.root(), &Key::Str(b"b"), &In::Int(2))
    });
    match failed {
        Err(Error::Timeout { holder, .. }) => {
            assert!(holder.contains(&neighbour.0.id().to_string()), "{holder}")
        }
        other => panic!("{other:?}"),
    }
    assert!((bound..FOREVER).contains(&begun.elapsed()));
    // Readers of its changes see the state before, and do not wait.
    let read = store.read(&mut Wait::never(), |r| r.get(store.root(), &Key::Str(b"a")));
    assert!(matches!(read, Ok(Some(Value::Int(1)))), "{read:?}");
    neighbour.signal(libc::SIGCONT);
    let killed = neighbour.kill();
    set(&store, "b", 2).unwrap();
    assert!(killed.elapsed() < FOREVER);
    sound(&store).unwrap();
}

#[test]
fn a_stopped_reader_is_not_waited_for_and_nothing_is_lost() {
    let (_dir, path, store) = fresh();
    let reader = Neighbour::start(&path, "read");
    reader.signal(libc::SIGSTOP);
    let brief = Options {
        lock_timeout: Duration::from_millis(5),
        ..Options::default()
    };
    let other = Store::open(&path, &brief).unwrap();
    // Though the waits of this opening are shorter than the time that a reader has.
    set(&other, "b", 2).unwrap();
    set(&store, "b", 3).unwrap();
    assert_eq!(get(&other, "b"), Some(3));
    reader.signal(libc::SIGCONT);
    reader.kill();
    set(&store, "b", 4).unwrap();
    other.close().unwrap();
    sound(&store).unwrap();
}

/// A writer died in the middle of a change, and a living reader is stopped inside a section: the next writer still
/// undoes the change.
#[test]
fn a_stopped_reader_does_not_block_a_recovery() {
    let (_dir, path, store) = fresh();
    let transaction = Neighbour::start(&path, "transaction");
    let reader = Neighbour::start(&path, "read");
    reader.signal(libc::SIGSTOP);
    transaction.kill();
    let other = Store::open(&path, &options()).unwrap();
    assert_eq!(get(&other, "a"), Some(1));
    set(&other, "b", 2).unwrap();
    assert_eq!((get(&store, "a"), get(&store, "b")), (Some(1), Some(2)));
    reader.signal(libc::SIGCONT);
    reader.kill();
    set(&store, "b", 3).unwrap();
    sound(&store).unwrap();
}

#[test]
fn a_thread_that_ends_inside_a_transaction_undoes_it() {
    let (_dir, _path, store) = fresh();
    store
        .write(Actor::Thread, &mut Wait::default(), |w| {
            let l = w.new_list()?;
            w.insert(
                l,
                0,
                &In::str("a string that is freed in the transaction, and then not"),
            )?;
            w.set(store.root(), &Key::Str(b"l"), &In::Obj(l))
        })
        .unwrap();
    std::thread::scope(|t| {
        t.spawn(|| {
            store
                .lock(
                    Actor::Thread,
                    whole(store.root()),
                    LockMode::Exclusive,
                    &mut Wait::default(),
                )
                .unwrap();
            store.begin(&mut Wait::default()).unwrap();
            set(&store, "a", -1).unwrap();
            store
                .write(Actor::Thread, &mut Wait::default(), |w| {
                    w.remove(store.root(), &Key::Str(b"l"))
                })
                .unwrap();
        });
    });
    assert_eq!(get(&store, "a"), Some(1));
    // The next transaction must not free what the undone one had freed.
    store.begin(&mut Wait::default()).unwrap();
    set(&store, "b", 2).unwrap();
    store.commit().unwrap();
    assert!(
        store
            .read(&mut Wait::default(), |r| r
                .contains(store.root(), &Key::Str(b"l")))
            .unwrap()
    );
    sound(&store).unwrap();
}

#[test]
fn a_forked_child_uses_the_store_on_its_own() {
    let (_dir, _path, store) = fresh();
    store
        .lock(
            Actor::Thread,
            whole(store.root()),
            LockMode::Shared,
            &mut Wait::default(),
        )
        .unwrap();
    store.begin(&mut Wait::default()).unwrap();
    set(&store, "a", 2).unwrap();
    // Inside the transaction, which belongs to the parent.
    let child = process::fork(|| {
        let mut short = Wait::at_most(Duration::from_millis(50));
        let busy = store.write(Actor::Thread, &mut short, |w| {
            w.set(store.root(), &Key::Str(b"b"), &In::Int(1))
        });
        i32::from(store.in_transaction() || !matches!(busy, Err(Error::Timeout { .. })))
    });
    assert_eq!(
        process::reap(child),
        Stop::Exited(0),
        "the child is not in its parent's transaction"
    );
    store.commit().unwrap();
    let child = process::fork(|| {
        let mut short = Wait::at_most(Duration::from_millis(50));
        // The child has none of its parent's locks.
        let locked = store.write(Actor::Thread, &mut short, |w| {
            w.set(store.root(), &Key::Str(b"b"), &In::Int(1))
        });
        let read = get(&store, "a");
        i32::from(!matches!(locked, Err(Error::Timeout { .. })) || read != Some(2))
    });
    assert_eq!(
        process::reap(child),
        Stop::Exited(0),
        "the child reads, and has none of its parent's locks"
    );
    store.unlock(Actor::Thread, whole(store.root())).unwrap();
    let child = process::fork(|| {
        let done = (0..100).try_for_each(|n| set(&store, "from the child", n));
        i32::from(done.is_err())
    });
    for n in 0..100 {
        set(&store, "from the parent", n).unwrap();
    }
    assert_eq!(process::reap(child), Stop::Exited(0), "both write");
    assert_eq!(
        (get(&store, "from the child"), get(&store, "from the parent")),
        (Some(99), Some(99))
    );
    // A child that dies in its own transaction.
    let child = process::fork(|| {
        store.begin(&mut Wait::default()).expect("begin");
        set(&store, "a", -1).expect("set");
        process::die();
    });
    assert_eq!(process::reap(child), Stop::Killed(libc::SIGKILL));
    assert_eq!(get(&store, "a"), Some(2));
    set(&store, "a", 3).unwrap();
    sound(&store).unwrap();
}
