//! File descriptors that detect when their number has been reused for another file.
//!
//! A program may close descriptors that it did not open (`os.closerange` of a daemon) and then open its own
//! files, which get the same numbers.
//!
//! 1. Before an operation changes a file, flushes it or locks its bytes, it checks that the descriptor is
//!    still the one that was opened (`Descriptor::ours`): same device and inode, and no later file of this
//!    library has the same number.
//! 2. A descriptor whose number belongs to another file is not closed.
//! 3. Locks of an open file description live as long as a mapping of it (`Keeper`): a process whose
//!    descriptors were closed is not taken for dead. Forked children do not inherit the mapping, since the
//!    locks are not theirs.
//! 4. A descriptor can be retired while other threads may be about to use it (`Held::retire`). Each use is
//!    counted (`Using`), and the descriptor is closed with the last use, so its number never belongs to
//!    another file during a use. A forked child may have counts of its parent's threads: there the descriptor
//!    is closed with its owner.

use crate::error::Error;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

const LOST: &str = "its descriptor was closed by this program and belongs to something else now (os.closerange in a \
                    daemon?); close the store, and open it again after the program has become a daemon";

const CLOSED: &str = "the store is closed";

/// The system call that checks a descriptor failed, so the file was not used.
#[derive(Debug)]
struct Unchecked(io::Error);

impl std::error::Error for Unchecked {}

impl std::fmt::Display for Unchecked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "its descriptor cannot be checked (fstat): {}", self.0)
    }
}

fn unchecked(e: io::Error) -> io::Error {
    io::Error::new(e.kind(), Unchecked(e))
}

/// The last file of this library that got each number. Larger numbers are identified by their files alone.
static NUMBERS: [AtomicU64; 1 << 16] = [const { AtomicU64::new(0) }; 1 << 16];

/// Device and inode: the identity of a file, independent of its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Identity {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

/// Return the identity of an open file.
pub(crate) fn identity(file: &File) -> io::Result<Identity> {
    let m = file.metadata()?;
    Ok(Identity {
        dev: m.dev(),
        ino: m.ino(),
    })
}

/// The check of a descriptor before it is used.
pub(crate) trait Descriptor {
    /// Return the file, if the descriptor is still the one that was opened.
    fn ours(&self) -> io::Result<Using<'_>>;
}

/// A file in use: it is not closed before this value is dropped.
#[derive(Debug)]
pub(crate) struct Using<'f> {
    file: &'f File,
    held: Option<&'f Held>,
}

impl<'f> From<&'f File> for Using<'f> {
    #[inline]
    fn from(file: &'f File) -> Using<'f> {
        Using { file, held: None }
    }
}

impl std::ops::Deref for Using<'_> {
    type Target = File;

    #[inline]
    fn deref(&self) -> &File {
        self.file
    }
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held {
            held.end_use();
        }
    }
}

/// A plain `File` was just opened by its owner, so it needs no check.
impl Descriptor for File {
    #[inline]
    fn ours(&self) -> io::Result<Using<'_>> {
        Ok(self.into())
    }
}

impl<T: Descriptor> Descriptor for Arc<T> {
    fn ours(&self) -> io::Result<Using<'_>> {
        (**self).ours()
    }
}

/// A file that stays open for long.
#[derive(Debug)]
pub(crate) struct Held {
    file: ManuallyDrop<File>,
    id: Identity,
    /// The error number of the call that did not return the identity; 0: there is one.
    unidentified: i32,
    serial: u64,
    /// The number of uses in progress, and the flags `RETIRED` and `GONE`.
    uses: AtomicU32,
}

/// Flag in `uses`: no further use begins.
const RETIRED: u32 = 1 << 31;
/// Flag in `uses`: the descriptor is closed.
const GONE: u32 = 1 << 30;

impl Held {
    /// Wrap an open descriptor. If it cannot be identified, each use returns that error.
    pub(crate) fn new(file: File) -> Held {
        let (id, unidentified) = match identity(&file) {
            Ok(id) => (id, 0),
            Err(e) => (Identity { dev: 0, ino: 0 }, e.raw_os_error().unwrap_or(libc::EIO)),
        };
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        if let Some(last) = NUMBERS.get(file.as_raw_fd() as usize) {
            last.store(serial, Ordering::Relaxed);
        }
        Held {
            file: ManuallyDrop::new(file),
            id,
            unidentified,
            serial,
            uses: AtomicU32::new(0),
        }
    }

    /// Return the file for one use. Does not check that the descriptor is still the one that was opened.
    pub(crate) fn using(&self) -> crate::error::Result<Using<'_>> {
        self.begin_use().ok_or(Error::Closed)
    }

    fn begin_use(&self) -> Option<Using<'_>> {
        if self.uses.fetch_add(1, Ordering::SeqCst) & RETIRED != 0 {
            self.end_use();
            return None;
        }
        Some(Using {
            file: &self.file,
            held: Some(self),
        })
    }

    fn end_use(&self) {
        if self.uses.fetch_sub(1, Ordering::SeqCst) == RETIRED | 1 {
            self.close_unused();
        }
    }

    /// Close the descriptor: at once, or with the last use in progress.
    pub(crate) fn retire(&self) {
        if self.uses.fetch_or(RETIRED, Ordering::SeqCst) == 0 {
            self.close_unused();
        }
    }

    /// Close a retired descriptor if nothing uses it. If several threads find it unused, one of them closes
    /// it.
    fn close_unused(&self) {
        let gone = self
            .uses
            .compare_exchange(RETIRED, RETIRED | GONE, Ordering::SeqCst, Ordering::SeqCst);
        if gone.is_ok() && self.is_ours() {
            // SAFETY: the descriptor is still the one that was opened, nothing uses it or can use it any
            // more, and the exchange above set `GONE` exactly once. `drop` checks that flag.
            unsafe { libc::close(self.file.as_raw_fd()) };
        }
    }

    /// Return whether the descriptor is still the one that was opened, or the error of the call that checks it.
    fn check(&self) -> io::Result<bool> {
        let number = NUMBERS.get(self.file.as_raw_fd() as usize);
        if number.is_some_and(|last| last.load(Ordering::Relaxed) != self.serial) {
            return Ok(false);
        }
        match identity(&self.file) {
            Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(false),
            Err(e) => Err(e),
            Ok(_) if self.unidentified != 0 => Err(io::Error::from_raw_os_error(self.unidentified)),
            Ok(id) => Ok(id == self.id),
        }
    }

    /// Return whether the descriptor may be closed.
    fn is_ours(&self) -> bool {
        match self.check() {
            Ok(ours) => ours,
            // No later file of this library has the number, and nothing else is known: the open has just failed.
            Err(_) => self.unidentified != 0,
        }
    }

    /// Return the file, for an owner that is the only one to retire it.
    pub(in crate::raw) fn raw(&self) -> &File {
        &self.file
    }

    pub(crate) fn id(&self) -> Identity {
        self.id
    }
}

impl Descriptor for Held {
    fn ours(&self) -> io::Result<Using<'_>> {
        let using = self.begin_use().ok_or_else(|| io::Error::other(CLOSED))?;
        match self.check() {
            Ok(true) => Ok(using),
            Ok(false) => Err(io::Error::other(LOST)),
            Err(e) => Err(unchecked(e)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.uses.load(Ordering::SeqCst) & GONE == 0 && self.is_ours() {
            // SAFETY: dropped here, once, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

/// Return whether an error says that the file was not used: its descriptor now belongs to another file, or cannot be
/// checked.
pub(crate) fn is_unused(e: &io::Error) -> bool {
    e.get_ref()
        .is_some_and(|inner| inner.is::<Unchecked>() || inner.to_string() == LOST)
}

/// Return the file, or an error that names it.
pub(crate) fn ours<'f>(file: &'f impl Descriptor, what: &str) -> crate::error::Result<Using<'f>> {
    file.ours().map_err(|e| match e.get_ref() {
        Some(inner) if inner.to_string() == CLOSED => Error::Closed,
        _ => Error::io(what, e),
    })
}

/// Keeps an open file description, and so its locks, in this process alone until the owner gives it up.
#[derive(Debug)]
pub(crate) struct Keeper {
    at: AtomicUsize,
    forks: u32,
}

/// The length of a mapping that is never accessed.
const LEN: usize = crate::ids::PAGE_SIZE;

impl Keeper {
    /// Map the file. If it cannot be mapped, the locks end with the descriptor.
    pub(crate) fn new(file: &File, forks: u32) -> Keeper {
        // SAFETY: a new mapping without read or write access, at an address that the kernel chooses.
        let at = unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
            let at = libc::mmap(
                std::ptr::null_mut(),
                LEN,
                libc::PROT_NONE,
                flags,
                file.as_raw_fd(),
                0,
            );
            if at == libc::MAP_FAILED {
                0
            } else if libc::madvise(at, LEN, libc::MADV_DONTFORK) != 0 {
                libc::munmap(at, LEN);
                0
            } else {
                at as usize
            }
        };
        Keeper {
            at: AtomicUsize::new(at),
            forks,
        }
    }

    /// Return a keeper that keeps nothing.
    pub(crate) fn none() -> Keeper {
        Keeper {
            at: AtomicUsize::new(0),
            forks: 0,
        }
    }

    /// End the mapping, so that the description ends with its descriptor. `forks` is the current fork
    /// generation of the process.
    pub(crate) fn give_up(&self, forks: u32) {
        let at = self.at.swap(0, Ordering::SeqCst);
        // A forked child does not have this mapping: its address may hold something else.
        if at != 0 && self.forks == forks {
            // SAFETY: the mapping that `new` made; the word was taken, so it is unmapped once.
            unsafe { libc::munmap(at as *mut libc::c_void, LEN) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::files::file::Ofd;
    use crate::raw::files::file::ofd_is_held;
    use crate::raw::files::file::ofd_lock;
    use std::io::{Read, Write};
    use std::os::fd::FromRawFd;

    #[test]
    fn a_descriptor_that_is_anothers_is_neither_used_nor_closed() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(dir.path().join(name)).unwrap()
        };
        for same_file in [false, true] {
            let held = Held::new(open("ours"));
            let fd = held.raw().as_raw_fd();
            assert!(held.ours().is_ok());
            // Close the descriptor as `os.closerange` does, then open a file of the program's own.
            let theirs = open(if same_file { "ours" } else { "theirs" });
            // SAFETY: plain system calls on descriptors of this test.
            unsafe { libc::dup2(theirs.as_raw_fd(), fd) };
            drop(theirs);
            // SAFETY: the descriptor was just made and has no other owner.
            let theirs = unsafe { File::from_raw_fd(fd) };
            let mut theirs = if same_file {
                // Another file of this library, with the same identity.
                Held::new(theirs).into_file()
            } else {
                theirs
            };
            let e = held.ours().unwrap_err();
            assert!(is_unused(&e) && e.to_string() == LOST, "{e}");
            drop(held);
            theirs.write_all(b"x").unwrap();
            assert!(theirs.read(&mut [0]).is_ok());
        }
    }

    /// Uses in progress keep the number from being given to another file.
    #[test]
    fn a_retired_descriptor_is_closed_with_its_last_use() {
        let dir = tempfile::tempdir().unwrap();
        let held = Held::new(File::create_new(dir.path().join("a")).unwrap());
        let fd = held.raw().as_raw_fd();
        // SAFETY: a plain system call.
        let is_open = || unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0 && held.is_ours();
        let (one, two) = (held.using().unwrap(), held.ours().unwrap());
        held.retire();
        assert!(matches!(held.using(), Err(Error::Closed)) && held.ours().is_err());
        drop(one);
        assert!(is_open());
        drop(two);
        assert!(!is_open());
        assert!(matches!(ours(&held, "x"), Err(Error::Closed)));
        held.retire();
    }

    #[test]
    fn locks_outlive_their_descriptor_and_go_when_they_are_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let (file, other) = (
            File::create_new(&path).unwrap(),
            File::options().write(true).open(&path).unwrap(),
        );
        let keeper = Keeper::new(&file, 0);
        assert!(ofd_lock(&file, 5, Ofd::Exclusive).unwrap());
        drop(file);
        assert!(ofd_is_held(&other, 5, Ofd::Exclusive).unwrap());
        keeper.give_up(0);
        assert!(!ofd_is_held(&other, 5, Ofd::Exclusive).unwrap());
    }

    impl Held {
        /// For the test above: the number stays recorded as this file's.
        fn into_file(self) -> File {
            let mut this = ManuallyDrop::new(self);
            // SAFETY: `this` is not dropped, so the file is taken once.
            unsafe { ManuallyDrop::take(&mut this.file) }
        }
    }
}
