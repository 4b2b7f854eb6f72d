//! What a backup reports, and how it is stopped.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was backed up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Done {
    /// The checkpoint that the backup holds.
    pub checkpoint: u64,
    /// Pages of the store in it.
    pub pages: u64,
    /// Its size.
    pub bytes: u64,
}

pub(super) fn stopped(stop: Option<&Arc<AtomicBool>>) -> Result<()> {
    match stop {
        Some(stop) if stop.load(Ordering::Relaxed) => Err(Error::Interrupted),
        _ => Ok(()),
    }
}
