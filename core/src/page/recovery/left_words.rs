//! Words of a sidecar that an earlier session has left: clearing its threads and processes, checking its redo
//! log, and the checkpoint that it (or a new sidecar) builds on. `takeover` handles the rest.

use crate::error::{Error, Result};
use crate::page::format::log_record::SECTOR;
use crate::page::format::meta::Meta;
use crate::page::shared::header::log_mode::ON;
use crate::page::shared::header::next_checkpoint::{BUILDING, WRITING, WRITTEN};
use crate::page::shared::regions::dirty_set;
use crate::page::shared::shm::Shm;

pub(super) fn wrong(what: &'static str, at: u64) -> Error {
    Error::Corrupt { what, at }
}

impl Shm {
    /// Set the words that make this checkpoint the base.
    pub(in crate::page) fn build_on(&self, meta: &Meta, meta_sum: u64, before: &Option<Meta>) {
        // The checkpoint before it, if it exists: recovery may have to fall back to it.
        let (old, old_catalogue) = before.map_or_else(Default::default, |m| (m.tree(), m.catalogue));
        let last = self.last_checkpoint();
        last.set_root(meta.tree().words());
        last.set_meta_sum(meta_sum);
        last.set_catalogue(meta.catalogue.words());
        last.set_old(old.words(), old_catalogue.words());
        last.set_number(meta.checkpoint);
    }

    /// In a sealed sidecar: clear the old thread slots. If a process died and was not recovered, clear all processes.
    pub(super) fn forget_threads(&self) {
        if self.has_process_slots_in_use() {
            return self.forget_processes();
        }
        self.forget_thread_slots();
        self.forget_latch_waiters();
        self.forget_gate_waiters();
        self.forget_leading_helper();
        self.forget_feed();
        self.forget_leases();
    }

    /// Clear all state that belongs to processes, except the latch: every process that used the sidecar is dead.
    pub(super) fn forget_processes(&self) {
        self.forget_slots();
        self.forget_locks();
        self.forget_leases();
        dirty_set::clear(self);
        self.forget_latch_waiters();
        self.forget_tickets();
        self.reset_gate();
        self.forget_checkpoint_owner();
        self.forget_leading_helper();
        self.forget_call();
        self.forget_log_leader();
        self.forget_feed();
    }

    /// Check the log's numbers that the flip in progress took.
    pub(super) fn check_flipped_log(&self, meta: &Meta) -> Result<()> {
        let (log, flipped) = (self.log(), self.flipped_log());
        let is_right = flipped.generation == 0
            || flipped.generation == log.generation()
                && flipped.at >= meta.log.at
                && flipped.at <= log.end() + SECTOR;
        if is_right {
            return Ok(());
        }
        Err(wrong(
            "the checkpoint's place in the redo log in the sidecar",
            flipped.at,
        ))
    }

    pub(super) fn check_log(&self, meta: &Meta) -> Result<()> {
        let mode = self.log_mode();
        if mode > ON {
            return Err(wrong("the redo log's mode in the sidecar", mode));
        }
        let end = self.log().end();
        if end >= 1 << 60 || !end.is_multiple_of(8) || meta.log.generation != 0 && end < meta.log.at {
            return Err(wrong("the redo log's end in the sidecar", end));
        }
        match matches!(self.next_checkpoint().phase(), BUILDING | WRITING | WRITTEN) {
            true => self.check_flipped_log(meta),
            false => Ok(()),
        }
    }
}
