//! State of a frozen opening: the snapshot that it shows, or how it follows the newest checkpoint (`follow`), and the
//! lock that keeps the snapshot. How it is opened: `session::frozen`.

use crate::error::Result;
use crate::page::format::catalogue::Snapshot;
use crate::page::format::claim::claim_listed;
use crate::page::pager::state::follow::Follow;
use crate::raw::files::held::Held;
use crate::raw::process::{self, Unshared};
use std::sync::{Mutex, PoisonError};

/// The checkpoint that a frozen opening reads, and the lock that keeps it.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// None: the newest checkpoint.
    pub(crate) snapshot: Option<Snapshot>,
    /// Set for a view of the newest checkpoint.
    pub(in crate::page) follow: Option<Follow>,
    right: Mutex<Right>,
}

/// The descriptor whose lock keeps the checkpoint, and the process it belongs to.
#[derive(Debug)]
pub(in crate::page) struct Right {
    lock: Option<Unshared>,
    forks: u32,
}

impl Frozen {
    /// Create the state of an opening that keeps its snapshot by `lock`.
    pub(in crate::page) fn new(
        snapshot: Option<Snapshot>,
        follow: Option<Follow>,
        lock: Option<Unshared>,
    ) -> Frozen {
        Frozen {
            snapshot,
            follow,
            right: Mutex::new(Right {
                lock,
                forks: process::watch_forks(),
            }),
        }
    }

    /// In a forked child: take its own lock, because the parent may release its lock.
    pub(crate) fn renew(&self, file: &Held) -> Result<()> {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.forks == process::forks() {
            return Ok(());
        }
        right.lock = match &self.snapshot {
            Some(s) => Some(claim_listed(file, &s.name, Some(s.checkpoint))?.1),
            None => None,
        };
        right.forks = process::forks();
        Ok(())
    }

    pub(crate) fn give_up(&self) {
        self.right.lock().unwrap_or_else(PoisonError::into_inner).lock = None;
    }
}
