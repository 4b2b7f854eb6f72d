//! A program that closes all descriptors after it has opened a store (as daemons do) and then opens its own files,
//! which get the numbers of the store's descriptors. The store reports it; the foreign files and the store stay intact.

mod common;
mod support;

use common::scratch;
use persist_core::check;
use persist_core::store::{Actor, Durability, Error, In, Key, Options, Result, Store, Value, Wait};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use support::{again, process, worker_task};

const LEN: usize = 18_000;

fn set(s: &Store, key: &str, value: &In<'_>) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(s.root(), &Key::Str(key.as_bytes()), value)
    })
}

fn get(s: &Store, key: &str) -> Option<Value> {
    s.read(&mut Wait::default(), |r| {
        r.get(s.root(), &Key::Str(key.as_bytes()))
    })
    .unwrap()
}

fn options(durability: Durability) -> Options {
    Options {
        durability,
        ..Options::default()
    }
}

fn foreign(path: &Path, i: usize) -> std::path::PathBuf {
    path.with_extension(format!("foreign{i}"))
}

/// Close all descriptors but the standard ones, and open the program's own files in their places.
fn become_a_daemon(path: &Path, files: usize) -> Vec<File> {
    for fd in 3..200 {
        // SAFETY: a plain system call. Nothing in this process but the store uses these descriptors.
        unsafe { libc::close(fd) };
    }
    let made = |i| {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(foreign(path, i)).unwrap();
        file.write_all_at(&[b'f'; LEN], 0).unwrap();
        file
    };
    let files: Vec<File> = (0..files).map(made).collect();
    assert!(files.iter().any(|f| f.as_raw_fd() == 3));
    files
}

fn are_whole(files: &[File], path: &Path, what: &str) {
    for (i, file) in files.iter().enumerate() {
        assert_eq!(file.metadata().unwrap().len(), LEN as u64, "{what}: file {i}");
        let content = std::fs::read(foreign(path, i)).unwrap();
        assert!(content == vec![b'f'; LEN], "{what}: file {i}");
    }
}

/// Assert the error of a store in such a daemon.
fn reports_error(e: &Error, what: &str) {
    let text = e.to_string();
    assert!(
        text.contains("descriptor") && text.contains("open it again"),
        "{what}: {text}"
    );
}

fn grow(store: &Store, what: &str) {
    let mut values = 0;
    let e = loop {
        match set(store, &format!("large {values}"), &In::Bytes(&vec![1; 1 << 20])) {
            Ok(()) => values += 1,
            Err(e) => break e,
        }
        assert!(values < 10_000, "{what}: the store grows without its descriptor");
    };
    reports_error(&e, what);
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn daemon() {
    let Some((path, what)) = worker_task("PERSIST_DESCRIPTORS") else {
        return;
    };
    let (durability, end) = what.split_once(' ').unwrap();
    let durability = match durability {
        "commit" => Durability::Commit,
        _ => Durability::Checkpoint,
    };
    let store = Store::open(&path, &options(durability)).unwrap();
    set(&store, "before", &In::Int(1)).unwrap();
    let files = become_a_daemon(&path, 40);
    // A change that fits is made in the mappings, or refused because it could not be made durable.
    match set(&store, "after", &In::Int(2)) {
        Ok(()) => {}
        Err(e) => reports_error(&e, "after"),
    }
    assert_eq!(get(&store, "after"), Some(Value::Int(2)));
    reports_error(&store.sync().unwrap_err(), "sync");
    reports_error(&store.snapshot("s").unwrap_err(), "snapshot");
    grow(&store, "growing");
    are_whole(&files, &path, "used");
    let mut out = std::io::stderr();
    writeln!(out, "there").unwrap();
    match end {
        "kill" => {
            std::io::stdin().read_line(&mut String::new()).unwrap();
            process::die()
        }
        "fork" => {
            // The child's hook checks the descriptors too.
            let child = process::fork(|| {
                are_whole(&files, &path, "in a child");
                0
            });
            assert_eq!(process::reap(child), process::Stop::Exited(0));
        }
        "again" => {
            // Opened again beside the old opening, whose descriptor numbers the new one gets.
            drop(files);
            let second = Store::open(&path, &options(durability)).unwrap();
            set(&second, "second", &In::Int(3)).unwrap();
            reports_error(&store.close().unwrap_err(), "closing");
            drop(store);
            set(&second, "second", &In::Int(4)).unwrap();
            second.sync().unwrap();
            grow_well(&second);
            second.close().unwrap();
            return;
        }
        _ => {}
    }
    reports_error(&store.close().unwrap_err(), "closing");
    drop(store);
    are_whole(&files, &path, "closed");
}

fn grow_well(store: &Store) {
    for i in 0..30 {
        set(store, "large", &In::Bytes(&vec![i; 1 << 20])).unwrap();
    }
}

#[test]
fn a_daemon_that_closed_its_descriptors_damages_neither_its_files_nor_the_store() {
    for durability in ["checkpoint", "commit"] {
        for end in ["close", "kill", "fork", "again"] {
            for beside in [false, true] {
                let what = format!("{durability}, {end}, {beside}");
                let dir = scratch();
                let path = dir.path().join("a.store");
                let other = beside.then(|| Store::open(&path, &Options::default()).unwrap());
                let mut daemon = again("daemon")
                    .env("PERSIST_DESCRIPTORS", &path)
                    .env("PERSIST_DO", format!("{durability} {end}"))
                    .stdin(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines();
                let mut said = Vec::new();
                let there = lines.by_ref().map_while(|l| l.ok()).any(|l| {
                    said.push(l.clone());
                    l == "there"
                });
                if !there {
                    panic!("{what}: {said:#?}");
                }
                if let Some(other) = &other {
                    assert_eq!(get(other, "before"), Some(Value::Int(1)), "{what}");
                    assert_eq!(get(other, "after"), Some(Value::Int(2)), "{what}");
                }
                if end == "kill" {
                    // The process is not taken for dead while it lives.
                    if let Some(other) = &other {
                        other.sync().unwrap();
                        assert_eq!(other.stat().unwrap().processes, 2, "{what}");
                    }
                    drop(daemon.stdin.take());
                }
                let rest: Vec<String> = lines.map_while(|l| l.ok()).collect();
                let status = daemon.wait().unwrap();
                assert!(status.success() || end == "kill", "{what}: {said:#?} {rest:#?}");
                if let Some(other) = other {
                    set(&other, "other", &In::Int(5)).unwrap();
                    other.close().unwrap();
                }
                let store = Store::open(&path, &Options::default()).unwrap();
                for (key, n) in [("before", 1), ("after", 2)] {
                    assert_eq!(get(&store, key), Some(Value::Int(n)), "{what}: {key}");
                }
                if end == "again" {
                    assert_eq!(get(&store, "second"), Some(Value::Int(4)), "{what}");
                }
                grow_well(&store);
                store.check().unwrap();
                store.check_pages().unwrap();
                store.close().unwrap();
                drop(store);
                let report = check::check(&path, &mut ()).unwrap();
                assert!(report.is_sound(), "{what}: {:?}", report.findings);
            }
        }
    }
}
