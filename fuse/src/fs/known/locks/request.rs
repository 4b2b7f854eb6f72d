//! Requests for locks of commands: what is asked, for which file, by which owner, and what a waiting one waits for.

use super::ranges::{Origin, Range};
use crate::fs::error::FsResult;
use crate::fs::text::keys::OwnedKey;
use persist_core::store::door::Pending;
use persist_core::store::{Actor, LockMode, LockTarget, Obj};
use std::sync::Arc;

/// How a lock is requested: the two do not exclude each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Call {
    Flock,
    Fcntl,
}

/// What a lock on an inode locks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Target {
    /// A container, or an entry of it.
    Stored(Obj, Option<OwnedKey>),
    /// A removed file that is still open.
    Removed(u64),
}

impl Target {
    /// The target in the lock manager's type.
    pub(crate) fn in_store(&self) -> Option<LockTarget<'_>> {
        match self {
            Target::Stored(obj, key) => Some(LockTarget {
                obj: *obj,
                key: key.as_ref().map(OwnedKey::as_key),
            }),
            Target::Removed(_) => None,
        }
    }
}

/// A request to lock a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) call: Call,
    pub(crate) origin: Origin,
    pub(crate) range: Range,
    pub(crate) mode: LockMode,
    /// The process to name in messages.
    pub(crate) user: u32,
    /// The requesting thread.
    pub(crate) tid: u32,
    /// Wait until the lock is granted.
    pub(crate) sleep: bool,
}

impl Ask {
    /// The holder in the store: the call and the kernel's lock owner.
    pub(crate) fn holder(&self) -> (Call, u64) {
        (self.call, self.origin.owner)
    }

    pub(crate) fn actor(&self) -> Actor {
        actor(self.holder(), self.user)
    }
}

/// The actor of a holder in the store, and the process that uses it.
pub(crate) fn actor((call, owner): (Call, u64), user: u32) -> Actor {
    match call {
        Call::Flock => Actor::Flock(owner, user),
        Call::Fcntl => Actor::Posix(owner, user),
    }
}

/// The answer to a request.
pub(crate) type Answer = Box<dyn FnOnce(FsResult<()>) + Send>;

/// Answers to send after the mutex of the table is released.
pub(crate) type Answers = Vec<(Answer, FsResult<()>)>;

/// What a request waits for.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// The ranges of other owners.
    Table,
    /// Its turn in the store, for a hold of this mode.
    Store(Arc<Pending>, LockMode),
    /// The store's latch, or another request of its owner.
    Later,
}

/// A request that waits.
pub(crate) struct Waiter {
    pub(crate) number: u64,
    pub(crate) ask: Ask,
    pub(crate) target: Target,
    pub(crate) state: State,
    pub(crate) answer: Answer,
}
