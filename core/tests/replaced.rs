//! P7 for values that are replaced while checkpoints are made: at each moment the file is below twice the live data
//! plus 64 MiB, though each of two checkpoints on disk and the present state may hold another version of the value.
//!
//! Unlike in `space`, the live data is known here: it is the value.

mod common;

use common::{file_size, open, scratch};
use persist_core::store::{Actor, Durability, In, Key, Store, Wait};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// Bytes of a value: three checkpoint states with two versions each exceed the bound.
const VALUE: u64 = 20 * MIB;
const ROUNDS: u64 = 16;

fn replace(s: &Store, round: u64, bytes: u64) {
    let value = vec![round as u8; bytes as usize];
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(s.root(), &Key::Str(b"m"), &In::Bytes(&value)).map(drop)
    })
    .unwrap();
}

/// The largest file after any of the rounds, compared with the bound for `live` bytes.
fn bounded(name: &str, s: &Store, live: u64, rounds: u64, mut round: impl FnMut(u64)) {
    let mut most = 0;
    for i in 0..rounds {
        round(i);
        most = most.max(file_size(s));
    }
    println!("{name}: {} MiB at most", most / MIB);
    assert!(
        most < 2 * live + 64 * MIB,
        "{name}: {} MiB for {} MiB of live data",
        most / MIB,
        live / MIB
    );
    s.check().unwrap();
    s.check_pages().unwrap();
}

#[test]
fn a_value_beside_timed_checkpoints() {
    for (name, age) in [("1 s", 1000), ("20 ms", 20)] {
        let dir = scratch();
        let s = open(
            dir.path(),
            Durability::Checkpoint,
            Some(Duration::from_millis(age)),
        );
        bounded(name, &s, VALUE, ROUNDS, |i| replace(&s, i, VALUE));
        s.close().unwrap();
    }
}

#[test]
fn a_value_beside_syncs() {
    for (name, every) in [("sync each time", 1), ("sync each third time", 3)] {
        let dir = scratch();
        let s = open(dir.path(), Durability::Checkpoint, None);
        bounded(name, &s, VALUE, ROUNDS, |i| {
            replace(&s, i, VALUE);
            if i % every == 0 {
                s.sync().unwrap();
            }
        });
        s.close().unwrap();
    }
}

#[test]
fn a_value_with_durable_commits() {
    let dir = scratch();
    let s = open(dir.path(), Durability::Commit, Some(Duration::from_secs(1)));
    bounded("commit", &s, VALUE, ROUNDS, |i| replace(&s, i, VALUE));
    s.close().unwrap();
}

#[test]
fn a_value_in_transactions() {
    let dir = scratch();
    let s = open(
        dir.path(),
        Durability::Checkpoint,
        Some(Duration::from_millis(50)),
    );
    bounded("transactions", &s, VALUE, ROUNDS, |i| {
        s.begin(&mut Wait::default()).unwrap();
        replace(&s, i, VALUE);
        s.commit().unwrap();
    });
    s.close().unwrap();
}

/// The other process of `a_value_replaced_by_two_processes`: it replaces the value for each line that it reads.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn the_other_process() {
    let Some(dir) = std::env::var_os("PERSIST_REPLACED_DIR") else {
        return;
    };
    let s = open(
        Path::new(&dir),
        Durability::Checkpoint,
        Some(Duration::from_millis(50)),
    );
    for line in std::io::stdin().lines() {
        let round: u64 = line.unwrap().parse().unwrap();
        replace(&s, round, VALUE);
        println!("\n{DONE}{round}");
    }
    s.close().unwrap();
}

/// The prefix of the other process's answers.
const DONE: &str = "replaced: ";

#[test]
fn a_value_replaced_by_two_processes() {
    let dir = scratch();
    let s = open(
        dir.path(),
        Durability::Checkpoint,
        Some(Duration::from_millis(50)),
    );
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "the_other_process"])
        .env("PERSIST_REPLACED_DIR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut orders = other.stdin.take().unwrap();
    let mut answers = BufReader::new(other.stdout.take().unwrap()).lines();
    bounded("two processes", &s, VALUE, ROUNDS, |i| {
        if i % 2 == 0 {
            return replace(&s, i, VALUE);
        }
        writeln!(orders, "{i}").unwrap();
        let answer = format!("{DONE}{i}");
        assert!(
            answers.any(|line| line.unwrap() == answer),
            "the other process ended"
        );
    });
    drop(orders);
    assert!(other.wait().unwrap().success());
    s.close().unwrap();
}

/// One state on disk and the present one are already twice the live data.
#[test]
fn a_value_larger_than_the_allowance() {
    let dir = scratch();
    let s = open(
        dir.path(),
        Durability::Checkpoint,
        Some(Duration::from_millis(50)),
    );
    bounded("80 MiB", &s, 80 * MIB, 8, |i| replace(&s, i, 80 * MIB));
    s.close().unwrap();
}

/// Many values, each replaced by a change that is just large enough to count.
#[test]
fn many_values_of_moderate_size() {
    const KEYS: i64 = 100;
    let dir = scratch();
    let s = open(
        dir.path(),
        Durability::Checkpoint,
        Some(Duration::from_millis(50)),
    );
    let value = vec![1; 320 << 10];
    bounded("many", &s, KEYS as u64 * value.len() as u64, 30, |_| {
        for key in 0..KEYS {
            s.write(Actor::Thread, &mut Wait::default(), |w| {
                w.set(s.root(), &Key::Int(key), &In::Bytes(&value)).map(drop)
            })
            .unwrap();
        }
    });
    s.close().unwrap();
}

/// New data is not what old checkpoints hold: nothing waits for a checkpoint, and none is made.
#[test]
fn new_data_asks_for_no_room() {
    let dir = scratch();
    let s = open(dir.path(), Durability::None, None);
    for i in 0..12 {
        s.write(Actor::Thread, &mut Wait::default(), |w| {
            w.set(s.root(), &Key::Int(i), &In::Bytes(&vec![1; 10 << 20]))
                .map(drop)
        })
        .unwrap();
    }
    assert_eq!(s.stat().unwrap().checkpoint, 1);
    s.close().unwrap();
}

/// Replace the value until the thread has asked for room, without waiting for it.
fn ask_for_room(s: &Store) {
    for round in 0..24 {
        let value = vec![round; 4 * VALUE as usize];
        s.write_without_wait(Actor::Thread, &mut Wait::default(), |w| {
            w.set(s.root(), &Key::Str(b"m"), &In::Bytes(&value)).map(drop)
        })
        .unwrap();
        if s.must_await_durability() {
            return;
        }
        // Checkpoints that hold older versions make the file crowded.
        s.sync().unwrap();
    }
    panic!("no change asked for room");
}

/// A request that nothing waits for, because its thread ended or changed another store, does not count for ever: later
/// changes of the process would take the slow path.
#[test]
fn a_request_for_room_ends_with_its_thread_and_with_the_next_one() {
    let (one, two) = (scratch(), scratch());
    let a = open(one.path(), Durability::Checkpoint, None);
    let b = open(two.path(), Durability::Checkpoint, None);
    // `join` waits until the thread's own data is dropped; the end of the scope alone does not.
    std::thread::scope(|s| s.spawn(|| ask_for_room(&a)).join().unwrap());
    assert!(!a.must_await_durability());
    ask_for_room(&a);
    ask_for_room(&b);
    assert!(!a.must_await_durability() && b.must_await_durability());
    b.await_durability(&mut Wait::default()).unwrap();
    assert!(!b.must_await_durability());
    a.close().unwrap();
    b.close().unwrap();
}
