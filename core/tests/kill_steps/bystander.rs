//! A process that has read the store before the operation began, waits while another is killed in it, and continues.
//! Unlike a process that opens the store afterwards, it meets the state of the dead process in its own operations, with
//! its earlier slot, cached lookups and pins.
//!
//! It writes a line when it waits, and continues when it receives one. Then it reports the state that it sees and the
//! state after a collection, each as a number, and how long it was delayed, in microseconds.

use crate::support::state::State;
use persist_core::store::{Actor, Key, LockMode, LockTarget, Result, Store, Wait};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The prefix of its lines: the test program prints others.
const SIGN: &str = "bystander: ";

/// A state as a number.
pub(super) fn number(state: &State) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{state:?}").as_bytes())
}

/// Run the process. It leaves the store unchanged.
pub(super) fn run_bystander(store: &Store) {
    State::of(store);
    let mtime = store
        .read(&mut Wait::default(), |r| r.mtime(store.root()))
        .expect("read");
    say("here");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
    let begun = Instant::now();
    use_store(store, mtime).expect("go on");
    let held_up = begun.elapsed();
    let seen = number(&State::of(store));
    // A dead process that no operation met is recovered at a checkpoint at the latest, which releases its pins.
    store.sync().expect("sync");
    store.gc().expect("collect");
    let collected = number(&State::of(store));
    store.close().expect("close");
    say(&format!("{seen} {collected} {}", held_up.as_micros()));
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{SIGN}{text}")
        .and_then(|()| out.flush())
        .expect("say");
}

/// A change, a lock, a transaction.
fn use_store(s: &Store, mtime: u64) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set_mtime(s.root(), mtime)
    })?;
    let b = LockTarget {
        obj: s.root(),
        key: Some(Key::Str(b"b")),
    };
    s.lock(Actor::Thread, b, LockMode::Exclusive, &mut Wait::default())?;
    s.unlock(Actor::Thread, b)?;
    // This must not allocate memory: `State` counts what a rolled back transaction leaves in free pages.
    s.begin(&mut Wait::default())?;
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set_mtime(s.root(), mtime + 1)
    })?;
    s.rollback()
}

/// A waiting bystander.
pub(super) struct Bystander {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// The findings of a bystander.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) seen: u64,
    pub(super) collected: u64,
    pub(super) held_up: Duration,
}

impl Bystander {
    /// Run the command and wait until the bystander waits.
    pub(super) fn start(mut command: Command) -> Bystander {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a bystander");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        let mut it = Bystander { child, lines };
        it.line().expect("a bystander stands by");
        it
    }

    fn line(&mut self) -> Option<String> {
        let mut lines = self.lines.by_ref().lines().map_while(std::result::Result::ok);
        lines.find_map(|line| line.strip_prefix(SIGN).map(str::to_owned))
    }

    /// Let it continue. None: it failed.
    pub(super) fn resume(mut self) -> Option<Found> {
        let mut to = self.child.stdin.take().expect("its input");
        writeln!(to, "go on").ok()?;
        let line = self.line()?;
        let ended = self.child.wait().expect("its end");
        let mut numbers = line.split(' ').map(|n| n.parse().ok());
        let mut next = || numbers.next().flatten();
        let found = Found {
            seen: next()?,
            collected: next()?,
            held_up: Duration::from_micros(next()?),
        };
        ended.success().then_some(found)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
