//! The one error type of the engine: what was wrong, where, and what to do about it.

use crate::ids::{Addr, ObjectId};
use std::path::{Path, PathBuf};

/// The result of every operation of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong in a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file's content contradicts itself. Restore a backup, or salvage with `persist check`.
    #[error("the store is damaged: {what} at address {at:#x}; restore a backup or run `persist check`")]
    Corrupt {
        /// What was found wrong.
        what: &'static str,
        /// The logical address (or file offset, if `what` says so) where it was found.
        at: u64,
    },
    /// As `Corrupt`, in a store that went on from what dead processes had left: the checkpoint before that is kept.
    #[error(
        "the store is damaged: {what} at address {at:#x}; what dead processes had left may be the reason: the state \
         before it is kept as the snapshot {kept:?} (`persist backup --at {kept} {path} COPY` makes a store of it)"
    )]
    Damaged {
        /// What was found wrong.
        what: &'static str,
        /// The logical address (or file offset, if `what` says so) where it was found.
        at: u64,
        /// The store.
        path: PathBuf,
        /// The snapshot's name.
        kept: String,
    },
    /// The path is not a store of this format.
    #[error("{path}: not a persist store ({why})")]
    NotAStore {
        /// The file that was opened.
        path: PathBuf,
        /// Why it was refused.
        why: String,
    },
    /// The store cannot be used the way it was asked for (wrong filesystem, version, busy).
    #[error("{path}: {why}")]
    Refused {
        /// The file that was opened.
        path: PathBuf,
        /// What to do about it.
        why: String,
    },
    /// An operating system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The call and its object.
        what: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The disk, a quota or a limit is exhausted; the operation was rolled back.
    #[error(
        "no space left for the store ({what}): {source}; {} and try again",
        room(source)
    )]
    NoSpace {
        /// What was being grown.
        what: &'static str,
        /// The system's error (ENOSPC, EDQUOT, EFBIG).
        #[source]
        source: std::io::Error,
    },
    /// A flush failed earlier; the store takes no more writes until it is opened anew.
    #[error(
        "the store is poisoned for writing after a failed flush ({why}); its last checkpoint is intact: reopen it"
    )]
    Poisoned {
        /// What failed.
        why: String,
    },
    /// The change is complete, and seen by everyone; but the wait until it survives a power cut ended early
    /// (`durability="commit"`). It must not be made again. The next change that is waited for, or a `sync`, covers it.
    #[error(
        "the change is done, but not known to survive a power cut yet: {source}; do not repeat it: sync the store, or \
         the next change, covers it"
    )]
    DurabilityUnknown {
        /// What ended the wait.
        #[source]
        source: Box<Error>,
    },
    /// The transaction outgrew the undo log or the dirty list. The operation that met the bound was undone; a
    /// transaction that was being committed was rolled back.
    #[error(
        "the transaction is too large ({what}); what met this limit was rolled back: split the transaction"
    )]
    TransactionTooLarge {
        /// Which limit was met.
        what: &'static str,
    },
    /// A bounded wait ended.
    #[error("timed out waiting for {what}, held by {holder}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// Its holder.
        holder: String,
    },
    /// Acquiring the lock would deadlock.
    #[error("acquiring {what} would deadlock with {holder}; release your locks and try again")]
    Deadlock {
        /// What was asked for.
        what: String,
        /// Its holder.
        holder: String,
    },
    /// An open transaction met a lock of somebody else; the transaction was rolled back.
    #[error(
        "the transaction conflicts with a lock on {what} held by {holder}; it was rolled back: run it again"
    )]
    Conflict {
        /// What was asked for.
        what: String,
        /// Its holder.
        holder: String,
    },
    /// The transaction was rolled back before its end, and its owner has not left its outermost block yet.
    #[error(
        "the transaction was rolled back: {why}; nothing can be done in it any more: leave its outermost block{}",
        if *.again { ", and run it again" } else { "" }
    )]
    Aborted {
        /// What happened to it.
        why: String,
        /// Running it again may succeed.
        again: bool,
    },
    /// Another task of the same thread is in the way: waiting for it here would stop the thread, and it with it.
    #[error(
        "{what} in another task of this thread, which waiting here would stop: wait without blocking the thread \
         (in Python: `async with store.transaction_async()`, `async with obj.lock_async()`)"
    )]
    OtherTask {
        /// What is in the way.
        what: String,
    },
    /// The operation would have to wait and was asked not to.
    #[error("would have to wait for {what}")]
    WouldBlock {
        /// What for.
        what: &'static str,
    },
    /// The wait was interrupted by the caller's own poll (a signal).
    #[error("interrupted while waiting")]
    Interrupted,
    /// Internal: a change met a foreign lock on this container; the store's loop leaves the latch,
    /// queues for the lock and tries again. Never reaches a user.
    #[error("object {0:?} is locked by another owner")]
    Locked(ObjectId),
    /// Internal: a read met a container that an open transaction of another owner has changed; the
    /// store's loop waits for its end. Never reaches a user.
    #[error("object {0:?} is being changed by a transaction")]
    Busy(ObjectId),
    /// Internal: writers have gone on from the checkpoint that a reading process shows; the store's loop enters again,
    /// at the newest one. Never reaches a user.
    #[error("the checkpoint that was read has been replaced; try again")]
    Stale,
    /// The lock is not held by this owner.
    #[error("{what} is not locked by this owner")]
    NotLocked {
        /// What was to be unlocked.
        what: String,
    },
    /// The object does not exist any more (deleted, or created in a transaction rolled back).
    #[error("object {} is gone: it was removed, or made in a transaction that was rolled back", .0.0)]
    Gone(ObjectId),
    /// The operation does not fit this kind of object.
    #[error("{what}")]
    WrongKind {
        /// What was expected.
        what: &'static str,
    },
    /// No such key.
    #[error("no such key")]
    NoKey,
    /// A list index out of range.
    #[error("list index {index} out of range (length {len})")]
    Index {
        /// The index asked for.
        index: i64,
        /// The list's length.
        len: u64,
    },
    /// The argument itself is impossible.
    #[error("{what}")]
    Invalid {
        /// Why.
        what: String,
    },
    /// The store was opened read-only.
    #[error("the store is open read-only")]
    ReadOnly,
    /// The store handle was closed.
    #[error("the store is closed")]
    Closed,
    /// No snapshot has this name.
    #[error("there is no snapshot {name:?}; `persist snapshots STORE` lists those there are")]
    NoSnapshot {
        /// The name.
        name: String,
    },
    /// A snapshot has this name already.
    #[error(
        "there is a snapshot {name:?} already; drop it first (`persist drop-snapshot`) or take another name"
    )]
    SnapshotExists {
        /// The name.
        name: String,
    },
    /// A backup that nothing can be restored from.
    #[error("{path}: {why}")]
    BadBackup {
        /// The backup.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// Somebody is using what was to be removed.
    #[error("{what} is open in {holder}; close it there and try again")]
    InUse {
        /// What.
        what: String,
        /// Who has it open.
        holder: String,
    },
    /// A fixed table in the sidecar is full.
    #[error("too many {what} at once (limit {limit})")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// What to do about a disk, a quota or a limit that is exhausted.
fn room(source: &std::io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EFBIG) => "raise the limit of file sizes (ulimit -f), or remove something,",
        Some(libc::EDQUOT) => "free some space of your quota",
        _ => "free some space",
    }
}

impl Error {
    /// A damaged structure at a logical address.
    #[cold]
    #[must_use]
    pub fn corrupt(what: &'static str, at: Addr) -> Error {
        Error::Corrupt { what, at: at.0 }
    }

    /// A failed system call, with what it was about.
    #[cold]
    #[must_use]
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Error {
        Error::Io {
            what: what.into(),
            source,
        }
    }

    /// An impossible argument.
    #[cold]
    #[must_use]
    pub fn invalid(what: impl Into<String>) -> Error {
        Error::Invalid { what: what.into() }
    }

    /// The errno that tells a filesystem user the same story.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Error::Corrupt { .. } | Error::Damaged { .. } | Error::Poisoned { .. } => libc::EIO,
            Error::NotAStore { .. }
            | Error::BadBackup { .. }
            | Error::Invalid { .. }
            | Error::WrongKind { .. } => libc::EINVAL,
            Error::Refused { .. } => libc::EBUSY,
            Error::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Error::NoSpace { source, .. } => source.raw_os_error().unwrap_or(libc::ENOSPC),
            Error::TransactionTooLarge { .. } => libc::EFBIG,
            Error::DurabilityUnknown { source } => match source.errno() {
                // What a wait that ended says: for a change that is done it would read as "try again".
                libc::EAGAIN | libc::EINTR => libc::ETIMEDOUT,
                errno => errno,
            },
            Error::Timeout { .. } | Error::Conflict { .. } | Error::WouldBlock { .. } => libc::EAGAIN,
            Error::Locked(_) | Error::Busy(_) | Error::Stale => libc::EAGAIN,
            Error::Deadlock { .. } | Error::OtherTask { .. } => libc::EDEADLK,
            Error::Aborted { .. } => libc::EAGAIN,
            Error::Interrupted => libc::EINTR,
            Error::NotLocked { .. } => libc::EPERM,
            Error::Gone(_) => libc::ESTALE,
            Error::NoKey | Error::Index { .. } | Error::NoSnapshot { .. } => libc::ENOENT,
            Error::SnapshotExists { .. } => libc::EEXIST,
            Error::InUse { .. } => libc::EBUSY,
            Error::ReadOnly => libc::EROFS,
            Error::Closed => libc::EBADF,
            Error::TooMany { .. } => libc::ENOLCK,
        }
    }
}

pub(crate) fn refused(path: &Path, why: impl Into<String>) -> Error {
    Error::Refused {
        path: path.to_owned(),
        why: why.into(),
    }
}

pub(crate) fn open_error(path: &Path, e: std::io::Error) -> Error {
    let todo = match e.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => format!("; {}", remedy(&e)),
        _ => String::new(),
    };
    Error::io(format!("cannot open {}{todo}", path.display()), e)
}

/// What helps against an error of opening.
pub(crate) fn remedy(e: &std::io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            "close other files, or raise the limit of open files (ulimit -n)"
        }
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            "open the store once as the user that owns that file, or get permission to read and write it"
        }
        Some(libc::ELOOP | libc::EISDIR | libc::ENXIO) => "put the regular file back that was there",
        _ => "see to what the error says, and open the store again",
    }
}

/// This process may not write there.
pub(crate) fn is_forbidden(e: &std::io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM))
}
