//! System calls of the kill tests: tracing a child from store to store, signals, fork, and windows on
//! files. The only unsafe code of the tests, under safe functions.
//!
//! 1. A `Tracee` is traced by the thread that spawned it; that thread moves it, and no other.
//! 2. To be stopped at each store into the store's files, and only there, the child's mappings of them are
//!    read-only: a store faults, the mapping is opened, the instruction single-stepped, the mapping
//!    protected again. (Single-stepping all the rest too finds the same moments: what it stores nowhere
//!    outlives it. It takes a hundred times as long.)
//! 3. A `Window` shows a file's bytes as they are now. Pages beyond its end must not be touched: callers
//!    ask `len` first, and nobody shortens a file while a window looks at it.

use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command};

/// Why a traced process stands still, or that it is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Stopped with this signal.
    Signal(i32),
    /// Ended with this status.
    Exited(i32),
    /// Killed by this signal.
    Killed(i32),
}

/// A child process under trace.
#[derive(Debug)]
pub struct Tracee {
    child: Child,
    /// The thread that is stepped.
    tid: i32,
    gone: bool,
    watched: String,
    maps: Vec<Mapping>,
    /// Where a `syscall` instruction lies.
    syscall: u64,
    inside: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mapping {
    range: (u64, u64),
    /// The page of the file that it begins with.
    first: u64,
    ino: u64,
}

/// What a traced process has just done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Stored into a watched file, on this page or from it into the next.
    Stored {
        /// The file.
        ino: u64,
        /// The page.
        page: u64,
    },
    /// Returned from a system call that may have changed files.
    Called,
    /// Stopped itself.
    Marked,
    /// Ended, or was stopped by an unexpected signal.
    Ended(Stop),
}

fn check(r: i64, what: &str) {
    assert!(r >= 0, "{what}: {}", io::Error::last_os_error());
}

/// Waits for a child, a traced thread, or (0) whatever the calling thread has; which it was, and why.
fn wait_for(which: i32) -> (i32, Stop) {
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
            let stop = if libc::WIFSTOPPED(status) {
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

impl Tracee {
    /// Starts a program and waits until one of its threads stops itself (`stop_here`). The calling
    /// thread has no other children. Files whose path begins with `watched` are watched from here.
    pub fn spawn(command: &mut Command, watched: &Path) -> Tracee {
        let child = command.spawn().expect("start the child");
        let (tid, stop) = wait_for(0);
        let watched = watched.to_str().expect("a path of text").to_owned();
        let gone = !matches!(stop, Stop::Signal(_));
        let mut tracee = Tracee {
            child,
            tid,
            gone,
            watched,
            maps: Vec::new(),
            syscall: 0,
            inside: false,
        };
        assert_eq!(stop, Stop::Signal(libc::SIGSTOP), "the child gets ready");
        let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;
        // SAFETY: the tracee is stopped; the options are constants the kernel knows.
        check(
            unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, tid, 0, options) },
            "PTRACE_SETOPTIONS",
        );
        // It has just returned from the system call that stopped it.
        tracee.syscall = tracee.registers().rip - 2;
        tracee.find_maps();
        tracee
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: registers are plain data; all-zero is a value of them.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the tracee is stopped; `regs` is writable and of the right type.
        check(
            unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.tid, 0, &raw mut regs) },
            "PTRACE_GETREGS",
        );
        regs
    }

    fn set_registers(&self, regs: &libc::user_regs_struct) {
        // SAFETY: the tracee is stopped; `regs` is readable and of the right type.
        check(
            unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.tid, 0, std::ptr::from_ref(regs)) },
            "PTRACE_SETREGS",
        );
    }

    fn fault_address(&self) -> u64 {
        // SAFETY: plain data; all-zero is a value of it.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the tracee is stopped at a signal; `info` is writable and of the right type.
        check(
            unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, self.tid, 0, &raw mut info) },
            "PTRACE_GETSIGINFO",
        );
        // SAFETY: the signal is SIGSEGV, which has an address.
        (unsafe { info.si_addr() }) as u64
    }

    fn resume(&mut self, request: libc::c_uint) -> Stop {
        // SAFETY: the tracee is stopped.
        check(unsafe { libc::ptrace(request, self.tid, 0, 0) }, "resume");
        let stop = wait_for(self.tid).1;
        self.gone = !matches!(stop, Stop::Signal(_));
        stop
    }

    /// Makes the tracee protect or open a mapping.
    fn protect(&mut self, map: (u64, u64), protection: i32) {
        let mut before = self.registers();
        let mut regs = before;
        (regs.rip, regs.rax, regs.orig_rax) = (self.syscall, libc::SYS_mprotect as u64, u64::MAX);
        (regs.rdi, regs.rsi, regs.rdx) = (map.0, map.1 - map.0, protection as u64);
        self.set_registers(&regs);
        for _ in 0..2 {
            assert_eq!(
                self.resume(libc::PTRACE_SYSCALL),
                Stop::Signal(libc::SIGTRAP | 0x80),
                "mprotect"
            );
        }
        assert_eq!(self.registers().rax, 0, "mprotect");
        before.orig_rax = u64::MAX;
        self.set_registers(&before);
    }

    /// Looks for mappings of the watched files, and protects the new ones.
    fn find_maps(&mut self) {
        let text = std::fs::read_to_string(format!("/proc/{}/maps", self.tid)).expect("maps");
        let old = std::mem::take(&mut self.maps);
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(flags), Some(offset), Some(ino), Some(path)) = (
                words.next(),
                words.next(),
                words.next(),
                words.nth(1),
                words.next(),
            ) else {
                continue;
            };
            if !flags.ends_with('s') || !path.starts_with(&self.watched) {
                continue;
            }
            let (from, to) = range.split_once('-').expect("a range");
            let hex = |t: &str| u64::from_str_radix(t, 16).expect("a number");
            let map = Mapping {
                range: (hex(from), hex(to)),
                first: hex(offset) / 4096,
                ino: ino.parse().expect("a number"),
            };
            self.maps.push(map);
            if !old.contains(&map) || flags.contains('w') {
                self.protect(map.range, libc::PROT_READ);
            }
        }
    }

    /// Lets it run until it has stored something into a watched file's mapping (one instruction, or one
    /// turn of a repeated one), has returned from a system call that may change files, has stopped itself
    /// or has ended.
    pub fn next(&mut self) -> Event {
        loop {
            match self.resume(libc::PTRACE_SYSCALL) {
                Stop::Signal(s) if s == libc::SIGTRAP | 0x80 => {
                    self.inside = !self.inside;
                    if self.inside {
                        continue;
                    }
                    let call = self.registers().orig_rax as i64;
                    match call {
                        libc::SYS_mmap | libc::SYS_munmap | libc::SYS_mremap => self.find_maps(),
                        libc::SYS_fallocate
                        | libc::SYS_ftruncate
                        | libc::SYS_write
                        | libc::SYS_pwrite64
                        | libc::SYS_openat
                        | libc::SYS_open
                        | libc::SYS_unlink
                        | libc::SYS_unlinkat
                        | libc::SYS_rename
                        | libc::SYS_renameat
                        | libc::SYS_renameat2 => return Event::Called,
                        _ => {}
                    }
                }
                Stop::Signal(libc::SIGSEGV) => {
                    let Some(map) = self.map_at(self.fault_address()) else {
                        return Event::Ended(Stop::Signal(libc::SIGSEGV));
                    };
                    let page = map.first + (self.fault_address() - map.range.0) / 4096;
                    self.protect(map.range, libc::PROT_READ | libc::PROT_WRITE);
                    let stop = self.resume(libc::PTRACE_SINGLESTEP);
                    if stop != Stop::Signal(libc::SIGTRAP) {
                        return Event::Ended(stop);
                    }
                    self.protect(map.range, libc::PROT_READ);
                    return Event::Stored { ino: map.ino, page };
                }
                Stop::Signal(libc::SIGSTOP) => return Event::Marked,
                other => return Event::Ended(other),
            }
        }
    }

    fn map_at(&self, address: u64) -> Option<Mapping> {
        self.maps
            .iter()
            .copied()
            .find(|m| (m.range.0..m.range.1).contains(&address))
    }

    /// Kills it where it stands.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        while !self.gone {
            self.gone = !matches!(wait_for(self.tid).1, Stop::Signal(_));
        }
        // The thread that was traced is gone; if it was not the process's first, that one is left.
        if self.tid != self.child.id() as i32 {
            let _ = self.child.wait();
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        self.end();
    }
}

/// Stops the calling thread for its parent: the marks between which it is stepped.
pub fn stop_here() {
    // SAFETY: plain system calls; a thread that is traced already gets an error, which does not matter.
    unsafe {
        libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
        libc::raise(libc::SIGSTOP);
    }
}

/// The calling process ends with the thread that started it: a test that breaks off leaves nobody behind.
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

/// Forks; the child runs `f` and ends without any cleanup. The child's pid.
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

/// Keeps the calling thread, and its children, on one processor: stepping is a ping-pong.
pub fn stay_on_one_processor() {
    // SAFETY: `set` is plain data of the right size; both calls only read or write it.
    unsafe {
        let cpu = libc::sched_getcpu().max(0) as usize;
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// Where a file has data: ranges of pages.
pub fn data_pages(file: &File) -> Vec<std::ops::Range<u64>> {
    use std::os::fd::AsRawFd;
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        // SAFETY: plain system calls on an open descriptor.
        let (from, to) = unsafe {
            let from = libc::lseek(file.as_raw_fd(), at, libc::SEEK_DATA);
            if from < 0 {
                return out;
            }
            (from, libc::lseek(file.as_raw_fd(), from, libc::SEEK_HOLE))
        };
        out.push(from as u64 / 4096..(to as u64).div_ceil(4096));
        at = to;
    }
}

/// A page's bytes.
pub type Page = [u64; 512];

/// A file's bytes, as every process sees them.
#[derive(Debug)]
pub struct Window {
    map: MmapRaw,
    file: File,
    pages: u64,
}

impl Window {
    /// Looks at a file of at most `pages` pages.
    pub fn new(file: File, pages: u64) -> Window {
        let map = MmapOptions::new()
            .len(pages as usize * 4096)
            .no_reserve_swap()
            .map_raw_read_only(&file)
            .expect("map");
        Window { map, file, pages }
    }

    /// The file's length.
    pub fn len(&self) -> u64 {
        self.file.metadata().expect("fstat").len()
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// A page as it is now. It is whole: whoever could write it stands still.
    pub fn page(&self, page: u64) -> &Page {
        assert!(page < self.pages);
        // SAFETY: inside the mapping and (the caller asked) the file; page-aligned; the only process that
        // could write it is stopped or dead, and any bytes are valid words.
        unsafe { &*self.map.as_ptr().add(page as usize * 4096).cast::<Page>() }
    }

    /// Writes a page.
    pub fn write(&self, page: u64, words: &Page) {
        let mut bytes = [0u8; 4096];
        for (b, w) in bytes.chunks_exact_mut(8).zip(words) {
            b.copy_from_slice(&w.to_ne_bytes());
        }
        self.file.write_all_at(&bytes, page * 4096).expect("write");
    }
}
