//! Promise P1 at every instruction: the process of an operation is killed, and other processes recover. The operation
//! is then present completely or not at all, and everything is sound.
//!
//! - `stage`: a store before an operation, the process that runs it, and the allowed results.
//! - `bystander`: a process that has had the store open all the time and continues.
//! - `stores`: the process runs from store to store, and every moment is restored and recovered (`support::image`
//!   explains why that equals a kill there). It is also really killed after a number of stores.
//! - `instructions`: the process runs the operation one instruction at a time, which shows that only stores change the
//!   files. It is also really killed after instruction n.
//!
//! Each runs with an observer in another process and without. The short form tests all moments of an operation that has
//! few, and each n-th moment of others, with more of those that touch the sidecar, and a few instructions.
//! `PERSIST_TORTURE_SECONDS`: that long at instructions drawn at random, other ones in each run.
//! `PERSIST_TORTURE=1`: every moment, and (without seconds) every instruction. `PERSIST_STEP_ONLY`: only the operations
//! with that in their names. `PERSIST_STEP_KILLS`: that many recoveries and instructions of each (with 1 and
//! `PERSIST_TORTURE=1` every instruction is stepped, with few kills).

mod bystander;
mod instructions;
mod stage;
mod stores;
#[path = "../support/mod.rs"]
mod support;

use persist_core::store::{Durability, Options, Store, Wait};
use stage::{Beginning, Commits, Recovery, Stage, options};
use support::cases::{CASES, Case, Marked, SMUGGLER, die_as_requested, use_store};
use support::{process, ptrace, sys};

fn case(name: &str) -> &'static Case {
    let mut all = CASES.iter().chain([&SMUGGLER]);
    all.find(|c| c.name == name).expect("a known case")
}

/// The options with which a child opens the store (PERSIST_STEP_DURABLE).
fn child_options() -> Options {
    Options {
        durability: if std::env::var_os("PERSIST_STEP_DURABLE").is_some() {
            Durability::Commit
        } else {
            Durability::Checkpoint
        },
        ..options()
    }
}

/// The store that a child should open.
fn asked() -> Option<Store> {
    let path = std::env::var("PERSIST_STEP_STORE").ok()?;
    Some(Store::open(path, &child_options()).expect("open"))
}

fn asked_case() -> Option<&'static Case> {
    std::env::var("PERSIST_STEP_CASE").ok().map(|name| case(&name))
}

/// The child that fills the store and dies.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn prepared() {
    if let (Some(case), Some(store)) = (asked_case(), asked()) {
        (case.prepare)(&store).expect("prepare");
        process::die();
    }
}

/// The child that dies besides the one that is killed.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn dying() {
    if let Some(store) = asked() {
        die_as_requested(&store);
    }
}

/// The child: open the store, and run the operation between two marks.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn stepped() {
    let Some(case) = asked_case() else {
        return;
    };
    process::die_with_parent();
    if case.marked == Marked::Open {
        ptrace::stop_here();
    }
    let store = asked().expect("a store");
    // Before the first mark, give the thread its slot and link the code.
    let warm = || {
        let read = store.read(&mut Wait::default(), |r| r.len(store.root()));
        read.expect("read");
        (case.begin)(&store).expect("what comes before");
    };
    match case.marked {
        Marked::Operation => {
            warm();
            ptrace::stop_here();
            (case.run)(&store).expect("the operation");
        }
        Marked::Open => {}
        Marked::Close => {
            ptrace::stop_here();
            store.close().expect("close");
        }
        Marked::Thread => {
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    AT_THE_END.with(|_| ());
                    warm();
                    ptrace::stop_here();
                    (case.run)(&store).expect("the operation");
                });
                // Wait until the thread has ended completely.
                thread.join().expect("a thread");
            });
        }
        Marked::Fork | Marked::Forked => {
            warm();
            forks(case, &store);
        }
    }
    ptrace::stop_here();
    process::die();
}

thread_local! {
    /// A thread-local that is dropped after the thread's state of the store, because it was created first.
    static AT_THE_END: Mark = const { Mark };
}

struct Mark;

impl Drop for Mark {
    fn drop(&mut self) {
        ptrace::stop_here();
    }
}

/// Fork; the operation belongs to the parent or the child. The survivor continues.
fn forks(case: &Case, store: &Store) {
    ptrace::stop_here();
    let child = process::fork(|| {
        if case.marked == Marked::Forked {
            (case.run)(store).expect("the operation");
            ptrace::stop_here();
        }
        use_store(store).expect("a child goes on");
        0
    });
    if case.marked == Marked::Fork {
        (case.run)(store).expect("the operation");
    }
    ptrace::stop_here();
    process::reap(child);
    sys::allow_files();
    use_store(store).expect("a parent goes on");
    store.close().expect("close");
    std::process::exit(0);
}

/// The child that has the store open all the time, and continues after the death of the other.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn bystander() {
    if let Some(store) = asked() {
        process::die_with_parent();
        bystander::run_bystander(&store);
    }
}

fn wanted(case: &Case) -> bool {
    std::env::var("PERSIST_STEP_ONLY").map_or(true, |only| case.name.contains(&only))
}

/// Operations whose commits differ: in place, with new memory in old pages and in new ones, over several operations,
/// with an empty commit, and with a commit larger than the log. Also the beginning and end of the log.
const DURABLE: &[&str] = &[
    "set inline over inline",
    "set inline, first change after a checkpoint",
    "insert into a small dict",
    "a small dict becomes large",
    "a string of many pieces",
    "a string that the redo log has no room for",
    "replace a string of many pieces that a checkpoint has",
    "remove",
    "a transaction",
    "a rollback",
    "a checkpoint",
    "recover a process that died in a transaction",
    "a forked child registers itself",
    "open",
    "close",
];

/// Operations that leave most to recover.
const RECOVERED: &[&str] = &[
    "set inline, first change after a checkpoint",
    "a transaction",
    "replace a string of many pieces that a checkpoint has",
    "a checkpoint",
    "drop a snapshot",
    "lock and unlock",
];

fn cases(commits: Commits) -> Vec<&'static Case> {
    let of = |c: &&Case| wanted(c) && (commits == Commits::Plain || DURABLE.contains(&c.name));
    CASES.iter().filter(of).collect()
}

fn recovered() -> Vec<&'static Case> {
    CASES
        .iter()
        .filter(|c| wanted(c) && RECOVERED.contains(&c.name))
        .collect()
}

#[test]
fn operations_of_a_single_process() {
    for case in cases(Commits::Plain) {
        stores::kill_everywhere(Stage::new(case, Recovery::Inherit, Commits::Plain));
    }
}

#[test]
fn operations_beside_another_process() {
    for case in cases(Commits::Plain) {
        stores::kill_everywhere(Stage::new(case, Recovery::Survivor, Commits::Plain));
    }
}

#[test]
fn durable_operations_of_a_single_process() {
    for case in cases(Commits::Durable) {
        stores::kill_everywhere(Stage::new(case, Recovery::Inherit, Commits::Durable));
    }
}

#[test]
fn durable_operations_beside_another_process() {
    for case in cases(Commits::Durable) {
        stores::kill_everywhere(Stage::new(case, Recovery::Survivor, Commits::Durable));
    }
}

#[test]
fn beginnings() {
    for beginning in Beginning::ALL {
        stores::kill_everywhere(Stage::beginning(beginning));
    }
}

#[test]
fn recoveries_of_the_next_to_open() {
    for case in recovered() {
        stores::kill_the_recovery(Stage::new(case, Recovery::Inherit, Commits::Plain), 5);
    }
}

#[test]
fn recoveries_by_another_process() {
    for case in recovered() {
        stores::kill_the_recovery(Stage::new(case, Recovery::Survivor, Commits::Plain), 5);
    }
}

/// All operations that run from store to store above run from instruction to instruction here.
#[test]
fn instructions_of_a_single_process() {
    let mut scenes: Vec<Box<dyn Fn() -> Stage>> = Vec::new();
    for (commits, one_in) in [(Commits::Plain, 2), (Commits::Durable, 4)] {
        for case in instructions::few(cases(commits), 0, one_in) {
            scenes.push(Box::new(move || Stage::new(case, Recovery::Inherit, commits)));
        }
    }
    for beginning in Beginning::ALL {
        scenes.push(Box::new(move || Stage::beginning(beginning)));
    }
    for case in instructions::few(recovered(), 0, 2) {
        scenes.push(Box::new(move || {
            Stage::new(case, Recovery::Inherit, Commits::Plain).recovery()
        }));
    }
    instructions::kill_in_all(&scenes);
}

#[test]
fn instructions_beside_another_process() {
    let mut scenes: Vec<Box<dyn Fn() -> Stage>> = Vec::new();
    for (commits, one_in) in [(Commits::Plain, 2), (Commits::Durable, 4)] {
        for case in instructions::few(cases(commits), 1, one_in) {
            scenes.push(Box::new(move || Stage::new(case, Recovery::Survivor, commits)));
        }
    }
    for case in instructions::few(recovered(), 1, 2) {
        scenes.push(Box::new(move || {
            Stage::new(case, Recovery::Survivor, Commits::Plain).recovery()
        }));
    }
    instructions::kill_in_all(&scenes);
}

/// The walk detects any other change of the files.
#[test]
fn a_change_by_an_unknown_call_is_seen() {
    process::stay_on_one_processor();
    let mut stage = Stage::new(&SMUGGLER, Recovery::Inherit, Commits::Plain);
    let missed = instructions::walk_all(&mut stage).expect_err("a complaint");
    assert!(missed.contains("changed by no known store or call"), "{missed}");
}
