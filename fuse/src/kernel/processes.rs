//! What the kernel says about the process behind a request: which command it belongs to, who
//! started it, and whether a signal waits for it. Everything here may fail (the process may be gone,
//! or in a namespace this one does not see): then the answer is "unknown", never an error.

use std::fs;

/// A process, safe against its number being used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: u32,
    /// When it was started, in clock ticks since boot.
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

fn identify(pid: u32) -> Option<Process> {
    Some(Process {
        pid,
        start: stat_field(pid, 22)?.parse().ok()?,
    })
}

/// Field `n` (counted from 1, at least 4) of `/proc/N/stat`.
fn stat_field(pid: u32, n: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything: count from behind it.
    let rest = &stat[stat.rfind(')')? + 1..];
    rest.split_ascii_whitespace().nth(n - 3).map(str::to_owned)
}

/// The process that started this one.
pub(crate) fn parent_of(process: Process) -> Option<Process> {
    let parent: u32 = stat_field(process.pid, 4)?.parse().ok()?;
    if parent <= 1 { None } else { identify(parent) }
}

/// True while that very process exists.
pub(crate) fn is_alive(process: Process) -> bool {
    identify(process.pid) == Some(process)
}

/// True if a signal waits for the thread that it neither blocks nor ignores: a request that waits
/// on its behalf should end, since the kernel lets it end only then.
pub(crate) fn has_signal(tid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{tid}/status")) else {
        // Gone altogether: nobody waits for the answer.
        return tid != 0;
    };
    let mask = |name| {
        field(&status, name)
            .and_then(|v| u64::from_str_radix(v, 16).ok())
            .unwrap_or(0)
    };
    (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk") & !mask("SigIgn") != 0
}

/// Whether the thread's process has a descriptor of this inode open for writing. Asks the filesystem nothing (this is
/// called while it answers a request): links are read, not followed.
pub(crate) fn has_open(tid: u32, ino: u64) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{tid}/fd")) else {
        return false;
    };
    let line = format!("ino:\t{ino}");
    entries.take(4096).flatten().any(|entry| {
        // Most descriptors are pipes, sockets and terminals.
        let a_file = fs::read_link(entry.path())
            .is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"/") && !to.starts_with("/dev"));
        a_file && {
            let info = format!("/proc/{tid}/fdinfo/{}", entry.file_name().to_string_lossy());
            fs::read_to_string(info).is_ok_and(|text| text.lines().any(|l| l == line) && may_write(&text))
        }
    })
}

/// Whether the flags in a descriptor's `fdinfo` are those of a file open for writing.
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
        assert!(me.and_then(parent_of).is_some());
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
        // On disk, since memory files have no path.
        let file = tempfile::NamedTempFile::new()?;
        let ino = file.as_file().metadata()?.ino();
        assert!(has_open(std::process::id(), ino));
        let (file, path) = file.into_parts();
        drop(file);
        let reader = std::fs::File::open(&path)?;
        assert!(!has_open(std::process::id(), ino));
        drop(reader);
        Ok(())
    }
}
