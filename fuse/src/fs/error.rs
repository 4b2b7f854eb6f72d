//! The error of the filesystem: an errno for the kernel, or an error of the engine.

use persist_core::Error;
use std::path::Path;

/// The result of every request.
pub(crate) type FsResult<T> = Result<T, FsError>;

/// The reason why a request failed.
#[derive(Debug)]
pub(crate) enum FsError {
    /// An error of the filesystem itself.
    Errno(i32),
    /// An error of the engine.
    Store(Error),
    /// The request would have to wait, but its thread must not wait. Run it again on a thread that may.
    Blocked,
    /// An operation moves the entry of a file that the request has looked up (`known::moving`). Run it again.
    Moved,
}

impl FsError {
    /// The errno for the kernel.
    pub(crate) fn errno(&self) -> i32 {
        match self {
            FsError::Errno(n) => *n,
            FsError::Store(e) => e.errno(),
            FsError::Blocked => libc::EAGAIN,
            FsError::Moved => libc::ESTALE,
        }
    }

    /// The error in words, for the log; it names the store.
    pub(crate) fn message(&self, store: &Path) -> String {
        match self {
            FsError::Store(e) => e.in_store(store),
            e => format!(
                "{}: {}",
                store.display(),
                std::io::Error::from_raw_os_error(e.errno())
            ),
        }
    }

    /// True if the request has to run again, and has changed nothing.
    pub(crate) fn runs_again(&self) -> bool {
        matches!(self, FsError::Blocked | FsError::Moved)
    }

    /// True if the engine reports that the object was deleted.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, FsError::Store(Error::Gone(_)))
    }

    /// True if the engine reports that the store is closed.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, FsError::Store(Error::Closed))
    }
}

impl From<Error> for FsError {
    fn from(e: Error) -> FsError {
        FsError::Store(e)
    }
}

/// Shorthand for an error of the filesystem itself.
pub(crate) fn errno<T>(n: i32) -> FsResult<T> {
    Err(FsError::Errno(n))
}

/// True for the errors that mean "not now": the request may succeed after a wait.
pub(crate) fn would_wait(e: &Error) -> bool {
    matches!(
        e,
        Error::Timeout { .. }
            | Error::WouldBlock { .. }
            | Error::Conflict { .. }
            | Error::Locked(_)
            | Error::Busy(_)
    )
}
