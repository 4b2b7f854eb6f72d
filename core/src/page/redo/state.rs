//! What this process keeps of the log while a store is open: its file, and whether checkpoints must be flushed.

use crate::page::format::log_file::LogFile;
use crate::page::pager::Pager;
use crate::page::pager::state::redo::HeldLog;
use crate::page::shared::header::log_mode::OFF;
use std::sync::Arc;

impl Pager {
    /// Return whether checkpoints are flushed: a process requires it, or a log of durable commits depends on them.
    pub(crate) fn must_flush(&self) -> bool {
        self.shm().strictest_durability() > 0
            || self.redo().commit
            || self.shm().log_mode() != OFF
            || self.shm().log().is_named()
    }

    /// Lock this process's state of the log for a fork. Return None if that takes too long.
    pub(in crate::page) fn hold_log(&self) -> Option<HeldLog<'_>> {
        self.redo().hold()
    }

    pub(in crate::page) fn log_file(&self) -> std::sync::MutexGuard<'_, Option<Arc<LogFile>>> {
        self.redo().file()
    }

    /// Close this process's descriptor of the log: at once, or at the end of the flush in progress.
    pub(crate) fn forget_log(&self) {
        self.log_file().take();
    }
}
