//! Words of a sidecar that an earlier session has left: clearing its threads and processes, and checking its redo log.
//! `takeover` handles the rest.

use crate::error::{Error, Result};
use crate::page::format::log_record::SECTOR;
use crate::page::format::meta::Meta;
use crate::page::shared::at;
use crate::page::shared::layout::{self};
use crate::page::shared::shm::Shm;
use crate::page::shared::slots::P;
use crate::page::shared::states::{BUILDING, WRITING, WRITTEN};
use std::sync::atomic::Ordering;

pub(super) fn wrong(what: &'static str, at: u64) -> Error {
    Error::Corrupt { what, at }
}

impl Shm {
    /// In a sealed sidecar: clear the old thread slots. If a process died and was not recovered, clear all processes.
    pub(super) fn forget_threads(&self) {
        let died = |p: usize| self.process_word(p, P::State).load(Ordering::Relaxed) != 0;
        if (0..layout::PROCESS_SLOTS).any(died) {
            return self.forget_processes();
        }
        let threads = (self.get(at::SLOTS_HIGH) as usize).min(layout::THREAD_SLOTS);
        for word in self.words(layout::THREADS, threads * 8) {
            word.store(0, Ordering::Relaxed);
        }
        for word in [
            at::SLOTS_HIGH,
            at::LATCH_WAITERS,
            at::LATCH_TURN,
            at::GATE_WAITERS,
            at::HELPER,
        ] {
            self.set(word, 0);
        }
    }

    /// Clear all state that belongs to processes, except the latch: every process that used the sidecar is dead.
    pub(super) fn forget_processes(&self) {
        for word in self.words(layout::THREADS, layout::THREAD_SLOTS * 8) {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
        for p in 0..layout::PROCESS_SLOTS {
            for field in [
                P::State,
                P::Pid,
                P::PinMask,
                P::PinOverflow,
                P::PinBytes,
                P::Durability,
                P::Traits,
            ] {
                self.process_word(p, field).store(0, Ordering::Relaxed);
            }
        }
        let locks = self.words(layout::LOCKS, layout::LOCK_WORDS).iter();
        let counters = self
            .words(layout::LOCK_COUNTERS, layout::LOCK_COUNTER_COUNT / 2)
            .iter();
        for word in locks
            .chain(counters)
            .chain(self.words(layout::MARKS, layout::MARK_WORDS))
        {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
        for word in [
            at::SLOTS_HIGH,
            at::PROCESSES_HIGH,
            at::ENDED,
            at::LATCH_WAITERS,
            at::LATCH_TURN,
            at::LATCH_TICKETS,
            at::GATE,
            at::GATE_WAITERS,
            at::CK_OWNER,
            at::STRICTEST,
            at::HELPER,
            at::HELP_NOW,
            at::MAX_AGE,
        ] {
            self.set(word, 0);
        }
        self.forget_log_leader();
    }

    /// Check the log's numbers that the flip in progress took.
    pub(super) fn check_flipped_log(&self, meta: &Meta) -> Result<()> {
        let log = self.flipped_log();
        let is_right = log.generation == 0
            || log.generation == self.get(at::LOG_GENERATION)
                && log.at >= meta.log.at
                && log.at <= self.get(at::LOG_END) + SECTOR;
        if is_right {
            return Ok(());
        }
        Err(wrong(
            "the checkpoint's place in the redo log in the sidecar",
            log.at,
        ))
    }

    pub(super) fn check_log(&self, meta: &Meta) -> Result<()> {
        let get = |at: usize| self.get(at);
        let mode = get(at::LOG_MODE);
        if mode > 2 {
            return Err(wrong("the redo log's mode in the sidecar", mode));
        }
        let end = get(at::LOG_END);
        if end >= 1 << 60 || !end.is_multiple_of(8) || meta.log.generation != 0 && end < meta.log.at {
            return Err(wrong("the redo log's end in the sidecar", end));
        }
        match matches!(get(at::CK_PHASE), BUILDING | WRITING | WRITTEN) {
            true => self.check_flipped_log(meta),
            false => Ok(()),
        }
    }

    /// Stop the log here. It continues with the next flip.
    pub(super) fn stop_log(&self, meta: &Meta, before: &Option<Meta>) {
        let log = meta.log;
        let old = match before {
            Some(m) if m.log.generation == log.generation => m.log.at.min(log.at),
            _ => log.at,
        };
        let end = self.get(at::LOG_END).max(log.at);
        self.set(at::LOG_NAMED, log.generation);
        if log.generation != 0 {
            self.set(at::LOG_NEW, log.at);
            self.set(at::LOG_OLD, old);
            if self.get(at::LOG_GENERATION) != log.generation {
                self.set(at::LOG_GENERATION, 0);
            }
        } else {
            self.set(at::LOG_NEW, end);
            self.set(at::LOG_OLD, end);
        }
        if self.get(at::LOG_MODE) != 0 {
            self.set(
                at::LOG_MODE,
                if self.get(at::LOG_GENERATION) == 0 { 0 } else { 1 },
            );
        }
        self.restart_log_at(end);
        self.set(at::LOG_HOLD, 0);
        self.set(at::CK_LOG_OLD, self.get(at::LOG_NEW));
    }
}
