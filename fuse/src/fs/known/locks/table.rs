//! The locks that commands hold and wait for through this mount.
//!
//! ```text
//! request --no range excludes it--> hold in the store --granted--> ranges of the file --> answer
//!    |                                  |
//!    +--> waits for ranges (`Table`)    +--> waits in the store's queue (`Store`), or for its latch (`Later`)
//! ```
//!
//! 1. Ranges decide between commands. flock and fcntl locks are two tables that do not exclude each other, as on every
//!    local filesystem of Linux. The store's lock manager decides against Python, Rust and other mounts: there each
//!    owner holds its file's entry in the strongest mode of its ranges, and the owners of this mount do not exclude
//!    each other on one entry.
//! 2. A waiting request is a record with its answer. It takes no thread: the release that makes it grantable grants it,
//!    and one thread (`mod.rs`) looks at all requests that wait in the store, and for signals to their callers.
//! 3. Requests that wait for ranges are granted in the order in which they came. A later request that nothing excludes
//!    does not wait for earlier ones, as in the kernel.
//! 4. An owner has at most one request in the queue of the store for one file. While it is there, its hold in the store
//!    is not reduced, since the grant sets the mode of the request.
//! 5. A request that would deadlock is refused (EDEADLK). The cycle of waiting owners may pass through the
//!    store's queue and owners in Python; a waiting request is checked again for cycles that others close later.
//! 6. A hold in the store is never weaker than the ranges of its owner, except for a moment after a file that is locked
//!    was moved (`moves`). It may be stronger until the latch is free.
//! 7. The mutex of the table is held while the store is asked for and given back locks. These calls do not wait for
//!    locks, and for the latch at most briefly. Answers are sent after it is released.

use super::file::{File, Tried, hold};
use super::ranges::{Group, Origin, Range, WHOLE};
use super::request::{Answer, Answers, Ask, Call, State, Target, Waiter, actor};
use crate::fs::error::{FsError, would_wait};
use persist_core::Error;
use persist_core::store::{LockMode, Store, Wait};
use std::collections::{HashMap, HashSet};

/// The maximal number of waiting requests.
const MAX_WAITING: usize = 1 << 16;

/// All locks held and awaited through the mount.
#[derive(Default)]
pub(crate) struct Table {
    pub(super) files: HashMap<Target, File>,
    /// The targets of inodes with locks, and the inodes of open files with locks. An entry may be out of date until
    /// the file is closed.
    pub(super) inodes: HashMap<u64, Target>,
    handles: HashMap<u64, u64>,
    /// In the order in which they came.
    pub(crate) waiters: Vec<Waiter>,
    last: u64,
    /// Holds in the store that differ from the ranges: the latch was not free.
    reducible: HashSet<(Target, Call, u64)>,
    /// The thread for waiting requests runs.
    pub(crate) watched: bool,
    /// The mount has ended.
    pub(crate) closed: bool,
}

impl Table {
    /// The files with locks.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Target, &File)> {
        self.files.iter()
    }

    /// The locks of a target.
    pub(crate) fn file(&self, target: &Target) -> Option<&File> {
        self.files.get(target)
    }

    /// The target that an inode's locks are recorded at, even if the file has moved since.
    pub(crate) fn recorded(&self, ino: u64) -> Option<&Target> {
        let target = self.inodes.get(&ino)?;
        let file = self.files.get(target)?;
        file.inodes().any(|i| i == ino).then_some(target)
    }

    /// Return whether nothing is locked and no request waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.files.is_empty() && !self.has_work()
    }

    /// Return whether the thread for waiting requests has work.
    pub(crate) fn has_work(&self) -> bool {
        !self.waiters.is_empty() || !self.reducible.is_empty()
    }

    /// Request a lock.
    pub(crate) fn lock(
        &mut self,
        store: &Store,
        target: Target,
        ask: Ask,
        answer: Answer,
        out: &mut Answers,
    ) {
        if self.closed {
            out.push((answer, Err(FsError::Errno(libc::EIO))));
            return;
        }
        let mut tried = self.attempt(store, &target, &ask);
        let holds = |file: &File| file.flock.own(ask.origin.owner, WHOLE).is_some();
        let is_conversion = ask.call == Call::Flock && self.file(&target).is_some_and(holds);
        if is_conversion && !matches!(tried, Tried::Granted) {
            // The kernel's rule: a conversion that must wait, or fails, first gives up the lock that was held.
            if let Tried::Waits(state) = &tried {
                self.leave_queue(store, &target, ask.holder(), state);
            }
            self.unlock(store, &target, ask.call, &ask.origin, WHOLE, out);
            if ask.sleep {
                tried = self.attempt(store, &target, &ask);
            }
        }
        let state = match tried {
            Tried::Granted => {
                // A weaker lock than before may admit others.
                self.grant(store, &target, out);
                out.push((answer, Ok(())));
                return;
            }
            Tried::Refused(e) => {
                out.push((answer, Err(e)));
                return;
            }
            Tried::Waits(state) => state,
        };
        let number = self.last + 1;
        let waiter = Waiter {
            number,
            ask,
            target,
            state,
            answer,
        };
        let refusal = if !ask.sleep {
            Some(libc::EAGAIN)
        } else if self.closes_cycle(store, &waiter) {
            Some(libc::EDEADLK)
        } else if self.waiters.len() >= MAX_WAITING {
            Some(libc::ENOLCK)
        } else {
            None
        };
        match refusal {
            Some(errno) => self.dismiss(store, waiter, FsError::Errno(errno), out),
            None => {
                self.last = number;
                self.waiters.push(waiter);
            }
        }
    }

    /// Unlock a range.
    pub(crate) fn unlock(
        &mut self,
        store: &Store,
        target: &Target,
        call: Call,
        origin: &Origin,
        range: Range,
        out: &mut Answers,
    ) {
        if self.release_range(store, target, origin, call, range) {
            self.grant(store, target, out);
        }
    }

    /// Release the locks through an inode whose group is chosen: at the end of an open file, or when a process closes
    /// a descriptor.
    pub(crate) fn release(
        &mut self,
        store: &Store,
        ino: u64,
        calls: &[Call],
        chosen: impl Fn(&Group) -> bool,
        out: &mut Answers,
    ) {
        let Some(target) = self.inodes.get(&ino).cloned() else {
            return;
        };
        let Some(file) = self.files.get_mut(&target) else {
            self.inodes.remove(&ino);
            return;
        };
        let mut holders = Vec::new();
        for call in calls {
            let taken = file.ranges_mut(*call).take(|g| g.ino == ino && chosen(g));
            holders.extend(taken.into_iter().map(|g| (*call, g.owner)));
        }
        if !file.inodes().any(|i| i == ino) {
            self.inodes.remove(&ino);
        }
        for holder in &holders {
            self.reduce(store, &target, *holder);
        }
        if !holders.is_empty() {
            self.grant(store, &target, out);
        }
    }

    /// Release the locks that were taken through an open file.
    pub(crate) fn release_handle(&mut self, store: &Store, fh: u64, out: &mut Answers) {
        if let Some(ino) = self.handles.remove(&fh) {
            self.release(
                store,
                ino,
                &[Call::Flock, Call::Fcntl],
                |g| g.handles.contains(&fh),
                out,
            );
        }
    }

    /// Remove and answer a waiting request.
    pub(crate) fn cancel(&mut self, store: &Store, number: u64, errno: i32, out: &mut Answers) {
        if let Some(at) = self.position(number) {
            let waiter = self.waiters.remove(at);
            self.dismiss(store, waiter, FsError::Errno(errno), out);
        }
    }

    /// Look at a request that waits in the store, or for its latch.
    pub(crate) fn look(&mut self, store: &Store, number: u64, out: &mut Answers) {
        let Some(at) = self.position(number) else { return };
        match self.waiters[at].state.clone() {
            State::Table => {}
            State::Later => self.retry(store, number, out),
            State::Store(pending, mode) => match store.lock_poll(&pending) {
                Ok(false) => {}
                Ok(true) => {
                    let (target, holder) = (self.waiters[at].target.clone(), self.waiters[at].ask.holder());
                    self.waiters[at].state = State::Table;
                    self.files
                        .entry(target.clone())
                        .or_default()
                        .holds
                        .insert(holder, mode);
                    self.retry(store, number, out);
                    self.reduce(store, &target, holder);
                }
                Err(e) => {
                    let waiter = self.waiters.remove(at);
                    self.dismiss(store, waiter, e.into(), out);
                }
            },
        }
    }

    /// Refuse a waiting request if it is part of a cycle by now.
    pub(crate) fn check_cycle(&mut self, store: &Store, number: u64, out: &mut Answers) {
        if let Some(at) = self.position(number)
            && self.closes_cycle(store, &self.waiters[at])
        {
            self.cancel(store, number, libc::EDEADLK, out);
        }
    }

    /// Refuse all waiting requests.
    pub(crate) fn refuse_all(&mut self, store: &Store, errno: i32, out: &mut Answers) {
        for waiter in std::mem::take(&mut self.waiters) {
            self.dismiss(store, waiter, FsError::Errno(errno), out);
        }
    }

    /// Return whether a request or a release waits for the store's latch.
    pub(crate) fn waits_for_latch(&self) -> bool {
        !self.reducible.is_empty() || self.waiters.iter().any(|w| matches!(w.state, State::Later))
    }

    /// Change the holds that could not be changed before.
    pub(crate) fn reduce_later(&mut self, store: &Store) {
        for (target, call, owner) in std::mem::take(&mut self.reducible) {
            self.reduce(store, &target, (call, owner));
        }
    }

    /// End the mount: release all locks, and answer all requests.
    pub(crate) fn close(&mut self, store: &Store, out: &mut Answers) {
        self.closed = true;
        self.refuse_all(store, libc::EIO, out);
        let inodes: Vec<u64> = self.inodes.keys().copied().collect();
        for ino in inodes {
            self.release(store, ino, &[Call::Flock, Call::Fcntl], |_| true, out);
        }
    }

    pub(super) fn position(&self, number: u64) -> Option<usize> {
        self.waiters.binary_search_by_key(&number, |w| w.number).ok()
    }

    /// Grant a request if nothing excludes it. Otherwise nothing has changed, but the request may stand in the queue of
    /// the store.
    fn attempt(&mut self, store: &Store, target: &Target, ask: &Ask) -> Tried {
        let file = self.files.entry(target.clone()).or_default();
        let others = file.ranges(ask.call);
        if others
            .excluding(ask.origin.owner, ask.range, ask.mode)
            .next()
            .is_some()
        {
            self.forget_unused(target);
            return Tried::Waits(State::Table);
        }
        let holder = ask.holder();
        let held = file.holds.get(&holder).copied();
        let enough = held == Some(LockMode::Exclusive) || held == Some(ask.mode);
        if let (false, Some(in_store)) = (enough, target.in_store()) {
            let tried = if self.is_queued(target, holder) {
                Tried::Waits(State::Later)
            } else {
                hold(store, in_store, ask)
            };
            if !matches!(tried, Tried::Granted) {
                self.forget_unused(target);
                return tried;
            }
            let file = self.files.entry(target.clone()).or_default();
            file.holds.insert(holder, ask.mode);
        }
        let file = self.files.entry(target.clone()).or_default();
        file.ranges_mut(ask.call)
            .set(&ask.origin, ask.range, Some(ask.mode));
        self.inodes.insert(ask.origin.ino, target.clone());
        self.handles.insert(ask.origin.fh, ask.origin.ino);
        self.reduce(store, target, holder);
        Tried::Granted
    }

    /// Try a waiting request again.
    fn retry(&mut self, store: &Store, number: u64, out: &mut Answers) {
        let Some(at) = self.position(number) else { return };
        let (ask, target) = (self.waiters[at].ask, self.waiters[at].target.clone());
        match self.attempt(store, &target, &ask) {
            Tried::Granted => {
                let waiter = self.waiters.remove(at);
                out.push((waiter.answer, Ok(())));
            }
            Tried::Waits(state) => self.waiters[at].state = state,
            Tried::Refused(e) => {
                let waiter = self.waiters.remove(at);
                out.push((waiter.answer, Err(e)));
            }
        }
    }

    /// Grant what waits for ranges of this target, in order.
    pub(super) fn grant(&mut self, store: &Store, target: &Target, out: &mut Answers) {
        let waiting: Vec<u64> = self
            .waiters
            .iter()
            .filter(|w| w.target == *target && matches!(w.state, State::Table))
            .map(|w| w.number)
            .collect();
        let before = self.waiters.len();
        for number in &waiting {
            self.retry(store, *number, out);
        }
        if self.waiters.len() != before {
            // A request that still waits now waits for other owners.
            for number in waiting {
                self.check_cycle(store, number, out);
            }
        }
    }

    /// Answer a request that is not granted, and remove it from the queue of the store.
    fn dismiss(&mut self, store: &Store, waiter: Waiter, refusal: FsError, out: &mut Answers) {
        self.leave_queue(store, &waiter.target, waiter.ask.holder(), &waiter.state);
        out.push((waiter.answer, Err(refusal)));
    }

    pub(super) fn leave_queue(&mut self, store: &Store, target: &Target, holder: (Call, u64), state: &State) {
        let State::Store(pending, mode) = state else {
            return;
        };
        match store.lock_cancel(pending) {
            // It was granted before.
            Ok(true) => {
                self.files
                    .entry(target.clone())
                    .or_default()
                    .holds
                    .insert(holder, *mode);
            }
            Ok(false) => {}
            Err(e) => log::warn!("leaving the queue of a lock: {}", e.in_store(store.path())),
        }
        self.reduce(store, target, holder);
    }

    /// Unlock a range. Return whether it may have excluded other requests.
    fn release_range(
        &mut self,
        store: &Store,
        target: &Target,
        origin: &Origin,
        call: Call,
        range: Range,
    ) -> bool {
        let Some(file) = self.files.get_mut(target) else {
            return false;
        };
        let ranges = file.ranges_mut(call);
        if ranges.own(origin.owner, range).is_none() {
            return false;
        }
        ranges.set(origin, range, None);
        self.reduce(store, target, (call, origin.owner));
        true
    }

    /// Return whether a request of this owner stands in the queue of the store.
    pub(super) fn is_queued(&self, target: &Target, holder: (Call, u64)) -> bool {
        self.waiters
            .iter()
            .any(|w| matches!(w.state, State::Store(..)) && w.target == *target && w.ask.holder() == holder)
    }

    /// Bring an owner's hold in the store to what its ranges need.
    pub(crate) fn reduce(&mut self, store: &Store, target: &Target, holder: (Call, u64)) {
        if self.is_queued(target, holder) {
            return;
        }
        let Some(file) = self.files.get_mut(target) else {
            return;
        };
        let needed = file.ranges(holder.0).strongest(holder.1);
        let held = file.holds.get(&holder).copied();
        if let (Some(in_store), true) = (target.in_store(), needed != held) {
            let by = actor(holder, file.ranges(holder.0).user_of(holder.1));
            match store.set_lock(by, in_store, needed, &mut Wait::never()) {
                Err(e) if would_wait(&e) => {
                    self.reducible.insert((target.clone(), holder.0, holder.1));
                    return;
                }
                // The container was freed, and its locks with it.
                Ok(()) | Err(Error::Gone(_)) => {}
                Err(e) => log::warn!("changing a lock: {}", e.in_store(store.path())),
            }
            match needed {
                Some(mode) => file.holds.insert(holder, mode),
                None => file.holds.remove(&holder),
            };
        }
        self.forget_unused(target);
    }

    pub(super) fn forget_unused(&mut self, target: &Target) {
        if self.files.get(target).is_some_and(File::is_unused) {
            self.files.remove(target);
        }
    }
}
