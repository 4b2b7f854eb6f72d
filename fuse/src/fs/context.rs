//! What every request brings along: the mount's settings, and the thread that asks.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the mount options decide.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// No newlines are added or taken off.
    pub(crate) exact: bool,
    /// New files that are JSON scalars become those.
    pub(crate) infer: bool,
    /// How long a change waits for a lock held elsewhere.
    pub(crate) lockwait: Duration,
    /// Owner shown.
    pub(crate) uid: u32,
    /// Group shown.
    pub(crate) gid: u32,
    /// Permission bits taken from the default modes.
    pub(crate) umask: u16,
    /// Where the store is mounted: absolute symlinks into it are understood.
    pub(crate) mountpoint: PathBuf,
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ctx {
    /// The thread that asks (0: unknown).
    pub(crate) tid: u32,
    /// False on a thread that must not wait.
    pub(crate) may_wait: bool,
}

/// Takes a mutex; a panic elsewhere (answered with EIO) leaves its data usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A time as the store has it.
pub(crate) fn time_of(ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(ns)
}
