//! The edges to the kernel that the standard library does not cover: fork, pipes between the two
//! processes, signals, mount(2), descriptors sent over a socket, syslog. All unsafe code of this
//! package is here.

use std::ffi::{CString, OsStr};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Writes to standard error. That nobody listens any more is no reason to end.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// True for root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no conditions.
    unsafe { libc::geteuid() == 0 }
}

/// The ids of this process's user and group.
pub(crate) fn ids() -> (u32, u32) {
    // SAFETY: geteuid and getegid have no conditions.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Which side of a fork this is.
pub(crate) enum Fork {
    /// The parent.
    Parent,
    /// The child.
    Child,
}

/// Forks. To be called while the process has one thread.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the process has one thread yet (main calls this first), so the child may go on as usual.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        _ => Ok(Fork::Parent),
    }
}

/// Starts a session of its own, away from the terminal.
pub(crate) fn new_session() {
    // SAFETY: setsid has no conditions; it fails only for a group leader, which a forked child is not.
    unsafe { libc::setsid() };
}

/// A pipe: read end, write end; neither is inherited by programs started later.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: pipe2 succeeded: both are new descriptors that nobody else owns.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Replaces standard input, output and error by /dev/null.
pub(crate) fn leave_terminal() -> io::Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    for fd in 0..3 {
        // SAFETY: both are descriptor numbers; dup2 replaces one of the three standard ones.
        check(unsafe { libc::dup2(null.as_raw_fd(), fd) })?;
    }
    Ok(())
}

/// The signals that end a mount.
fn end_signals() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data that sigemptyset initialises; both functions get a valid set and
    // valid signal numbers.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// Blocks the signals that end a mount, in this thread and those it starts.
pub(crate) fn block_end_signals() {
    let set = end_signals();
    // SAFETY: `set` is initialised; no old set is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
}

/// Waits for one of them.
pub(crate) fn wait_for_end_signal() -> i32 {
    let set = end_signals();
    let mut signal = 0;
    loop {
        // SAFETY: both point to initialised values of this function.
        if unsafe { libc::sigwait(&set, &mut signal) } == 0 {
            return signal;
        }
    }
}

/// mount(2).
pub(crate) fn mount(source: &OsStr, target: &Path, kind: &str, flags: u64, data: &str) -> io::Result<()> {
    let (source, target) = (c_string(source)?, c_string(target.as_os_str())?);
    let (kind, data) = (c_string(OsStr::new(kind))?, c_string(OsStr::new(data))?);
    // SAFETY: all four are NUL-terminated strings that live through the call.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags as libc::c_ulong,
            data.as_ptr().cast(),
        )
    })?;
    Ok(())
}

/// umount2(2).
pub(crate) fn unmount(target: &Path, lazily: bool) -> io::Result<()> {
    let target = c_string(target.as_os_str())?;
    let flags = if lazily {
        libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW
    } else {
        libc::UMOUNT_NOFOLLOW
    };
    // SAFETY: a NUL-terminated string that lives through the call.
    check(unsafe { libc::umount2(target.as_ptr(), flags) })?;
    Ok(())
}

/// Lets a descriptor be inherited by programs started from now on.
pub(crate) fn make_inheritable(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_SETFD on a borrowed, hence open descriptor.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) })?;
    Ok(())
}

/// Receives one descriptor over a socket.
pub(crate) fn receive_fd(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0u8; 1];
    // Room for one control message with one descriptor, aligned as cmsghdr wants it.
    let mut control = [0u64; 8];
    let mut data = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: msghdr is plain data for which zeros are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = std::mem::size_of_val(&control);
    // SAFETY: `message` points to buffers of the lengths it says, all of which outlive the call.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: recvmsg filled `message`; CMSG_FIRSTHDR gives null or a header inside `control`, and
    // its length says whether a descriptor follows, which is read unaligned.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        let complete = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len >= libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        if got == 0 || !complete {
            return Err(io::Error::from_raw_os_error(libc::EPROTO));
        }
        let fd: RawFd = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
        // The kernel made this descriptor for us: nobody else owns it.
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Writes a line to the system log.
pub(crate) fn syslog(priority: i32, line: &str) {
    let Ok(line) = CString::new(line.replace('\0', " ")) else {
        return;
    };
    // SAFETY: a constant format with one string, both NUL-terminated.
    unsafe { libc::syslog(libc::LOG_DAEMON | priority, c"%s".as_ptr(), line.as_ptr()) };
}

/// Free blocks of 4 KiB on the filesystem that holds a path.
pub(crate) fn free_blocks(path: &Path) -> io::Result<u64> {
    let path = c_string(path.as_os_str())?;
    // SAFETY: statvfs is plain data for which zeros are valid.
    let mut figures: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a NUL-terminated string and a structure of the right type.
    check(unsafe { libc::statvfs(path.as_ptr(), &mut figures) })?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize) / 4096)
}
