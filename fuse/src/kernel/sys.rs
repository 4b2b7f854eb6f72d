//! System calls that the standard library does not cover: fork, signals, mount(2), descriptors sent over a socket, the
//! system log. All unsafe code of this package is here and in `lock_flags`.

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::mount::{MntFlags, MsFlags};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use nix::syslog::{Facility, Priority, Severity};
use nix::unistd::{self, ForkResult};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Write to standard error. An error (standard error may be closed) is ignored.
pub(crate) fn write_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Return true for root.
pub(crate) fn is_root() -> bool {
    unistd::geteuid().is_root()
}

/// Return the ids of this process's user and group.
pub(crate) fn ids() -> (u32, u32) {
    (unistd::geteuid().as_raw(), unistd::getegid().as_raw())
}

/// Return the number of a user, given by number or by name. The error describes what is wrong.
pub(crate) fn user_id(text: &str) -> Result<u32, String> {
    let named = || unistd::User::from_name(text).map(|user| user.map(|user| user.uid.as_raw()));
    id_of(text, named, "a user")
}

/// Return the number of a group, given by number or by name. The error describes what is wrong.
pub(crate) fn group_id(text: &str) -> Result<u32, String> {
    let named = || unistd::Group::from_name(text).map(|group| group.map(|group| group.gid.as_raw()));
    id_of(text, named, "a group")
}

fn id_of(text: &str, named: impl Fn() -> nix::Result<Option<u32>>, what: &str) -> Result<u32, String> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    match named() {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(format!("is neither a number nor the name of {what}")),
        Err(e) => Err(format!("cannot be looked up as the name of {what}: {e}")),
    }
}

/// Fork. The process must have only one thread.
pub(crate) fn fork() -> io::Result<ForkResult> {
    // SAFETY: the process has only one thread (the command calls this first), so the child may continue without
    // restrictions.
    Ok(unsafe { unistd::fork() }?)
}

/// Blocks of memory from this size on are the kernel's again when they are freed: more than one request or reply has.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = (1 << 20) + (1 << 18);

/// Let freed memory of tables go back to the kernel. Otherwise the allocator takes the size of the largest block that
/// was freed as the bound from which it does so: tables that grow leave their smaller selves behind.
pub(crate) fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: these set numbers of the allocator, under its lock. It has the bounds that it had if it refuses.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * MAPPED_FROM);
    }
}

/// Keep no descriptor but the standard ones, leave the working directory, and end with the thread that started this
/// process.
pub(crate) fn become_helper() -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // SAFETY: no object of this process owns a descriptor from 3 on: this is the first thing that it does.
    if unsafe { libc::close_range(3, libc::c_uint::MAX, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    std::env::set_current_dir("/")
}

/// Start a new session, without a terminal.
pub(crate) fn new_session() {
    // setsid fails only for a group leader, which a forked child is not.
    let _ = unistd::setsid();
}

/// Replace standard input, output and error by /dev/null.
pub(crate) fn leave_terminal() -> io::Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    unistd::dup2_stdin(&null)?;
    unistd::dup2_stdout(&null)?;
    unistd::dup2_stderr(&null)?;
    Ok(())
}

/// The signals that end a mount.
fn end_signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
        .into_iter()
        .collect()
}

/// Block the signals that end a mount, in this thread and in the threads that it starts.
pub(crate) fn block_end_signals() -> io::Result<()> {
    Ok(end_signals().thread_block()?)
}

/// Block a signal, in this thread and in the threads that it starts.
pub(crate) fn block_signal(signal: Signal) -> io::Result<()> {
    Ok(SigSet::from(signal).thread_block()?)
}

/// Wait for a signal that is blocked.
pub(crate) fn wait_for_signal(signal: Signal) -> io::Result<()> {
    loop {
        match SigSet::from(signal).wait() {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Let the kernel send a signal to the process that a command starts when the calling thread ends.
pub(crate) fn send_at_death(command: &mut Command, signal: Signal) {
    let ask = move || {
        // The process must not die of it before it waits for it.
        block_signal(signal)?;
        Ok(nix::sys::prctl::set_pdeathsig(signal)?)
    };
    // SAFETY: the closure runs between fork and exec. It makes two system calls and nothing else: it takes no lock and
    // allocates nothing.
    unsafe { command.pre_exec(ask) };
}

/// Set the name of this process, as `ps` shows it.
pub(crate) fn set_process_name(name: &str) -> io::Result<()> {
    let name = std::ffi::CString::new(name)?;
    Ok(nix::sys::prctl::set_name(&name)?)
}

/// Open a directory without access to it, so that the mount that it belongs to stays. The filesystem gets no request.
pub(crate) fn pin(place: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(place, flags, Mode::empty())?)
}

/// The number of the mount that a descriptor belongs to. No other mount gets it until the next boot, while the numbers
/// of devices and those in `/proc/self/mountinfo` are used again at once. An error before Linux 6.8.
pub(crate) fn mount_number(fd: RawFd) -> io::Result<u64> {
    /// STATX_MNT_ID_UNIQUE of the kernel.
    const UNIQUE: u32 = 0x4000;
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // The answer does not come from the mount's process, which may have died.
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the path is an empty text that ends with a NUL, and the kernel writes one `statx` to the pointer.
    let result = unsafe { libc::statx(fd, c"".as_ptr(), flags, UNIQUE, found.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all bytes are initialized, with zeros, and the kernel has written the rest. Any bytes are valid numbers.
    let found = unsafe { found.assume_init() };
    if found.stx_mask & UNIQUE == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(found.stx_mnt_id)
}

/// Abort the connection of the mount that a descriptor belongs to, and unmount it if it is not in use.
pub(crate) fn abort_mount(fd: RawFd) -> io::Result<()> {
    let place = format!("/proc/self/fd/{fd}");
    Ok(nix::mount::umount2(place.as_str(), MntFlags::MNT_FORCE)?)
}

/// Wait for one of the signals that end a mount.
pub(crate) fn wait_for_end_signal() {
    let signals = end_signals();
    while signals.wait().is_err() {}
}

/// Wait until a child process has ended. Its state stays, for `Child::wait`.
pub(crate) fn wait_for_end_of_child(pid: u32) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let child = nix::unistd::Pid::from_raw(pid.cast_signed());
    let ended = || waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
    while ended() == Err(nix::errno::Errno::EINTR) {}
}

/// mount(2).
pub(crate) fn mount(source: &OsStr, target: &Path, kind: &str, flags: MsFlags, data: &str) -> io::Result<()> {
    Ok(nix::mount::mount(
        Some(source),
        target,
        Some(kind),
        flags,
        Some(data),
    )?)
}

/// umount2(2).
pub(crate) fn unmount(target: &Path, lazily: bool, by_force: bool) -> io::Result<()> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, lazily);
    flags.set(MntFlags::MNT_FORCE, by_force);
    Ok(nix::mount::umount2(target, flags)?)
}

/// The number of the ioctl of `access`.
pub(crate) const SET_ACCESS: u64 = nix::request_code_write!(b'P', 1, size_of::<u32>());

/// Call the ioctl of `access`.
pub(crate) fn set_access(file: &File, word: u32) -> io::Result<()> {
    // SAFETY: the request's number states that the kernel reads one u32, and the pointer is to one.
    match unsafe { libc::ioctl(file.as_raw_fd(), SET_ACCESS as libc::Ioctl, &raw const word) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Let programs that are started from now on inherit a descriptor.
pub(crate) fn make_inheritable(fd: BorrowedFd<'_>) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

/// Receive one descriptor over a socket.
pub(crate) fn receive_fd(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0u8; 1];
    let mut data = [IoSliceMut::new(&mut byte)];
    let mut control = nix::cmsg_space!(RawFd);
    let message = recvmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &mut data,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let fd = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    match fd {
        // SAFETY: the kernel created this descriptor for this process, and no other object owns it.
        Some(fd) if message.bytes > 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::from_raw_os_error(libc::EPROTO)),
    }
}

/// Write a line to the system log.
pub(crate) fn syslog(severity: Severity, line: &str) {
    // The line contains no NUL, so this cannot fail.
    let _ = nix::syslog::syslog(
        Priority::new(severity, Facility::LOG_DAEMON),
        &line.replace('\0', " "),
    );
}

/// Return the number of free blocks of 4 KiB on the filesystem that holds a path.
pub(crate) fn free_blocks(path: &Path) -> io::Result<u64> {
    let figures = statvfs(path)?;
    Ok(figures.blocks_available().saturating_mul(figures.fragment_size()) / 4096)
}
