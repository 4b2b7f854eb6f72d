//! The paths of the files beside a store: sidecar, lock file and redo log.

use std::path::{Path, PathBuf};

/// Return the path of a store's lock file.
pub(in crate::page) fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    PathBuf::from(name)
}

/// Return the path of a store's log.
pub(crate) fn log_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Return the path of a store's sidecar.
pub(in crate::page) fn sidecar_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-shm");
    PathBuf::from(name)
}
