//! System calls of the tests of disks and faults.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Prevent a core file of this process.
pub fn no_core() {
    set_limit(libc::RLIMIT_CORE, 0);
}

/// Set a resource limit of this process.
pub fn set_limit(what: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is valid for the call.
    assert_eq!(unsafe { libc::setrlimit(what, &raw const limit) }, 0);
}

/// Raise the limit of open descriptors.
pub fn allow_descriptors(count: u64) {
    // SAFETY: plain system calls with a structure that lives long enough.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        if limit.rlim_cur < count {
            limit.rlim_max = limit.rlim_max.max(count);
            limit.rlim_cur = count;
            let done = libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
            assert_eq!(done, 0, "this test needs {count} descriptors (ulimit -n)");
        }
    }
}

/// Let this user start no more threads and processes, or as many as before. Without effect for root.
pub fn allow_threads(allow: bool) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit), 0);
        limit.rlim_cur = if allow { limit.rlim_max } else { 0 };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit), 0);
    }
}

/// A figure of this process's memory, in KiB.
pub fn status(name: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = all.lines().find_map(|l| l.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Mappings of files named `*.store*` in this process.
pub fn mappings() -> usize {
    let all = std::fs::read_to_string("/proc/self/maps").unwrap();
    all.lines().filter(|l| l.contains(".store")).count()
}

fn limit_files(most: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = most.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

/// Allow this process to open one more file, but not two.
pub fn allow_one_more_file() {
    allow_more_files(1);
}

/// Allow this process to have this many more files open.
pub fn allow_more_files(n: u64) {
    let free = File::open("/dev/null").unwrap().as_raw_fd();
    limit_files(free as u64 + n);
}

/// Permanently drop root's rights from this process: root may write whatever the modes are.
pub fn become_unprivileged() {
    const UNPRIVILEGED: u32 = 65534;
    // SAFETY: plain system calls.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setgid(UNPRIVILEGED), 0);
            assert_eq!(libc::setuid(UNPRIVILEGED), 0);
        }
    }
}

/// Raise the limit of open files to the hard limit.
pub fn allow_files() {
    limit_files(u64::MAX);
}

/// Installs a handler of SIGBUS that ends the process with status 7.
pub fn exit_on_bus() {
    extern "C" fn leave(_: i32) {
        // SAFETY: ends the process; allowed in a handler.
        unsafe { libc::_exit(7) }
    }
    let handler: extern "C" fn(i32) = leave;
    // SAFETY: a handler with the signature that `signal` requires.
    unsafe {
        libc::signal(libc::SIGBUS, handler as usize);
    }
}

/// Restore the default action of SIGBUS.
pub fn default_bus() {
    // SAFETY: a plain system call.
    unsafe {
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
}

/// Read a page of a mapping that is beyond the end of its file.
pub fn touch_missing_page(path: &Path) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    // SAFETY: a new mapping, of which one byte is read. The read ends the process, which is the purpose.
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        assert_ne!(at, libc::MAP_FAILED);
        std::ptr::read_volatile(at.cast::<u8>());
    }
}

/// Drop a file from the page cache.
pub fn forget_pages(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    // SAFETY: a plain system call.
    let done = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(done, 0);
}

/// The disk block of a block of a file.
pub fn block_of(path: &Path, block: u32) -> u32 {
    const FIBMAP: libc::c_ulong = 1;
    let file = File::open(path).unwrap();
    let mut at = block as libc::c_int;
    // SAFETY: FIBMAP reads and writes one int.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), FIBMAP as _, &raw mut at) };
    assert_eq!(done, 0, "FIBMAP: {}", std::io::Error::last_os_error());
    at as u32
}

/// Sends the calling thread a signal.
pub fn raise(signal: i32) {
    // SAFETY: a plain system call.
    unsafe {
        libc::raise(signal);
    }
}

/// Remove the attribute by which a store file names its sidecar.
pub fn forget_session(store: &Path) {
    let path = std::ffi::CString::new(store.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: two C strings.
    let done = unsafe { libc::removexattr(path.as_ptr(), c"user.persist.session".as_ptr()) };
    let e = std::io::Error::last_os_error().raw_os_error();
    assert!(
        done == 0 || matches!(e, Some(libc::ENODATA | libc::EOPNOTSUPP)),
        "{e:?}"
    );
}

/// The attribute by which a store names its sidecar.
pub fn session(store: &Path) -> Option<Vec<u8>> {
    let path = std::ffi::CString::new(store.as_os_str().as_encoded_bytes()).unwrap();
    let mut value = vec![0u8; 8192];
    // SAFETY: both names are C strings; the buffer is writable and has the given length.
    let n = unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"user.persist.session".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(n).ok()?);
    Some(value)
}

/// Sets that attribute.
pub fn set_session(store: &Path, value: &[u8]) {
    let path = std::ffi::CString::new(store.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: both names are C strings; the value is readable and has the given length.
    let done = unsafe {
        libc::setxattr(
            path.as_ptr(),
            c"user.persist.session".as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
