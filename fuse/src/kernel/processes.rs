//! Information from `/proc` about processes: their ids, whether they live, and whether a signal is pending. Each
//! query may fail (the process may have ended, or belong to a namespace that is invisible here). A failed query
//! returns "unknown", not an error.

use std::fs;

/// The descriptors that every shell can redirect: those of one digit, and 10 and the next, in which shells save others.
const REDIRECTED: u32 = 20;

/// A process. The start time detects a reused number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: u32,
    /// Its start time, in clock ticks since boot.
    pub(crate) start: u64,
}

/// The value of a line of `/proc/N/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// The process a thread belongs to.
pub(crate) fn process_of(tid: u32) -> Option<Process> {
    if tid == 0 {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    identify(field(&status, "Tgid")?.parse().ok()?)
}

/// The name of a process's command, without control characters.
pub(crate) fn command(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().escape_debug().to_string())
}

fn identify(pid: u32) -> Option<Process> {
    Some(Process {
        pid,
        start: stat_field(pid, 22)?.parse().ok()?,
    })
}

/// Field `n` (counted from 1, at least 3) of `/proc/N/stat`.
fn stat_field(pid: u32, n: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may contain any byte: count the fields after it.
    let rest = &stat[stat.rfind(')')? + 1..];
    rest.split_ascii_whitespace().nth(n - 3).map(str::to_owned)
}

/// What a thread does at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doing {
    /// It waits for something, or is stopped.
    Waits,
    /// It runs or wants to, and has run for this long since it began, in nanoseconds.
    Runs(u64),
    /// It has ended, or belongs to a namespace that is invisible here, or `/proc` does not tell.
    Unknown,
}

/// Return what a thread does.
pub(crate) fn doing(tid: u32) -> Doing {
    let running_for = || {
        let text = fs::read_to_string(format!("/proc/{tid}/schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok()
    };
    match stat_field(tid, 3).as_deref() {
        Some("R") => running_for().map_or(Doing::Unknown, Doing::Runs),
        Some(_) => Doing::Waits,
        None => Doing::Unknown,
    }
}

/// True while this process exists (and not another of the same number).
pub(crate) fn is_alive(process: Process) -> bool {
    identify(process.pid) == Some(process)
}

/// True if the thread has a pending signal that it neither blocks nor ignores. A request that waits for this thread
/// should end, because the signal can end the thread only after the answer.
pub(crate) fn has_signal(tid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{tid}/status")) else {
        // The thread has ended: it does not wait for the answer.
        return tid != 0;
    };
    let mask = |name| {
        field(&status, name)
            .and_then(|v| u64::from_str_radix(v, 16).ok())
            .unwrap_or(0)
    };
    (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk") & !mask("SigIgn") != 0
}

/// True if one of the thread's descriptors that a shell redirects has this inode open for writing. The cost does not
/// depend on the number of descriptors. Does not access the mounted filesystem (this runs while the mount answers a
/// request): links are read, not followed.
pub(crate) fn redirects_to(tid: u32, ino: u64) -> bool {
    let line = format!("ino:\t{ino}");
    (0..REDIRECTED).any(|descriptor| {
        // Most of these descriptors are pipes and terminals.
        let a_file = fs::read_link(format!("/proc/{tid}/fd/{descriptor}"))
            .is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"/") && !to.starts_with("/dev"));
        a_file
            && fs::read_to_string(format!("/proc/{tid}/fdinfo/{descriptor}"))
                .is_ok_and(|text| text.lines().any(|l| l == line) && may_write(&text))
    })
}

/// True if the flags in a descriptor's `fdinfo` are those of a file open for writing.
fn may_write(info: &str) -> bool {
    let flags = field(info, "flags").and_then(|v| i32::from_str_radix(v, 8).ok());
    flags.is_none_or(|f| f & libc::O_ACCMODE != libc::O_RDONLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let me = process_of(std::process::id());
        assert_eq!(me.map(|p| p.pid), Some(std::process::id()));
        assert!(me.is_some_and(is_alive));
        assert!(!has_signal(std::process::id()));
        assert!(!is_alive(Process {
            pid: std::process::id(),
            start: 1
        }));
        assert_eq!(process_of(0), None);
    }

    #[test]
    fn descriptors() -> std::io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        use std::process::{Command, Stdio};
        // The file is on disk, since memory files have no path.
        let file = tempfile::NamedTempFile::new()?;
        let ino = file.as_file().metadata()?.ino();
        let sleeper = |output: Stdio| Command::new("sleep").arg("1000").stdout(output).spawn();
        let mut writer = sleeper(file.reopen()?.into())?;
        let mut reader = sleeper(std::fs::File::open(file.path())?.into())?;
        let found = [writer.id(), reader.id()].map(|tid| {
            let open = redirects_to(tid, ino);
            // The other descriptors of this process are inherited by neither.
            (open, redirects_to(tid, ino + 1))
        });
        writer.kill()?;
        reader.kill()?;
        writer.wait()?;
        reader.wait()?;
        let file = std::fs::OpenOptions::new().write(true).open(file.path())?;
        assert!(!redirects_to(writer.id(), ino));
        drop(file);
        assert_eq!(found, [(true, false), (false, false)]);
        Ok(())
    }
}
