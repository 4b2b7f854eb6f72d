//! The umount helper: this program under the name `umount.persist` or `umount.fuse.persist`, which umount(8) looks for
//! in /sbin. umount(2) returns before the process of the mount has ended. The helper waits until the store is closed,
//! so that the file may be copied or moved immediately afterwards.

use super::exit;
use super::mounting::{self, How};
use crate::kernel::{processes, sys};
use clap::{ArgAction, Parser};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The longest wait for the end of the mount's process.
const MAX_WAIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// True if the program was called as an umount helper.
pub(crate) fn is_called(name: &OsString) -> bool {
    Path::new(name)
        .file_name()
        .and_then(|n| n.to_str())
        .is_some_and(|n| n.starts_with("umount."))
}

/// Unmount a persist store, and wait until its process has closed the store.
#[derive(Parser)]
#[command(name = "umount.persist", version, no_binary_name = true)]
pub(super) struct Cli {
    /// Where the store is mounted.
    mountpoint: PathBuf,
    /// Unmount now, and clean up when the mount is no longer in use.
    #[arg(short)]
    lazy: bool,
    /// Unmount without the mount's process, for example if it is stopped: requests that wait for it end with an error.
    #[arg(short)]
    force: bool,
    /// Do nothing, as `-r` and `-v`: umount(8) passes these.
    #[arg(short = 'n', short_aliases = ['r', 'v'], action = ArgAction::Count)]
    ignored: u8,
    /// The mount namespace and the type of the filesystem: umount(8) passes them.
    #[arg(short = 'N', short_alias = 't', value_name = "NAME")]
    passed: Vec<String>,
}

/// Run the helper.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let (place, how) = match Cli::try_parse_from(args) {
        Ok(cli) if cli.lazy => (cli.mountpoint, How::Lazily),
        Ok(cli) if cli.force => (cli.mountpoint, How::ByForce),
        Ok(cli) => (cli.mountpoint, How::Unused),
        Err(told) => return exit::usage(&told),
    };
    let waits = how == How::Unused;
    // A stopped process does not answer: only an ordinary unmount asks it.
    let server = waits.then(|| server_of(&place)).flatten();
    if let Err(e) = mounting::unmount(&place, how) {
        sys::write_stderr(&format!("umount.persist: {}: {e}\n", place.display()));
        return ExitCode::from(exit::EX_FAIL);
    }
    let begin = Instant::now();
    while server.is_some_and(processes::is_alive) {
        if begin.elapsed() > MAX_WAIT {
            sys::write_stderr(&format!(
                "umount.persist: {} is unmounted, but its process has not ended yet\n",
                place.display()
            ));
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    ExitCode::SUCCESS
}

/// The process that serves the mount.
fn server_of(place: &Path) -> Option<processes::Process> {
    let text = std::fs::read_to_string(place.join(".persist/stat")).ok()?;
    let pid = text.lines().find_map(|l| l.strip_prefix("pid "))?.parse().ok()?;
    processes::process_of(pid)
}
