//! The redo log's words in the sidecar: its mode, its ends, and its place in a checkpoint. `redo` states the modes and
//! the invariants.

use crate::page::format::log_file::RING;
use crate::page::format::log_record::{Place, SECTOR};
use crate::page::shared::shm::Shm;
use crate::page::shared::{at, layout};
use crate::page::sync::group::Group;
use crate::raw::failpoint::fail_point;
use crate::raw::process;

pub(in crate::page) const OFF: u64 = 0;
pub(in crate::page) const PENDING: u64 = 1;
pub(in crate::page) const ON: u64 = 2;

/// Length of log in use at which writers wait for it.
pub(in crate::page) const CROWDED: u64 = RING / 4 * 3;

impl Shm {
    pub(in crate::page) fn group(&self) -> Group<'_> {
        Group {
            leader: self.word(at::LOG_LEADER),
            futex: self.word32(at::LOG_LEADER),
            waiters: self.word32(at::LOG_WAITERS),
            ready: self.word(at::LOG_READY),
            written: self.word(at::LOG_WRITTEN),
            durable: self.word(at::LOG_DURABLE),
            hold: self.word(at::LOG_HOLD),
        }
    }

    /// Set up the log of a new sidecar, as a meta page names it.
    pub(crate) fn begin_log(&self, log: Place) {
        for word in [at::LOG_NEW, at::LOG_OLD, at::LOG_DURABLE] {
            self.set(word, log.at);
        }
        self.put_log_end(log.at);
        self.set(at::LOG_CHAIN, log.chain);
        self.set(at::LOG_GENERATION, log.generation);
        self.set(at::LOG_NAMED, log.generation);
        self.set(
            at::LOG_REPLAY,
            if log.generation != 0 { layout::REPLAY } else { 0 },
        );
    }

    /// Continue the log at `end`. Everything before it is in the file or was discarded.
    pub(in crate::page) fn put_log_end(&self, end: u64) {
        for word in [at::LOG_WRITTEN, at::LOG_READY, at::LOG_NEXT_END, at::LOG_END] {
            self.set(word, end);
        }
    }

    /// Continue the log at `end`, and release all waits for records before it.
    pub(crate) fn restart_log_at(&self, end: u64) {
        self.put_log_end(end);
        self.set(at::LOG_DURABLE, end);
    }

    /// Record that the sidecar holds the complete state: nothing remains to be replayed.
    pub(crate) fn is_replayed(&self) -> bool {
        self.get(at::LOG_REPLAY) == 0
    }

    /// Record the log's place for the checkpoint that is being flipped. Called under the latch.
    pub(crate) fn flip_log(&self) {
        let end = self.get(at::LOG_END);
        let (generation, at, chain) = match self.get(at::LOG_MODE) {
            ON => (self.get(at::LOG_GENERATION), end, self.get(at::LOG_CHAIN)),
            PENDING => (
                self.get(at::LOG_GENERATION),
                end.next_multiple_of(SECTOR),
                process::random_u64(),
            ),
            _ => (0, end, 0),
        };
        for (i, word) in [generation, at, chain].into_iter().enumerate() {
            self.set(at::CK_LOG + 8 * i, word);
        }
        self.set(at::CK_LOG_OLD, self.get(at::LOG_NEW));
    }

    /// Turn the log on, after a gap, at the flip that it was waiting for. Called under the latch; it can be repeated.
    pub(crate) fn finish_log_flip(&self) {
        if self.get(at::LOG_MODE) != PENDING {
            return;
        }
        let from = self.get(at::CK_LOG + 8);
        self.set(at::LOG_HOLD, from + 1);
        self.set(at::LOG_CHAIN, self.get(at::CK_LOG + 16));
        for word in [at::LOG_READY, at::LOG_NEXT_END, at::LOG_END] {
            self.set(word, from);
        }
        fail_point!("log.flip");
        self.set(at::LOG_MODE, ON);
    }

    /// Return where the log continues after the current checkpoint.
    pub(crate) fn flipped_log(&self) -> Place {
        Place {
            generation: self.get(at::CK_LOG),
            at: self.get(at::CK_LOG + 8),
            chain: self.get(at::CK_LOG + 16),
        }
    }

    /// Update the log's words: the current checkpoint is durable. Called under the latch; it can be repeated.
    pub(crate) fn switch_log(&self) {
        let log = self.flipped_log();
        self.set(at::LOG_NAMED, log.generation);
        self.set(at::LOG_OLD, self.get(at::CK_LOG_OLD));
        self.set(at::LOG_NEW, log.at);
        self.group().raise(log.at);
        self.set(at::LOG_HOLD, 0);
    }

    /// Clear the leader: all possible leaders are dead.
    pub(crate) fn forget_log_leader(&self) {
        self.set(at::LOG_LEADER, 0);
        self.set(at::LOG_WAITERS, 0);
    }
}
