//! Shared code of the kill tests.
//!
//! - `process`, `ptrace`, `window`, `sys`: system calls; the only unsafe code.
//! - `cases`: operations; `plain`: names and numbers.
//! - `image`: a store's files at every instruction of an operation, and how to restore them.
//! - `walk`: an operation from instruction to instruction; only the stores that `image` sees change the files.
//! - `player`: child processes that play a role, and are stopped or killed.
//! - `state`: the content of a store, and whether all of it is sound.
#![allow(dead_code, unreachable_pub, unused_imports)] // Each test uses its part.

pub mod cases;
pub mod image;
pub mod plain;
pub mod player;
pub mod process;
pub mod ptrace;
pub mod state;
pub mod sys;
pub mod walk;
pub mod window;

use std::path::PathBuf;
use std::process::Command;

/// Set for the long form of these tests: every state, many more real kills.
pub fn torture() -> bool {
    std::env::var_os("PERSIST_TORTURE").is_some_and(|v| v != "0")
}

/// A directory in memory, if possible: these tests do not depend on disks.
pub fn memory_dir() -> tempfile::TempDir {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir()
        && let Ok(dir) = tempfile::tempdir_in(&shm)
    {
        return dir;
    }
    tempfile::tempdir().expect("a temporary directory")
}

/// In a process that another test has started (`again`): the path in this variable and the value of `PERSIST_DO`. The
/// process dies with its parent. None in an ordinary run of the tests.
pub fn worker_task(path: &str) -> Option<(PathBuf, String)> {
    let told = (std::env::var_os(path)?.into(), std::env::var("PERSIST_DO").ok()?);
    process::die_with_parent();
    Some(told)
}

/// This test program, to run its (ignored) test `name` in a separate process, on its main thread.
pub fn again(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([
        "--exact",
        name,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
        "-q",
    ]);
    command.env("RUST_BACKTRACE", "0").env("LD_BIND_NOW", "1");
    // A repeated instruction stores byte by byte, with one stop for each.
    command.env(
        "GLIBC_TUNABLES",
        "glibc.cpu.x86_rep_stosb_threshold=100000000:glibc.cpu.x86_rep_movsb_threshold=100000000",
    );
    command.stdout(std::process::Stdio::null());
    command
}
