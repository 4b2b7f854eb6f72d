//! The error type of the engine. An error says what is wrong, where, and what to do about it.
//!
//! ```
//! use persist_core::Error;
//! use persist_core::store::{Options, Store};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("notes.txt");
//! std::fs::write(&path, "not a store")?;
//! match Store::open(&path, &Options::default()) {
//!     Err(Error::NotAStore { path, why }) => println!("{}: {why}", path.display()),
//!     Err(e) => println!("{e} (errno {})", e.errno()),
//!     Ok(_) => unreachable!("the file is a text"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::ids::{Addr, ObjectId};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of every operation of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a store operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file's content is inconsistent. Restore a backup, or salvage with `persist check`.
    #[error("the store is damaged: {what} at address {at:#x}; restore a backup or run `persist check`")]
    Corrupt {
        /// The inconsistency.
        what: &'static str,
        /// The logical address (or file offset, if `what` says so) where it was found.
        at: u64,
    },
    /// As `Corrupt`, in a store that continued after recovery from dead processes. The checkpoint before that
    /// recovery is kept as a snapshot.
    #[error(
        "the store is damaged: {what} at address {at:#x}; what dead processes had left may be the reason: the state \
         before it is kept as the snapshot {kept:?} (`persist backup --at {kept} {path} COPY` makes a store of it)"
    )]
    Damaged {
        /// The inconsistency.
        what: &'static str,
        /// The logical address (or file offset, if `what` says so) where it was found.
        at: u64,
        /// The store.
        path: PathBuf,
        /// The snapshot's name.
        kept: String,
    },
    /// The path is not a store of this format.
    #[error(
        "{path}: not a persist store ({why}); give the path of a store, or of a file that does not exist yet"
    )]
    NotAStore {
        /// The file that was opened.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The store cannot be used in the requested way (wrong filesystem, version, busy).
    #[error("{path}: {why}")]
    Refused {
        /// The file that was opened.
        path: PathBuf,
        /// The reason, and what to do about it.
        why: String,
    },
    /// An operating system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The call and its argument.
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
        /// What the operation tried to grow.
        what: &'static str,
        /// The system's error (ENOSPC, EDQUOT, EFBIG).
        #[source]
        source: std::io::Error,
    },
    /// An earlier flush failed. The store accepts no writes until it is opened again.
    #[error(
        "the store is poisoned for writing after a failed flush ({why}); its last checkpoint is intact: reopen it"
    )]
    Poisoned {
        /// The reason.
        why: String,
    },
    /// The change is complete and visible to all processes, but the wait until it survives a power cut ended
    /// early (`durability="commit"`). The caller must not repeat the change. The next change that waits for
    /// durability, or a `sync`, covers it.
    #[error(
        "the change is done, but not known to survive a power cut yet: {source}; do not repeat it: sync the store, or \
         the next change, covers it"
    )]
    DurabilityUnknown {
        /// What ended the wait.
        #[source]
        source: Box<Error>,
    },
    /// The transaction exceeds the undo log or the dirty list. The operation that exceeded the limit was
    /// undone; a transaction that was being committed was rolled back.
    #[error(
        "the transaction is too large ({what}); the operation that exceeded the limit, or the transaction, was rolled \
         back: split the transaction"
    )]
    TransactionTooLarge {
        /// The limit that was exceeded.
        what: &'static str,
    },
    /// A bounded wait ended.
    #[error("timed out{} waiting for {what}: {held} {holder}", waited(*after))]
    Timeout {
        /// The resource that was waited for.
        what: String,
        /// How long the wait was; zero for a request that did not wait.
        after: Duration,
        /// How the holder has it: "held by", "locked exclusively through".
        held: &'static str,
        /// Its holder.
        holder: String,
    },
    /// Acquiring the lock would deadlock.
    #[error("acquiring {what} would deadlock with {holder}; release your locks and try again")]
    Deadlock {
        /// The requested lock.
        what: String,
        /// Its holder.
        holder: String,
    },
    /// An open transaction met a lock of another owner. The transaction was rolled back.
    #[error(
        "the transaction conflicts with a lock on {what} held by {holder}; it was rolled back: run it again"
    )]
    Conflict {
        /// The requested lock.
        what: String,
        /// Its holder.
        holder: String,
    },
    /// The transaction was rolled back before its end, and its owner has not left the outermost block yet.
    #[error(
        "the transaction was rolled back: {why}; nothing can be done in it any more: leave its outermost block{}",
        if *.again { ", and run it again" } else { "" }
    )]
    Aborted {
        /// The reason.
        why: String,
        /// True if running the transaction again may succeed.
        again: bool,
    },
    /// Another task of the same thread is in the way. Waiting for it would block the thread, and so that task
    /// too.
    #[error(
        "{what} in another task of this thread, which waiting here would stop: wait without blocking the thread"
    )]
    OtherTask {
        /// The obstacle.
        what: String,
    },
    /// The operation would have to wait and was asked not to.
    #[error("would have to wait for {what}; try again")]
    WouldBlock {
        /// What the operation would wait for.
        what: &'static str,
    },
    /// The wait was interrupted by the caller's own poll (a signal).
    #[error("interrupted while waiting")]
    Interrupted,
    /// Internal: a change met a lock of another owner on this container. The store's loop releases the latch,
    /// queues for the lock and retries. Never reaches a user.
    #[error("object {0:?} is locked by another owner")]
    Locked(ObjectId),
    /// Internal: a read met a container that another owner's open transaction has changed. The store's loop
    /// waits for its end. Never reaches a user.
    #[error("object {0:?} is being changed by a transaction")]
    Busy(ObjectId),
    /// Internal: a change met what the kernel of a mount keeps. The store's loop waits until the mount has given it up
    /// and runs the change again. Never reaches a user.
    #[error("a mount keeps what is to be changed; try again")]
    Leased,
    /// Internal: writers have moved past the checkpoint that a read-only process shows. The store's loop
    /// enters again at the newest checkpoint. Never reaches a user.
    #[error("the checkpoint that was read has been replaced; try again")]
    Stale,
    /// A view of a moment has ended.
    #[error("the view of a moment has ended: {why}")]
    ViewEnded {
        /// Why.
        why: &'static str,
    },
    /// The lock is not held by this owner.
    #[error("{what} is not locked by this owner, so it cannot be unlocked")]
    NotLocked {
        /// The target of the unlock.
        what: String,
    },
    /// The object no longer exists (deleted, or created in a transaction that was rolled back).
    #[error(
        "object {} is gone: it was removed, or made in a transaction that was rolled back; get it again from its \
         container",
        .0.0
    )]
    Gone(ObjectId),
    /// The operation does not apply to this kind of object.
    #[error("{what}")]
    WrongKind {
        /// The expected kind.
        what: &'static str,
    },
    /// A key has no order, or none among the keys of a sorted dict.
    #[error("{what}")]
    NoOrder {
        /// The types of both keys.
        what: String,
    },
    /// The key does not exist.
    #[error("no such key")]
    NoKey,
    /// A list index is out of range.
    #[error("list index {index} out of range (length {len})")]
    Index {
        /// The requested index.
        index: i64,
        /// The list's length.
        len: u64,
    },
    /// The argument is invalid.
    #[error("{what}")]
    Invalid {
        /// The reason.
        what: String,
    },
    /// The store was opened read-only.
    #[error("the store is open read-only; open it for writing to change it")]
    ReadOnly,
    /// The store handle was closed.
    #[error("the store is closed; open it again")]
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
    /// The backup cannot be restored.
    #[error("{path}: {why}")]
    BadBackup {
        /// The backup.
        path: PathBuf,
        /// The reason, and what to do.
        why: String,
    },
    /// The object to be removed is in use.
    #[error("{what} is open in {holder}; close it there and try again")]
    InUse {
        /// The object.
        what: String,
        /// The process that has it open.
        holder: String,
    },
    /// A fixed table in the sidecar is full.
    #[error("too many {what} at once (limit {limit}); end or remove some of them and try again")]
    TooMany {
        /// The kind of entry that the table holds.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// Return what to do about an exhausted disk, quota or limit.
fn room(source: &std::io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EFBIG) => "raise the limit of file sizes (ulimit -f), or remove something,",
        Some(libc::EDQUOT) => "free some space of your quota",
        _ => "free some space",
    }
}

/// Return the length of a wait for a message; nothing for a request that did not wait.
fn waited(after: Duration) -> String {
    match after.as_millis() {
        0 => String::new(),
        ms @ 1..50 => format!(" after {ms} ms"),
        _ => format!(" after {:.1} s", after.as_secs_f64()),
    }
}

/// Return the path as the caller wrote it, and as messages contain it.
fn forms_of(path: &Path) -> [String; 2] {
    let absolute = std::path::absolute(path);
    [path, absolute.as_deref().unwrap_or(path)].map(|path| path.display().to_string())
}

impl Error {
    /// Return the error of a wait for something that one process holds.
    #[doc(hidden)]
    pub fn timeout(what: impl Into<String>, after: Duration, holder: impl Into<String>) -> Error {
        Error::Timeout {
            what: what.into(),
            after,
            held: "held by",
            holder: holder.into(),
        }
    }

    /// Return the error for a damaged structure at a logical address.
    #[cold]
    #[must_use]
    pub fn corrupt(what: &'static str, at: Addr) -> Error {
        Error::Corrupt { what, at: at.0 }
    }

    /// Return the error for a failed system call, with the call and its argument.
    #[cold]
    #[must_use]
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Error {
        Error::Io {
            what: what.into(),
            source,
        }
    }

    /// Return the error for an invalid argument.
    #[cold]
    #[must_use]
    pub fn invalid(what: impl Into<String>) -> Error {
        Error::Invalid { what: what.into() }
    }

    /// Return the message with the path of the store, if the error concerns the store as a whole and its message does
    /// not contain the path yet. For callers that use several stores, and for logs.
    ///
    /// ```
    /// use persist_core::Error;
    /// let message = Error::ReadOnly.in_store("/srv/notes.store".as_ref());
    /// assert!(message.starts_with("/srv/notes.store: the store is open read-only"));
    /// ```
    #[must_use]
    pub fn in_store(&self, path: &Path) -> String {
        let message = self.to_string();
        let whole = matches!(
            self,
            Error::Corrupt { .. }
                | Error::Io { .. }
                | Error::NoSpace { .. }
                | Error::Poisoned { .. }
                | Error::DurabilityUnknown { .. }
                | Error::TransactionTooLarge { .. }
                | Error::ReadOnly
                | Error::Closed
                | Error::NoSnapshot { .. }
                | Error::SnapshotExists { .. }
                | Error::InUse { .. }
                | Error::TooMany { .. }
        );
        match whole && !forms_of(path).iter().any(|path| message.contains(path)) {
            true => format!("{}: {message}", path.display()),
            false => message,
        }
    }

    /// Return the message without the number of the errno and without the path of the store at its beginning: for
    /// callers that show both themselves, as Python's `OSError` does.
    #[doc(hidden)]
    #[must_use]
    pub fn text(&self, path: &Path) -> String {
        let numbers = [
            self.errno(),
            self.cause().map_or(0, |e| e.raw_os_error().unwrap_or(0)),
        ];
        let text = numbers.iter().fold(self.to_string(), |text, errno| {
            text.replace(&format!(" (os error {errno})"), "")
        });
        let rest = forms_of(path).iter().find_map(|path| {
            let rest = text.strip_prefix("cannot open ").unwrap_or(&text);
            rest.strip_prefix(path.as_str())?
                .strip_prefix(": ")
                .map(str::to_owned)
        });
        rest.unwrap_or(text)
    }

    /// Return the system's error that is the cause.
    fn cause(&self) -> Option<&std::io::Error> {
        match self {
            Error::Io { source, .. } | Error::NoSpace { source, .. } => Some(source),
            Error::DurabilityUnknown { source } => source.cause(),
            _ => None,
        }
    }

    /// Return the errno with the same meaning for a user of the filesystem.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Error::Corrupt { .. } | Error::Damaged { .. } | Error::Poisoned { .. } => libc::EIO,
            Error::NotAStore { .. }
            | Error::BadBackup { .. }
            | Error::Invalid { .. }
            | Error::NoOrder { .. }
            | Error::WrongKind { .. } => libc::EINVAL,
            Error::Refused { .. } => libc::EBUSY,
            Error::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Error::NoSpace { source, .. } => source.raw_os_error().unwrap_or(libc::ENOSPC),
            Error::TransactionTooLarge { .. } => libc::EFBIG,
            Error::DurabilityUnknown { source } => match source.errno() {
                // The errno of an interrupted wait would read as "try again", but the change is complete.
                libc::EAGAIN | libc::EINTR => libc::ETIMEDOUT,
                errno => errno,
            },
            Error::Timeout { .. } | Error::Conflict { .. } | Error::WouldBlock { .. } => libc::EAGAIN,
            Error::Locked(_) | Error::Busy(_) | Error::Leased | Error::Stale => libc::EAGAIN,
            Error::Deadlock { .. } | Error::OtherTask { .. } => libc::EDEADLK,
            Error::Aborted { .. } => libc::EAGAIN,
            Error::Interrupted => libc::EINTR,
            Error::NotLocked { .. } => libc::EPERM,
            Error::Gone(_) | Error::ViewEnded { .. } => libc::ESTALE,
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

/// Return what helps against an error of opening a file.
pub(crate) fn remedy(e: &std::io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            "close other files, or raise the limit of open files (ulimit -n)"
        }
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            "open the store once as the user that owns that file, or get permission to read and write it"
        }
        Some(libc::ELOOP | libc::EISDIR | libc::ENXIO) => "put the regular file back that was there",
        _ => "fix the cause that the error names, then open the store again",
    }
}

/// Return true if the error says that this process may not write there.
pub(crate) fn is_forbidden(e: &std::io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM))
}
