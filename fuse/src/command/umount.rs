//! The umount helper: this program under the name `umount.persist` or `umount.fuse.persist`, which
//! umount(8) looks for in /sbin. umount(2) returns before the mount's process has finished; this waits
//! until the store is closed, so that the file may be copied or moved right after.

use super::mounting;
use crate::kernel::{processes, sys};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the end of the mount's process is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// True if the program was called as an umount helper.
pub(crate) fn is_called(name: &OsString) -> bool {
    Path::new(name)
        .file_name()
        .and_then(|n| n.to_str())
        .is_some_and(|n| n.starts_with("umount."))
}

/// `umount.persist MOUNTPOINT [-f] [-l] [-n] [-r] [-v] [-N namespace] [-t type]`
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let (mut place, mut lazily) = (None, false);
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("-l") => lazily = true,
            Some("-N" | "-t") => drop(args.next()),
            Some(flag) if flag.starts_with('-') && flag.len() > 1 => {}
            _ => place = Some(PathBuf::from(arg)),
        }
    }
    let Some(place) = place else {
        sys::say("usage: umount.persist MOUNTPOINT [-l]\n");
        return ExitCode::from(1);
    };
    let server = std::fs::read_to_string(place.join(".persist/stat"))
        .ok()
        .and_then(|text| {
            let pid = text.lines().find_map(|l| l.strip_prefix("pid "))?.parse().ok()?;
            processes::process_of(pid)
        });
    if let Err(e) = mounting::unmount(&place, lazily) {
        sys::say(&format!("umount.persist: {}: {e}\n", place.display()));
        return ExitCode::from(32);
    }
    let begin = Instant::now();
    while !lazily && server.is_some_and(processes::is_alive) {
        if begin.elapsed() > PATIENCE {
            sys::say(&format!(
                "umount.persist: {} is unmounted, but its process has not ended yet\n",
                place.display()
            ));
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    ExitCode::SUCCESS
}
