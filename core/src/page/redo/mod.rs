//! The redo log: durable commits with one flush.
//!
//! While somebody who has the store open wants every completed change to survive a power cut
//! (`durability="commit"`), every writer's commit also goes to a log, as a record of the bytes that
//! it changed. What the last checkpoint holds and the log's records after it make up the state after a
//! power cut (`replay`). A record lies in a ring in the sidecar first; who waits for it, or another who
//! waits (`group`), writes the ring to the log's file and flushes that, once for everyone.
//!
//! | MODE | A COMMIT | GOES OVER |
//! | --- | --- | --- |
//! | `OFF` | is not logged | to `PENDING` by `start_log`, of whoever wants durable commits |
//! | `PENDING` | is not logged; who wants it durable waits for a checkpoint | to `ON` by the next flip |
//! | `ON` | is logged | to `PENDING` by a commit that the log has no room for |
//! | any | | to `OFF` by a commit that finds nobody who wants durable ones any more, by a log that cannot be written, by the last close |
//!
//! 1. The mode changes under the latch and outside transactions. With it on, the log holds every change
//!    since the last flip, in the order of the commits: a record is complete in the ring before the commit
//!    and counts (`LOG_END`) from the commit on. The commit is the undo log's, one store. Whoever
//!    recovers from a death in between sees from the undo log which it is (`settle_log`). What is undone never
//!    gets into the file.
//!    A change without an undo log (`section::lone`) is not made while the log is on.
//! 2. A change that is not logged leaves a gap. No record is ever chained across one: the flip that turns
//!    the log on begins a new chain, and records after it count for nothing until its
//!    checkpoint is durable (`group`, `hold`). So a replay ends where the gap is, at a state that was.
//! 3. What either durable meta page's suffix needs is not overwritten (`LOG_OLD`).
//! 4. The file is made before a meta page names it, and goes, or is made anew, only when the newest
//!    durable meta page names none.
//! 5. A flush of the log that fails poisons the store, as any other. Bytes that cannot be written, a full
//!    disk, a log that was taken away: the log is given up, and a checkpoint makes durable what it would have.
//!
//! Files: `record` and `file` (formats), `group` (who flushes), `append` (commits), `durable` (waiting for it),
//! `replay`.

mod append;
mod durable;
mod file;
mod group;
mod record;
mod replay;

pub(crate) use record::{Place, SECTOR};

use super::Pager;
use super::fork::lock_soon;
use super::latch::Owner;
use super::shm::{self, Region, Shm, at};
use crate::error::{Error, Result};
use crate::raw::failpoint::fail_point;
use crate::raw::process;
use file::{Found, LogFile, RING};
use group::Group;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

const OFF: u64 = 0;
const PENDING: u64 = 1;
const ON: u64 = 2;

/// With so much of the log in use writers wait for it.
const CROWDED: u64 = RING / 4 * 3;

/// What one process keeps about the log.
#[derive(Debug, Default)]
pub(crate) struct Redo {
    /// This process wants its changes to be durable when they are complete.
    pub(super) commit: bool,
    file: Mutex<Option<Arc<LogFile>>>,
    scratch: Mutex<append::Scratch>,
    unsettled: durable::Unsettled,
}

impl Redo {
    pub(crate) fn new(commit: bool) -> Redo {
        Redo {
            commit,
            ..Redo::default()
        }
    }
}

impl Shm {
    fn group(&self) -> Group<'_> {
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
        self.set(at::LOG_REPLAY, if log.generation != 0 { shm::REPLAY } else { 0 });
    }

    /// The log goes on at `end`, and everything before it is in the file or nowhere.
    fn put_log_end(&self, end: u64) {
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

/// This process's state of the log, standing still.
pub(super) struct HeldLog<'a> {
    _scratch: std::sync::MutexGuard<'a, append::Scratch>,
    _file: std::sync::MutexGuard<'a, Option<Arc<LogFile>>>,
}

impl Pager {
    /// Whether checkpoints are flushed: somebody wants it, or a log of durable commits hangs on it.
    pub(crate) fn must_flush(&self) -> bool {
        self.shm.get(at::STRICTEST) > 0
            || self.redo.commit
            || self.shm.get(at::LOG_MODE) != OFF
            || self.shm.get(at::LOG_NAMED) != 0
    }

    /// Sees to it that completed changes are durable without a checkpoint each. Outside sections and
    /// transactions. Where the disk has no room for a log there is none, and checkpoints serve.
    pub fn start_log(&self) -> Result<()> {
        if self.shm.get(at::LOG_MODE) == ON && self.shm.get(at::LOG_HOLD) == 0 {
            return Ok(());
        }
        self.with_checkpoint(|pager| {
            if pager.shm.get(at::LOG_MODE) == ON {
                return Ok(());
            }
            if pager.shm.get(at::LOG_MODE) == OFF {
                pager.prepare_log()?;
            }
            pager.latched(|pager, slot| {
                pager.raise_gate(slot)?;
                // A checkpoint that is begun must find room for its page table.
                let touched = pager.expect_free(1).and_then(|()| pager.touch_superblock());
                if touched.is_ok() {
                    pager.shm.set(at::LOG_MODE, PENDING);
                }
                pager.shm.gate().lower(false);
                touched
            })?;
            fail_point!("log.pending");
            pager.flip_and_finish()
        })
    }

    /// A file for the log: the one that was used before, or a new one. As the checkpoint's owner.
    fn prepare_log(&self) -> Result<()> {
        let uuid = [self.shm.get(at::UUID), self.shm.get(at::UUID + 8)];
        let path = file::path_of(&self.path);
        self.shm_log_room()?;
        let generation = self.shm.get(at::LOG_GENERATION);
        // A file that cannot be looked at is not taken for none: another would be made in its place.
        if generation != 0
            && let Found::Log(log) = LogFile::find(&path, &self.file, uuid, generation)?
            && log.ring == RING
        {
            return Ok(());
        }
        self.shm.set(at::LOG_GENERATION, 0);
        if self.shm.get(at::LOG_NAMED) != 0 {
            // The file of that name may be needed until a checkpoint says that there is no log.
            self.dirty_epoch()?;
            self.flip_and_finish()?;
        }
        let generation = process::random_u64() | 1;
        let log = LogFile::create(&path, &*self.file.using()?, uuid, generation)?;
        fail_point!("log.made");
        *self.log_file() = Some(Arc::new(log));
        self.latched(|pager, _| {
            let end = pager.shm.get(at::LOG_END).next_multiple_of(SECTOR);
            pager.shm.put_log_end(end);
            pager.shm.set(at::LOG_NEW, end);
            pager.shm.set(at::LOG_OLD, end);
            pager.shm.set(at::LOG_GENERATION, generation);
            Ok(())
        })
    }

    fn shm_log_room(&self) -> Result<()> {
        self.latched(|pager, _| pager.shm.ensure(Region::Log, RING as usize))
    }

    /// Keeps this process's state of the log as it is, for a fork. None if that takes too long.
    pub(super) fn hold_log(&self) -> Option<HeldLog<'_>> {
        Some(HeldLog {
            _scratch: lock_soon(&self.redo.scratch)?,
            _file: lock_soon(&self.redo.file)?,
        })
    }

    fn log_file(&self) -> std::sync::MutexGuard<'_, Option<Arc<LogFile>>> {
        self.redo.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes this process's descriptor of the log: at once, or with the flush that is under way.
    pub(crate) fn forget_log(&self) {
        self.log_file().take();
    }

    /// Before the last one's checkpoint: it will name no log.
    pub(crate) fn end_log(&self) -> Result<()> {
        if self.shm.get(at::LOG_MODE) == OFF && self.shm.get(at::LOG_NAMED) == 0 {
            return Ok(());
        }
        self.latched(|pager, _| {
            pager.shm.set(at::LOG_MODE, OFF);
            Ok(())
        })?;
        self.dirty_epoch()
    }

    /// After the last one's checkpoint, which names no log: one more, so that the meta page before the newest names
    /// none either and stands for it if it gets damaged. Then the file goes.
    pub(crate) fn outlive_log(&self) -> Result<()> {
        if self.shm.get(at::LOG_GENERATION) == 0 || self.shm.get(at::LOG_NAMED) != 0 {
            return Ok(());
        }
        match self.checkpoint_always() {
            // All is durable; the file is in nobody's way.
            Err(Error::NoSpace { .. }) => return Ok(()),
            done => done?,
        }
        self.remove_log();
        Ok(())
    }

    /// After checkpoints that name no log: nothing needs its file any more.
    pub(crate) fn remove_log(&self) {
        if self.shm.get(at::LOG_GENERATION) == 0
            || self.shm.get(at::LOG_NAMED) != 0
            || self.shm.get(at::LOG_MODE) != OFF
        {
            return;
        }
        fail_point!("log.removing");
        // If it cannot be removed it is in nobody's way.
        let _ = std::fs::remove_file(file::path_of(&self.path));
        self.shm.set(at::LOG_GENERATION, 0);
        *self.log_file() = None;
    }

    /// Waits, not long, until no other thread of this process leads: its slots are given back next.
    pub(crate) fn let_leader_finish(&self) {
        let until = std::time::Instant::now() + self.bound;
        let mine = self.process.load(Ordering::Relaxed);
        while Owner::in_word(self.shm.group().leader()).is_some_and(|l| l.is_of(mine))
            && std::time::Instant::now() < until
        {
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
    }

    /// Writes and flushes what is ready.
    fn lead(&self, group: &Group<'_>) -> Result<()> {
        let (from, to) = group.due();
        if from < to {
            // What no meta page needs is not written if nobody waited for it.
            let old = self.shm.get(at::LOG_OLD) / SECTOR * SECTOR;
            let done = self.with_log(|log| {
                self.write_ring(log, from.max(old).min(to), to)?;
                self.whole().map_err(|e| std::io::Error::other(e.to_string()))?;
                fail_point!("log.written");
                Ok(log.flush())
            });
            match done {
                Ok(flushed) => flushed.map_err(|e| self.poison("cannot flush the redo log", e))?,
                Err(e) => {
                    log::warn!("{}: the redo log is given up: {e}", self.path.display());
                    return self.give_up_log();
                }
            }
            fail_point!("log.flushed");
        }
        group.flushed(to);
        fail_point!("log.published");
        Ok(())
    }

    /// Runs `f` on the log's file; not under its mutex, of which a child that is forked during a slow flush would
    /// have a copy that nobody lets go.
    fn with_log<R>(&self, f: impl FnOnce(&LogFile) -> std::io::Result<R>) -> std::io::Result<R> {
        let generation = self.shm.get(at::LOG_GENERATION);
        let known = self.log_file().clone();
        if let Some(log) = known.filter(|log| log.generation == generation && log.is_ours()) {
            return f(&log);
        }
        let uuid = [self.shm.get(at::UUID), self.shm.get(at::UUID + 8)];
        let log = match LogFile::find(&file::path_of(&self.path), &self.file, uuid, generation) {
            Ok(Found::Log(log)) if log.ring == RING => Arc::new(log),
            Ok(_) => return Err(std::io::Error::other("its file is gone")),
            Err(e) => return Err(std::io::Error::other(e.to_string())),
        };
        *self.log_file() = Some(log.clone());
        f(&log)
    }

    fn write_ring(&self, log: &LogFile, from: u64, to: u64) -> std::io::Result<()> {
        let mut piece = [0u8; 4096];
        let mut at = from;
        while at < to {
            let n = (to - at).min(piece.len() as u64) as usize;
            self.read_ring(at, &mut piece[..n]);
            log.write(at, &piece[..n])?;
            at += n as u64;
        }
        Ok(())
    }

    /// The log cannot be written: what is not in it yet becomes durable by checkpoints.
    fn give_up_log(&self) -> Result<()> {
        self.latched(|pager, _| {
            pager.shm.set(at::LOG_GENERATION, 0);
            pager.shm.set(at::LOG_MODE, OFF);
            Ok(())
        })
    }
}

/// The lead, given up at the end, whatever it is.
struct Lead<'g, 's>(&'g Group<'s>);

impl Drop for Lead<'_, '_> {
    fn drop(&mut self) {
        self.0.step_down();
    }
}

/// The ring in the sidecar has room before the undo log's region.
const _: () = assert!(RING as usize <= shm::LOG_SIZE && CROWDED < RING && RING.is_multiple_of(SECTOR));
