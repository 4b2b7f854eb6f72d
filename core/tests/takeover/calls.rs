//! Every system call of opening, recovery and closing fails once, with the files that a killed process has left: the
//! error is right, and no completed change is lost.
//!
//! The short form tests one error for each call, `PERSIST_TORTURE` each error that the call can have.

use super::{LEFT, found, left_by_the_dead, look};
use crate::common::scratch;
use crate::support::plain;
use crate::support::process::Stop;
use crate::support::ptrace::{Tracee, stop_here};
use crate::support::{again, torture};
use std::path::Path;

/// The exit status of the worker.
const DONE: i32 = 0;
const NOT_OPENED: i32 = 20;
const NOT_CLOSED: i32 = 21;

/// In the worker: open, read, close.
pub(super) fn work(path: &Path) {
    stop_here();
    let status = match plain::try_open(path, 2) {
        Err(e) => {
            eprintln!("{e}");
            NOT_OPENED
        }
        Ok(store) => {
            assert_eq!(found(&store), LEFT);
            match store.close() {
                Ok(()) => DONE,
                Err(e) => {
                    eprintln!("{e}");
                    NOT_CLOSED
                }
            }
        }
    };
    std::process::exit(status);
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
        libc::SYS_fstat | libc::SYS_newfstatat | libc::SYS_statx | libc::SYS_stat | libc::SYS_lstat => {
            &[libc::EIO, libc::ENOMEM, libc::EACCES]
        }
        libc::SYS_fcntl if matches!(arguments[1] as i32, libc::F_OFD_SETLK | libc::F_OFD_GETLK) => {
            &[libc::ENOLCK, libc::EINVAL, libc::EIO]
        }
        libc::SYS_fallocate => &[libc::ENOSPC, libc::EIO, libc::EDQUOT, libc::EFBIG],
        libc::SYS_ftruncate => &[libc::EIO],
        libc::SYS_pwrite64 => &[libc::ENOSPC, libc::EIO],
        libc::SYS_fgetxattr => &[libc::EIO, libc::ENOMEM],
        libc::SYS_fsetxattr => &[libc::ENOSPC, libc::EIO, libc::EDQUOT],
        libc::SYS_unlink | libc::SYS_unlinkat => &[libc::EACCES, libc::EIO],
        libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => &[libc::ENOSPC, libc::EIO],
        libc::SYS_mmap if arguments[3] as i32 & libc::MAP_ANONYMOUS == 0 => &[libc::ENOMEM, libc::EAGAIN],
        libc::SYS_fstatfs => &[libc::EIO],
        libc::SYS_fchmod => &[libc::EPERM, libc::EIO],
        libc::SYS_fdatasync | libc::SYS_fsync => &[libc::EIO, libc::ENOSPC],
        _ => &[],
    }
}

/// Run the worker; of its calls that can fail, the one with number `n` fails with the call's error number `which`.
/// Returns which call that was and how the worker ended; None if it makes fewer calls.
fn with_failure(path: &Path, n: usize, which: usize) -> Option<(i64, i32, Stop)> {
    let mut command = again("worker");
    command.env("PERSIST_STORE", path).env("PERSIST_DO", "calls");
    if !torture() {
        command.stderr(std::process::Stdio::null());
    }
    let mut worker = Tracee::spawn(&mut command, Path::new("/no file is watched"));
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
            return worker
                .answer(Some(error))
                .then(|| (call, error, worker.run_out()));
        }
        count += 1;
        if !worker.answer(None) {
            return None;
        }
    }
    None
}

#[test]
fn every_call_fails_once() {
    let dir = scratch();
    let (mut tried, mut refused, mut unclosed) = (0, 0, 0);
    for n in 0.. {
        let most = if torture() { 8 } else { 1 };
        let mut met = false;
        for which in 0..most {
            let path = left_by_the_dead(dir.path());
            let Some((call, error, stop)) = with_failure(&path, n, which) else {
                break;
            };
            met = true;
            tried += 1;
            let what = format!("call {n} ({call}) fails with {error}: {stop:?}");
            let flush = matches!(call, libc::SYS_fdatasync | libc::SYS_fsync)
                || call == libc::SYS_pwrite64 && error == libc::EIO;
            match stop {
                Stop::Exited(DONE) => {}
                Stop::Exited(NOT_OPENED) => refused += 1,
                Stop::Exited(NOT_CLOSED) => unclosed += 1,
                _ => panic!("{what}"),
            }
            if flush && stop == Stop::Exited(NOT_CLOSED) {
                // The kernel may have dropped pages that it could not write: the closing process got the error.
                plain::open(&path, 5).check().unwrap();
            } else {
                assert_eq!(look(&path), LEFT, "{what}");
            }
            for file in std::fs::read_dir(dir.path()).unwrap() {
                std::fs::remove_file(file.unwrap().path()).unwrap();
            }
        }
        if !met {
            break;
        }
    }
    println!("{tried} failures: {refused} not opened, {unclosed} not closed");
    assert!(tried > 40 && refused > 15, "{tried} {refused}");
}
