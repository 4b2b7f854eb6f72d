//! The fast path of locks: a thread locks a whole container that nothing else concerns, and unlocks it (`lock::thin`).
//!
//! 1. A negative answer decides nothing: nothing was done, and `lock` or `unlock` decides. So the fast path gives up
//!    whenever there is anything else to do: a transaction or a section of this thread, a busy latch, a lock with
//!    records, work that an earlier operation left.
//! 2. It never waits, fails or names a holder.

use crate::lock::{Owner, Table, Target};
use crate::store::locks::handles::{LockHandle, LockTarget};
use crate::store::locks::hooks::{owner, table};
use crate::store::{Actor, LockMode, Store};

impl Store {
    /// As `lock`, if the lock needs no records and no wait.
    #[inline]
    pub(in crate::store) fn lock_at_once(
        &self,
        actor: Actor,
        target: LockTarget<'_>,
        mode: LockMode,
    ) -> Option<LockHandle> {
        let exclusive = mode == LockMode::Exclusive;
        self.quickly(actor, target, |table, owner| {
            table.lock_at_once(owner, target.obj.id, exclusive)
        })
    }

    /// As `unlock`, if the lock has no records.
    #[inline]
    pub(in crate::store) fn unlock_at_once(
        &self,
        actor: Actor,
        target: LockTarget<'_>,
    ) -> Option<LockHandle> {
        self.quickly(actor, target, |table, owner| {
            table.unlock_at_once(owner, target.obj.id, None)
        })
    }

    #[inline]
    fn quickly(
        &self,
        actor: Actor,
        target: LockTarget<'_>,
        act: impl FnOnce(&Table<'_>, &Owner) -> bool,
    ) -> Option<LockHandle> {
        let pager = self.pager();
        if actor != Actor::Thread || target.key.is_some() || pager.is_frozen() {
            return None;
        }
        pager.with_free_latch(|slot| {
            let (process, generation) = pager.process_of_thread(slot);
            let owner = owner(Actor::Thread, slot, process, generation);
            let table = table(pager).ok()?;
            act(&table, &owner).then(|| LockHandle {
                owner,
                target: Target::container(target.obj.id),
            })
        })?
    }

    /// As `release`, if the lock has no records.
    #[inline]
    pub(in crate::store) fn release_at_once(&self, lock: &LockHandle, mode: LockMode) -> bool {
        let (owner, target) = (&lock.owner, lock.target);
        target.key.is_none()
            && self.pager().with_free_latch(|_| {
                table(self.pager()).is_ok_and(|table| table.unlock_at_once(owner, target.id, Some(mode)))
            }) == Some(true)
    }
}
