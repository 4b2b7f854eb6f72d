//! The store's side of the lock manager: requests and releases, owners, and how to wait. See `hooks` for the
//! location of the table and for how changes and recovery reach it.

use crate::lock::waiting::env::Env;
use crate::lock::waiting::wait;
use crate::lock::{Owner, OwnerKind, Release, Request, Table, Target};
use crate::object::key;
use crate::page::sync::deadlock::Waiting;
use crate::page::sync::task;
use crate::store::locks::handles::{LockHandle, LockTarget};
use crate::store::locks::hooks::{BLOCKED, finish_deferred, owner, table};
use crate::store::locks::names::describe;
use crate::store::{Actor, Error, LockMode, Result, Store, Wait};
use std::time::Duration;

impl Env for Store {
    fn latched<R>(&self, at_most: Option<Duration>, f: impl FnOnce(&Table<'_>) -> Result<R>) -> Result<R> {
        let mut wait = at_most.map_or_else(Wait::default, Wait::at_most);
        let pager = self.pager();
        pager.outside_sections()?;
        pager.with_latch(&mut wait, || {
            pager.release_ended_threads()?;
            let table = table(pager)?;
            finish_deferred(pager, &table)?;
            f(&table)
        })
    }

    fn unlatched<R>(&self, f: impl FnOnce(&Table<'_>) -> R) -> R {
        let m = self.pager().lock_memory();
        match Table::new(m.words, m.signals, m.counters) {
            Ok(table) => f(&table),
            Err(_) => unreachable!("the sidecar's layout gives the table its room"),
        }
    }

    fn holder_is_dead(&self, owner: &Owner) -> bool {
        self.pager().is_dead(owner.slot, owner.generation)
    }

    fn recover_owner(&self, owner: &Owner) -> Result<()> {
        self.pager().recover_if_dead(owner.slot)
    }

    fn sleep(&self, signal: u32, expected: u32, at_most: Duration) {
        self.pager().sleep_on(signal, expected, at_most);
    }

    fn wake(&self, signal: u32) {
        self.pager().wake_on(signal);
    }

    fn barges(&self) -> bool {
        // The queue search finds a conflicting task of the same thread.
        !task::are_used()
    }

    fn has_tasks(&self) -> bool {
        task::are_used()
    }

    fn enter(&self, request: &Request, blocks: bool) -> Option<Waiting> {
        // Locks of a mount belong to one store.
        let (kind, task) = (request.owner.kind, request.owner.id >> 16);
        (kind == OwnerKind::Thread).then(|| self.pager().enter_wait(task, blocks, self.name(request)))
    }

    fn name(&self, request: &Request) -> String {
        format!("{} of {}", request.target, self.path().display())
    }

    fn latch_owner(&self) -> Option<Owner> {
        let ((process, generation), thread) = self.pager().latch_owner()?;
        let (slot, task) = thread.unwrap_or_default();
        Some(Owner::of_thread(process, generation, slot, task))
    }

    fn bound(&self) -> Duration {
        self.pager().bound()
    }

    fn holds_elsewhere(&self, owner: &Owner) -> Option<String> {
        self.pager().holds_elsewhere(owner.id >> 16)
    }

    fn describe(&self, owner: &Owner) -> String {
        describe(self.pager(), owner)
    }
}

/// Return whether the waiter wants to stop.
fn ask(wait: &mut Wait<'_>) -> bool {
    wait.interrupted.as_mut().is_some_and(|ask| ask())
}

impl Store {
    pub(in crate::store) fn owner(&self, actor: Actor) -> Result<Owner> {
        let (slot, process, generation) = self.pager().identity()?;
        Ok(owner(actor, slot, process, generation))
    }

    pub(in crate::store) fn target(&self, target: &LockTarget<'_>) -> Target {
        Target {
            id: target.obj.id,
            key: target.key.as_ref().map(|k| key::hash(self.pager().seed(), k)),
        }
    }

    /// Acquire a lock, and return it for `release`. Locks are re-entrant, and shared upgrades to exclusive. Inside a
    /// transaction the request does not wait: if the lock is not available, the transaction is rolled back.
    ///
    /// ```
    /// use persist_core::store::{Actor, Key, LockMode, LockTarget, Options, Store, Wait};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path().join("a.store"), &Options::default())?;
    /// let x = LockTarget { obj: store.root(), key: Some(Key::Str(b"x")) };
    /// store.lock(Actor::Thread, x, LockMode::Exclusive, &mut Wait::default())?;
    /// assert_eq!(store.locks()?.len(), 2); // the entry, and the intention on its dict
    /// store.unlock(Actor::Thread, x)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Deadlocks are detected within a store and over several stores of this process. A deadlock that
    /// involves both another process and another store is not detected. So an unbounded wait of an owner that
    /// holds a lock in another store ends after `Options::lock_timeout` if the wait leads to another process.
    ///
    /// # Errors
    /// `Error::Timeout` naming the holder, `Error::Deadlock`, `Error::Interrupted`; `Error::Conflict` inside
    /// a transaction.
    pub fn lock(
        &self,
        actor: Actor,
        target: LockTarget<'_>,
        mode: LockMode,
        wait: &mut Wait<'_>,
    ) -> Result<LockHandle> {
        if self.is_frozen() {
            return Err(Error::invalid(
                "this opening shows one state of the store, which never changes: it cannot be locked",
            ));
        }
        if let Some(lock) = self.lock_at_once(actor, target, mode) {
            return Ok(lock);
        }
        let lock = self.lock_handle(actor, target)?;
        let (o, t) = (lock.owner, lock.target);
        self.pager().check_alive()?;
        if !self.in_transaction() {
            let done = wait::acquire(self, &o, &t, mode, wait.timeout, Some(&mut || ask(wait)));
            return match done {
                Ok(()) => Ok(lock),
                Err(e) => Err(self.with_name(e, &t, target.obj, target.key.as_ref())),
            };
        }
        match wait::acquire(self, &o, &t, mode, Some(Duration::ZERO), None) {
            Err(Error::Timeout { what, holder, .. } | Error::Deadlock { what, holder }) => {
                BLOCKED.set((target.obj, t.key));
                let what = self.name_of(&t, target.obj, target.key.as_ref()).unwrap_or(what);
                self.abort_for(&what, &holder)?;
                // Wait until the lock is available, so that running the transaction again can succeed. The
                // transaction is rolled back, and the caller must get that error however the wait ends.
                let bound = wait.timeout.unwrap_or(self.pager().bound());
                match wait::acquire(self, &o, &t, mode, Some(bound), Some(&mut || ask(wait))) {
                    Ok(()) => wait::release(self, &o, Release::LevelOf(t, mode))?,
                    Err(Error::Timeout { .. } | Error::Deadlock { .. }) => {}
                    Err(e) => return Err(e),
                }
                Err(Error::Conflict { what, holder })
            }
            done => done.map(|()| lock),
        }
    }

    /// As `lock`, without waiting. None: another owner has the lock, or the latch is not free. Unlike the error of
    /// `lock`, that names no holder and costs little.
    ///
    /// # Errors
    /// Those of `lock`, except `Error::Timeout`.
    #[doc(hidden)]
    pub fn try_acquire(
        &self,
        actor: Actor,
        target: LockTarget<'_>,
        mode: LockMode,
    ) -> Result<Option<LockHandle>> {
        if let Some(lock) = self.lock_at_once(actor, target, mode) {
            return Ok(Some(lock));
        }
        if self.is_frozen() || self.in_transaction() {
            return match self.lock(actor, target, mode, &mut Wait::never()) {
                Err(Error::Timeout { .. } | Error::WouldBlock { .. }) => Ok(None),
                done => done.map(Some),
            };
        }
        let lock = self.lock_handle(actor, target)?;
        self.pager().check_alive()?;
        let request = Request::lock(lock.owner, lock.target, mode)?;
        Ok(wait::try_acquire(self, &request)?.then_some(lock))
    }

    /// Release the last level of a lock, and return the lock. Never waits for a transaction of another process: if one
    /// holds the latch, the release is recorded, and performed before any later request is decided.
    ///
    /// # Errors
    /// `Error::NotLocked`, if the latch was free.
    pub fn unlock(&self, actor: Actor, target: LockTarget<'_>) -> Result<LockHandle> {
        if let Some(lock) = self.unlock_at_once(actor, target) {
            return Ok(lock);
        }
        let lock = self.lock_handle(actor, target)?;
        match wait::release(self, &lock.owner, Release::Level(lock.target)) {
            Ok(()) => Ok(lock),
            Err(e) => Err(self.with_name(e, &lock.target, target.obj, target.key.as_ref())),
        }
    }

    /// Return the handle of a lock of this actor on this thread, for `release`.
    ///
    /// # Errors
    /// Those of registering this thread.
    #[doc(hidden)]
    pub fn lock_handle(&self, actor: Actor, target: LockTarget<'_>) -> Result<LockHandle> {
        Ok(LockHandle {
            owner: self.owner(actor)?,
            target: self.target(&target),
        })
    }

    /// Release one level that was acquired in this mode, even if another level was acquired later. So an
    /// owner can release its locks in any order. Callable from any thread or task of the process while the
    /// owner's thread lives.
    ///
    /// # Errors
    /// Those of `unlock`.
    pub fn release(&self, lock: &LockHandle, mode: LockMode) -> Result<()> {
        if self.release_at_once(lock, mode) {
            return Ok(());
        }
        wait::release(self, &lock.owner, Release::LevelOf(lock.target, mode))
    }

    /// Set the lock of an actor of the mount to exactly this mode, or none. flock and fcntl locks convert and
    /// do not count levels.
    ///
    /// # Errors
    /// As `lock`.
    #[doc(hidden)]
    pub fn set_lock(
        &self,
        actor: Actor,
        target: LockTarget<'_>,
        mode: Option<LockMode>,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        match mode {
            Some(mode) => self.lock(actor, target, mode, wait).map(drop),
            None => match self.unlock(actor, target) {
                Err(Error::NotLocked { .. }) => Ok(()),
                done => done.map(drop),
            },
        }
    }

    /// Return the pid and mode of the holder that a request for the lock would wait for (F_GETLK), or None.
    ///
    /// # Errors
    /// Those of the latch.
    #[doc(hidden)]
    pub fn test_lock(
        &self,
        actor: Actor,
        target: LockTarget<'_>,
        mode: LockMode,
    ) -> Result<Option<(u32, LockMode)>> {
        let (o, t) = (self.owner(actor)?, self.target(&target));
        let holder = self.latched(None, |table| table.test(&o, &t, mode))?;
        Ok(holder.map(|h| {
            (
                match h.owner.caller {
                    0 => self.pager().pid_of(h.owner.slot, h.owner.generation).unwrap_or(0),
                    caller => caller,
                },
                h.mode.as_lock_mode(),
            )
        }))
    }

    /// Release all locks of an actor.
    ///
    /// # Errors
    /// Those of the latch.
    pub fn unlock_all(&self, actor: Actor) -> Result<()> {
        wait::release(self, &self.owner(actor)?, Release::Locks)
    }

    /// After `Error::Locked`, wait until this actor may make the change. A transaction was rolled back before
    /// and has to run again.
    #[cold]
    pub(in crate::store) fn wait_for_lock(&self, actor: Actor, wait: &mut Wait<'_>) -> Result<()> {
        let (obj, key) = BLOCKED.get();
        let t = Target { id: obj.id, key };
        let o = self.owner(actor)?;
        if self.in_transaction() {
            let holder = self.latched(None, |table| table.change_blocked(&o, t.id, key))?;
            let holder = holder.map_or_else(|| "another owner".to_owned(), |h| self.describe(&h.owner));
            let what = self.name_of(&t, obj, None).unwrap_or_else(|| t.to_string());
            self.abort_for(&what, &holder)?;
            if wait.timeout != Some(Duration::ZERO) {
                let bound = wait.timeout.unwrap_or(self.pager().bound());
                match wait::wait_change(self, &o, t.id, key, Some(bound), Some(&mut || ask(wait))) {
                    Ok(()) => self.release_reservations(actor),
                    Err(Error::Timeout { .. } | Error::Deadlock { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
            return Err(Error::Conflict { what, holder });
        }
        if wait.timeout == Some(Duration::ZERO) {
            return Err(Error::WouldBlock { what: "a lock" });
        }
        let bound = wait.timeout.unwrap_or(self.pager().bound());
        wait::wait_change(self, &o, t.id, key, Some(bound), Some(&mut || ask(wait)))
            .map_err(|e| self.with_name(e, &t, obj, None))
    }

    /// After `Error::Conflict` in a call of this thread, with its transaction left, wait until the
    /// conflicting lock is free, so that running the transaction again can succeed.
    ///
    /// # Errors
    /// `Error::Timeout`, `Error::Deadlock`, `Error::Interrupted`.
    #[doc(hidden)]
    pub fn wait_for_conflict(&self, actor: Actor, wait: &mut Wait<'_>) -> Result<()> {
        let ((obj, key), o) = (BLOCKED.get(), self.owner(actor)?);
        let t = Target { id: obj.id, key };
        let bound = wait.timeout.unwrap_or(self.pager().bound());
        wait::wait_change(self, &o, t.id, key, Some(bound), Some(&mut || ask(wait)))
            .map_err(|e| self.with_name(e, &t, obj, None))?;
        self.release_reservations(actor);
        Ok(())
    }

    #[cold]
    pub(in crate::store) fn release_reservations(&self, actor: Actor) {
        if let Ok(o) = self.owner(actor) {
            let _ = wait::release(self, &o, Release::Reservations);
        }
    }
}
