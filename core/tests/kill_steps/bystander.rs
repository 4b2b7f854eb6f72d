//! A process that has read the store before the operation began, stands by while another is killed in it, and
//! goes on: unlike one that opens the store then, it meets what the dead has left in its own operations, with slot,
//! notes and pins of before.
//!
//! It says a line when it stands by, goes on when it gets one, and says what it found: the state it sees, and the
//! state after a collection, each as a number; and how long it was held up, in microseconds.

use crate::support::state::State;
use persist_core::store::{Actor, Key, LockMode, LockTarget, Result, Store, Wait};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// What begins its lines: the test program has others.
const SIGN: &str = "bystander: ";

/// A state as a number.
pub(super) fn number(state: &State) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{state:?}").as_bytes())
}

/// What the process does. It leaves the store as it was.
pub(super) fn stand_by(store: &Store) {
    State::of(store);
    let mtime = store
        .read(&mut Wait::default(), |r| r.mtime(store.root()))
        .expect("read");
    say("here");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
    let begun = Instant::now();
    go_on(store, mtime).expect("go on");
    let held_up = begun.elapsed();
    let seen = number(&State::of(store));
    // Whom nobody met is buried at a checkpoint at the latest; only then its pins go.
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
fn go_on(s: &Store, mtime: u64) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set_mtime(s.root(), mtime)
    })?;
    let b = LockTarget {
        obj: s.root(),
        key: Some(Key::Str(b"b")),
    };
    s.lock(Actor::Thread, b, LockMode::Exclusive, &mut Wait::default())?;
    s.unlock(Actor::Thread, b)?;
    // Nothing that takes memory: what a rolled back transaction leaves in pages that are free again, `State` counts.
    s.begin(&mut Wait::default())?;
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set_mtime(s.root(), mtime + 1)
    })?;
    s.rollback()
}

/// Such a process, standing by.
pub(super) struct Bystander {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// What it found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) seen: u64,
    pub(super) collected: u64,
    pub(super) held_up: Duration,
}

impl Bystander {
    /// Runs the command and waits until it stands by.
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

    /// Lets it go on. None: it failed.
    pub(super) fn go_on(mut self) -> Option<Found> {
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
