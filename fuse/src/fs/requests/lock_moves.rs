//! Locks of files that are renamed, exchanged or removed (`known::locks::moves`): holding the new names. After the move
//! the locks follow (`tree::moved`).
//!
//! 1. A file takes its locks to its new name. There its owners exclude Python before it has the name.
//! 2. Where another owner holds the new name, the rename waits, and fails as a change of the entry would. It waits in
//!    the queue of the store.
//! 3. A process that renames its own locked file waits as the owner of the lock: a deadlock that passes through it is
//!    one. Another process waits as an owner of its own, without locks: the owner of the file's lock does not wait.

use crate::fs::context::Ctx;
use crate::fs::error::{FsError, FsResult};
use crate::fs::known::inodes::Place;
use crate::fs::known::locks::moves::{Awaited, Holder, Prepared};
use crate::fs::known::locks::request::{Target, actor};
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::Named;
use crate::kernel::processes;
use persist_core::store::{Actor, Obj, Wait};
use std::time::Instant;

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
            let Some((_, holders)) = held.held.last_mut() else {
                return Ok(());
            };
            let prepared = self.locks.change(&self.store, |table, _| {
                table.prepare(&self.store, ino, target, holders)
            })?;
            let Prepared::Waits(awaited) = prepared else {
                return Ok(());
            };
            if !ctx.may_wait {
                return Err(FsError::Blocked);
            }
            let mut signal = || processes::has_signal(ctx.tid);
            let mut wait = Wait {
                timeout: Some(self.config.lockwait.saturating_sub(begun.elapsed())),
                interrupted: Some(&mut signal),
            };
            self.await_name(ctx, target, awaited, holders, &mut wait)?;
        }
    }

    /// Wait until an owner may have the lock of a name.
    fn await_name(
        &self,
        ctx: &Ctx,
        target: &Target,
        awaited: Awaited,
        holders: &mut Vec<Holder>,
        wait: &mut Wait<'_>,
    ) -> FsResult<()> {
        let Some(in_store) = target.in_store() else {
            return Ok(());
        };
        let Awaited {
            holder, user, mode, ..
        } = awaited;
        let is_own = processes::process_of(ctx.tid).is_some_and(|process| process.pid == user);
        if is_own && !awaited.is_queued {
            self.store
                .set_lock(actor(holder, user), in_store, Some(mode), wait)?;
            holders.push(holder);
            self.locks
                .change(&self.store, |table, _| table.holds(target, (holder, mode)));
            return Ok(());
        }
        // The kernel's numbers of open files are scrambled addresses.
        let turn = Actor::Flock(!u64::from(ctx.tid), ctx.tid);
        self.store.set_lock(turn, in_store, Some(mode), wait)?;
        Ok(self.store.unlock_all(turn)?)
    }
}
