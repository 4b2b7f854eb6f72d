//! Turning the redo log on and off: its file, its modes, and its handling at a checkpoint and at the last close. `redo`
//! states the modes and the invariants.

use crate::error::{Error, Result};
use crate::page::format::log_file::{Found, LogFile, RING};
use crate::page::format::log_record::SECTOR;
use crate::page::pager::Pager;
use crate::page::redo::words::CROWDED;
use crate::page::shared::header::log_mode::{OFF, ON, PENDING};
use crate::page::shared::layout::{self, Region};
use crate::page::shared::paths::log_path;
use crate::raw::failpoint::fail_point;
use crate::raw::process;
use std::sync::Arc;

impl Pager {
    /// Make completed changes durable without a checkpoint for each. Called outside sections and transactions. If the
    /// disk has no room for a log, there is none, and checkpoints are used instead.
    pub fn start_log(&self) -> Result<()> {
        if self.shm().log_mode() == ON && !self.shm().log().is_on_hold() {
            return Ok(());
        }
        self.with_checkpoint(|pager| {
            if pager.shm().log_mode() == ON {
                return Ok(());
            }
            if pager.shm().log_mode() == OFF {
                pager.prepare_log()?;
            }
            pager.latched(|pager, slot| {
                let _gate = pager.keep_readers_out(slot)?;
                // A checkpoint that has begun must find room for its page table.
                pager.expect_free(1)?;
                pager.touch_superblock()?;
                pager.shm().set_log_mode(PENDING);
                Ok(())
            })?;
            fail_point!("log.pending");
            pager.flip_and_finish()
        })
    }

    /// Prepare a file for the log: the one used before, or a new one. Called by the checkpoint's owner.
    fn prepare_log(&self) -> Result<()> {
        let uuid = self.shm().uuid();
        let path = log_path(self.path());
        self.shm_log_room()?;
        let generation = self.shm().log().generation();
        // A file that cannot be examined does not count as missing; otherwise a new one would replace it.
        if generation != 0
            && let Found::Log(log) = LogFile::find(&path, self.file(), uuid, generation)?
            && log.ring == RING
        {
            return Ok(());
        }
        self.shm().log().forget_file();
        if self.shm().log().is_named() {
            // The file of that name may be needed until a checkpoint names no log.
            self.dirty_epoch()?;
            self.flip_and_finish()?;
        }
        let generation = process::random_u64() | 1;
        let log = LogFile::create(&path, &*self.file().using()?, uuid, generation)?;
        fail_point!("log.made");
        *self.log_file() = Some(Arc::new(log));
        self.latched(|pager, _| {
            pager.shm().log().use_file(generation);
            Ok(())
        })
    }

    fn shm_log_room(&self) -> Result<()> {
        self.latched(|pager, _| pager.shm().ensure(Region::Log, RING as usize))
    }

    /// Turn the log off before the last process's checkpoint, which then names no log.
    pub(crate) fn end_log(&self) -> Result<()> {
        if self.shm().log_mode() == OFF && !self.shm().log().is_named() {
            return Ok(());
        }
        self.latched(|pager, _| {
            pager.shm().set_log_mode(OFF);
            Ok(())
        })?;
        self.dirty_epoch()
    }

    /// After the last process's checkpoint, which names no log, make one more. Then the other meta page names none
    /// either, and can replace the newest if that is damaged. Then remove the file.
    pub(crate) fn retire_log(&self) -> Result<()> {
        if self.shm().log().generation() == 0 || self.shm().log().is_named() {
            return Ok(());
        }
        match self.checkpoint_always() {
            // Everything is durable, and the remaining file does no harm.
            Err(Error::NoSpace { .. }) => return Ok(()),
            done => done?,
        }
        self.remove_log();
        Ok(())
    }

    /// Remove the file after checkpoints that name no log: nothing needs it any more.
    pub(crate) fn remove_log(&self) {
        if self.shm().log().generation() == 0 || self.shm().log().is_named() || self.shm().log_mode() != OFF {
            return;
        }
        fail_point!("log.removing");
        // If it cannot be removed, it does no harm.
        let _ = std::fs::remove_file(log_path(self.path()));
        self.shm().log().forget_file();
        *self.log_file() = None;
    }
}

/// The ring in the sidecar fits before the undo log's region.
const _: () = assert!(RING as usize <= layout::LOG_SIZE && CROWDED < RING && RING.is_multiple_of(SECTOR));
