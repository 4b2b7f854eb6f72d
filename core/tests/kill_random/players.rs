//! The processes: writers, and one that makes checkpoints and takes snapshots; their logs, and how they are started and
//! followed.

use super::operations::{Model, operation, run, the_list};
use super::support::{again, process};
use super::{FOREVER, WRITERS};
use persist_core::store::{Key, Obj, Options, Store, Wait};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Child;

pub(super) fn options() -> Options {
    Options {
        lock_timeout: FOREVER,
        ..Options::default()
    }
}

pub(super) fn name(writer: usize) -> String {
    format!("writer {writer}")
}

pub(super) fn part(store: &Store, writer: usize) -> Obj {
    let name = name(writer);
    the_list(
        store
            .read(&mut Wait::default(), |r| {
                r.get(store.root(), &Key::Str(name.as_bytes()))
            })
            .expect("read"),
    )
}

pub(super) fn number(var: &str) -> u64 {
    std::env::var(var).ok().and_then(|v| v.parse().ok()).unwrap_or(0)
}

pub(super) fn log_path(store: &Path, player: usize) -> PathBuf {
    store.with_extension(format!("log{player}"))
}

/// A writer, from the operation `PERSIST_FROM` on.
#[test]
#[ignore = "run by the other test, in a process of its own"]
fn writer() {
    let Ok(path) = std::env::var("PERSIST_STORE") else {
        return;
    };
    process::die_with_parent();
    let me = number("PERSIST_WRITER") as usize;
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(log_path(Path::new(&path), me))
        .expect("the log");
    let store = Store::open(&path, &options()).expect("open");
    let part = part(&store, me);
    for n in number("PERSIST_FROM").. {
        log.write_all(format!("B {n}\n").as_bytes()).expect("log");
        run(&store, part, &operation(me, n)).expect("the operation");
        log.write_all(format!("A {n}\n").as_bytes()).expect("log");
    }
}

/// Take a snapshot and drop the oldest; check that all snapshots are whole.
fn take_and_drop_snapshots(store: &Store, n: u64) {
    let all = store.snapshots().expect("list the snapshots");
    if all.len() > 2 {
        store.drop_snapshot(&all[0].name).expect("drop a snapshot");
    }
    let last = all.last().map_or(0, |s| s.checkpoint);
    let taken = store
        .snapshot(&format!("after {last}, in {n}"))
        .expect("take a snapshot");
    let opened = store.open_snapshot(&taken.name).expect("open a snapshot");
    opened.check().expect("a sound snapshot");
    opened.check_pages().expect("a whole snapshot");
    opened.close().expect("close a snapshot");
}

/// Make checkpoints, take and drop snapshots, and open and close the store.
#[test]
#[ignore = "run by the other test, in a process of its own"]
fn checkpointer() {
    let Ok(path) = std::env::var("PERSIST_STORE") else {
        return;
    };
    process::die_with_parent();
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(log_path(Path::new(&path), WRITERS))
        .expect("the log");
    for n in 0u64.. {
        let store = Store::open(&path, &options()).expect("open");
        for i in 0..20 {
            match i % 5 {
                0 => take_and_drop_snapshots(&store, n),
                _ => store.sync().expect("sync"),
            }
            log.write_all(format!("A {n}\n").as_bytes()).expect("log");
        }
        store.close().expect("close");
    }
}

/// The complete lines of a log. A write that a kill interrupts can end at the end of a page of the file: what the rest
/// of a line would record is not recorded.
fn complete(log: &str) -> &str {
    log.rfind('\n').map_or("", |end| &log[..=end])
}

#[test]
fn a_part_of_a_line_does_not_count() {
    assert_eq!(complete("B 6884\nA 6"), "B 6884\n");
    assert_eq!(complete("B 6884\nA 6884\n"), "B 6884\nA 6884\n");
    assert_eq!(complete("A 6"), "");
}

/// A process under test.
pub(super) struct Player {
    pub(super) player: usize,
    pub(super) child: Child,
    /// The failpoint at which it should die, if any.
    pub(super) fail: Option<&'static str>,
    pub(super) log: std::fs::File,
    pub(super) text: String,
    /// For writers: the model after all acknowledged operations, and their number.
    pub(super) model: Model,
    pub(super) done: u64,
}

impl Player {
    pub(super) fn spawn(path: &Path, player: usize, from: u64, fail: Option<(&'static str, u64)>) -> Child {
        let mut command = again(if player < WRITERS {
            "players::writer"
        } else {
            "players::checkpointer"
        });
        command
            .env("PERSIST_STORE", path)
            .env("PERSIST_WRITER", player.to_string());
        command
            .env("PERSIST_FROM", from.to_string())
            .env_remove("PERSIST_FAIL");
        if let Some((step, pass)) = fail {
            command.env("PERSIST_FAIL", format!("{step}={pass}"));
        }
        command.spawn().expect("start")
    }

    /// The entries of its log since it was started.
    pub(super) fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        complete(&self.text).lines()
    }

    /// Read the new entries of its log. Returns true if there was an acknowledgement.
    pub(super) fn progress(&mut self) -> bool {
        let before = self.text.len();
        self.log.read_to_string(&mut self.text).expect("log");
        self.text[before..].contains("A ")
    }

    /// True if it has acknowledged an operation since it was started.
    pub(super) fn has_come(&mut self) -> bool {
        self.progress();
        self.text.contains("A ")
    }

    pub(super) fn is_dead(&mut self) -> bool {
        let ended = self.child.try_wait().expect("wait");
        if let Some(status) = ended {
            assert_eq!(
                status.signal(),
                Some(libc::SIGKILL),
                "process {} ended by itself: {status}",
                self.player
            );
        }
        ended.is_some()
    }
}
