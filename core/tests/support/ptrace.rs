//! Tracing a child from store to store or from instruction to instruction, under safe functions.
//!
//! 1. A `Tracee` is traced by the thread that spawned it; only that thread resumes it.
//! 2. To stop the child exactly at each store into the store's files, its mappings of them are read-only. A store
//!    faults, the mapping is opened, the instruction single-stepped, and the mapping protected again. Single-stepping
//!    all other instructions too (`step`) finds the same moments, since their stores do not outlive the process; `walk`
//!    checks that nothing else changes the files.
//! 3. A process that the tracee forks is stopped at its first instruction, as its `kin`; or it is the one that is run,
//!    and its parent is stopped (`follow`). Both end together, unless one is taken.

use super::process::{Stop, check, is_named, signal, wait_for};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command};

/// A child process under trace.
#[derive(Debug)]
pub struct Tracee {
    /// None for a process that another tracee created.
    child: Option<Child>,
    /// The thread that is stepped.
    tid: i32,
    gone: bool,
    watched: String,
    maps: Vec<Mapping>,
    /// Where a `syscall` instruction lies.
    syscall: u64,
    inside: bool,
    /// Its memory, and the pages of code that were examined.
    memory: File,
    code: HashMap<u64, Box<[u8; 4096]>>,
    /// The mapping that the next instruction stores into.
    faulted: Option<Mapping>,
    /// The result of `call` for the next instruction.
    next_call: Option<Option<i64>>,
    kin: Option<Box<Tracee>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mapping {
    range: (u64, u64),
    /// The page of the file that it begins with.
    first: u64,
    ino: u64,
}

/// The event at which a traced process has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Stored into a watched file, on this page or from it into the next.
    Stored {
        /// The file.
        ino: u64,
        /// The page.
        page: u64,
    },
    /// About to store into a watched file, on this page or from it into the next (`step` only).
    Storing {
        /// The file.
        ino: u64,
        /// The page.
        page: u64,
    },
    /// Executed one instruction that touches no watched file (`step` only).
    Passed,
    /// Created a process, which is stopped.
    Forked,
    /// Returned from a system call that may have changed files.
    Called,
    /// Stopped itself.
    Marked,
    /// Ended, or was stopped by an unexpected signal.
    Ended(Stop),
}

fn changes_files(call: i64) -> bool {
    matches!(
        call,
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
            | libc::SYS_renameat2
            | libc::SYS_link
            | libc::SYS_linkat
    )
}

impl Tracee {
    /// Start a program and wait until one of its threads stops itself (`stop_here`). The calling thread has no other
    /// children. Files whose path begins with `watched` are watched from here.
    pub fn spawn(command: &mut Command, watched: &Path) -> Tracee {
        let child = command.spawn().expect("start the child");
        let (tid, stop) = wait_for(0);
        let watched = watched.to_str().expect("a path of text").to_owned();
        let mut tracee = Tracee::of(Some(child), tid, watched);
        tracee.gone = !stop.exists();
        assert_eq!(stop, Stop::Signal(libc::SIGSTOP), "the child gets ready");
        let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACEFORK;
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

    fn of(child: Option<Child>, tid: i32, watched: String) -> Tracee {
        Tracee {
            child,
            tid,
            gone: false,
            watched,
            maps: Vec::new(),
            syscall: 0,
            inside: false,
            memory: File::open(format!("/proc/{tid}/mem")).expect("the child's memory"),
            code: HashMap::new(),
            faulted: None,
            next_call: None,
            kin: None,
        }
    }

    /// The process that it has just created, which is traced too and stopped at its first instruction.
    fn born(&self) -> Tracee {
        let mut pid: libc::c_ulong = 0;
        // SAFETY: the tracee is stopped at such an event; `pid` is writable and of the right type.
        check(
            unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, self.tid, 0, &raw mut pid) },
            "PTRACE_GETEVENTMSG",
        );
        let tid = pid as i32;
        assert_eq!(wait_for(tid).1, Stop::Signal(libc::SIGSTOP), "a forked child");
        let mut child = Tracee::of(None, tid, self.watched.clone());
        child.maps.clone_from(&self.maps);
        child.syscall = self.syscall;
        child
    }

    /// Run until it forks. Returns the child at its first instruction, with its parent as kin.
    pub fn follow(mut self) -> Tracee {
        loop {
            match self.next() {
                Event::Forked => break,
                Event::Stored { .. } | Event::Called => {}
                other => panic!("on the way to a fork: {other:?}"),
            }
        }
        let mut child = self.take_child().expect("a forked child");
        child.kin = Some(Box::new(self));
        child
    }

    /// The other process, as a separate tracee from now on.
    pub fn take_child(&mut self) -> Option<Tracee> {
        self.kin.take().map(|kin| *kin)
    }

    /// Run it to its end, past marks.
    pub fn finish(mut self) -> Stop {
        loop {
            if let Event::Ended(stop) = self.next() {
                return stop;
            }
        }
    }

    /// The address of its next instruction.
    pub fn instruction(&self) -> u64 {
        self.registers().rip
    }

    /// The mapping that an address lies in, for messages.
    pub fn whereabouts(&self, address: u64) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/maps", self.tid)).unwrap_or_default();
        let hex = |t: &str| u64::from_str_radix(t, 16).unwrap_or(0);
        let line = text.lines().find(|line| {
            let (from, to) = line
                .split_once(' ')
                .and_then(|l| l.0.split_once('-'))
                .unwrap_or(("", ""));
            (hex(from)..hex(to)).contains(&address)
        });
        format!("{address:#x} in {}", line.unwrap_or("nothing"))
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
        self.next_call = None;
        let stop = loop {
            // SAFETY: the tracee is stopped.
            check(unsafe { libc::ptrace(request, self.tid, 0, 0) }, "resume");
            let stop = wait_for(self.tid).1;
            // The death of one of its children changes nothing.
            if stop != Stop::Signal(libc::SIGCHLD) {
                break stop;
            }
        };
        self.gone = !stop.exists();
        if stop == Stop::Forked {
            self.kin = Some(Box::new(self.born()));
        }
        stop
    }

    /// Let the tracee protect or open a mapping.
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

    /// Find mappings of the watched files, and protect the new ones.
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
            let watched =
                path.starts_with(&self.watched) || path.contains("/#") && is_named(ino, &self.watched);
            if !flags.ends_with('s') || !watched {
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

    /// Run it until it has stored into a watched file's mapping (one instruction, or one turn of a repeated one), has
    /// returned from a system call that may change files, has forked, has stopped itself or has ended.
    pub fn next(&mut self) -> Event {
        loop {
            match self.resume(libc::PTRACE_SYSCALL) {
                Stop::Signal(s) if s == libc::SIGTRAP | 0x80 => {
                    self.inside = !self.inside;
                    if !self.inside && self.returned(self.registers().orig_rax as i64) {
                        return Event::Called;
                    }
                }
                other => {
                    return match self.worker_task(other) {
                        Event::Storing { .. } => self.store(),
                        event => event,
                    };
                }
            }
        }
    }

    /// Run one instruction, or one turn of a repeated one; a system call counts as one. Before an instruction that
    /// stores into a watched file it stops (`Storing`); `store` runs that one.
    pub fn step(&mut self) -> Event {
        let call = self.call();
        match self.resume(libc::PTRACE_SINGLESTEP) {
            Stop::Signal(libc::SIGTRAP) => match call {
                Some(call) if self.returned(call) => Event::Called,
                _ => Event::Passed,
            },
            other => self.worker_task(other),
        }
    }

    /// Run the one instruction that stores into a watched file.
    pub fn store(&mut self) -> Event {
        let map = self.faulted.take().expect("it stands before a store");
        let page = map.first + (self.fault_address() - map.range.0) / 4096;
        self.protect(map.range, libc::PROT_READ | libc::PROT_WRITE);
        let stop = self.resume(libc::PTRACE_SINGLESTEP);
        if stop != Stop::Signal(libc::SIGTRAP) {
            return Event::Ended(stop);
        }
        self.protect(map.range, libc::PROT_READ);
        Event::Stored { ino: map.ino, page }
    }

    /// The system call that the next instruction makes.
    fn call(&mut self) -> Option<i64> {
        if let Some(known) = self.next_call {
            return known;
        }
        let regs = self.registers();
        let byte = |at: u64, tracee: &mut Tracee| {
            let memory = &tracee.memory;
            let page = tracee.code.entry(at / 4096).or_insert_with_key(|page| {
                let mut bytes = Box::new([0; 4096]);
                memory
                    .read_exact_at(&mut bytes[..], page * 4096)
                    .expect("the child's code");
                bytes
            });
            page[at as usize % 4096]
        };
        let call =
            (byte(regs.rip, self) == 0x0f && byte(regs.rip + 1, self) == 0x05).then_some(regs.rax as i64);
        self.next_call = Some(call);
        call
    }

    /// True if the next instruction is a system call that may change files.
    pub fn will_call(&mut self) -> bool {
        self.call().is_some_and(changes_files)
    }

    /// It has returned from a system call. Returns whether that may have changed files.
    fn returned(&mut self, call: i64) -> bool {
        if matches!(
            call,
            libc::SYS_mmap | libc::SYS_munmap | libc::SYS_mremap | libc::SYS_link | libc::SYS_linkat
        ) {
            self.find_maps();
        }
        changes_files(call)
    }

    /// The event for an unexpected stop.
    fn worker_task(&mut self, stop: Stop) -> Event {
        match stop {
            Stop::Signal(libc::SIGSEGV) => {
                let address = self.fault_address();
                let Some(map) = self.map_at(address) else {
                    return Event::Ended(stop);
                };
                self.faulted = Some(map);
                let page = map.first + (address - map.range.0) / 4096;
                Event::Storing { ino: map.ino, page }
            }
            Stop::Signal(libc::SIGSTOP) => Event::Marked,
            Stop::Forked => Event::Forked,
            other => Event::Ended(other),
        }
    }

    fn map_at(&self, address: u64) -> Option<Mapping> {
        self.maps
            .iter()
            .copied()
            .find(|m| (m.range.0..m.range.1).contains(&address))
    }

    /// Run it until it is about to make a system call. Returns its number and its first four arguments. None if it
    /// stopped itself or ended.
    pub fn about_to_call(&mut self) -> Option<(i64, [u64; 4])> {
        if self.gone || self.resume(libc::PTRACE_SYSCALL) != Stop::Signal(libc::SIGTRAP | 0x80) {
            return None;
        }
        let regs = self.registers();
        Some((regs.orig_rax as i64, [regs.rdi, regs.rsi, regs.rdx, regs.r10]))
    }

    /// Let it make the call that it is about to make, or let the call fail with an error and do nothing. False if it
    /// ended in the call.
    pub fn answer(&mut self, error: Option<i32>) -> bool {
        if error.is_some() {
            let mut regs = self.registers();
            regs.orig_rax = u64::MAX;
            self.set_registers(&regs);
        }
        if self.resume(libc::PTRACE_SYSCALL) != Stop::Signal(libc::SIGTRAP | 0x80) {
            return false;
        }
        if let Some(error) = error {
            let mut regs = self.registers();
            regs.rax = (-i64::from(error)) as u64;
            self.set_registers(&regs);
        }
        true
    }

    /// Run it to its end. Returns how it ended.
    pub fn run_out(mut self) -> Stop {
        loop {
            let stop = self.resume(libc::PTRACE_CONT);
            if !stop.exists() {
                return stop;
            }
        }
    }

    /// Kill it and its kin.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.kin.take());
        match &mut self.child {
            Some(child) => drop(child.kill()),
            None if self.gone => return,
            None => signal(self.tid, libc::SIGKILL),
        }
        while !self.gone {
            self.gone = !wait_for(self.tid).1.exists();
        }
        // The traced thread is gone. If it was not the first thread of the process, the process is left.
        if let Some(child) = &mut self.child
            && self.tid != child.id() as i32
        {
            let _ = child.wait();
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        self.end();
    }
}

/// Stop the calling thread for its parent: these stops are the marks between which it is stepped.
pub fn stop_here() {
    // SAFETY: plain system calls; a thread that is traced already gets an error, which does not matter.
    unsafe {
        libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
        libc::raise(libc::SIGSTOP);
    }
}
