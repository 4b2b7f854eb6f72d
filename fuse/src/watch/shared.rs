//! What the threads of the replay share: the watched inodes, and the end.

use crate::fs::context::lock;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

/// The watched inodes.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) inodes: HashSet<u64>,
    /// Raised with each change.
    pub(super) version: u64,
}

/// The state that the threads share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) watched: Mutex<Watched>,
    pub(super) changed: Condvar,
    pub(super) stopped: AtomicBool,
    /// Held while a replay is under way: the mount is in use then.
    pub(super) replaying: Mutex<()>,
}

impl Shared {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Set what is watched.
    pub(super) fn watch(&self, inodes: HashSet<u64>) {
        let mut watched = lock(&self.watched);
        if watched.inodes != inodes {
            watched.inodes = inodes;
            watched.version += 1;
            self.changed.notify_all();
        }
    }
}
