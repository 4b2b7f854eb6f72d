//! Facts about this process: fork generations, randomness, clocks.

use crate::raw::held::{Descriptor, Held, Identity, Keeper, Using};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

/// What every operation looks at and hardly anything ever changes, in one cache line.
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
/// Descriptors whose locks a forked child must not keep alive; 0: a free place.
static UNSHARED: [AtomicI32; PLACES] = [const { AtomicI32::new(0) }; PLACES];
/// Device and inode of each of them; zeros: not known yet.
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

/// Whether a descriptor is still one of this file, and not of one that the program has opened since. Only calls that
/// are allowed in a forked child.
fn is_file(fd: i32, id: &[AtomicU64; 2]) -> bool {
    let [dev, ino] = [0, 1].map(|i| id[i].load(Ordering::Relaxed));
    // SAFETY: stat is plain data, and writable; all-zero is a valid value of it.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let done = unsafe { libc::fstat(fd, &raw mut found) };
    done == 0 && ((dev, ino) == (0, 0) || (found.st_dev as u64, found.st_ino as u64) == (dev, ino))
}

/// Puts a new open file description of the same file, without its locks, in the place of a descriptor.
/// Only calls that are allowed in a forked child.
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
    // SAFETY: plain system calls; the path ends with a zero byte. A failed open (this process may not open the
    // file any more) replaces the descriptor by one that can lock nothing: better no file than the parent's locks,
    // and better an error than a lock of something else.
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

/// A file whose open-file-description locks stay this process's alone: a forked child's copy of the
/// descriptor becomes one of a description of its own, in the child, before `fork` returns there. Else
/// a child that lives on would keep its dead parent's locks, and the parent would seem to live.
#[derive(Debug)]
pub(crate) struct Unshared {
    keeper: Keeper,
    file: Held,
    retired: AtomicBool,
}

impl Unshared {
    /// If `PLACES` are open already this one is shared with forked children after all.
    pub(crate) fn new(file: File) -> Unshared {
        let keeper = Keeper::new(&file, watch_forks());
        Unshared::with(file, keeper)
    }

    /// One whose locks are held for moments only: a program that closes its descriptor may end them.
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

    /// Gives up its locks, as far as they are still this one's.
    pub(crate) fn unlock_all(&self) {
        crate::raw::file::ofd_unlock_all(&self.file);
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

    /// Of one that is not retired.
    fn deref(&self) -> &File {
        self.file.raw()
    }
}

impl Unshared {
    /// Gives up locks, mapping and descriptor. The owner does that, with nothing else using it.
    ///
    /// The locks go now, not when the last copy of the descriptor is closed: a program that another
    /// thread is just starting has one until its exec.
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
        // One that is shared with forked children leaves its locks to the last of them.
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

/// Runs these around every `fork` of this process: before it, after it in the parent, and in the child. After
/// what `watch_forks` does, if that was called before.
pub(crate) fn at_fork(before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    // SAFETY: functions without arguments, which stay.
    unsafe {
        libc::pthread_atfork(Some(before), Some(parent), Some(child));
    }
}

/// Starts a thread that no signal sent to the process is delivered to. Faults of its own (SIGBUS of a mapped file)
/// stay what they are.
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
    // SAFETY: sets of signals are plain data, all-zero is a valid value of them; the calls read and write only them
    // and the calling thread's own mask, which is put back.
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

/// The current fork generation (one load).
#[inline]
pub(crate) fn forks() -> u32 {
    EVENTS.forks.load(Ordering::Relaxed)
}

/// Random bytes from the kernel.
pub(crate) fn random_u64() -> u64 {
    let mut b = [0u8; 8];
    // SAFETY: the buffer is 8 writable bytes.
    let n = unsafe { libc::getrandom(b.as_mut_ptr().cast(), 8, 0) };
    if n == 8 {
        return u64::from_ne_bytes(b);
    }
    // Kernels without getrandom: the hasher's own keys are random per process.
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// Wall-clock time in nanoseconds since 1970, to the tick (a few ns to read; steps of 1-4 ms).
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

/// Who holds a lock on byte `at` of a file, for messages: as far as this process may look. Locks of
/// open file descriptions have no owner that the kernel would name; `/proc` shows them by descriptor.
pub(crate) fn who_locks(file: &File, at: u64) -> String {
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

/// This process's id.
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// The namespace that this process's id counts in; 0: not known.
fn pid_namespace() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino() as u32)
}

/// This process, for messages of other processes: its id, and the namespace that it counts in << 32.
pub(crate) fn named_pid() -> u64 {
    u64::from(pid()) | u64::from(pid_namespace()) << 32
}

/// The id in what another process noted of itself, if it means the same process here.
pub(crate) fn pid_here(named: u64) -> Option<u32> {
    let namespace = (named >> 32) as u32;
    (namespace == 0 || namespace == pid_namespace()).then_some(named as u32)
}

/// A process by what it noted of itself, for messages: nobody shall take it for another one of that number.
pub(crate) fn describe(named: u64) -> String {
    let pid = named as u32;
    match pid_here(named) {
        Some(here) => match std::fs::read_to_string(format!("/proc/{here}/comm")) {
            Ok(command) => format!("process {pid} ({})", command.trim_end().escape_debug()),
            Err(_) => format!("process {pid}"),
        },
        None => format!("process {pid} of another pid namespace (container)"),
    }
}

/// A resource limit of this process; None if there is none.
pub(crate) fn limit(what: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable and of the right type.
    let done = unsafe { libc::getrlimit(what, &raw mut limit) };
    (done == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Whether the system's list of users knows that a user is in a group.
pub(crate) fn is_in_group(user: u32, group: u32) -> bool {
    let mut text = vec![0u8; 16 * 1024];
    // SAFETY: passwd is plain data; all-zero is a valid value of it.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: the entry, the text and the result are writable, and the text is as long as said.
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
    // SAFETY: the name lies in `text`, which lives on; the list is writable and as long as said.
    let done =
        unsafe { libc::getgrouplist(entry.pw_name, entry.pw_gid, groups.as_mut_ptr(), &raw mut count) };
    done >= 0 && groups[..(count as usize).min(groups.len())].contains(&group)
}
