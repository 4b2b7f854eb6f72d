//! Locks of files that are renamed, exchanged or removed (`known::locks::moves`): holding the new names. After the move
//! the locks follow (`tree::moved`).
//!
//! 1. A file takes its locks to its new name. There its owners exclude Python before it has the name.
//! 2. Where another owner holds the new name, the rename waits, and fails as a change of the entry would.

use crate::fs::context::Ctx;
use crate::fs::error::{FsError, FsResult};
use crate::fs::known::inodes::Place;
use crate::fs::known::locks::moves::Holder;
use crate::fs::known::locks::request::Target;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::Named;
use crate::kernel::processes;
use persist_core::store::Obj;
use std::time::{Duration, Instant};

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(2);

/// Holds of names that locked files are about to get.
pub(crate) struct NamesHeld<'a> {
    fs: &'a Fs,
    held: Vec<(Target, Vec<Holder>)>,
}

impl Drop for NamesHeld<'_> {
    fn drop(&mut self) {
        for (target, holders) in self.held.drain(..) {
            self.fs.locks.change(&self.fs.store, |table, _| {
                for holder in holders {
                    table.reduce(&self.fs.store, &target, holder);
                }
            });
        }
    }
}

impl Fs {
    /// Hold the names that entries are about to get, for the owners of their locks. Each of `moves` is the directory
    /// and name that an entry has, and those that it gets.
    pub(crate) fn hold_names(&self, ctx: &Ctx, moves: &[[(Obj, &Named); 2]]) -> FsResult<NamesHeld<'_>> {
        let mut held = NamesHeld {
            fs: self,
            held: Vec::new(),
        };
        if self.locks.with(|table| table.is_idle()) {
            return Ok(held);
        }
        for [(dir, named), (to, name)] in moves {
            let spot = self.read(ctx, |r| self.spot_of(r, *dir, named))?;
            let Some(spot) = spot else { continue };
            let ino = self.number(&Place::File(spot));
            let target = match name {
                Named::Key(key) => Target::Stored(*to, Some(key.clone())),
                _ => Target::Stored(*to, None),
            };
            if self
                .locks
                .with(|table| table.target_of(ino).is_some_and(|now| *now != target))
            {
                held.held.push((target.clone(), Vec::new()));
                self.hold_name(ctx, ino, &target, &mut held)?;
            }
        }
        Ok(held)
    }

    fn hold_name(&self, ctx: &Ctx, ino: u64, target: &Target, held: &mut NamesHeld<'_>) -> FsResult<()> {
        let begun = Instant::now();
        loop {
            let holders = held.held.last_mut().map(|(_, holders)| holders);
            let Some(holders) = holders else { return Ok(()) };
            let prepared = self.locks.change(&self.store, |table, _| {
                table.prepare(&self.store, ino, target, holders)
            })?;
            if prepared {
                return Ok(());
            }
            if !ctx.may_wait {
                return Err(FsError::Blocked);
            }
            if processes::has_signal(ctx.tid) {
                return Err(FsError::Errno(libc::EINTR));
            }
            if begun.elapsed() >= self.config.lockwait {
                return Err(FsError::Errno(libc::EAGAIN));
            }
            std::thread::sleep(PAUSE);
        }
    }
}
