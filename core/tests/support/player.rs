//! Child processes of a test that play a role; the test stops or kills them. The test program has a test `the_child`,
//! which plays the role (`role`).

use super::process;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROLE: &str = "PERSIST_PLAYER_ROLE";
const STORE: &str = "PERSIST_PLAYER_STORE";

/// In a player's process: its role and the path of the store; it dies with its parent. None in an ordinary run of the
/// tests.
pub fn role() -> Option<(String, PathBuf)> {
    let told = (std::env::var(ROLE).ok()?, std::env::var_os(STORE)?.into());
    process::die_with_parent();
    Some(told)
}

/// A child that plays a role. It is killed at the latest when the test ends.
pub struct Player(pub Child);

impl Player {
    /// Start a player. `fail`: the failpoint at which it stops itself; empty: none.
    pub fn start(role: &str, path: &Path, fail: &str) -> Player {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(STORE, path)
            .stdout(Stdio::null());
        if !fail.is_empty() {
            command
                .env("PERSIST_FAIL", fail)
                .env("PERSIST_FAIL_SIGNAL", "STOP");
        }
        Player(command.spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Stop it.
    pub fn stop(&self) {
        process::signal(self.pid(), libc::SIGSTOP);
        assert!(self.is_stopped());
    }

    /// Wait until it is stopped. Return false if it has ended instead.
    pub fn is_stopped(&self) -> bool {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
            match stat.rsplit(") ").next().and_then(|rest| rest.chars().next()) {
                Some('T' | 't') => return true,
                Some('Z' | 'X') | None => return false,
                _ => {}
            }
            assert!(Instant::now() < until, "the child neither stops nor ends");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Let it continue after a stop.
    pub fn resume(&self) {
        process::signal(self.pid(), libc::SIGCONT);
    }

    /// Kill it, and wait for its end.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Let it continue, and wait until it has ended without an error.
    pub fn ends_well(mut self) {
        self.resume();
        assert!(self.0.wait().unwrap().success(), "the child failed");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
