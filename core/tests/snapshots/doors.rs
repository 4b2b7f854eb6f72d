//! Snapshots for users without write permission, and from the shell.

use super::common::scratch;
use super::support::{again, process, sys};
use super::{forget_sidecar, get, nothing_lost, options, set};
use persist_core::Error;
use persist_core::store::{In, Options, Store};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The child has read permission only: it opens the store or a snapshot, reports the result, and stays until it is
/// killed.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn without_rights() {
    let Ok(path) = std::env::var("PERSIST_STORE") else {
        return;
    };
    // Here, and not in the process that starts it: a fork there would have all stores of the other tests open until its
    // exec.
    sys::become_unprivileged();
    process::die_with_parent();
    let snapshot = std::env::var("PERSIST_SNAPSHOT").ok();
    let store = Store::open(
        &path,
        &Options {
            read_only: true,
            lock_timeout: Duration::from_millis(300),
            snapshot,
            ..options()
        },
    );
    match store {
        Ok(store) => {
            let n = get(&store, "a");
            store.check_pages().unwrap();
            println!("answer: {n:?} frozen {}", store.is_frozen());
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        Err(e) => println!("answer: {e}"),
    }
}

/// A process that can read the file and write nothing.
fn with_no_rights(path: &Path, snapshot: Option<&str>) -> (Child, String) {
    use std::io::BufRead;
    let mut command = again("doors::without_rights");
    command.env("PERSIST_STORE", path).stdout(Stdio::piped());
    if let Some(name) = snapshot {
        command.env("PERSIST_SNAPSHOT", name);
    }
    let mut child = command.spawn().unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let answer = out
        .lines()
        .map(|l| l.unwrap())
        .find_map(|l| l.split_once("answer: ").map(|(_, a)| a.to_owned()));
    let answer = answer.unwrap_or_else(|| panic!("no answer: {:?}", child.wait()));
    (child, answer)
}

fn end(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// The last checkpoint is shown, with writers and without; no writer is excluded.
#[test]
fn a_file_that_may_only_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = scratch();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = dir.path().join("a.store");
    let open = || {
        Store::open(
            &path,
            &Options {
                lock_timeout: Duration::from_millis(300),
                ..options()
            },
        )
    };
    let store = open().unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    set(&store, "a", &In::Int(1));
    store.snapshot("s").unwrap();
    set(&store, "a", &In::Int(2));
    // With writers.
    let (child, answer) = with_no_rights(&path, None);
    assert_eq!(answer, "Some(Int(1)) frozen true");
    end(child);
    let (child, answer) = with_no_rights(&path, Some("s"));
    assert_eq!(answer, "Some(Int(1)) frozen true");
    let e = store.drop_snapshot("s").unwrap_err();
    assert!(matches!(e, Error::InUse { .. }), "{e}");
    end(child);
    store.close().unwrap();
    drop(store);
    // Without other processes: the last checkpoint, with the earlier sidecar and without.
    for sidecar in [true, false] {
        if !sidecar {
            forget_sidecar(&path);
        }
        let (one, answer) = with_no_rights(&path, None);
        assert_eq!(answer, "Some(Int(2)) frozen true");
        let (two, answer) = with_no_rights(&path, None);
        assert_eq!(answer, "Some(Int(2)) frozen true");
        let store = open().unwrap();
        set(&store, "b", &In::Int(1));
        store.close().unwrap();
        end(one);
        end(two);
    }
    let store = open().unwrap();
    set(&store, "a", &In::Int(3));
    store.sync().unwrap();
    nothing_lost(&store, "at last");
}

/// `persist snapshot`, `snapshots`, `drop-snapshot`, and `--at`.
#[test]
fn from_the_shell() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    set(&store, "a", &In::Int(1));
    let persist = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_persist"))
            .arg(args[0])
            .arg(&path)
            .args(&args[1..])
            .output()
            .unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        match out.status.success() {
            true => Ok(text(&out.stdout)),
            false => Err(text(&out.stderr)),
        }
    };
    assert!(
        persist(&["snapshot", "before"])
            .unwrap()
            .starts_with("checkpoint ")
    );
    set(&store, "a", &In::Int(2));
    // In use or not.
    for open in [true, false] {
        if !open {
            store.close().unwrap();
        }
        assert_eq!(persist(&["get", "a"]).unwrap(), "2\n");
        assert_eq!(persist(&["get", "a", "--at", "before"]).unwrap(), "1\n");
        assert!(persist(&["ls", "--at", "before"]).unwrap().contains('1'));
        let list = persist(&["snapshots"]).unwrap();
        assert_eq!(list.lines().count(), 1);
        assert!(list.starts_with("before ") && list.contains('Z'), "{list}");
        let stat = persist(&["stat", "--at", "before"]).unwrap();
        assert!(stat.contains("entries of the root  1"), "{stat}");
        let e = persist(&["get", "a", "--at", "after"]).unwrap_err();
        assert!(e.contains("persist snapshots"), "{e}");
        assert!(persist(&["snapshot", "before"]).unwrap_err().contains("already"));
        assert!(persist(&["snapshot", "a/b"]).unwrap_err().contains("slash"));
    }
    persist(&["drop-snapshot", "before"]).unwrap();
    assert_eq!(persist(&["snapshots"]).unwrap(), "");
    assert!(
        persist(&["drop-snapshot", "before"])
            .unwrap_err()
            .contains("no snapshot")
    );
}
