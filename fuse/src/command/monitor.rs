//! The monitor: a process of its own that aborts the mount's connection after the death of the daemon.
//!
//! When the last descriptor of `/dev/fuse` is closed, the kernel aborts the connection, and requests that wait for the
//! daemon end. One thread of the daemon may keep that from happening. To let an entry expire, the kernel takes the lock
//! of the directory, which the request of a program may hold, and that request waits for an answer of the daemon. If
//! the daemon is killed at this moment, the thread cannot end, its process keeps the descriptors, and all three wait
//! for ever. So the kernel keeps entries of the mount only while a monitor runs (`fs::known::leases`).
//!
//! 1. The monitor is this program, started again with its own name: a command that kills all processes of the name
//!    `mount.persist` does not kill it. It has none of the daemon's descriptors.
//! 2. The kernel sends it a signal when the daemon's main thread ends (PR_SET_PDEATHSIG). A pipe or a pidfd would not
//!    do: the process has not ended as long as one of its threads waits.
//! 3. It aborts the connection of the mount that it was started for and no other: a descriptor without access (O_PATH)
//!    pins the mount while its number is compared (`sys::mount_number`; the number of the device may be that of another
//!    mount at the same place). The mount stays, and answers ENOTCONN.
//! 4. The abort is written to the control file of the connection, if the control filesystem is mounted (an ordinary
//!    user may do that for an own mount), or it is a forced umount by root, which fails because of the pin.

use crate::kernel::{mounts, sys};
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

/// The name of the process. The kernel shows 15 bytes.
const NAME: &str = "persist-monitor";
/// The signal that reports the daemon's death.
const DEATH: Signal = Signal::SIGUSR1;
/// The answer of a monitor that may abort the connection.
const READY: u8 = b'y';

/// A running monitor. It is ended with this value.
pub(crate) struct Monitor(Child);

impl Monitor {
    /// Start the monitor of a mount that exists. The calling thread must be the main thread, which ends last. Returns
    /// None if nothing here may abort the connection.
    pub(crate) fn start(mountpoint: &Path) -> io::Result<Option<Monitor>> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(NAME)
            .arg(std::process::id().to_string())
            .arg(mountpoint)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        sys::send_at_death(&mut command, DEATH);
        let mut monitor = Monitor(command.spawn()?);
        let mut answer = Vec::new();
        if let Some(mut says) = monitor.0.stdout.take() {
            says.read_to_end(&mut answer)?;
        }
        Ok((answer == [READY]).then_some(monitor))
    }

    /// The monitor's process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Return whether the monitor still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // An error means that the process has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Return true if the program was called as a monitor.
pub(crate) fn is_called(name: &OsString) -> bool {
    name == NAME
}

/// Run the monitor: `persist-monitor DAEMON MOUNTPOINT`.
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let daemon = args.next().and_then(|a| a.to_str()?.parse::<u32>().ok());
    let (Some(daemon), Some(mountpoint)) = (daemon, args.next().map(PathBuf::from)) else {
        sys::write_stderr("persist-monitor is started by mount.persist only\n");
        return ExitCode::FAILURE;
    };
    match watch(daemon, &mountpoint) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn watch(daemon: u32, mountpoint: &Path) -> io::Result<()> {
    sys::block_signal(DEATH)?;
    sys::block_end_signals()?;
    sys::set_process_name(NAME)?;
    sys::new_session();
    std::env::set_current_dir("/")?;
    // A daemon that died before the signal was requested has no leases.
    let Some(mount) = mounts::at(mountpoint)?.filter(|_| std::os::unix::process::parent_id() == daemon)
    else {
        return Ok(());
    };
    let number = number_of(mountpoint)?;
    let control = control_file(mount.device);
    if !sys::is_root() && OpenOptions::new().write(true).open(&control).is_err() {
        return Ok(());
    }
    io::stdout().write_all(&[READY])?;
    io::stdout().flush()?;
    sys::leave_terminal()?;
    sys::wait_for_signal(DEATH)?;
    abort(mountpoint, number, &control)
}

/// The number of the mount at a place.
fn number_of(mountpoint: &Path) -> io::Result<u64> {
    sys::mount_number(sys::pin(mountpoint)?.as_raw_fd())
}

/// The file that aborts the connection of a mount when something is written to it.
fn control_file(device: u64) -> PathBuf {
    PathBuf::from(format!("/sys/fs/fuse/connections/{}/abort", libc::minor(device)))
}

/// Abort the connection of a mount, if it is still there.
fn abort(mountpoint: &Path, number: u64, control: &Path) -> io::Result<()> {
    let pin = sys::pin(mountpoint)?;
    if sys::mount_number(pin.as_raw_fd())? != number {
        return Ok(());
    }
    let written = OpenOptions::new()
        .write(true)
        .open(control)
        .and_then(|mut f| f.write_all(b"1"));
    if written.is_ok() {
        return Ok(());
    }
    match sys::abort_mount(pin.as_raw_fd()) {
        // The pin keeps the mount in use.
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        other => other,
    }
}
