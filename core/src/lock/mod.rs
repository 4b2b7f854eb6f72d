//! The lock manager: shared and exclusive locks of owners on containers and on single entries of them, in
//! words of shared memory that every process maps.
//!
//! Two levels. A lock on a container is S or X on it. A lock on one entry is S or X on the entry and the
//! intention, IS or IX, on its container. So a container's lock and its entries' locks exclude each other
//! while two entries do not. S and IX of one owner together are SIX: each of them is checked against all
//! other owners.
//!
//! Changes respect locks too. A change needs what an exclusive lock of the same target would need (IX and X
//! for an entry, X for a container), but holds it for no time, and so is only *checked*
//! (`Table::change_blocked`). A blocked change queues like a locker and gets a *reservation*, which blocks
//! lockers until the change was retried. Changes never exclude each other: the latch serializes them.
//!
//! Which requests exclude each other (for different owners and conflicting modes):
//!
//! | | lock, Thread | lock, Flock/Posix | change, Thread | change, mount |
//! | --- | --- | --- | --- | --- |
//! | lock, Thread | yes | yes | yes | yes |
//! | lock, Flock/Posix | yes | yes, except below | yes | no: advisory among shell commands |
//!
//! A mount decides by byte ranges which of its commands exclude each other on one file. So the locks of its owners on
//! one target stand side by side here, each with its owner; towards threads and other mounts each of them counts for
//! the whole target.
//!
//! Waiting. Each container has one queue for itself and its entries. Of two conflicting requests, the earlier
//! goes first. There is one exception: a queued request that already waits, directly or through others, for
//! the requester (because the requester holds what it wants: the case of an upgrade) is overtaken.
//!
//! Invariants:
//! 1. Lock order: the store's latch, then nothing. Every call that takes a `Table` is made with the latch
//!    held, except `Table::may_concern` and `Table::seems_blocked` (hints), `Table::abandon` (one store) and
//!    `Table::defer` (a note).
//! 2. A word of the table is changed by one mutation at a time, which is committed or undone before the next.
//!    A process killed inside a mutation leaves its undo log, and `Table::recover` replays it. A mutation is
//!    small (at most `layout::UNDO_CAP` words). A larger change (releasing all of an owner, granting many
//!    waiters) is many mutations, with a consistent table between them.
//! 3. Between mutations no waiter is grantable, except in the container that `PENDING` names.
//! 4. A container's counter is not 0 while a lock or a waiter concerns it. The value `layout::THIN` stands for a lock
//!    that has no records (`thin`).
//! 5. There are always enough free records to grant every waiter: a release never fails for lack of room.
//! 6. Data read from the table is not trusted: indices are checked, and every operation has a budget of
//!    steps. So a damaged table gives `Error::Corrupt`, and neither a panic nor a hang.
//! 7. When a request is queued, no cycle of waiters exists. A request that would close one is refused with
//!    `Queued::Deadlock`.

mod deferred;
mod finish;
mod list;
mod memory;
mod release;
mod rules;
mod table;
#[cfg(test)]
mod tests;
mod thin;
pub mod waiting;

pub use deferred::Release;
pub use memory::layout::{COUNTERS, SIGNALS, WORDS};
pub use table::Table;
pub(crate) use table::may_concern;
pub(crate) use waiting::cross_store::CrossStoreCheck;

use crate::error::{Error, Result};
use crate::ids::ObjectId;
use smallvec::SmallVec;
use std::fmt;

/// The kind of owner that holds a lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OwnerKind {
    /// A thread (or task) of a process; its locks count levels.
    Thread,
    /// An open file description on a mount (flock); its locks convert.
    Flock,
    /// A process as a mount sees it (fcntl); its locks convert.
    Posix,
    /// A plain command on a mount: it changes data and takes no locks.
    Command,
}

impl OwnerKind {
    /// Return whether the owner acts through a mount.
    #[inline]
    #[must_use]
    pub fn is_mount(self) -> bool {
        self != OwnerKind::Thread
    }
}

/// The owner of a lock or a request. Owners of different processes differ whatever their `id`. `caller` does not
/// belong to the identity.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The process's slot in the store.
    pub slot: u16,
    /// The slot's generation: distinguishes a process from an earlier one in the same slot.
    pub generation: u32,
    /// The kind of owner.
    pub kind: OwnerKind,
    /// The open file description or process; for a thread, its slot (16 bits) and task.
    pub id: u64,
    /// For messages: the process that uses a mount, in the mount's pid namespace; 0: unknown, or a thread's owner.
    pub caller: u32,
}

impl PartialEq for Owner {
    #[inline]
    fn eq(&self, other: &Owner) -> bool {
        (self.slot, self.generation, self.kind, self.id)
            == (other.slot, other.generation, other.kind, other.id)
    }
}

impl Eq for Owner {}

impl std::hash::Hash for Owner {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.slot, self.generation, self.kind, self.id).hash(state);
    }
}

impl Owner {
    /// Return whether both belong to the same process.
    #[inline]
    #[must_use]
    pub fn same_process(&self, other: &Owner) -> bool {
        (self.slot, self.generation) == (other.slot, other.generation)
    }

    /// Return a thread's task as an owner (0: the thread itself).
    #[inline]
    #[must_use]
    pub fn of_thread(process: u16, generation: u32, thread: u32, task: u64) -> Owner {
        Owner {
            slot: process,
            generation,
            kind: OwnerKind::Thread,
            id: task << 16 | u64::from(thread & 0xffff),
            caller: 0,
        }
    }

    /// Return whether both are tasks of one thread.
    #[inline]
    #[must_use]
    pub fn same_thread(&self, other: &Owner) -> bool {
        self.kind == OwnerKind::Thread
            && other.kind == OwnerKind::Thread
            && self.same_process(other)
            && self.id as u16 == other.id as u16
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            OwnerKind::Thread => "thread",
            OwnerKind::Flock => "open file",
            OwnerKind::Posix => "file locks of process",
            OwnerKind::Command => "command",
        };
        write!(f, "{kind} {:#x} of store process {}", self.id, self.slot)
    }
}

/// The target of a lock: a container, or the entry of it whose key has this hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The container.
    pub id: ObjectId,
    /// The hash of the entry's key; None for the whole container.
    pub key: Option<u64>,
}

impl Target {
    /// Return the target for a whole container.
    #[must_use]
    pub fn container(id: ObjectId) -> Target {
        Target { id, key: None }
    }

    /// Return the target for one entry of a container.
    #[must_use]
    pub fn entry(id: ObjectId, hash: u64) -> Target {
        Target { id, key: Some(hash) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            None => write!(f, "object {}", self.id.0),
            Some(hash) => write!(f, "an entry (key hash {hash:#x}) of object {}", self.id.0),
        }
    }
}

/// The lock modes that a caller can request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LockMode {
    /// Blocks changes.
    Shared,
    /// Blocks changes and other lockers.
    Exclusive,
}

/// The standard modes of multi-granularity locking, as they are held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// Intention: an entry is held shared.
    Is,
    /// Intention: an entry is held exclusively.
    Ix,
    /// Shared.
    S,
    /// Shared, and an entry is held exclusively.
    Six,
    /// Exclusive.
    X,
}

impl Mode {
    /// Return the mode in terms of the two modes of the API: exclusive if it blocks a shared lock of the same
    /// target.
    #[must_use]
    pub fn as_lock_mode(self) -> LockMode {
        match self {
            Mode::Is | Mode::S => LockMode::Shared,
            Mode::Ix | Mode::Six | Mode::X => LockMode::Exclusive,
        }
    }
}

/// A holder or a waiter that blocks a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The owner.
    pub owner: Owner,
    /// The held target (the container, if only its entries are held).
    pub target: Target,
    /// The mode that is held or requested.
    pub mode: Mode,
    /// True if the owner does not hold it yet but waits ahead in the queue.
    pub waiting: bool,
    /// True for a change: a reservation, or a change that waits.
    pub change: bool,
}

impl Holder {
    /// Return how the owner has the target, for messages that name the owner after it.
    #[must_use]
    pub fn held(&self) -> &'static str {
        let parts = match (self.mode, self.target.key) {
            _ if self.waiting => ["requested earlier by", "requested earlier through"],
            _ if self.change => ["reserved for a change by", "reserved for a change through"],
            (Mode::X | Mode::Six, _) | (Mode::Ix, Some(_)) => {
                ["locked exclusively by", "locked exclusively through"]
            }
            (Mode::Ix, None) => [
                "an entry of it is locked exclusively by",
                "an entry of it is locked exclusively through",
            ],
            (Mode::Is, None) => [
                "an entry of it is locked shared by",
                "an entry of it is locked shared through",
            ],
            (Mode::S | Mode::Is, _) => ["locked shared by", "locked shared through"],
        };
        parts[usize::from(self.owner.kind.is_mount())]
    }
}

/// One row of `Table::list`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The owner, the target and the mode.
    pub holder: Holder,
    /// Levels held (for intentions: entries held).
    pub count: u32,
    /// When the wait began, in nanoseconds since 1970; None for a held lock.
    pub since: Option<u64>,
}

/// The request of an owner: a lock, or the right to make a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The requesting owner.
    pub owner: Owner,
    /// The requested target.
    pub target: Target,
    pub(crate) exclusive: bool,
    pub(crate) change: bool,
}

impl Request {
    /// Return a lock request. Thread owners count levels; those of a mount convert what they hold.
    pub fn lock(owner: Owner, target: Target, mode: LockMode) -> Result<Request> {
        if owner.kind == OwnerKind::Command {
            return Err(Error::invalid(
                "a command takes no locks: give the open file or process that does",
            ));
        }
        Ok(Request {
            owner,
            target,
            exclusive: mode == LockMode::Exclusive,
            change: false,
        })
    }

    /// Return a request for the right to change an entry, or the whole container.
    #[must_use]
    pub fn change(owner: Owner, id: ObjectId, key: Option<u64>) -> Request {
        Request {
            owner,
            target: Target { id, key },
            exclusive: true,
            change: true,
        }
    }
}

/// A place in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// The index of the waiter and of its signal.
    pub signal: u32,
    /// Distinguishes this wait from others that used the same place.
    pub(crate) sequence: u64,
}

/// The result of a request that may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queued {
    /// It was granted at once.
    Granted,
    /// It waits. `seen` is the current value of its signal: sleep until it differs.
    Waiting {
        /// Its place.
        ticket: Ticket,
        /// The signal's value.
        seen: u32,
    },
    /// Waiting for this holder would close a cycle; nothing was queued.
    Deadlock(Holder),
}

/// The state of a waiting request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WaitState {
    /// It is granted; the ticket is consumed.
    Granted,
    /// It still waits.
    Waiting {
        /// The value of its signal.
        seen: u32,
        /// One owner of every other process that blocks it.
        blockers: Owners,
        /// Another task of the same thread blocks it.
        sibling: bool,
    },
}

/// The result of a cancellation. The ticket is consumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cancelled {
    /// It was granted before; the grant is still held.
    Granted,
    /// It was not granted; the holder that blocked it, if any still does.
    Withdrawn(Option<Holder>),
}

/// Signals to wake, preferably after the latch is released. A lost wake-up (its process was killed) costs the
/// sleeper at most the rest of a slice.
pub type Wakes = SmallVec<[u32; 8]>;

/// A few owners.
pub type Owners = SmallVec<[Owner; 4]>;
