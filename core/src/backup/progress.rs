//! The result of a backup or a restore, and how to stop it.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The result of a backup or of a restore.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Done {
    /// The checkpoint of the store that was backed up.
    pub checkpoint: u64,
    /// The number of the store's pages in the backup, or of pages in use in the restored store.
    pub pages: u64,
    /// The size of the backup or of the restored store, in bytes.
    pub bytes: u64,
}

pub(super) fn stopped(stop: Option<&Arc<AtomicBool>>) -> Result<()> {
    match stop {
        Some(stop) if stop.load(Ordering::Relaxed) => Err(Error::Interrupted),
        _ => Ok(()),
    }
}
