//! Process-local state of the redo log: the log's open file, memory for building records, and the commits that its
//! threads still wait for. The protocol: `redo`.

use crate::page::format::log_file::LogFile;
use crate::page::sync::wait::lock_soon;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state that one process keeps about the log.
#[derive(Debug, Default)]
pub(crate) struct Redo {
    /// This process requires its changes to be durable when they are complete.
    pub(in crate::page) commit: bool,
    file: Mutex<Option<Arc<LogFile>>>,
    scratch: Mutex<Scratch>,
    pub(in crate::page) missed_waits: MissedWaits,
}

impl Redo {
    pub(crate) fn new(commit: bool) -> Redo {
        Redo {
            commit,
            ..Redo::default()
        }
    }

    /// Lock all of it, for a fork. Return None if that takes too long.
    pub(in crate::page) fn hold(&self) -> Option<HeldLog<'_>> {
        Some(HeldLog {
            _scratch: lock_soon(&self.scratch)?,
            _file: lock_soon(&self.file)?,
        })
    }

    /// Return the open log, locked.
    pub(in crate::page) fn file(&self) -> MutexGuard<'_, Option<Arc<LogFile>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Return the memory for building a record, locked.
    pub(in crate::page) fn scratch(&self) -> MutexGuard<'_, Scratch> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This process's state of the log, locked.
pub(in crate::page) struct HeldLog<'a> {
    _scratch: MutexGuard<'a, Scratch>,
    _file: MutexGuard<'a, Option<Arc<LogFile>>>,
}

/// The event that makes a change durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::page) enum Ticket {
    /// There is nothing to wait for, or the log was off.
    Nothing,
    /// The log must be flushed up to here.
    Record(u64),
    /// A checkpoint must end this epoch.
    Epoch(u64),
}

/// Memory that is reused from commit to commit.
#[derive(Debug, Default)]
pub(in crate::page) struct Scratch {
    /// Ranges: from, to.
    pub(in crate::page) ranges: Vec<(u64, u64)>,
    pub(in crate::page) record: Vec<u8>,
}

/// The targets of waits that ended early.
#[derive(Debug, Default)]
pub(in crate::page) struct MissedWaits {
    /// The end of the last such record; 0: none.
    record: AtomicU64,
    /// The last such epoch; 0: none.
    epoch: AtomicU64,
}

impl MissedWaits {
    /// Return the ends of the last record and of the last epoch; 0: none.
    pub(in crate::page) fn ends(&self) -> (u64, u64) {
        (
            self.record.load(Ordering::SeqCst),
            self.epoch.load(Ordering::SeqCst),
        )
    }

    /// Forget these ends, which are durable now, unless later ones were recorded.
    pub(in crate::page) fn forget_durable(&self, record: u64, epoch: u64) {
        for (word, seen) in [(&self.record, record), (&self.epoch, epoch)] {
            if seen != 0 {
                let _ = word.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::Relaxed);
            }
        }
    }

    pub(in crate::page) fn note(&self, ticket: Ticket) {
        match ticket {
            Ticket::Nothing => {}
            Ticket::Record(end) => _ = self.record.fetch_max(end, Ordering::SeqCst),
            Ticket::Epoch(epoch) => _ = self.epoch.fetch_max(epoch, Ordering::SeqCst),
        }
    }
}
