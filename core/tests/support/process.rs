//! Processes: forks, signals, kills and exit states, under safe functions.

use std::io;

/// Why a traced process is stopped, or how it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Stopped with this signal.
    Signal(i32),
    /// Ended with this status.
    Exited(i32),
    /// Killed by this signal.
    Killed(i32),
    /// Stopped in the call that has just created a process.
    Forked,
}

impl Stop {
    /// True if the process still exists.
    pub(super) fn exists(self) -> bool {
        matches!(self, Stop::Signal(_) | Stop::Forked)
    }
}

pub(super) fn check(r: i64, what: &str) {
    assert!(r >= 0, "{what}: {}", io::Error::last_os_error());
}

/// Wait for a child, a traced thread, or (0) any of the calling thread's. Returns which it was, and its state.
pub(super) fn wait_for(which: i32) -> (i32, Stop) {
    let mut status = 0;
    loop {
        let (which, flags) = if which == 0 {
            (-1, libc::__WALL | libc::__WNOTHREAD)
        } else {
            (which, libc::__WALL)
        };
        // SAFETY: `status` is a writable int.
        let r = unsafe { libc::waitpid(which, &raw mut status, flags) };
        if r > 0 {
            let stop = if status >> 8 == libc::SIGTRAP | libc::PTRACE_EVENT_FORK << 8 {
                Stop::Forked
            } else if libc::WIFSTOPPED(status) {
                Stop::Signal(libc::WSTOPSIG(status))
            } else if libc::WIFSIGNALED(status) {
                Stop::Killed(libc::WTERMSIG(status))
            } else {
                Stop::Exited(libc::WEXITSTATUS(status))
            };
            return (r, stop);
        }
        assert!(
            io::Error::last_os_error().kind() == io::ErrorKind::Interrupted,
            "waitpid: {}",
            io::Error::last_os_error()
        );
    }
}

/// Let the calling process end with the thread that started it: an aborted test leaves no process behind.
pub fn die_with_parent() {
    // SAFETY: a plain system call.
    check(
        i64::from(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }),
        "PR_SET_PDEATHSIG",
    );
}

/// Sends a signal.
pub fn signal(pid: i32, signal: i32) {
    // SAFETY: a plain system call.
    check(i64::from(unsafe { libc::kill(pid, signal) }), "kill");
}

/// Kills the calling process, as from outside.
pub fn die() -> ! {
    signal(std::process::id() as i32, libc::SIGKILL);
    unreachable!("killed")
}

/// Stops the calling process at this place.
pub fn stop_here() {
    // SAFETY: a plain system call. The signal goes to the calling thread, which stops here.
    check(i64::from(unsafe { libc::raise(libc::SIGSTOP) }), "raise");
}

/// Fork. The child runs `f` and ends without any cleanup. Returns the child's pid.
pub fn fork(f: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child runs `f` and `_exit`s. glibc makes its allocator usable in a child of a threaded
    // process, and `f` takes no lock that another thread of the parent could have held.
    match unsafe { libc::fork() } {
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(101);
            // SAFETY: ends the child.
            unsafe { libc::_exit(code) }
        }
        pid => {
            check(i64::from(pid), "fork");
            pid
        }
    }
}

/// Waits for a forked child.
pub fn reap(pid: i32) -> Stop {
    wait_for(pid).1
}

/// True if the process exists and has not ended.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|s| s != 'Z' && s != 'X')
}

/// Keep the calling thread, and its children, on one processor: during stepping, only one of them runs at a time.
pub fn stay_on_one_processor() {
    // SAFETY: `set` is plain data of the right size; both calls only read or write it.
    unsafe {
        let cpu = libc::sched_getcpu().max(0) as usize;
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// True if a file is under one of the watched names. A file that was created without a name, and mapped, keeps
/// `/directory/#NUMBER` as its path.
pub fn is_named(ino: &str, watched: &str) -> bool {
    let all = std::path::Path::new(watched)
        .parent()
        .expect("a directory")
        .read_dir()
        .expect("a directory");
    all.filter_map(Result::ok).any(|entry| {
        let path = entry.path();
        path.to_str().is_some_and(|p| p.starts_with(watched))
            && std::os::unix::fs::DirEntryExt::ino(&entry).to_string() == ino
    })
}
