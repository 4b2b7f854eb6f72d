//! The redo log's words in the sidecar: its mode, its ends, and what a checkpoint says of it. The modes and the
//! invariants: `redo`.

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

/// With so much of the log in use writers wait for it.
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

    /// The log of a new sidecar, as a meta page names it.
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

    /// The log goes on at `end`, and everything before it is in the file or nowhere.
    pub(in crate::page) fn put_log_end(&self, end: u64) {
        for word in [at::LOG_WRITTEN, at::LOG_READY, at::LOG_NEXT_END, at::LOG_END] {
            self.set(word, end);
        }
    }

    /// The log goes on at `end`: nothing before it is waited for.
    pub(crate) fn rest_log_at(&self, end: u64) {
        self.put_log_end(end);
        self.set(at::LOG_DURABLE, end);
    }

    /// What the sidecar holds is the whole state: nothing waits to be replayed.
    pub(crate) fn is_replayed(&self) -> bool {
        self.get(at::LOG_REPLAY) == 0
    }

    /// Notes what the checkpoint that is being flipped says of the log. Under the latch.
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

    /// Turns the log on at the flip that it was waiting for: behind a gap. Under the latch; can be done again.
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

    /// Where the log goes on after the checkpoint under way.
    pub(crate) fn flipped_log(&self) -> Place {
        Place {
            generation: self.get(at::CK_LOG),
            at: self.get(at::CK_LOG + 8),
            chain: self.get(at::CK_LOG + 16),
        }
    }

    /// The checkpoint under way is durable. Under the latch; can be done again.
    pub(crate) fn switch_log(&self) {
        let log = self.flipped_log();
        self.set(at::LOG_NAMED, log.generation);
        self.set(at::LOG_OLD, self.get(at::CK_LOG_OLD));
        self.set(at::LOG_NEW, log.at);
        self.group().raise(log.at);
        self.set(at::LOG_HOLD, 0);
    }

    /// Forgets who led: all who could are dead.
    pub(crate) fn forget_log_leader(&self) {
        self.set(at::LOG_LEADER, 0);
        self.set(at::LOG_WAITERS, 0);
    }
}
