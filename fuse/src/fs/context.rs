//! The context of a request: the mount's settings and the requesting thread.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest file that can be written.
pub(crate) const MAX_FILE: u64 = 4 << 30;

/// An unlimited sleep, which needs a bound.
pub(crate) const UNLIMITED: Duration = Duration::from_secs(3600);

/// The settings from the mount options.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Do not add or remove newlines.
    pub(crate) exact: bool,
    /// Give a new file that contains a JSON scalar the type of that scalar.
    pub(crate) infer: bool,
    /// How long a change waits for a lock of another holder.
    pub(crate) lockwait: Duration,
    /// The owner of all files.
    pub(crate) uid: u32,
    /// The group of all files.
    pub(crate) gid: u32,
    /// Permission bits to remove from the default modes.
    pub(crate) umask: u16,
    /// The mount point, by which absolute symlinks into the mount are recognized.
    pub(crate) mountpoint: PathBuf,
}

/// The requesting thread, and whether the request may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ctx {
    /// The requesting thread (0: unknown).
    pub(crate) tid: u32,
    /// Its user and group (None: the mount itself).
    pub(crate) user: Option<(u32, u32)>,
    /// False on a thread that must not wait.
    pub(crate) may_wait: bool,
}

impl Ctx {
    /// The context of what the mount does by itself.
    pub(crate) fn own(may_wait: bool) -> Ctx {
        Ctx {
            tid: 0,
            user: None,
            may_wait,
        }
    }
}

/// Lock a mutex. A panic of another thread (answered with EIO) leaves the data usable, so poisoning is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Convert a time of the store.
pub(crate) fn time_of(ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(ns)
}
