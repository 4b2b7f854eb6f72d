//! Open files: what a reader has read, and what a writer has written but not yet stored.
//!
//! 1. A file that is read from its beginning gives one value to its end, regardless of replacements during the read
//!    (except values over 64 KiB, which are read in place). What a command writes in place is seen by the next read.
//! 2. A write in place is stored at once (`requests::content::in_place`). Content that is built aside belongs to the
//!    open file until a process that has written closes it (`requests::content::close`), fsync or the end of the mount.
//!    Then it replaces the value in one operation. Of two writers that both truncated the file, the last to close wins.
//! 3. A new file has one content for all that open it, and one size for all that ask for it: `State` is shared.
//! 4. The mutex of an open file is taken before any section of the store. A thread that must not wait only tries it.

use super::by_number::ByNumber;
use super::draft::Draft;
use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult};
use crate::fs::text::scalars::Ty;
use persist_core::store::Large;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::SystemTime;

/// An open file.
pub(crate) struct OpenFile {
    /// Its inode.
    pub(crate) ino: u64,
    /// The thread that opened it.
    pub(crate) opener: u32,
    /// Opened with O_APPEND.
    pub(crate) append: bool,
    /// Opened for writing.
    pub(crate) write: bool,
    /// A command has changed the value in place since the last read.
    changed: AtomicBool,
    content: Arc<Content>,
}

/// The content of an open file, or of all open files of a new one.
#[derive(Default)]
struct Content {
    state: Mutex<State>,
    /// The size and time of the content that is built aside: for `stat`, which does not take the mutex of the state.
    written: Mutex<Option<Written>>,
}

/// The size of what is built aside, and its time.
#[derive(Clone, Copy)]
struct Written {
    size: u64,
    /// When it was last written.
    at: SystemTime,
    /// The thread that sees this; None: all do, since the file is new.
    tid: Option<u32>,
}

/// The state of an open file.
#[derive(Default, Debug)]
pub(crate) struct State {
    /// The content in this file; None: not read yet.
    pub(crate) data: Option<Arc<Vec<u8>>>,
    /// A long content that is built aside, instead of `data`.
    pub(crate) draft: Option<Draft>,
    /// A large value, which is read in place.
    pub(crate) large: Option<Large>,
    /// The content is built aside and replaces the value.
    pub(crate) aside: bool,
    /// The content was changed and not stored.
    pub(crate) dirty: bool,
    /// The first write met no lock that forbids the change. (Later writes before the close do not wait either.)
    pub(crate) in_turn: bool,
    /// The first write was refused, and its program got the error. The truncation by the open is not stored either, so
    /// the old value stays.
    pub(crate) refused: bool,
    /// The processes that wrote what is not stored.
    pub(crate) writers: Writers,
    /// The bytes of a character at the end that is not complete yet. All others are stored.
    pub(crate) cut: Option<Cut>,
    /// O_APPEND: the length of `data` before the writes, and its fingerprint.
    pub(crate) base: Option<(usize, u64)>,
    /// This open created the file: its type is decided at the last write.
    pub(crate) created: bool,
    /// The type it had when it was opened.
    pub(crate) ty: Option<Ty>,
    /// The type that a new file may take over.
    pub(crate) hint: Option<Ty>,
    /// The store's change count when the content was read.
    pub(crate) loaded_at: Option<u64>,
    /// Where the last read ended.
    pub(crate) read_end: u64,
    /// The last read reached the end of the file.
    pub(crate) at_end: bool,
}

impl State {
    /// The length of the content that is built aside.
    pub(crate) fn built(&self) -> u64 {
        match (&self.draft, &self.data) {
            (Some(draft), _) => draft.len,
            (None, data) => data.as_ref().map_or(0, |data| data.len() as u64),
        }
    }
}

/// The first bytes of a character at the end of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    /// Where they are; None: at the end of the file, wherever that is (O_APPEND).
    pub(crate) at: Option<u64>,
    pub(crate) bytes: Vec<u8>,
}

impl Cut {
    /// The offset after them.
    pub(crate) fn end(&self) -> Option<u64> {
        self.at.map(|at| at + self.bytes.len() as u64)
    }
}

/// The open files.
#[derive(Default)]
pub(crate) struct OpenFiles {
    table: Mutex<ByNumber<u64, Arc<OpenFile>>>,
    inodes: Mutex<ByNumber<u64, Vec<u64>>>,
    last: AtomicU64,
}

/// The processes that wrote into a content since it was stored, by the kernel's numbers of their descriptor tables.
#[derive(Default, Debug)]
pub(crate) struct Writers {
    known: Vec<u64>,
    /// Others too, which the kernel did not name (of a shared mapping).
    any: bool,
}

impl Writers {
    /// Add a process (None: one that the kernel does not name).
    pub(crate) fn add(&mut self, owner: Option<u64>) {
        match owner {
            Some(owner) if !self.known.contains(&owner) && self.known.len() < 64 => self.known.push(owner),
            Some(owner) => self.any |= !self.known.contains(&owner),
            None => self.any = true,
        }
    }

    /// True if no process wrote.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty() && !self.any
    }

    /// True if this process may have written.
    pub(crate) fn include(&self, owner: u64) -> bool {
        self.any || self.known.contains(&owner)
    }

    /// The content is stored.
    pub(crate) fn clear(&mut self) {
        *self = Writers::default();
    }
}

impl OpenFile {
    /// The state. Waits for it only if the request may wait.
    pub(crate) fn state(&self, ctx: &Ctx) -> FsResult<MutexGuard<'_, State>> {
        if ctx.may_wait {
            return Ok(lock(&self.content.state));
        }
        match self.content.state.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(p)) => Ok(p.into_inner()),
            Err(TryLockError::WouldBlock) => Err(FsError::Blocked),
        }
    }

    /// True if a command has changed the value in place since this was last asked.
    pub(crate) fn take_change(&self) -> bool {
        self.changed.load(Ordering::Relaxed) && self.changed.swap(false, Ordering::Relaxed)
    }

    /// Undo `take_change`: the changed value was not read.
    pub(crate) fn put_change_back(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Record the size of what is built aside, which `stat` shows to this thread, or to all if the file is new.
    pub(crate) fn note_written(&self, tid: Option<u32>, size: Option<u64>) {
        let at = SystemTime::now();
        *lock(&self.content.written) = size.map(|size| Written { size, at, tid });
    }
}

impl OpenFiles {
    /// Register an open file with a content of its own.
    pub(crate) fn add(&self, ino: u64, flags: i32, opener: u32, state: State) -> u64 {
        let content = Content {
            state: Mutex::new(state),
            ..Content::default()
        };
        self.register(ino, flags, opener, Arc::new(content))
    }

    /// Register an open file of a new file that is being built aside, if this is one.
    pub(crate) fn add_to_new(&self, ino: u64, flags: i32, opener: u32) -> Option<u64> {
        let open = self.of_inode(ino);
        let shared = open.iter().find(|h| {
            let written = lock(&h.content.written);
            written.is_some_and(|written| written.tid.is_none())
        })?;
        Some(self.register(ino, flags, opener, Arc::clone(&shared.content)))
    }

    /// The size and time of a new file that is being built aside: all that ask for it see these.
    pub(crate) fn size_of_new(&self, ino: u64) -> Option<(u64, SystemTime)> {
        let open = self.of_inode(ino);
        open.iter().find_map(|h| {
            let written = *lock(&h.content.written);
            written
                .filter(|written| written.tid.is_none())
                .map(|written| (written.size, written.at))
        })
    }

    /// An open file, open for writing, of a new file that is being built aside.
    pub(crate) fn new_of(&self, ino: u64) -> Option<u64> {
        let numbers = lock(&self.inodes).get(&ino).cloned().unwrap_or_default();
        numbers.into_iter().find(|fh| {
            self.get(*fh).is_ok_and(|h| {
                let written = lock(&h.content.written);
                h.write && written.is_some_and(|written| written.tid.is_none())
            })
        })
    }

    fn register(&self, ino: u64, flags: i32, opener: u32, content: Arc<Content>) -> u64 {
        let fh = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let handle = OpenFile {
            ino,
            opener,
            append: flags & libc::O_APPEND != 0,
            write: flags & libc::O_ACCMODE != libc::O_RDONLY,
            changed: AtomicBool::new(false),
            content,
        };
        lock(&self.table).insert(fh, Arc::new(handle));
        lock(&self.inodes).entry(ino).or_default().push(fh);
        fh
    }

    /// An open file.
    pub(crate) fn get(&self, fh: u64) -> FsResult<Arc<OpenFile>> {
        lock(&self.table)
            .get(&fh)
            .cloned()
            .ok_or(FsError::Errno(libc::EBADF))
    }

    /// Remove an open file.
    pub(crate) fn remove(&self, fh: u64) -> Option<Arc<OpenFile>> {
        let handle = lock(&self.table).remove(&fh)?;
        let mut inodes = lock(&self.inodes);
        if let Some(open) = inodes.get_mut(&handle.ino) {
            open.retain(|f| *f != fh);
            if open.is_empty() {
                inodes.remove(&handle.ino);
            }
        }
        Some(handle)
    }

    /// The inodes that are open.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        lock(&self.inodes).keys().copied().collect()
    }

    /// True if an inode is open.
    pub(crate) fn has(&self, ino: u64) -> bool {
        lock(&self.inodes).contains_key(&ino)
    }

    /// The open files of an inode.
    pub(crate) fn of_inode(&self, ino: u64) -> Vec<Arc<OpenFile>> {
        let open = lock(&self.inodes).get(&ino).cloned();
        let Some(open) = open else { return Vec::new() };
        let table = lock(&self.table);
        open.iter().filter_map(|fh| table.get(fh).cloned()).collect()
    }

    /// True for a file that is open for writing.
    pub(crate) fn is_written(&self, ino: u64) -> bool {
        let open = lock(&self.inodes).get(&ino).cloned();
        open.is_some_and(|open| {
            let table = lock(&self.table);
            open.iter()
                .any(|fh| table.get(fh).is_none_or(|handle| handle.write))
        })
    }

    /// The size and time that a thread sees of a file whose content is built aside.
    pub(crate) fn written_size(&self, ino: u64, fh: Option<u64>, tid: u32) -> Option<(u64, SystemTime)> {
        if let Some(handle) = fh.and_then(|fh| self.get(fh).ok()) {
            let written = lock(&handle.content.written);
            if let Some(written) = *written {
                return Some((written.size, written.at));
            }
        }
        let open = self.of_inode(ino);
        open.iter().find_map(|h| {
            let written = lock(&h.content.written);
            written
                .filter(|written| written.tid.is_none_or(|writer| writer == tid))
                .map(|written| (written.size, written.at))
        })
    }

    /// Record that the value of an inode was changed in place.
    pub(crate) fn note_change(&self, ino: u64) {
        let open = lock(&self.inodes).get(&ino).cloned().unwrap_or_default();
        if !open.is_empty() {
            let table = lock(&self.table);
            for handle in open.iter().filter_map(|fh| table.get(fh)) {
                handle.changed.store(true, Ordering::Relaxed);
            }
        }
    }

    /// All open files.
    pub(crate) fn all(&self) -> Vec<Arc<OpenFile>> {
        lock(&self.table).values().cloned().collect()
    }

    /// Remove and return all open files.
    pub(crate) fn drain(&self) -> Vec<Arc<OpenFile>> {
        lock(&self.inodes).clear();
        lock(&self.table).drain().map(|(_, handle)| handle).collect()
    }
}
