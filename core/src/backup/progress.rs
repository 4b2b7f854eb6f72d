//! The result of a backup, and how to stop it.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The result of a backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Done {
    /// The checkpoint in the backup.
    pub checkpoint: u64,
    /// The number of the store's pages in it.
    pub pages: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

pub(super) fn stopped(stop: Option<&Arc<AtomicBool>>) -> Result<()> {
    match stop {
        Some(stop) if stop.load(Ordering::Relaxed) => Err(Error::Interrupted),
        _ => Ok(()),
    }
}
