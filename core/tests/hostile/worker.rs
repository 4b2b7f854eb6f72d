//! A process that runs one case after the other, with limited memory and watched.

use super::{CLOCK, CPU, MEMORY, PROGRESS};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A child process and its current case.
pub(super) struct Worker {
    pub(super) dir: tempfile::TempDir,
    pub(super) child: Child,
    pub(super) seed: u64,
    /// The number of cases in which the checker found damage.
    pub(super) noticed: u64,
    /// Processor time and time at the beginning of the case.
    pub(super) since: (Duration, Instant),
}

impl Worker {
    pub(super) fn start(parent: &Path, seed: u64, step: u64) -> Worker {
        let dir = tempfile::tempdir_in(parent).unwrap();
        std::fs::write(dir.path().join(PROGRESS), [0; 24]).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "child",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
                "-q",
            ])
            .env("PERSIST_HOSTILE_DIR", dir.path())
            .env("PERSIST_SEED", seed.to_string())
            .env("PERSIST_STEP", step.to_string())
            .env("RUST_BACKTRACE", "1")
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let most = MEMORY + 2 * (16 << 20);
        // SAFETY: both calls are allowed between fork and exec, and the structure is a valid one.
        unsafe {
            command.pre_exec(move || {
                // The child runs without an end: it ends with this process, however that ends.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                let limit = libc::rlimit {
                    rlim_cur: most,
                    rlim_max: most,
                };
                match libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap();
        Worker {
            dir,
            child,
            seed,
            noticed: 0,
            since: (Duration::ZERO, Instant::now()),
        }
    }

    /// Processor time that the child has used.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let field = |i: usize| {
            after
                .split_whitespace()
                .nth(i)
                .and_then(|f| f.parse::<u64>().ok())
        };
        // Hundredths of a second, as on all common systems.
        Duration::from_millis(10 * (field(11).unwrap_or(0) + field(12).unwrap_or(0)))
    }

    /// The failure of the child, if there is one.
    pub(super) fn look(&mut self) -> Option<String> {
        let progress = std::fs::read(self.dir.path().join(PROGRESS)).unwrap();
        let word = |at: usize| u64::from_le_bytes(progress[at..at + 8].try_into().unwrap());
        let cpu = self.cpu();
        self.noticed = word(16);
        if word(0) == 1 && word(8) != self.seed {
            self.seed = word(8);
            self.since = (cpu, Instant::now());
        }
        if let Some(status) = self.child.try_wait().unwrap() {
            return Some(format!("{status}"));
        }
        let (cpu, clock) = (cpu.saturating_sub(self.since.0), self.since.1.elapsed());
        let making_bases = word(0) == 0;
        (clock > CLOCK || cpu > CPU && !making_bases).then(|| format!("it hangs: {cpu:?} of processor time"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
