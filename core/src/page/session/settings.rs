//! Settings for opening a store.

use crate::page::shared::users::slots::Requirements;
use std::time::Duration;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Open for reading only.
    pub read_only: bool,
    /// Create the file if it is missing.
    pub create: bool,
    /// 0: nothing is flushed; 1: checkpoints are; 2: every completed change is.
    pub durability: u8,
    /// Changes older than this are durable (a thread makes checkpoints); None: no such bound.
    pub max_age: Option<Duration>,
    /// Longest wait if the caller gives no bound.
    pub bound: Duration,
    /// Open this snapshot, for reading only.
    pub snapshot: Option<String>,
    /// Open it on any filesystem.
    pub any_filesystem: bool,
    /// Leave damage as it is, because it is to be reported.
    pub examines: bool,
}

impl Settings {
    pub(super) fn requirements(&self) -> Requirements {
        // Where nothing is flushed, nothing bounds the loss in a power failure.
        let age = self.max_age.filter(|_| self.durability > 0 && !self.read_only);
        Requirements {
            durability: self.durability,
            max_age: age.map_or(0, crate::page::helper::thread::in_ms),
        }
    }
}
