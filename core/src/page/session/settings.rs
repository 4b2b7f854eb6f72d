//! How a store is opened.

use crate::page::shared::slots::Wishes;
use std::time::Duration;

/// How to open.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For reading only.
    pub read_only: bool,
    /// Make the file if it is missing.
    pub create: bool,
    /// 0: nothing is flushed; 1: checkpoints are; 2: every completed change is.
    pub durability: u8,
    /// What was changed longer ago than this is durable (checkpoints are made by a thread); None: no such bound.
    pub max_age: Option<Duration>,
    /// Longest wait where the caller gives no bound.
    pub bound: Duration,
    /// Open this snapshot, for reading only.
    pub snapshot: Option<String>,
    /// Open it on any filesystem.
    pub any_filesystem: bool,
}

impl Settings {
    pub(super) fn wishes(&self) -> Wishes {
        // Where nothing is flushed there is no bound on what a power cut takes.
        let age = self.max_age.filter(|_| self.durability > 0 && !self.read_only);
        Wishes {
            durability: self.durability,
            max_age: age.map_or(0, crate::page::helper::thread::in_ms),
        }
    }
}
