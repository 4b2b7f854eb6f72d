//! The types that callers of locks use: targets, handles, owners, and the list for diagnostics.

use crate::ids::ObjectId;
use crate::lock::{Owner, Target};
use crate::store::{Key, Obj};

/// The target of a lock: a container, or one entry of it.
#[derive(Clone, Copy, Debug)]
pub struct LockTarget<'a> {
    /// The container.
    pub obj: Obj,
    /// One entry of it (a dict key or attribute), or the whole container.
    pub key: Option<Key<'a>>,
}

/// A lock and its owner. Any thread of the process can release it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockHandle {
    pub(in crate::store) owner: Owner,
    pub(in crate::store) target: Target,
}

impl LockHandle {
    /// Return the owner.
    #[doc(hidden)]
    #[must_use]
    pub fn owner(&self) -> LockOwner {
        LockOwner(self.owner)
    }

    /// Return whether both owners are tasks of one thread.
    #[doc(hidden)]
    #[must_use]
    pub fn same_thread(&self, other: &LockHandle) -> bool {
        self.owner.same_thread(&other.owner)
    }

    /// Return whether both are locks of the same container or entry.
    #[doc(hidden)]
    #[must_use]
    pub fn same_target(&self, other: &LockHandle) -> bool {
        self.target == other.target
    }
}

/// A held or awaited lock, for diagnostics.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LockInfo {
    /// The container.
    pub object: ObjectId,
    /// Hash of the entry's key; None for the whole container.
    pub key_hash: Option<u64>,
    /// The path of the container or entry (`root['Joe'].age`); None if it was not found.
    pub path: Option<String>,
    /// The owner, with pid and command.
    pub owner: String,
    /// IS, IX, S, SIX or X.
    pub mode: String,
    /// Levels held.
    pub count: u32,
    /// True if the request waits.
    pub waiting: bool,
}

/// An owner of locks: a task of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LockOwner(pub(in crate::store) Owner);

impl LockOwner {
    /// Return the task's number (0: the thread itself).
    #[must_use]
    pub fn task(&self) -> u64 {
        self.0.id >> 16
    }
}
