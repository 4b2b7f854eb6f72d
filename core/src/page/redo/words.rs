//! The redo log's words in the sidecar: its ends, its generation, and its place in a checkpoint. `redo` states the
//! modes and the invariants.
//!
//! All words but those of the group change under the latch.

use crate::page::format::log_file::RING;
use crate::page::format::log_record::{Place, SECTOR};
use crate::page::format::meta::Meta;
use crate::page::shared::header::log_mode::{OFF, ON, PENDING};
use crate::page::shared::shm::Shm;
use crate::page::shared::word::{Word, Words};
use crate::page::sync::group::Group;
use crate::raw::failpoint::fail_point;
use crate::raw::process;

/// Group commit (`sync::group`): the leader; in a cache line of its own.
const LOG_LEADER: Word = Word::at(2048);
const LOG_WAITERS: Word = Word::at(2056);
const LOG_READY: Word = Word::at(2112);
const LOG_WRITTEN: Word = Word::at(2120);
const LOG_DURABLE: Word = Word::at(2128);
const LOG_HOLD: Word = Word::at(2136);
/// End and chain of the committed records, and their values if the commit in progress completes.
const LOG_END: Word = Word::at(2176);
const LOG_CHAIN: Word = Word::at(2184);
const LOG_NEXT_END: Word = Word::at(2192);
const LOG_NEXT_CHAIN: Word = Word::at(2200);
const LOG_NEXT_READY: Word = Word::at(2208);
/// The generation of the log's file; 0: no usable file exists.
const LOG_GENERATION: Word = Word::at(2240);
/// The generation that the newest durable meta page names.
const LOG_NAMED: Word = Word::at(2248);
/// Where the suffixes begin that the newest durable meta page and the one before it need.
const LOG_NEW: Word = Word::at(2256);
const LOG_OLD: Word = Word::at(2264);
/// `REPLAY`: the log's content is still to be applied to the checkpoint; else 0.
const LOG_REPLAY: Word = Word::at(2272);
/// Values that the current checkpoint took at its flip: its place in the log, and the `LOG_NEW` of that time.
const CK_LOG: Word = Word::at(2304); // 3 words
const CK_LOG_OLD: Word = Word::at(2328);

/// Value of `LOG_REPLAY` while the log is still to be applied to the checkpoint.
pub(in crate::page) const REPLAY: u64 = u64::from_le_bytes(*b"replay..");

/// Length of log in use at which writers wait for it.
pub(in crate::page) const CROWDED: u64 = RING / 4 * 3;

/// Return whether a sidecar's log is still to be replayed: `REPLAY` or 0.
pub(in crate::page) fn log_replay_of(words: &impl Words) -> u64 {
    words.value(LOG_REPLAY)
}

/// A view of the log's words.
pub(in crate::page) struct Log<'a>(&'a Shm);

impl Log<'_> {
    /// Return the end of the committed records.
    pub(in crate::page) fn end(&self) -> u64 {
        self.0.get(LOG_END)
    }

    /// Return the place where the next record goes.
    pub(in crate::page) fn place(&self) -> Place {
        Place {
            generation: self.generation(),
            at: self.end(),
            chain: self.0.get(LOG_CHAIN),
        }
    }

    /// Return the generation of the log's file; 0: no usable file exists.
    pub(in crate::page) fn generation(&self) -> u64 {
        self.0.get(LOG_GENERATION)
    }

    /// Record that no usable file exists.
    pub(in crate::page) fn forget_file(&self) {
        self.0.set(LOG_GENERATION, 0);
    }

    /// Return whether the newest durable meta page names a log.
    pub(in crate::page) fn is_named(&self) -> bool {
        self.0.get(LOG_NAMED) != 0
    }

    /// Return where the suffix begins that the newest durable meta page needs.
    pub(in crate::page) fn needed_by_newest(&self) -> u64 {
        self.0.get(LOG_NEW)
    }

    /// Return where the suffix begins that a meta page needs.
    pub(in crate::page) fn needed(&self) -> u64 {
        self.0.get(LOG_OLD)
    }

    /// Return whether records depend on a checkpoint that is not durable yet.
    pub(in crate::page) fn is_on_hold(&self) -> bool {
        self.0.get(LOG_HOLD) != 0
    }

    /// Use a new, empty file from here on.
    pub(in crate::page) fn use_file(&self, generation: u64) {
        let end = self.end().next_multiple_of(SECTOR);
        self.put_end(end);
        self.0.set(LOG_NEW, end);
        self.0.set(LOG_OLD, end);
        self.0.set(LOG_GENERATION, generation);
    }

    /// Continue the log at `end`. Everything before it is in the file or was discarded.
    fn put_end(&self, end: u64) {
        for word in [LOG_WRITTEN, LOG_READY, LOG_NEXT_END, LOG_END] {
            self.0.set(word, end);
        }
    }

    /// Announce the record of the commit in progress, which ends at `next`.
    pub(in crate::page) fn announce_record(&self, next: Place) {
        self.0.set(LOG_NEXT_CHAIN, next.chain);
        let ready = if next.at.is_multiple_of(SECTOR) {
            next.at
        } else {
            self.0.get(LOG_READY)
        };
        self.0.set(LOG_NEXT_READY, ready);
        fail_point!("log.written to the ring");
        self.0.set(LOG_NEXT_END, next.at);
    }

    /// Count the record of a completed change. It can be repeated.
    pub(in crate::page) fn count_record(&self) {
        let end = self.0.get(LOG_NEXT_END);
        if end != self.end() {
            self.0.set(LOG_CHAIN, self.0.get(LOG_NEXT_CHAIN));
            self.0.set(LOG_READY, self.0.get(LOG_NEXT_READY));
            fail_point!("log.counted");
            self.0.set(LOG_END, end);
        }
    }

    /// Discard the record of a change that did not complete.
    pub(in crate::page) fn discard_record(&self) {
        self.0.set(LOG_NEXT_END, self.end());
    }

    /// Record that an emptied log has nothing to replay.
    pub(in crate::page) fn has_nothing_to_replay(&self) {
        self.forget_file();
        self.0.set(LOG_REPLAY, 0);
    }

    /// Record that everything up to `end` is replayed, and from where on a meta page needs the log.
    pub(in crate::page) fn is_replayed_to(&self, end: u64, needed: u64) {
        self.0.set(LOG_OLD, needed);
        self.put_end(end.next_multiple_of(SECTOR));
        self.0.set(LOG_DURABLE, end);
        self.0.set(LOG_REPLAY, 0);
    }

    /// Stop the log of dead processes here. It continues with the next flip.
    pub(in crate::page) fn stop(&self, meta: &Meta, before: &Option<Meta>) {
        let (shm, log) = (self.0, meta.log);
        let old = match before {
            Some(m) if m.log.generation == log.generation => m.log.at.min(log.at),
            _ => log.at,
        };
        let end = self.end().max(log.at);
        shm.set(LOG_NAMED, log.generation);
        if log.generation != 0 {
            shm.set(LOG_NEW, log.at);
            shm.set(LOG_OLD, old);
            if self.generation() != log.generation {
                self.forget_file();
            }
        } else {
            shm.set(LOG_NEW, end);
            shm.set(LOG_OLD, end);
        }
        if shm.log_mode() != OFF {
            shm.set_log_mode(if self.generation() == 0 { OFF } else { PENDING });
        }
        // All waits for records before it end.
        self.put_end(end);
        shm.set(LOG_DURABLE, end);
        shm.set(LOG_HOLD, 0);
        shm.set(CK_LOG_OLD, shm.get(LOG_NEW));
    }
}

impl Shm {
    /// Return the log's words.
    pub(in crate::page) fn log(&self) -> Log<'_> {
        Log(self)
    }

    pub(in crate::page) fn group(&self) -> Group<'_> {
        Group {
            leader: self.word(LOG_LEADER),
            futex: self.word32(LOG_LEADER),
            waiters: self.word32(LOG_WAITERS),
            ready: self.word(LOG_READY),
            written: self.word(LOG_WRITTEN),
            durable: self.word(LOG_DURABLE),
            hold: self.word(LOG_HOLD),
        }
    }

    /// Set up the log of a new sidecar, as a meta page names it.
    pub(crate) fn begin_log(&self, log: Place) {
        for word in [LOG_NEW, LOG_OLD, LOG_DURABLE] {
            self.set(word, log.at);
        }
        self.log().put_end(log.at);
        self.set(LOG_CHAIN, log.chain);
        self.set(LOG_GENERATION, log.generation);
        self.set(LOG_NAMED, log.generation);
        self.set(LOG_REPLAY, if log.generation != 0 { REPLAY } else { 0 });
    }

    /// Record that the sidecar holds the complete state: nothing remains to be replayed.
    pub(crate) fn is_replayed(&self) -> bool {
        self.get(LOG_REPLAY) == 0
    }

    /// Record the log's place for the checkpoint that is being flipped. Called under the latch.
    pub(crate) fn flip_log(&self) {
        let log = self.log().place();
        let (generation, at, chain) = match self.log_mode() {
            ON => (log.generation, log.at, log.chain),
            PENDING => (
                log.generation,
                log.at.next_multiple_of(SECTOR),
                process::random_u64(),
            ),
            _ => (0, log.at, 0),
        };
        for (i, word) in [generation, at, chain].into_iter().enumerate() {
            self.set(CK_LOG.nth(i), word);
        }
        self.set(CK_LOG_OLD, self.get(LOG_NEW));
    }

    /// Turn the log on, after a gap, at the flip that it was waiting for. Called under the latch; it can be repeated.
    pub(crate) fn finish_log_flip(&self) {
        if self.log_mode() != PENDING {
            return;
        }
        let log = self.flipped_log();
        self.set(LOG_HOLD, log.at + 1);
        self.set(LOG_CHAIN, log.chain);
        for word in [LOG_READY, LOG_NEXT_END, LOG_END] {
            self.set(word, log.at);
        }
        fail_point!("log.flip");
        self.set_log_mode(ON);
    }

    /// Return where the log continues after the current checkpoint.
    pub(crate) fn flipped_log(&self) -> Place {
        Place {
            generation: self.get(CK_LOG),
            at: self.get(CK_LOG.nth(1)),
            chain: self.get(CK_LOG.nth(2)),
        }
    }

    /// Update the log's words: the current checkpoint is durable. Called under the latch; it can be repeated.
    pub(crate) fn switch_log(&self) {
        let log = self.flipped_log();
        self.set(LOG_NAMED, log.generation);
        self.set(LOG_OLD, self.get(CK_LOG_OLD));
        self.set(LOG_NEW, log.at);
        self.group().raise(log.at);
        self.set(LOG_HOLD, 0);
    }

    /// Clear the leader: all possible leaders are dead.
    pub(crate) fn forget_log_leader(&self) {
        self.set(LOG_LEADER, 0);
        self.set(LOG_WAITERS, 0);
    }
}
