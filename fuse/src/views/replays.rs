//! The replays of changes for inotify: which process makes them (`watch::replayer`), and which one is expected. Its
//! requests are answered in `replaying`.
//!
//! 1. A request of that process never changes the store. One that would change something is answered, without doing
//!    anything, if it is the one that is expected now; otherwise with EPERM.
//! 2. One replay is expected at a time, and answered once.
//! 3. The kernel believes the answers, so they are right as far as possible: an entry that exists has its inode, and
//!    attributes are the present ones. An entry that is gone, or gone again, is represented by an inode number of its
//!    own (the stand-in), which the next lookup of the name replaces.
//! 4. An inode of a directory is never removed in the kernel (`rmdir` would mark it dead, and the directory may come
//!    back under another name): the stand-in is. `Act::Vanish` shows the directory without links, so that its watchers
//!    see the end of its old name as its own.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsResult, errno};
use crate::fs::known::inodes::placeholder;
use crate::fs::tree::metadata::attributes::NodeKind;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The open file of a replay.
pub(crate) const REPLAY_FH: u64 = u64::MAX;

/// What is replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    /// An entry of this kind was made.
    Create(NodeKind),
    /// An entry of this kind was removed. It had this inode, if the kernel still holds it.
    Remove(NodeKind, Option<u64>),
    /// The value of a file was changed. The kernel may hold its inode, and then need not look it up.
    Modify(Option<u64>),
    /// Attributes were changed, of the directory itself.
    Metadata,
    /// A directory with this inode was removed, or moved: it is shown once more, without links.
    Vanish(u64),
    /// Nothing: find out whether requests of the process are recognized.
    Hello,
}

/// The replay that is expected.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) dir: u64,
    pub(super) name: Vec<u8>,
    pub(super) act: Act,
    /// The inode number of an entry that does not exist.
    pub(super) placeholder: u64,
    /// The inode that may be opened and changed.
    pub(super) shown: Option<u64>,
    pub(super) done: bool,
}

/// The replays of a mount.
#[derive(Default)]
pub(crate) struct Replays {
    /// The process that replays; 0: none.
    pid: AtomicU32,
    expected: Mutex<Option<Expected>>,
    count: AtomicU64,
    /// The inodes of the directories whose changes are replayed.
    dirs: Mutex<HashSet<u64>>,
}

impl Replays {
    /// Take this process as the one that replays. The caller is its parent, and calls this with 0 before it awaits its
    /// end, so that the number means this process.
    pub(crate) fn come_from(&self, pid: u32) {
        self.pid.store(pid, Ordering::SeqCst);
    }

    /// Set the directories whose changes are replayed.
    pub(crate) fn set_dirs(&self, dirs: HashSet<u64>) {
        *lock(&self.dirs) = dirs;
    }

    /// Return whether changes of a directory are replayed.
    pub(crate) fn are_in(&self, dir: u64) -> bool {
        self.pid.load(Ordering::Relaxed) != 0 && lock(&self.dirs).contains(&dir)
    }

    /// Return whether a request is of the process that replays.
    pub(crate) fn are_of(&self, ctx: &Ctx) -> bool {
        ctx.tid != 0 && ctx.tid == self.pid.load(Ordering::Relaxed)
    }

    /// Expect a replay: of an entry of a directory, or of the directory itself (`Act::Metadata`).
    pub(crate) fn expect(&self, dir: u64, name: &[u8], act: Act) {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        *lock(&self.expected) = Some(Expected {
            dir,
            name: name.to_vec(),
            act,
            placeholder: placeholder(count),
            shown: match act {
                Act::Metadata => Some(dir),
                Act::Modify(ino) => ino,
                _ => None,
            },
            done: false,
        });
    }

    /// Expect nothing any more.
    pub(crate) fn end(&self) {
        *lock(&self.expected) = None;
    }

    pub(super) fn present(&self) -> Option<Expected> {
        lock(&self.expected).clone()
    }

    pub(super) fn of_name(&self, dir: u64, name: &[u8]) -> Option<Expected> {
        self.present().filter(|e| e.dir == dir && e.name == name)
    }

    pub(super) fn show(&self, ino: u64) {
        if let Some(expected) = &mut *lock(&self.expected) {
            expected.shown = Some(ino);
        }
    }

    /// Answer the replay, once.
    pub(super) fn finish(&self, dir: u64, name: &[u8], fits: impl Fn(Act) -> bool) -> FsResult<()> {
        match &mut *lock(&self.expected) {
            Some(e) if e.dir == dir && e.name == name && !e.done && fits(e.act) => {
                e.done = true;
                Ok(())
            }
            _ => errno(libc::EPERM),
        }
    }
}
