//! The page manager's calls into the layers above it: recovery of locks of dead owners, the check that a lock
//! forbids a change, and freeing while the store is idle. Also the location of the lock manager's table.

use crate::heap;
use crate::ids::{Addr, Obj, ObjectId};
use crate::lock::{Owner, OwnerKind, Table, Wakes, may_concern};
use crate::object::{graph, ops};
use crate::page::sync::task;
use crate::page::{Hooks, Pager};
use crate::store::space::debt::OWN_ENTRIES;
use crate::store::{Actor, Error, Result, Wait, Writer};
use std::cell::Cell;

thread_local! {
    /// The subject of this thread's last `Error::Locked`: the container, and the hash of the entry's key.
    pub(in crate::store) static BLOCKED: Cell<(Obj, Option<u64>)> = const { Cell::new((NOTHING, None)) };
}

const NOTHING: Obj = Obj {
    addr: Addr(0),
    id: ObjectId(0),
};

pub(in crate::store) fn table(pager: &Pager) -> Result<Table<'_>> {
    let m = pager.lock_memory();
    Table::new(m.words, m.signals, m.counters)
}

/// Return whether a lock may forbid the running task a change of the container. Requires the latch.
#[inline]
pub(in crate::store) fn may_forbid(pager: &Pager, id: ObjectId) -> bool {
    may_concern(pager.lock_counters(), id) && !is_own(pager, id)
}

/// Return whether the only lock that concerns the container is the running task's own. It stays out of the fast path's
/// code, where hardly any container has a lock.
#[inline(never)]
fn is_own(pager: &Pager, id: ObjectId) -> bool {
    let (Ok((slot, process, generation)), Ok(table)) = (pager.identity(), table(pager)) else {
        return false;
    };
    table.is_thin_of(&owner(Actor::Thread, slot, process, generation), id)
}

/// Return the owner for an actor. `Actor::Thread` is the task that runs on the thread.
pub(in crate::store) fn owner(actor: Actor, slot: u32, process: u16, generation: u32) -> Owner {
    let (kind, id, caller) = match actor {
        Actor::Thread => return Owner::of_thread(process, generation, slot, task::current()),
        Actor::Flock(id, caller) => (OwnerKind::Flock, id, caller),
        Actor::Posix(id, caller) => (OwnerKind::Posix, id, caller),
        Actor::Command => (OwnerKind::Command, 0, 0),
    };
    Owner {
        slot: process,
        generation,
        kind,
        id,
        caller,
    }
}

/// The lock manager's implementation of the page manager's hooks.
#[derive(Debug)]
pub(in crate::store) struct LockHooks;

pub(in crate::store) fn wake_all(pager: &Pager, wakes: &Wakes) {
    for signal in wakes {
        pager.wake_on(*signal);
    }
}

/// Perform the deferred releases, so that a released lock blocks no request. Requires the latch.
pub(in crate::store) fn finish_deferred(pager: &Pager, table: &Table<'_>) -> Result<()> {
    if !table.has_deferred() {
        return Ok(());
    }
    let mut wakes = Wakes::new();
    let done = table.finish_deferred(&mut wakes);
    wake_all(pager, &wakes);
    done
}

impl Hooks for LockHooks {
    fn recover(&self, pager: &Pager) -> Result<()> {
        let mut wakes = Wakes::new();
        let done = table(pager)?.recover(&mut wakes);
        wake_all(pager, &wakes);
        done
    }

    fn process_died(&self, pager: &Pager, process: u16, generation: u32) -> Result<bool> {
        let mut wakes = Wakes::new();
        let table = table(pager)?;
        let is_its = |o: &Owner| o.slot == process && o.generation == generation;
        let held = table.processes().is_ok_and(|owners| owners.iter().any(is_its));
        let done = table.release_process(process, generation, &mut wakes);
        wake_all(pager, &wakes);
        done.map(|()| held)
    }

    fn thread_ended(&self, pager: &Pager, process: u16, generation: u32, slot: u32) -> Result<()> {
        let o = Owner::of_thread(process, generation, slot, 0);
        let mut wakes = Wakes::new();
        let done = table(pager)?.release_thread(&o, &mut wakes);
        wake_all(pager, &wakes);
        done
    }

    fn holds(&self, pager: &Pager, slot: u32, task: u64) -> Result<bool> {
        let (_, process, generation) = pager.identity()?;
        table(pager)?.holds(&Owner::of_thread(process, generation, slot, task))
    }

    #[inline]
    fn check_change(&self, pager: &Pager, slot: u32, actor: Actor, obj: Obj, key: Option<u64>) -> Result<()> {
        let id = obj.id;
        if !may_concern(pager.lock_counters(), id) {
            return Ok(());
        }
        let table = table(pager)?;
        let (_, process, generation) = pager.identity()?;
        let owner = owner(actor, slot, process, generation);
        if table.is_thin_of(&owner, id) {
            return Ok(());
        }
        finish_deferred(pager, &table)?;
        match table.change_blocked(&owner, id, key)? {
            None => Ok(()),
            Some(_) => {
                BLOCKED.set((obj, key));
                Err(Error::Locked(id))
            }
        }
    }

    fn has_pending_frees(&self, pager: &Pager) -> Result<bool> {
        let section = pager.read(&mut Wait::never())?;
        let waits = graph::has_pending_frees(&section)?;
        Ok(waits && section.holds())
    }

    fn free_some(&self, pager: &Pager, entries: u64) -> Result<bool> {
        let mut section = pager.write(&mut Wait::never())?;
        section.removing();
        let more = step(&mut section, entries)?;
        section.whole()?;
        section.commit();
        Ok(more)
    }
}

/// Free a bounded part of what waits. Return whether more waits.
pub(in crate::store) fn step(w: &mut Writer<'_>, entries: u64) -> Result<bool> {
    let more = ops::end_operation(w, entries)?.more;
    heap::apply_frees(w)?;
    Ok(more)
}

/// Finish a change outside the store's operations: free what it left, in bounded steps.
pub(in crate::store) fn finish_all(w: &mut Writer<'_>) -> Result<()> {
    step(w, OWN_ENTRIES).map(drop)
}
