//! The lock manager: shared and exclusive locks of owners on containers and on single entries of
//! them, in words of shared memory that every process maps.
//!
//! Two levels. A lock on a container is S or X on it. A lock on one entry is S or X on the entry
//! and the intention, IS or IX, on its container, so that a container's lock and its entries' locks
//! exclude each other while two entries do not. S and IX of one owner together are SIX: each of
//! them is checked against everybody else.
//!
//! Changes meet locks too. A change needs what an exclusive lock of the same target would need
//! (IX and X for an entry, X for a container), holds it for no time at all, and so is only
//! *checked* (`Table::change_blocked`). One that is blocked queues like a locker and gets a
//! *reservation*, which keeps lockers out until the change was tried again. Changes never exclude
//! each other: the latch puts them in order.
//!
//! Who excludes whom (for different owners and clashing modes):
//!
//! | | lock, Thread | lock, Flock/Posix | change, Thread | change, mount |
//! | --- | --- | --- | --- | --- |
//! | lock, Thread | yes | yes | yes | yes |
//! | lock, Flock/Posix | yes | yes | yes | no: advisory among shell commands |
//!
//! Waiting. Each container has one queue for itself and its entries; of two requests that clash,
//! the earlier goes first. A request that already waits, directly or through others, for the
//! requester (because the requester holds what it wants: the case of an upgrade) is overtaken.
//!
//! Invariants:
//! 1. Lock order: the store's latch, then nothing. Every call that takes a `Table` is made with the
//!    latch held, but for `Table::may_concern` (a hint), `Table::abandon` (one store) and `Table::defer` (a note).
//! 2. A word of the table is changed by one mutation at a time, which is committed or undone before
//!    the next; a process killed inside one leaves its undo log, and `Table::recover` replays it. A
//!    mutation is small (at most `layout::UNDO_CAP` words): what takes many (releasing all of an
//!    owner, granting many waiters) is many mutations with a sound table between them.
//! 3. Between mutations no waiter could be granted, but in the container that `PENDING` names.
//! 4. A container's counter is not 0 while a lock or a waiter concerns it.
//! 5. There are always free records enough to grant every waiter: a release never fails for room.
//! 6. Nothing read from the table is trusted: indices are checked, and every operation has a budget
//!    of steps, so that a damaged table gives `Error::Corrupt` and neither a panic nor a hang.
//! 7. At the time a request is queued no circle of waiters exists; if it would close one, it is
//!    refused with `Queued::Deadlock` instead.

mod beyond;
mod conflict;
mod contest;
mod deferred;
pub mod env;
mod grant;
mod graph;
mod layout;
mod op;
mod queue;
mod release;
mod settle;
mod table;
#[cfg(test)]
mod tests;
pub mod wait;
mod words;

pub(crate) use beyond::Beyond;
pub use deferred::Release;
pub use layout::{COUNTERS, SIGNALS, WORDS};
pub use table::Table;

use crate::error::{Error, Result};
use crate::ids::ObjectId;
use smallvec::SmallVec;
use std::fmt;

/// What sort of owner holds a lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OwnerKind {
    /// A thread (or task) of a process; its locks count levels.
    Thread,
    /// An open file description on a mount (flock); its locks convert.
    Flock,
    /// A process as a mount sees it (fcntl); its locks convert.
    Posix,
    /// A plain command on a mount: changes things, takes no locks.
    Command,
}

impl OwnerKind {
    /// Whether the owner acts through a mount.
    #[inline]
    #[must_use]
    pub fn is_mount(self) -> bool {
        self != OwnerKind::Thread
    }
}

/// Who holds or wants a lock. Owners of different processes differ whatever their `id`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Owner {
    /// The process's slot in the store.
    pub slot: u16,
    /// The slot's generation: tells a process from an earlier one in the same slot.
    pub generation: u32,
    /// The sort of owner.
    pub kind: OwnerKind,
    /// The open file description or process; of a thread, its slot (16 bits) and task.
    pub id: u64,
}

impl Owner {
    /// Whether both belong to the same process.
    #[inline]
    #[must_use]
    pub fn same_process(&self, other: &Owner) -> bool {
        (self.slot, self.generation) == (other.slot, other.generation)
    }

    /// A thread's task (0: the thread itself).
    #[inline]
    #[must_use]
    pub fn of_thread(process: u16, generation: u32, thread: u32, task: u64) -> Owner {
        Owner {
            slot: process,
            generation,
            kind: OwnerKind::Thread,
            id: task << 16 | u64::from(thread & 0xffff),
        }
    }

    /// Whether both are tasks of one thread.
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

/// What is locked: a container, or the entry of it whose key has this hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The container.
    pub id: ObjectId,
    /// The hash of the entry's key; None for the whole container.
    pub key: Option<u64>,
}

impl Target {
    /// A whole container.
    #[must_use]
    pub fn container(id: ObjectId) -> Target {
        Target { id, key: None }
    }

    /// One entry of a container.
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

/// What a locker can ask for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LockMode {
    /// Keeps changes out.
    Shared,
    /// Keeps changes and other lockers out.
    Exclusive,
}

/// The textbook's modes, as they are held.
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
    /// How a user of two modes sees it: whether it keeps a shared lock of the same target out.
    #[must_use]
    pub fn as_lock_mode(self) -> LockMode {
        match self {
            Mode::Is | Mode::S => LockMode::Shared,
            Mode::Ix | Mode::Six | Mode::X => LockMode::Exclusive,
        }
    }
}

/// Somebody in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Who.
    pub owner: Owner,
    /// What is held (the container, where only its entries are).
    pub target: Target,
    /// How it is held or wanted.
    pub mode: Mode,
    /// True if the owner does not hold it yet but came earlier and waits.
    pub waiting: bool,
    /// True if a change holds it (a reservation) or waits for it, not a lock.
    pub change: bool,
}

/// One line of `Table::list`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Who holds or waits for what, and how.
    pub holder: Holder,
    /// Levels held (for intentions: entries held).
    pub count: u32,
    /// Since when it waits, in nanoseconds since 1970; None for what is held.
    pub since: Option<u64>,
}

/// What an owner asks for: a lock, or the right to make a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Who asks.
    pub owner: Owner,
    /// For what.
    pub target: Target,
    pub(crate) exclusive: bool,
    pub(crate) change: bool,
}

impl Request {
    /// A lock. Thread owners count levels, those of a mount convert what they hold.
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

    /// The right to change an entry, or the whole container.
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
    /// Tells this wait from others that used the same place.
    pub(crate) sequence: u64,
}

/// What became of a request that was willing to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queued {
    /// It was granted at once.
    Granted,
    /// It waits. `seen` is the value of its signal now: sleep until it differs.
    Waiting {
        /// Its place.
        ticket: Ticket,
        /// The signal's value.
        seen: u32,
    },
    /// Waiting for this holder would close a circle; nothing was queued.
    Deadlock(Holder),
}

/// How a waiting request stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is granted; the ticket is used up.
    Granted,
    /// It still waits.
    Waiting {
        /// The value of its signal.
        seen: u32,
        /// One owner of every other process that is in its way.
        blockers: Owners,
        /// Another task of the same thread is in its way.
        sibling: bool,
    },
}

/// What a cancelled request had come to. The ticket is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cancelled {
    /// It had been granted already; what was granted is still held.
    Granted,
    /// It had not, and this holder (if any still) was in its way.
    Withdrawn(Option<Holder>),
}

/// Signals to wake, best after the latch was left. A wake that is lost (its process was killed)
/// costs the sleeper the rest of a slice, not more.
pub type Wakes = SmallVec<[u32; 8]>;

/// A few owners.
pub type Owners = SmallVec<[Owner; 4]>;
