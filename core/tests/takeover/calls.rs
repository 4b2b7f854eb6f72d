//! Every system call of opening, recovery, changing and closing fails once, with the files that a killed process has
//! left: the error is right, and no completed change is lost.
//!
//! Four scenes: the process is the only one, its commits are durable, another process has the store open, or only the
//! closed store is there. The short form tests one error for each call; `PERSIST_TORTURE` then tests the other errors
//! that the call can have, for at most its share of `PERSIST_TORTURE_SECONDS`.

use super::{Image, LEFT, found, get, left_by_a_busy_process, left_by_the_dead, look, open, share};
use crate::common::scratch;
use crate::support::plain::{set, wait_for};
use crate::support::process::Stop;
use crate::support::ptrace::{Tracee, stop_here};
use crate::support::{again, plain, torture};
use persist_core::store::{Durability, Error, Options, Store};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The exit status of the worker: this one if the store did not open, or `OPENED` and what succeeded after that.
const NOT_OPENED: i32 = 20;
const OPENED: i32 = 40;
const CHANGED: i32 = 1;
const CLOSED: i32 = 2;
pub(super) const ALL: i32 = OPENED | CHANGED | CLOSED;

/// The number of changes that the worker makes.
pub(super) const NEW: i64 = 40;

/// Which other processes use the store, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scene {
    Single,
    Durable,
    Beside,
    /// A store that was closed, without any file beside it, of another owner where this process may give files away.
    Fresh,
}

/// In the worker: open, read, change, close.
pub(super) fn work(path: &Path, durable: bool) {
    let options = Options {
        durability: if durable {
            Durability::Commit
        } else {
            Durability::Checkpoint
        },
        lock_timeout: Duration::from_secs(2),
        ..Options::default()
    };
    stop_here();
    let tell = |e: Error| eprintln!("{e}");
    let store = match Store::open(path, &options) {
        Ok(store) => store,
        Err(e) => {
            tell(e);
            std::process::exit(NOT_OPENED);
        }
    };
    assert_eq!(found(&store), LEFT);
    let done = (0..NEW).try_for_each(|n| set(&store, &format!("new {n}"), n));
    let changed = if done.is_ok() { CHANGED } else { 0 };
    let shut = store.close();
    let closed = if shut.is_ok() { CLOSED } else { 0 };
    [done, shut].into_iter().filter_map(Result::err).for_each(tell);
    std::process::exit(OPENED | changed | closed);
}

/// In the other process of `Beside`: have the store open until a file appears.
pub(super) fn be_present(path: &Path) {
    let store = open(path);
    set(&store, "present", 1).unwrap();
    std::fs::write(path.with_extension("present"), "").unwrap();
    wait_for(&path.with_extension("go on"));
    assert_eq!(found(&store), LEFT);
    assert_eq!(get(&store, "present"), Some(1));
    set(&store, "present", 2).unwrap();
    store.close().unwrap();
}

/// The errors that a call can have, the most likely first; only those that mean a failure.
fn errors(call: i64, arguments: [u64; 4]) -> &'static [i32] {
    match call {
        libc::SYS_openat | libc::SYS_open => &[
            libc::EMFILE,
            libc::EACCES,
            libc::ENFILE,
            libc::EIO,
            libc::ENOMEM,
            libc::ELOOP,
        ],
        libc::SYS_read | libc::SYS_pread64 | libc::SYS_getdents64 => &[libc::EIO],
        // Supported by few filesystems.
        libc::SYS_preadv2 => &[libc::EOPNOTSUPP, libc::EIO, libc::EAGAIN],
        libc::SYS_fstat | libc::SYS_newfstatat | libc::SYS_statx | libc::SYS_stat | libc::SYS_lstat => {
            &[libc::EIO, libc::ENOMEM, libc::EACCES]
        }
        libc::SYS_fcntl if matches!(arguments[1] as i32, libc::F_OFD_SETLK | libc::F_OFD_GETLK) => {
            &[libc::ENOLCK, libc::EINVAL, libc::EIO]
        }
        libc::SYS_fcntl if arguments[1] as i32 == libc::F_DUPFD_CLOEXEC => &[libc::EMFILE],
        libc::SYS_fallocate => &[libc::ENOSPC, libc::EIO, libc::EDQUOT, libc::EFBIG],
        libc::SYS_ftruncate => &[libc::EIO],
        libc::SYS_pwrite64 => &[libc::ENOSPC, libc::EIO],
        libc::SYS_fgetxattr => &[libc::EIO, libc::ENOMEM],
        libc::SYS_fsetxattr => &[libc::ENOSPC, libc::EIO, libc::EDQUOT],
        libc::SYS_fremovexattr => &[libc::EIO, libc::EPERM],
        libc::SYS_unlink | libc::SYS_unlinkat => &[libc::EACCES, libc::EIO],
        libc::SYS_link | libc::SYS_linkat => {
            &[libc::ENOENT, libc::ENOSPC, libc::EPERM, libc::EMLINK, libc::EIO]
        }
        libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => &[libc::ENOSPC, libc::EIO],
        libc::SYS_mmap if arguments[3] as i32 & libc::MAP_ANONYMOUS == 0 => &[libc::ENOMEM, libc::EAGAIN],
        libc::SYS_mmap | libc::SYS_mremap | libc::SYS_brk => &[libc::ENOMEM],
        libc::SYS_madvise => &[libc::EINVAL, libc::EAGAIN],
        libc::SYS_memfd_create => &[libc::EMFILE, libc::ENOSYS],
        libc::SYS_clone | libc::SYS_clone3 => &[libc::EAGAIN, libc::ENOMEM],
        libc::SYS_getrandom => &[libc::ENOSYS, libc::EPERM],
        libc::SYS_ioctl => &[libc::ENOTTY, libc::EIO, libc::EPERM],
        libc::SYS_fstatfs => &[libc::EIO],
        libc::SYS_fchmod | libc::SYS_fchown => &[libc::EPERM, libc::EIO],
        libc::SYS_fdatasync | libc::SYS_fsync | libc::SYS_sync_file_range => &[libc::EIO, libc::ENOSPC],
        _ => &[],
    }
}

/// What a worker did.
struct Outcome {
    call: i64,
    error: i32,
    stop: Stop,
    said: String,
}

/// Run the worker; of its calls that can fail, the one with number `n` fails with the call's error number `which`.
/// Returns None if it makes fewer calls, or the call has fewer errors.
fn with_failure(path: &Path, scene: Scene, n: usize, which: usize) -> Option<Outcome> {
    let mut command = again("worker");
    let task = if scene == Scene::Durable {
        "durable calls"
    } else {
        "calls"
    };
    command.env("PERSIST_STORE", path).env("PERSIST_DO", task);
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stderr(writer);
    let mut worker = Tracee::spawn(&mut command, Path::new("/no file is watched"));
    drop(command);
    let mut count = 0;
    while let Some((call, arguments)) = worker.about_to_call() {
        let all = errors(call, arguments);
        if all.is_empty() {
            if !worker.answer(None) {
                return None;
            }
            continue;
        }
        if count == n {
            let error = *all.get(which)?;
            if !worker.answer(Some(error)) {
                return None;
            }
            let stop = worker.run_out();
            let mut said = String::new();
            reader.read_to_string(&mut said).unwrap();
            return Some(Outcome {
                call,
                error,
                stop,
                said,
            });
        }
        count += 1;
        if !worker.answer(None) {
            return None;
        }
    }
    None
}

/// The process beside, in the hands of a thread: the tracing thread has no other children.
struct Beside {
    sign: PathBuf,
    thread: JoinHandle<bool>,
}

impl Beside {
    fn begin(path: &Path) -> Beside {
        let mut command: Command = again("worker");
        command.env("PERSIST_STORE", path).env("PERSIST_DO", "present");
        command.stdin(Stdio::null());
        let thread = std::thread::spawn(move || command.status().unwrap().success());
        wait_for(&path.with_extension("present"));
        Beside {
            sign: path.with_extension("go on"),
            thread,
        }
    }

    fn end(self, what: &str) {
        std::fs::write(&self.sign, "").unwrap();
        assert!(self.thread.join().unwrap(), "{what}: the process beside");
    }
}

/// What the failure has done is right.
fn judge(path: &Path, scene: Scene, done: &Outcome, what: &str) {
    let Outcome {
        call,
        error,
        stop,
        said,
    } = done;
    let flush = matches!(
        *call,
        libc::SYS_fdatasync | libc::SYS_fsync | libc::SYS_sync_file_range
    ) || *call == libc::SYS_pwrite64 && *error == libc::EIO;
    let status = match stop {
        Stop::Exited(status) if *status == NOT_OPENED || status & !(CHANGED | CLOSED) == OPENED => *status,
        // Without memory for a small allocation a Rust program ends. Its changes stay.
        Stop::Killed(libc::SIGABRT) if said.contains("memory allocation") => OPENED,
        _ => panic!("{what}"),
    };
    if status != ALL && *stop == Stop::Exited(status) {
        assert!(!said.trim().is_empty(), "an error says something: {what}");
        // A full disk and a poisoned store have messages of their own.
        let own = said.contains("no space left") || said.contains("poisoned");
        let named = status != NOT_OPENED || own || said.contains(path.to_str().unwrap());
        assert!(named, "an error of opening names the store: {what}");
        for wrong in ["damaged", "corrupt", "another version", "closed by this program"] {
            assert!(!said.contains(wrong), "no file is wrong: {what}");
        }
    }
    let store = plain::open(path, 60);
    if flush && scene != Scene::Beside && status != ALL && status != NOT_OPENED {
        // The kernel may have dropped pages that it could not write: the process got the error.
        store.check().unwrap();
        return;
    }
    assert_eq!(found(&store), LEFT, "{what}");
    let new: Vec<i64> = (0..NEW).map_while(|n| get(&store, &format!("new {n}"))).collect();
    assert!(new.iter().enumerate().all(|(i, n)| *n == i as i64), "{what}");
    if status != NOT_OPENED && status & CHANGED != 0 {
        assert_eq!(new.len(), NEW as usize, "{what}");
    }
    if scene == Scene::Beside {
        assert_eq!(get(&store, "present"), Some(2), "{what}");
    }
    store.close().unwrap();
}

fn every_call_fails_once(scene: Scene) {
    let dir = scratch();
    let path = match scene {
        Scene::Durable => left_by_a_busy_process(dir.path(), "die in a transaction"),
        _ => left_by_the_dead(dir.path()),
    };
    if scene == Scene::Fresh {
        look(&path);
        for name in entries(dir.path()).iter().filter(|name| **name != path) {
            std::fs::remove_file(name).unwrap();
        }
        let _ = std::os::unix::fs::chown(&path, Some(1234), Some(1234));
    }
    let image = Image::take(&path);
    let names: Vec<PathBuf> = entries(dir.path());
    let (mut tried, mut refused, mut unchanged, mut unclosed) = (0, 0, 0, 0);
    // When the long form began.
    let mut begun = Instant::now();
    let mut calls = usize::MAX;
    for which in 0..if torture() { 8 } else { 1 } {
        if which == 1 {
            begun = Instant::now();
        }
        for n in 0..calls {
            if which > 0 && begun.elapsed() > share(3600) {
                break;
            }
            for file in entries(dir.path()) {
                if !names.contains(&file) {
                    std::fs::remove_file(file).unwrap();
                }
            }
            image.restore();
            let beside = (scene == Scene::Beside).then(|| Beside::begin(&path));
            let done = with_failure(&path, scene, n, which);
            let what = match &done {
                None => "no call".to_owned(),
                Some(o) => {
                    format!(
                        "{scene:?}: call {n} ({}) fails with {}: {:?}: {}",
                        o.call, o.error, o.stop, o.said
                    )
                }
            };
            if let Some(beside) = beside {
                beside.end(&what);
            }
            let Some(done) = done else {
                if which == 0 {
                    calls = n;
                    break;
                }
                continue;
            };
            if torture() {
                println!("{what}");
            }
            judge(&path, scene, &done, &what);
            tried += 1;
            match done.stop {
                Stop::Exited(NOT_OPENED) => refused += 1,
                Stop::Exited(status) => {
                    unchanged += usize::from(status & CHANGED == 0);
                    unclosed += usize::from(status & CLOSED == 0);
                }
                _ => {}
            }
        }
    }
    println!(
        "{scene:?}: {tried} failures: {refused} not opened, {unchanged} not changed, {unclosed} not closed"
    );
    assert!(tried > 40 && refused > 15, "{tried} {refused}");
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    dir.read_dir().unwrap().map(|e| e.unwrap().path()).collect()
}

#[test]
fn every_call_fails_once_of_a_single_process() {
    every_call_fails_once(Scene::Single);
}

#[test]
fn every_call_fails_once_without_files_beside() {
    every_call_fails_once(Scene::Fresh);
}

#[test]
fn every_call_fails_once_with_durable_commits() {
    every_call_fails_once(Scene::Durable);
}

#[test]
fn every_call_fails_once_beside_another_process() {
    every_call_fails_once(Scene::Beside);
}
