//! The error of the filesystem: an errno for the kernel, and the engine's error behind it if any.

use persist_core::Error;

/// The result of every request.
pub(crate) type FsResult<T> = Result<T, FsError>;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum FsError {
    /// Decided here.
    Errno(i32),
    /// Reported by the engine.
    Store(Error),
    /// The request would have to wait, and runs on a thread that must not: run it again, patiently.
    Blocked,
}

impl FsError {
    /// The number the kernel gets.
    pub(crate) fn errno(&self) -> i32 {
        match self {
            FsError::Errno(n) => *n,
            FsError::Store(e) => e.errno(),
            FsError::Blocked => libc::EAGAIN,
        }
    }

    /// True if the engine says that the object exists no more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, FsError::Store(Error::Gone(_)))
    }

    /// True if the store was closed meanwhile.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, FsError::Store(Error::Closed))
    }
}

impl From<Error> for FsError {
    fn from(e: Error) -> FsError {
        FsError::Store(e)
    }
}

/// Short for an error decided here.
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
