//! Facts about this process: fork generations, randomness, clocks.

use crate::raw::files::held::Descriptor;
use crate::raw::files::held::Held;
use crate::raw::files::held::Identity;
use crate::raw::files::held::Keeper;
use crate::raw::files::held::Using;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Words that every operation checks and that hardly ever change, in one cache line.
#[repr(align(64))]
pub(crate) struct Events {
    forks: AtomicU32,
    /// Faults of mapped files (`fault`).
    pub(crate) faults: AtomicU32,
}

pub(crate) static EVENTS: Events = Events {
    forks: AtomicU32::new(1),
    faults: AtomicU32::new(0),
};

const PLACES: usize = 8192;
/// Descriptors whose locks a forked child must not keep; 0: a free place.
static UNSHARED: [AtomicI32; PLACES] = [const { AtomicI32::new(0) }; PLACES];
/// Device and inode of each descriptor; zeros: not known yet.
static FILES: [[AtomicU64; 2]; PLACES] = [const { [const { AtomicU64::new(0) }; 2] }; PLACES];

extern "C" fn forked() {
    EVENTS.forks.fetch_add(1, Ordering::Relaxed);
    for (place, id) in UNSHARED.iter().zip(&FILES) {
        let fd = place.load(Ordering::Relaxed);
        if fd > 0 && is_file(fd, id) {
            unshare(fd);
        }
    }
}

/// Return whether a descriptor still refers to this file, and not to one that the program opened later. Uses
/// only calls that are allowed in a forked child.
fn is_file(fd: i32, id: &[AtomicU64; 2]) -> bool {
    let [dev, ino] = [0, 1].map(|i| id[i].load(Ordering::Relaxed));
    // SAFETY: stat is plain data, and writable; all-zero is a valid value of it.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let done = unsafe { libc::fstat(fd, &raw mut found) };
    done == 0 && ((dev, ino) == (0, 0) || (found.st_dev as u64, found.st_ino as u64) == (dev, ino))
}

/// Replace a descriptor by a new open file description of the same file, without its locks. Uses only calls
/// that are allowed in a forked child.
fn unshare(fd: i32) {
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut digits = [0u8; 10];
    let (mut n, mut rest) = (0, fd);
    while rest > 0 && n < digits.len() {
        digits[n] = b'0' + (rest % 10) as u8;
        rest /= 10;
        n += 1;
    }
    for i in 0..n {
        path[14 + i] = digits[n - 1 - i];
    }
    // SAFETY: plain system calls; the path ends with a zero byte. If the open fails (this process may no
    // longer open the file), the descriptor is replaced by one that can lock nothing: better no file than the
    // parent's locks, and better an error than a lock of another file.
    unsafe {
        let mut new = libc::open(path.as_ptr().cast(), libc::O_RDWR | libc::O_CLOEXEC);
        if new < 0 {
            new = libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC);
        }
        if new < 0 {
            new = libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        }
        if new >= 0 {
            libc::dup3(new, fd, libc::O_CLOEXEC);
            libc::close(new);
        }
    }
}

/// A file whose open-file-description locks stay in this process. In a forked child, before `fork` returns
/// there, the copied descriptor is replaced by one with its own open file description. Otherwise a surviving
/// child would keep its dead parent's locks, and the parent would seem alive.
#[derive(Debug)]
pub(crate) struct Unshared {
    keeper: Keeper,
    file: Held,
    retired: AtomicBool,
}

impl Unshared {
    /// Wrap a file. If `PLACES` files are open already, this one is shared with forked children.
    pub(crate) fn new(file: File) -> Unshared {
        let keeper = Keeper::new(&file, watch_forks());
        Unshared::with(file, keeper)
    }

    /// Wrap a file whose locks are held only briefly: a program that closes its descriptor may end them.
    pub(crate) fn brief(file: File) -> Unshared {
        Unshared::with(file, Keeper::none())
    }

    fn with(file: File, keeper: Keeper) -> Unshared {
        watch_forks();
        let fd = file.as_raw_fd();
        let file = Held::new(file);
        let place = UNSHARED.iter().zip(&FILES).find(|(p, _)| {
            p.compare_exchange(0, fd, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        });
        if let Some((_, id)) = place {
            let Identity { dev, ino } = file.id();
            id[0].store(dev, Ordering::Relaxed);
            id[1].store(ino, Ordering::Relaxed);
        }
        Unshared {
            keeper,
            file,
            retired: AtomicBool::new(false),
        }
    }

    /// Release the file's locks, if the descriptor still refers to it.
    pub(crate) fn unlock_all(&self) {
        crate::raw::files::file::ofd_unlock_all(&self.file);
        if self.file.ours().is_err() {
            self.keeper.give_up(forks());
        }
    }
}

impl Descriptor for Unshared {
    fn ours(&self) -> io::Result<Using<'_>> {
        self.file.ours()
    }
}

impl std::ops::Deref for Unshared {
    type Target = File;

    /// Return the file, which must not be retired.
    fn deref(&self) -> &File {
        self.file.raw()
    }
}

impl Unshared {
    /// Release locks, mapping and descriptor. Called by the owner when nothing else uses the file.
    ///
    /// The locks are released now, not when the last copy of the descriptor is closed: a program that another
    /// thread is starting has a copy until its exec.
    pub(crate) fn retire(&self) {
        if self.retired.swap(true, Ordering::SeqCst) {
            return;
        }
        let fd = self.file.raw().as_raw_fd();
        let Identity { dev, ino } = self.file.id();
        let mine = |(p, id): (&AtomicI32, &[AtomicU64; 2])| {
            if p.load(Ordering::Relaxed) != fd
                || (id[0].load(Ordering::Relaxed), id[1].load(Ordering::Relaxed)) != (dev, ino)
            {
                return false;
            }
            id[0].store(0, Ordering::Relaxed);
            id[1].store(0, Ordering::Relaxed);
            p.compare_exchange(fd, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        // A file that is shared with forked children keeps its locks until the last of them closes it.
        if UNSHARED.iter().zip(&FILES).any(mine) {
            self.unlock_all();
        }
        self.keeper.give_up(forks());
        self.file.retire();
    }
}

impl Drop for Unshared {
    fn drop(&mut self) {
        self.retire();
    }
}

/// Return a number that differs between a process and its forked child. Cheaper than the process id, which is a
/// system call. The first call installs the hook.
#[allow(clippy::must_use_candidate, reason = "also called for the hook alone")]
pub fn watch_forks() -> u32 {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // SAFETY: `forked` is an extern "C" fn without arguments that only touches an atomic, which
        // is allowed in a forked child.
        unsafe {
            libc::pthread_atfork(None, None, Some(forked));
        }
    });
    EVENTS.forks.load(Ordering::Relaxed)
}

/// Run these functions around every `fork` of this process: before it, after it in the parent, and in the
/// child. They run after the hook of `watch_forks`, if that was installed before.
pub(crate) fn at_fork(before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    // SAFETY: the functions take no arguments and exist for the lifetime of the program.
    unsafe {
        libc::pthread_atfork(Some(before), Some(parent), Some(child));
    }
}

/// Start a thread that receives no signals sent to the process. Its own faults (SIGBUS of a mapped file) are
/// still delivered to it.
pub(crate) fn spawn_unsignalled(
    name: &str,
    stack: usize,
    f: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    #[cfg(any(test, feature = "testing"))]
    let f = {
        let inherit = super::observe::inheritance();
        move || {
            inherit();
            f();
        }
    };
    // SAFETY: signal sets are plain data, for which all-zero is a valid value; the calls access only them and
    // the calling thread's own mask, which is restored.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        for fault in [
            libc::SIGBUS,
            libc::SIGSEGV,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGABRT,
            libc::SIGSYS,
        ] {
            libc::sigdelset(&raw mut all, fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let started = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(stack)
            .spawn(f);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        started
    }
}

/// Return the current fork generation (one load).
#[inline]
pub(crate) fn forks() -> u32 {
    EVENTS.forks.load(Ordering::Relaxed)
}

/// Return random bytes from the kernel.
pub(crate) fn random_u64() -> u64 {
    let mut b = [0u8; 8];
    // SAFETY: the buffer is 8 writable bytes.
    let n = unsafe { libc::getrandom(b.as_mut_ptr().cast(), 8, 0) };
    if n == 8 {
        return u64::from_ne_bytes(b);
    }
    // For kernels without getrandom: the hasher's own keys are random per process.
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// Return the wall-clock time in nanoseconds since 1970, at tick resolution (a few ns to read; steps of 1-4
/// ms).
#[inline]
pub(crate) fn coarse_now() -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is writable; the clock id is a constant the kernel knows.
    unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut ts);
    }
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Return the time since some moment before the process began, in nanoseconds. It never goes back.
#[inline]
pub(crate) fn monotonic_now() -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is writable; the clock id is a constant the kernel knows.
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut ts);
    }
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Return the holder of a lock on byte `at` of a file, for messages, as far as this process can see it. The
/// kernel reports no owner for open-file-description locks; `/proc` lists them by descriptor.
pub(crate) fn lock_holder(file: &File, at: u64) -> String {
    use std::os::unix::fs::MetadataExt;
    let same = |m: std::fs::Metadata| {
        file.metadata()
            .is_ok_and(|f| (f.dev(), f.ino()) == (m.dev(), m.ino()))
    };
    let covers = |info: &str| {
        info.lines().filter(|l| l.starts_with("lock:")).any(|line| {
            let mut fields = line.split_whitespace().rev();
            let end = fields.next().map(|e| e.parse().unwrap_or(u64::MAX));
            let start = fields.next().and_then(|s| s.parse::<u64>().ok());
            matches!((start, end), (Some(start), Some(end)) if start <= at && at <= end)
        })
    };
    let numbers = |dir: String| {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok())
    };
    let holders: Vec<String> = numbers("/proc".to_owned())
        .filter(|p| {
            numbers(format!("/proc/{p}/fd")).any(|fd| {
                std::fs::metadata(format!("/proc/{p}/fd/{fd}")).is_ok_and(same)
                    && std::fs::read_to_string(format!("/proc/{p}/fdinfo/{fd}")).is_ok_and(|i| covers(&i))
            })
        })
        .map(|p| {
            if p == pid() {
                "this process".to_owned()
            } else {
                format!("process {p}")
            }
        })
        .collect();
    if holders.is_empty() {
        "another process".to_owned()
    } else {
        holders.join(", ")
    }
}

/// Return this process's id.
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// Return the pid namespace of this process; 0: unknown.
fn pid_namespace() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino() as u32)
}

/// Return an identifier of this process for messages of other processes: its id, and its pid namespace << 32.
pub(crate) fn named_pid() -> u64 {
    u64::from(pid()) | u64::from(pid_namespace()) << 32
}

/// Return the id from another process's identifier, if it denotes the same process in this namespace.
pub(crate) fn pid_here(named: u64) -> Option<u32> {
    let namespace = (named >> 32) as u32;
    (namespace == 0 || namespace == pid_namespace()).then_some(named as u32)
}

/// Describe a process by its identifier, for messages. The text must not be mistaken for another process with
/// that number.
pub(crate) fn describe(named: u64) -> String {
    let pid = named as u32;
    match pid_here(named) {
        Some(here) => match command(here) {
            Some(command) => format!("process {pid} ({command})"),
            None => format!("process {pid}"),
        },
        None => format!("process {pid} of another pid namespace (container)"),
    }
}

/// Describe a process that has ended, for messages: without its command, since the pid may be another process's by now.
pub(crate) fn describe_ended(named: u64) -> String {
    let pid = named as u32;
    match pid_here(named) {
        Some(_) => format!("process {pid}"),
        None => format!("process {pid} of another pid namespace (container)"),
    }
}

/// Describe a thread of a process, for messages: its id, and its name where that differs from the process's. `named`:
/// the identifier of the process.
pub(crate) fn describe_thread(named: u64, thread: u32) -> String {
    let process = describe(named);
    let Some(pid) = pid_here(named) else {
        return process;
    };
    if thread == pid {
        return format!("{process}, its main thread");
    }
    // The id may be out of date: then the process has no such thread.
    match thread_name(pid, thread) {
        Some(name) if command(pid).is_some_and(|command| command != name) => {
            format!("{process}, thread {thread} \"{name}\"")
        }
        Some(_) => format!("{process}, thread {thread}"),
        None => process,
    }
}

/// Return the name of a thread of a process of this namespace, escaped for messages; None if there is no such thread.
fn thread_name(pid: u32, thread: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/comm")).ok()?;
    Some(name.trim_end().escape_debug().to_string())
}

/// Return the kernel's id of the calling thread.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: the call has no preconditions and cannot fail.
    unsafe { libc::gettid() as u32 }
}

/// Return the command name of a process of this namespace, escaped for messages; None if it has ended.
pub(crate) fn command(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().escape_debug().to_string())
}

/// Ignore the terminal's signals from now on: a child in the foreground gets them too, and decides.
pub fn ignore_interrupts() {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: SIG_IGN runs no code in this process. The call fails only for invalid numbers.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

/// Return a resource limit of this process; None if there is none.
pub(crate) fn limit(what: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable and of the right type.
    let done = unsafe { libc::getrlimit(what, &raw mut limit) };
    (done == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Return whether the system's user database lists a user as a member of a group.
pub(crate) fn is_in_group(user: u32, group: u32) -> bool {
    let mut text = vec![0u8; 16 * 1024];
    // SAFETY: passwd is plain data; all-zero is a valid value of it.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: the entry, the text and the result are writable, and the text has the given length.
    let done = unsafe {
        libc::getpwuid_r(
            user,
            &raw mut entry,
            text.as_mut_ptr().cast(),
            text.len(),
            &raw mut found,
        )
    };
    if done != 0 || found.is_null() {
        return false;
    }
    let mut groups = vec![0 as libc::gid_t; 1024];
    let mut count = groups.len() as libc::c_int;
    // SAFETY: the name lies in `text`, which outlives the call; the list is writable and has the given
    // length.
    let done =
        unsafe { libc::getgrouplist(entry.pw_name, entry.pw_gid, groups.as_mut_ptr(), &raw mut count) };
    done >= 0 && groups[..(count as usize).min(groups.len())].contains(&group)
}
