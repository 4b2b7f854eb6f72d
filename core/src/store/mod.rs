//! The store: opens files, ties the layers, and is the public Rust API.
//! (Signatures first; the bodies come with the engine.)

use std::path::Path;
use std::time::Duration;

pub use crate::error::{Error, Result};
pub use crate::ids::{Obj, ObjectId};
pub use crate::object::header::Kind;
pub use crate::object::value::{COPY_MAX, Entry, In, Key, Large, LargeKind, Small, Step, Value};

/// How much a completed operation survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Process death at once, power loss back to the last checkpoint (the default).
    #[default]
    Checkpoint,
    /// Power loss too: every completed operation is flushed before it returns.
    Commit,
    /// Process death only; nothing is ever flushed by persist.
    None,
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Open for reading only.
    pub read_only: bool,
    /// Create the file if it is missing (ignored when reading only).
    pub create: bool,
    /// See `Durability`.
    pub durability: Durability,
    /// How long a change waits for a foreign lock, and anything for the latch. Default 30 s.
    pub lock_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { read_only: false, create: true, durability: Durability::Checkpoint, lock_timeout: Duration::from_secs(30) }
    }
}

/// Who acts: decides which locks are one's own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Actor {
    /// The calling thread (Python).
    Thread,
    /// An open file description on the mount that holds flock locks (the kernel's lock owner).
    Flock(u64),
    /// A process that holds fcntl locks through the mount (the kernel's lock owner).
    Posix(u64),
    /// A plain command on the mount: holds nothing; locks held through a mount do not stop it.
    Command,
}

/// How long, and how, to wait.
pub struct Wait<'a> {
    /// None: for ever. Some(0): do not wait, answer `Error::WouldBlock`/`Error::Timeout` at once.
    pub timeout: Option<Duration>,
    /// Asked about every 20 ms while waiting; true ends the wait with `Error::Interrupted`.
    pub interrupted: Option<&'a mut dyn FnMut() -> bool>,
}

impl Wait<'static> {
    /// Wait at most this long.
    #[must_use]
    pub fn at_most(timeout: Duration) -> Wait<'static> {
        Wait { timeout: Some(timeout), interrupted: None }
    }
    /// Do not wait: `Error::WouldBlock` where one would have to.
    #[must_use]
    pub fn never() -> Wait<'static> {
        Wait::at_most(Duration::ZERO)
    }
    /// Wait for ever.
    #[must_use]
    pub fn forever() -> Wait<'static> {
        Wait { timeout: None, interrupted: None }
    }
}

/// Shared or exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LockMode {
    /// Shared: keeps changes out.
    Shared,
    /// Exclusive: keeps changes and other locks out.
    Exclusive,
}

/// What to lock: a container, or one entry of it.
#[derive(Clone, Copy, Debug)]
pub struct LockTarget<'a> {
    /// The container.
    pub obj: Obj,
    /// One entry of it (a dict key or attribute), or the whole container.
    pub key: Option<Key<'a>>,
}

/// Figures about a store.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stat {
    /// Number of the last checkpoint.
    pub checkpoint: u64,
    /// Pages of the file.
    pub file_pages: u64,
    /// Physical pages known to be free.
    pub free_pages: u64,
    /// Logical pages in use.
    pub logical_pages: u64,
    /// Pages changed since the last checkpoint.
    pub dirty_pages: u64,
    /// Processes that have the store open.
    pub processes: u64,
    /// Containers waiting to be freed.
    pub orphans: u64,
}

/// An open store. Cheap to clone; all methods may be called from any thread.
#[derive(Clone)]
pub struct Store {
    _todo: (),
}

/// A read section: what `Store::read` hands to its closure. Copy out what you need and leave soon.
pub struct Reader<'s> {
    _todo: std::marker::PhantomData<&'s ()>,
}

/// A write section: what `Store::write` hands to its closure. Everything a `Reader` can, and
/// changes. All of them take effect together, or none if the closure returns an error.
pub struct Writer<'s> {
    _todo: std::marker::PhantomData<&'s ()>,
}

#[allow(unused_variables, clippy::missing_errors_doc)]
impl Store {
    /// Opens (and creates) a store.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Store> { todo!() }
    /// The root dict.
    #[must_use] pub fn root(&self) -> Obj { todo!() }
    /// The path the store was opened by, made absolute.
    #[must_use] pub fn path(&self) -> &Path { todo!() }
    /// Runs `f` in a read section. `f` may be run again (a transaction was in the way): it must
    /// only copy out. Inside it: no Python, no blocking, no other call of the store.
    /// Waits (for a writer's section, for a foreign transaction's end) as `wait` says.
    pub fn read<R>(&self, wait: &mut Wait<'_>, f: impl FnMut(&Reader<'_>) -> Result<R>) -> Result<R> { todo!() }
    /// Runs `f` in a write section and commits, or rolls back to before the call on an error. In a
    /// transaction of this thread it is a part of it. `f` may be run again (a lock was in the way).
    pub fn write<R>(&self, actor: Actor, wait: &mut Wait<'_>, f: impl FnMut(&mut Writer<'_>) -> Result<R>) -> Result<R> { todo!() }
    /// Starts a transaction on this thread: takes the latch and keeps it. Nested calls count up;
    /// only the outermost commit commits.
    pub fn begin(&self, wait: &mut Wait<'_>) -> Result<()> { todo!() }
    /// Ends this thread's transaction.
    pub fn commit(&self) -> Result<()> { todo!() }
    /// Undoes this thread's whole transaction (all nesting levels).
    pub fn rollback(&self) -> Result<()> { todo!() }
    /// True while this thread has a transaction open.
    #[must_use] pub fn in_transaction(&self) -> bool { todo!() }
    /// Takes a lock. Re-entrant; shared to exclusive upgrades.
    /// `Error::Timeout`, `Error::Deadlock`, `Error::Conflict` (would wait inside a transaction).
    pub fn lock(&self, actor: Actor, target: LockTarget<'_>, mode: LockMode, wait: &mut Wait<'_>) -> Result<()> { todo!() }
    /// Releases one level of a lock.
    pub fn unlock(&self, actor: Actor, target: LockTarget<'_>) -> Result<()> { todo!() }
    /// Sets the lock of an actor of the mount to exactly this mode, or none: flock and fcntl
    /// convert and do not count.
    pub fn set_lock(&self, actor: Actor, target: LockTarget<'_>, mode: Option<LockMode>, wait: &mut Wait<'_>) -> Result<()> { todo!() }
    /// Whether taking the lock would have to wait, and for whom (for F_GETLK): holder's pid, mode.
    pub fn test_lock(&self, actor: Actor, target: LockTarget<'_>, mode: LockMode) -> Result<Option<(u32, LockMode)>> { todo!() }
    /// Releases everything an actor of the mount holds.
    pub fn unlock_all(&self, actor: Actor) -> Result<()> { todo!() }
    /// Makes everything completed so far survive power loss (a checkpoint).
    pub fn sync(&self) -> Result<()> { todo!() }
    /// Collects unreachable cycles and frees what waits to be freed. Number of containers freed.
    pub fn gc(&self) -> Result<u64> { todo!() }
    /// Figures.
    pub fn stat(&self) -> Result<Stat> { todo!() }
    /// Releases one pin (see `Reader::pin`). May be called anywhere outside a section, by any
    /// thread; never waits (what cannot be done at once is queued).
    pub fn unpin(&self, obj: Obj) { todo!() }
    /// A number that changes with every completed change of the store by anyone (one load): for
    /// caches and for a mount that has to notice changes from outside.
    #[must_use] pub fn change_count(&self) -> u64 { todo!() }
    /// Closes: further calls answer `Error::Closed`. The last process to close checkpoints.
    pub fn close(&self) -> Result<()> { todo!() }
}

#[allow(unused_variables, clippy::missing_errors_doc, clippy::len_without_is_empty)]
impl Reader<'_> {
    /// Pins a container: its memory stays until `Store::unpin`, though nothing refers to it any
    /// more. Pins count per process and end with it.
    pub fn pin(&self, obj: Obj) -> Result<()> { todo!() }
    /// The kind; `Error::Gone` if the object is no more (all methods below check that).
    pub fn kind(&self, obj: Obj) -> Result<Kind> { todo!() }
    /// Number of entries, items or attributes.
    pub fn len(&self, obj: Obj) -> Result<u64> { todo!() }
    /// Time of the last change, nanoseconds since 1970.
    pub fn mtime(&self, obj: Obj) -> Result<u64> { todo!() }
    /// Number of references from containers.
    pub fn refs(&self, obj: Obj) -> Result<u64> { todo!() }
    /// An object's class, `module:qualname`; "" for a generic object; None for other kinds.
    pub fn class(&self, obj: Obj) -> Result<Option<String>> { todo!() }
    /// The container that shows this one, and the step from it. None for the root and for objects
    /// that only a pin keeps.
    pub fn home(&self, obj: Obj) -> Result<Option<(Obj, Step)>> { todo!() }
    /// True if the entry of `parent` at `step` is `obj`'s home (else the mount shows a symlink).
    /// With several entries of one parent referring to it, exactly one of them is.
    pub fn is_home(&self, obj: Obj, parent: Obj, step: &Step) -> Result<bool> { todo!() }

    /// The value under a key of a dict, or an attribute of an object (key: str).
    pub fn get(&self, obj: Obj, key: &Key<'_>) -> Result<Option<Value>> { todo!() }
    /// Whether there is such a key.
    pub fn contains(&self, obj: Obj, key: &Key<'_>) -> Result<bool> { todo!() }
    /// The next entry in insertion order after `cursor` (0: the first).
    pub fn next(&self, obj: Obj, cursor: u64) -> Result<Option<Entry>> { todo!() }
    /// The previous entry before `cursor` (u64::MAX: the last).
    pub fn prev(&self, obj: Obj, cursor: u64) -> Result<Option<Entry>> { todo!() }
    /// The item at an index.
    pub fn item(&self, obj: Obj, index: u64) -> Result<Option<Value>> { todo!() }
    /// Appends up to `max` items from `start` to `out`.
    pub fn items(&self, obj: Obj, start: u64, max: usize, out: &mut Vec<Value>) -> Result<()> { todo!() }
    /// The size in bytes of a str or bytes value without copying it; for other scalars None.
    pub fn size(&self, obj: Obj, step: &Step) -> Result<Option<u64>> { todo!() }
    /// Reads a piece of a large value: bytes read (0: at its end).
    pub fn large_read(&self, large: &Large, offset: u64, buf: &mut [u8]) -> Result<usize> { todo!() }
}

#[allow(unused_variables, clippy::missing_errors_doc)]
impl Writer<'_> {
    /// A new empty dict, not yet referred to: refer to it before the operation ends, or pin it;
    /// else it is freed again.
    pub fn new_dict(&mut self) -> Result<Obj> { todo!() }
    /// A new empty list; see `new_dict`.
    pub fn new_list(&mut self) -> Result<Obj> { todo!() }
    /// A new object of a class (`module:qualname`, "" for generic); see `new_dict`.
    pub fn new_object(&mut self, class: &str) -> Result<Obj> { todo!() }
    /// Turns a container into another kind in place (identity, references and locks stay). To a
    /// list: entries in the order of their keys, which must be 0..n as int or str. To a dict: from
    /// a list the keys are ints. Between dict and object the entries stay (objects: str keys only).
    pub fn convert(&mut self, obj: Obj, kind: Kind, class: &str) -> Result<()> { todo!() }
    /// Sets an entry or attribute. The old value is released.
    pub fn set(&mut self, obj: Obj, key: &Key<'_>, value: &In<'_>) -> Result<()> { todo!() }
    /// Removes an entry or attribute; true if there was one.
    pub fn remove(&mut self, obj: Obj, key: &Key<'_>) -> Result<bool> { todo!() }
    /// Removes everything from a dict, list or object.
    pub fn clear(&mut self, obj: Obj) -> Result<()> { todo!() }
    /// Replaces the item at an index.
    pub fn set_item(&mut self, obj: Obj, index: u64, value: &In<'_>) -> Result<()> { todo!() }
    /// Inserts before an index (`len`: appends).
    pub fn insert(&mut self, obj: Obj, index: u64, value: &In<'_>) -> Result<()> { todo!() }
    /// Removes the items `[start, end)`.
    pub fn remove_items(&mut self, obj: Obj, start: u64, end: u64) -> Result<()> { todo!() }
    /// Moves an entry to another container or key in one step, replacing what is there; identity,
    /// homes and locks follow. (rename(2))
    pub fn rename(&mut self, from: Obj, from_step: &Step, to: Obj, to_step: &Step) -> Result<()> { todo!() }
    /// Sets a container's mtime (utimens).
    pub fn set_mtime(&mut self, obj: Obj, ns: u64) -> Result<()> { todo!() }
}

impl<'s> std::ops::Deref for Writer<'s> {
    type Target = Reader<'s>;
    fn deref(&self) -> &Reader<'s> { todo!() }
}
