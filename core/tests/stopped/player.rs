//! Child processes of this test that play a role; the test stops or kills them.

use crate::support::process;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(super) const ROLE: &str = "PERSIST_STOPPED_ROLE";
pub(super) const STORE: &str = "PERSIST_STOPPED_STORE";

/// A child that plays a role. It is killed at the latest when the test ends.
pub(super) struct Player(pub(super) Child);

impl Player {
    pub(super) fn start(role: &str, path: &Path, fail: &str) -> Player {
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

    pub(super) fn stop(&self) {
        process::signal(self.pid(), libc::SIGSTOP);
        assert!(self.is_stopped());
    }

    /// Wait until it is stopped. Returns false if it has ended instead.
    pub(super) fn is_stopped(&self) -> bool {
        let until = Instant::now() + Duration::from_secs(30);
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

    pub(super) fn resume(&self) {
        process::signal(self.pid(), libc::SIGCONT);
    }

    pub(super) fn ends_well(mut self) {
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
