//! Users: a user with read permission does not delay writers, and sees checkpoints. Files beside a store are for its
//! writers. Privileges that a process gives up after opening are not needed later.
//!
//! `places`: filesystems and directories. `successors`: files that replace others.

#[path = "../common/mod.rs"]
mod common;
mod places;
mod successors;
#[path = "../support/mod.rs"]
mod support;

use common::{read_only, scratch};
use persist_core::store::{Actor, Error, In, Key, Options, Store, Value, Wait};
use std::fs::{File, OpenOptions, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::plain::{get, open, set, try_open, wait_for};
use support::{again, process, sys};

const STRANGER: u32 = 4242;

/// Return whether this process is root; if not, report that the calling test is not tried.
fn is_root() -> bool {
    // SAFETY: a plain system call.
    let root = unsafe { libc::geteuid() == 0 };
    if !root {
        println!("not tried: access by another user: only root can become one");
    }
    root
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn beside(path: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", path.display()))
}

/// The same program in a directory that all users can reach: the build directory may be private.
fn for_all_users(command: &Command, dir: &Path) -> Command {
    let copy = dir.join("program");
    std::fs::copy(command.get_program(), &copy).unwrap();
    mode(&copy, 0o755);
    let mut reachable = Command::new(copy);
    reachable.args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            reachable.env(name, value);
        }
    }
    reachable
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = scratch();
    mode(dir.path(), 0o755);
    let path = dir.path().join("a.store");
    (dir, path)
}

/// Lock all bytes of a file, as far as a read-only descriptor allows it.
fn lock_everything(file: &File) -> i32 {
    let l = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: `l` is valid for the call.
    unsafe {
        libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB);
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const l)
    }
}

/// Do what `PERSIST_DO` names with the store `PERSIST_STORE`.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn neighbour() {
    let (Some(path), Ok(task)) = (std::env::var_os("PERSIST_STORE"), std::env::var("PERSIST_DO")) else {
        return;
    };
    let path = PathBuf::from(path);
    process::die_with_parent();
    match task.as_str() {
        // A hostile user with read permission only.
        "lock" => {
            sys::become_unprivileged();
            process::die_with_parent();
            let files: Vec<File> = ["", "-shm", "-lock", "-wal"]
                .iter()
                .filter_map(|end| File::open(beside(&path, end)).ok())
                .collect();
            assert_eq!(files.len(), 1, "a file beside the store can be opened");
            assert_eq!(lock_everything(&files[0]), 0);
            println!("answer: locked");
            std::thread::sleep(Duration::from_secs(600));
        }
        "follow" => {
            sys::become_unprivileged();
            process::die_with_parent();
            let store = read_only(&path).unwrap();
            println!("answer: {}", get(&store, "n").unwrap().unwrap());
            for k in 1.. {
                wait_for(&path.with_file_name(format!("look{k}")));
                let n = get(&store, "n").unwrap().unwrap();
                store.check().unwrap();
                println!("answer: {n}");
            }
        }
        "sweep" => {
            sys::become_unprivileged();
            process::die_with_parent();
            let store = read_only(&path).unwrap();
            println!("answer: begun");
            let stop = path.with_file_name("stop");
            let (mut sweeps, mut last) = (0, 0);
            while sweeps < 20 || !stop.exists() {
                // All values of a checkpoint are the same.
                let all: Vec<Option<i64>> = store
                    .read(&mut Wait::default(), |r| {
                        (0..200)
                            .map(
                                |i| match r.get(store.root(), &Key::Str(format!("k{i}").as_bytes()))? {
                                    Some(Value::Int(n)) => Ok(Some(n)),
                                    _ => Ok(None),
                                },
                            )
                            .collect()
                    })
                    .unwrap();
                assert!(all.iter().all(|v| *v == all[0]), "{all:?}");
                assert!(all[0].unwrap() >= last, "{all:?} after {last}");
                last = all[0].unwrap();
                sweeps += 1;
            }
            println!("answer: {last}");
        }
        "die" => {
            let store = open(&path, 20);
            store.begin(&mut Wait::default()).unwrap();
            set(&store, "dead", 1).unwrap();
            process::die();
        }
        "drop" => {
            let store = open(&path, 20);
            set(&store, "n", 1).unwrap();
            sys::become_unprivileged();
            process::die_with_parent();
            File::open(&path).unwrap_err();
            println!("answer: dropped");
            wait_for(&path.with_file_name("look1"));
            set(&store, "n", 2).unwrap();
            assert_eq!(get(&store, "dead").unwrap(), None);
            store.check().unwrap();
            store.sync().unwrap();
            println!("answer: {}", get(&store, "n").unwrap().unwrap());
            store.close().unwrap();
        }
        "write" => {
            let store = open(&path, 20);
            set(&store, "n", 3).unwrap();
            store.close().unwrap();
            println!("answer: written");
        }
        other => panic!("{other}"),
    }
}

struct Neighbour {
    child: Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Neighbour {
    fn new(path: &Path, task: &str) -> Neighbour {
        use std::io::BufRead;
        let mut child = again("neighbour")
            .env("PERSIST_STORE", path)
            .env("PERSIST_DO", task)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        Neighbour { child, lines }
    }

    fn answer(&mut self) -> String {
        let found = self
            .lines
            .by_ref()
            .map(|l| l.unwrap())
            .find_map(|l| l.split_once("answer: ").map(|(_, a)| a.to_owned()));
        found.unwrap_or_else(|| panic!("no answer: {:?}", self.child.wait()))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A store, of which a user with read permission has locked all bytes.
fn locked_by_a_reader() -> (tempfile::TempDir, PathBuf, Neighbour) {
    let (dir, path) = place();
    open(&path, 20).close().unwrap();
    mode(&path, 0o644);
    let mut hostile = Neighbour::new(&path, "lock");
    assert_eq!(hostile.answer(), "locked");
    (dir, path, hostile)
}

/// A user with read permission locks all bytes: opening, registering, recovering, closing and reopening still work.
#[test]
fn a_reader_that_locks_everything_delays_no_writer() {
    if !is_root() {
        return; // Only root can become another user.
    }
    let (_dir, path, _hostile) = locked_by_a_reader();
    for round in 0..3 {
        let begun = Instant::now();
        let one = open(&path, 20);
        set(&one, "n", round).unwrap();
        let mut dead = Neighbour::new(&path, "die");
        let _ = dead.child.wait();
        let two = open(&path, 20);
        set(&two, "m", round).unwrap();
        assert_eq!(get(&two, "dead").unwrap(), None);
        one.sync().unwrap();
        assert_eq!(one.stat().unwrap().processes, 2);
        one.close().unwrap();
        two.close().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
    // The lock file is gone, and no mark can be set: the sidecar shows that the store is in use.
    let one = open(&path, 20);
    std::fs::remove_file(beside(&path, "-lock")).unwrap();
    let e = try_open(&path, 1).unwrap_err().to_string();
    assert!(e.contains("lock file was removed"), "{e}");
    one.close().unwrap();
}

#[test]
fn a_removed_lock_file_does_not_split_the_users() {
    let (_dir, path) = place();
    let one = open(&path, 20);
    std::fs::remove_file(beside(&path, "-lock")).unwrap();
    let e = try_open(&path, 1).unwrap_err().to_string();
    assert!(e.contains("removed while they use it"), "{e}");
    set(&one, "n", 1).unwrap();
    one.close().unwrap();
    drop(one);
    assert_eq!(get(&open(&path, 20), "n").unwrap(), Some(1));
}

/// A user with read permission sees the last checkpoint while others write, and each later one.
#[test]
fn a_reader_follows_the_newest_checkpoint() {
    if !is_root() {
        return;
    }
    let (dir, path) = place();
    let store = open(&path, 20);
    mode(&path, 0o644);
    set(&store, "n", 0).unwrap();
    store.sync().unwrap();
    set(&store, "n", 100).unwrap();
    let mut reader = Neighbour::new(&path, "follow");
    assert_eq!(reader.answer(), "0");
    for k in 1..5 {
        set(&store, "n", k).unwrap();
        for _ in 0..k {
            store.sync().unwrap();
            set(&store, "other", k).unwrap();
        }
        set(&store, "n", 100 + k).unwrap();
        File::create(dir.path().join(format!("look{k}"))).unwrap();
        assert_eq!(reader.answer(), k.to_string());
    }
    store.close().unwrap();
}

/// Every full read shows a single checkpoint, whatever is overwritten during it, and with cached copies dropped.
#[test]
fn a_reader_never_sees_two_checkpoints_at_once() {
    if !is_root() {
        return;
    }
    let (dir, path) = place();
    let store = open(&path, 20);
    mode(&path, 0o644);
    let round = |n: i64| {
        store.begin(&mut Wait::default()).unwrap();
        for i in 0..200 {
            set(&store, &format!("k{i}"), n).unwrap();
        }
        let fill = vec![n as u8; 300_000];
        store
            .write(Actor::Thread, &mut Wait::default(), |w| {
                w.set(store.root(), &Key::Str(b"fill"), &In::Bytes(&fill))
            })
            .unwrap();
        store.commit().unwrap();
        store.sync().unwrap();
    };
    round(1);
    let mut reader = Neighbour::new(&path, "sweep");
    assert_eq!(reader.answer(), "begun");
    for n in 2..150 {
        round(n);
    }
    File::create(dir.path().join("stop")).unwrap();
    let last: i64 = reader.answer().parse().unwrap();
    assert!(last >= 1);
    store.close().unwrap();
}

#[test]
fn what_a_dead_process_leaves_is_recovered_without_privileges() {
    if !is_root() {
        return;
    }
    let (dir, path) = place();
    open(&path, 20).close().unwrap();
    mode(&path, 0o600);
    let mut one = Neighbour::new(&path, "drop");
    assert_eq!(one.answer(), "dropped");
    let mut dead = Neighbour::new(&path, "die");
    let _ = dead.child.wait();
    File::create(dir.path().join("look1")).unwrap();
    assert_eq!(one.answer(), "2");
}

/// Owner, group and mode of the files that are created beside a store.
#[test]
fn files_beside_a_store_are_for_its_writers() {
    if !is_root() {
        return;
    }
    for (store, want) in [(0o600, 0o600), (0o644, 0o600), (0o664, 0o660), (0o666, 0o666)] {
        let (_dir, path) = place();
        open(&path, 20).close().unwrap();
        for end in ["-lock", "-shm"] {
            std::fs::remove_file(beside(&path, end)).unwrap();
        }
        mode(&path, store);
        chown(&path, Some(STRANGER), Some(STRANGER)).unwrap();
        let options = Options {
            durability: persist_core::store::Durability::Commit,
            ..Options::default()
        };
        let opened = Store::open(&path, &options).unwrap();
        set(&opened, "n", 1).unwrap();
        for end in ["-lock", "-shm", "-wal"] {
            let data = std::fs::metadata(beside(&path, end)).unwrap();
            assert_eq!(
                (data.uid(), data.gid(), data.mode() & 0o777),
                (STRANGER, STRANGER, want),
                "{end} of {store:o}"
            );
        }
        opened.close().unwrap();
    }
}

/// A file beside the store is not used if it belongs to a user without write permission for the store.
#[test]
fn a_planted_file_is_refused() {
    if !is_root() {
        return;
    }
    for end in ["-lock", "-shm"] {
        let (_dir, path) = place();
        open(&path, 20).close().unwrap();
        mode(&path, 0o644);
        let file = beside(&path, end);
        chown(&file, Some(STRANGER), None).unwrap();
        let e = try_open(&path, 1).unwrap_err();
        assert!(matches!(e, Error::Refused { .. }), "{e}");
        assert!(
            e.to_string().contains("may not write the store") && e.to_string().contains(end),
            "{e}"
        );
        assert!(file.exists());
        // A file of a user with write permission is used.
        mode(&path, 0o666);
        open(&path, 20).close().unwrap();
        std::fs::remove_file(&file).unwrap();
        let other = path.with_file_name("precious");
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, &file).unwrap();
        let e = try_open(&path, 1).unwrap_err().to_string();
        assert!(e.contains("symbolic link"), "{e}");
        assert_eq!(std::fs::read(&other).unwrap(), b"precious");
    }
}

/// Commands that inspect or maintain a store do not turn an empty file into one.
#[test]
fn no_command_makes_a_store_of_an_empty_file() {
    let (dir, path) = place();
    for command in [
        "stat",
        "gc",
        "compact",
        "snapshot",
        "drop-snapshot",
        "snapshots",
        "locks",
        "ls",
        "check",
        "backup",
        "get",
        "rename-class",
        "lock",
        "--repair",
    ] {
        File::create(&path).unwrap();
        let mut run = Command::new(env!("CARGO_BIN_EXE_persist"));
        match command {
            "snapshot" | "drop-snapshot" | "get" => run.arg(command).arg(&path).arg("x"),
            "backup" => run.arg(command).arg(&path).arg(dir.path().join("copy")),
            "rename-class" => run.arg(command).arg(&path).args(["m:A", "m:B"]),
            "lock" => run.arg(command).arg(&path).args(["--", "true"]),
            "--repair" => run
                .arg("check")
                .arg(&path)
                .arg(command)
                .arg(dir.path().join("copy")),
            _ => run.arg(command).arg(&path),
        };
        let out = run.output().unwrap();
        assert!(!out.status.success(), "{command}: {out:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "{command}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{command}");
    }
}

/// A read-only store, in use or not, is checked.
#[test]
fn a_store_that_may_only_be_read_is_checked() {
    if !is_root() {
        return;
    }
    use std::os::unix::process::CommandExt;
    let (_dir, path) = place();
    let store = open(&path, 20);
    for i in 0..1000 {
        set(&store, &format!("k{i}"), i).unwrap();
    }
    mode(&path, 0o444);
    store.sync().unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_persist"));
    let bin = tempfile::tempdir().unwrap();
    mode(bin.path(), 0o755);
    let check = || {
        for_all_users(&program, bin.path())
            .arg("check")
            .arg(&path)
            .uid(STRANGER)
            .gid(STRANGER)
            .output()
            .unwrap()
    };
    let out = check();
    assert!(out.status.success(), "{out:?}");
    set(&store, "n", 1).unwrap();
    store.close().unwrap();
    let out = check();
    assert!(out.status.success(), "{out:?}");
    // Damage is reported as damage.
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    use std::os::unix::fs::FileExt;
    for page in 2..file.metadata().unwrap().len() / 4096 {
        file.write_all_at(&[0x5a; 64], page * 4096 + 100).unwrap();
    }
    assert_eq!(check().status.code(), Some(1));
}
