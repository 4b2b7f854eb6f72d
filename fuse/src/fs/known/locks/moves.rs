//! Locks follow their file to another name.
//!
//! 1. A file that is renamed or exchanged keeps its locks, and the requests that wait for them. So does a removed file
//!    that is open: its name is free for another file.
//! 2. Before a locked file gets a name, its owners hold that name in the store too (`prepare`), so that no other owner
//!    comes in between. After the operation, also after one that failed, they hold what their ranges need (`reduce`).

use super::request::{Answers, Call, State, Target, actor};
use super::table::Table;
use crate::fs::error::would_wait;
use persist_core::store::{LockMode, Store, Wait};
use persist_core::{Error, Result};

const CALLS: [Call; 2] = [Call::Flock, Call::Fcntl];

/// The result of preparing a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Prepared {
    Done,
    /// Another owner has the target locked, or requested it earlier.
    Waits(Awaited),
}

/// A lock that an owner needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Awaited {
    pub(crate) holder: Holder,
    /// The owner's process.
    pub(crate) user: u32,
    pub(crate) mode: LockMode,
    /// The owner has a request for the target in the queue of the store.
    pub(crate) is_queued: bool,
}

/// An owner, and how it locks.
pub(crate) type Holder = (Call, u64);

impl Table {
    /// The target at which an inode is locked or awaited.
    pub(crate) fn target_of(&self, ino: u64) -> Option<&Target> {
        let awaited = || self.waiters.iter().find(|w| w.ask.origin.ino == ino);
        self.recorded(ino).or_else(|| awaited().map(|w| &w.target))
    }

    /// Hold another target in the store for the owners of an inode's locks, in addition to what they hold. Returns
    /// these owners.
    pub(crate) fn prepare(
        &mut self,
        store: &Store,
        ino: u64,
        to: &Target,
        done: &mut Vec<Holder>,
    ) -> Result<Prepared> {
        let (Some(file), Some(in_store)) = (
            self.target_of(ino).and_then(|from| self.file(from)),
            to.in_store(),
        ) else {
            return Ok(Prepared::Done);
        };
        let mut owners: Vec<(Holder, u32, LockMode)> = Vec::new();
        for call in CALLS {
            let ranges = file.ranges(call);
            let groups = ranges.groups().iter().filter(|g| g.ino == ino);
            owners.extend(groups.filter_map(|g| Some(((call, g.owner), g.pid, ranges.strongest(g.owner)?))));
        }
        for (holder, user, mode) in owners {
            let held = self.file(to).and_then(|file| file.holds.get(&holder).copied());
            if held == Some(LockMode::Exclusive) || held == Some(mode) {
                continue;
            }
            match store.set_lock(actor(holder, user), in_store, Some(mode), &mut Wait::never()) {
                Ok(()) => {
                    self.files
                        .entry(to.clone())
                        .or_default()
                        .holds
                        .insert(holder, mode);
                    done.push(holder);
                }
                Err(e) if would_wait(&e) => {
                    return Ok(Prepared::Waits(Awaited {
                        holder,
                        user,
                        mode,
                        is_queued: self.is_queued(to, holder),
                    }));
                }
                Err(Error::Gone(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Prepared::Done)
    }

    /// Record that an owner holds a target in the store.
    pub(crate) fn holds(&mut self, to: &Target, (holder, mode): (Holder, LockMode)) {
        let file = self.files.entry(to.clone()).or_default();
        file.holds.insert(holder, mode);
    }

    /// Move the locks of an inode to another target, and the requests that wait for them.
    pub(crate) fn moved(&mut self, store: &Store, ino: u64, from: &Target, to: &Target, out: &mut Answers) {
        let mut holders = Vec::new();
        if let Some(file) = self.files.get_mut(from) {
            let taken = CALLS.map(|call| (call, file.ranges_mut(call).take(|g| g.ino == ino)));
            let file = self.files.entry(to.clone()).or_default();
            for (call, groups) in taken {
                holders.extend(groups.iter().map(|g| (call, g.owner)));
                file.ranges_mut(call).add(groups);
            }
            self.inodes.insert(ino, to.clone());
        }
        let waiting: Vec<u64> = self
            .waiters
            .iter()
            .filter(|w| w.target == *from && w.ask.origin.ino == ino)
            .map(|w| w.number)
            .collect();
        for number in waiting {
            let Some(at) = self.position(number) else { continue };
            let state = std::mem::replace(&mut self.waiters[at].state, State::Table);
            let holder = self.waiters[at].ask.holder();
            self.waiters[at].target = to.clone();
            self.leave_queue(store, from, holder, &state);
        }
        for holder in holders {
            self.reduce(store, to, holder);
            self.reduce(store, from, holder);
        }
        self.forget_unused(to);
        self.forget_unused(from);
        self.grant(store, to, out);
        self.grant(store, from, out);
    }
}
