//! Leading a group commit: writing the ring to the log's file and flushing it, for all waiters (`sync::group`); and
//! abandoning a log that cannot be written.

use crate::error::Result;
use crate::page::format::log_file::{Found, LogFile, RING};
use crate::page::format::log_record::SECTOR;
use crate::page::pager::Pager;
use crate::page::shared::header::log_mode::OFF;
use crate::page::shared::paths::log_path;
use crate::page::sync::group::Group;
use crate::page::sync::latch::Owner;
use crate::raw::failpoint::fail_point;
use std::sync::Arc;

impl Pager {
    /// Wait for a bounded time until no other thread of this process leads; its slots are released next.
    pub(crate) fn let_leader_finish(&self) {
        let until = std::time::Instant::now() + self.bound();
        let mine = self.member_word();
        while Owner::in_word(self.shm().group().leader()).is_some_and(|l| l.is_of(mine))
            && std::time::Instant::now() < until
        {
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
    }

    /// Write and flush the records that are ready.
    pub(in crate::page) fn lead(&self, group: &Group<'_>) -> Result<()> {
        let (from, to) = group.due();
        if from < to {
            // Skip records that no meta page needs and no process waited for.
            let old = self.shm().log().needed() / SECTOR * SECTOR;
            let done = self.with_log(|log| {
                self.write_ring(log, from.max(old).min(to), to)?;
                self.whole().map_err(|e| std::io::Error::other(e.to_string()))?;
                fail_point!("log.written");
                Ok(log.flush())
            });
            match done {
                Ok(flushed) => flushed.map_err(|e| self.poison("cannot flush the redo log", e))?,
                Err(e) => {
                    log::warn!("{}: the redo log is given up: {e}", self.path().display());
                    return self.abandon_log();
                }
            }
            fail_point!("log.flushed");
        }
        group.flushed(to);
        fail_point!("log.published");
        Ok(())
    }

    /// Run `f` on the log's file without holding its mutex: a child forked during a slow flush would have a copy of the
    /// mutex that is never unlocked.
    fn with_log<R>(&self, f: impl FnOnce(&LogFile) -> std::io::Result<R>) -> std::io::Result<R> {
        let generation = self.shm().log().generation();
        let known = self.log_file().clone();
        if let Some(log) = known.filter(|log| log.generation == generation && log.is_ours()) {
            return f(&log);
        }
        let uuid = self.shm().uuid();
        let log = match LogFile::find(&log_path(self.path()), self.file(), uuid, generation) {
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

    /// Abandon a log that cannot be written: records that are not in the file become durable by checkpoints.
    fn abandon_log(&self) -> Result<()> {
        self.latched(|pager, _| {
            pager.shm().log().forget_file();
            pager.shm().set_log_mode(OFF);
            Ok(())
        })
    }
}

/// The leadership. Dropping it steps down on every path.
pub(super) struct Lead<'g, 's>(pub(super) &'g Group<'s>);

impl Drop for Lead<'_, '_> {
    fn drop(&mut self) {
        self.0.step_down();
    }
}
