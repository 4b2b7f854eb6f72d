//! The pager: one open store, as a process sees it. `Pager` composes the protocols. The process-local state of each
//! protocol is in its own file in `state`, and the shared state is in the sidecar (`shared`). No field is visible in
//! other wings (`parts`).
//!
//! 1. Higher wings add the operations: sections, checkpoints, recovery, opening and closing. `Above` has the functions
//!    of higher wings that this wing and others call.
//! 2. Upper layers are called only through `Hooks`, which are set once, before the first operation.
//!
//! Nothing else is locked under a mutex of this process (registration, pins, blocks, the helper's state).

pub(in crate::page) mod compose;
pub(in crate::page) mod copies;
pub(in crate::page) mod damage;
pub(in crate::page) mod helper_thread;
pub(in crate::page) mod parts;
pub(in crate::page) mod processes;
pub(in crate::page) mod state;
pub(in crate::page) mod threads;

use crate::error::Result;
use crate::ids::{Actor, Obj, ObjectId};
use crate::page::lookups::LookupCache;
use crate::page::pager::state::frozen::Frozen;
use crate::page::pager::state::helper::Helper;
use crate::page::pager::state::leases::{LeaseHolder, Unleased};
use crate::page::pager::state::membership::Membership;
use crate::page::pager::state::openness::Openness;
use crate::page::pager::state::redo::Redo;
use crate::page::pager::state::transaction::Transactions;
use crate::page::pager::state::undo_index::KeptIndex;
use crate::page::pager::state::watches::Watches;
use crate::page::shared::shm::Shm;
use crate::page::shared::users::pins::Pins;
use crate::page::sync::deadlock::OpenStore;
use crate::raw::files::held::Held;
use crate::raw::futex;
use crate::raw::map::Map;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// The services that the page manager needs from the layers above it.
pub trait Hooks: Send + Sync {
    /// Undo what a dead holder of the latch left incomplete in shared words of the upper layers. Called under the
    /// latch. It may be repeated.
    fn recover(&self, pager: &Pager) -> Result<()>;
    /// A process died: drop what it held, and return whether it held locks. Called under the latch. It may be repeated.
    fn process_died(&self, pager: &Pager, process: u16, generation: u32) -> Result<bool>;
    /// A thread ended: drop what it held. Called under the latch. It may be repeated.
    fn thread_ended(&self, pager: &Pager, process: u16, generation: u32, slot: u32) -> Result<()>;
    /// Return whether an owner in this process, a thread's slot and a task, holds a lock. Called under the latch.
    fn holds(&self, pager: &Pager, slot: u32, task: u64) -> Result<bool>;
    /// Check a change of a container (or one entry of it, by key hash) before it happens: `Error::Locked` if another
    /// owner's lock forbids it. Called inside a write section.
    fn check_change(&self, pager: &Pager, slot: u32, actor: Actor, obj: Obj, key: Option<u64>) -> Result<()>;
    /// Return whether anything waits to be freed. Called outside sections; it does not wait for the gate.
    fn has_pending_frees(&self, pager: &Pager) -> Result<bool>;
    /// Free a part of what waits, about `entries` entries of containers, in its own write section and without waiting
    /// for the latch. Return whether more waits.
    fn free_some(&self, pager: &Pager, entries: u64) -> Result<bool>;
}

/// What a lower wing has done by a higher one, so that a wing calls only wings below it. The functions are handed in
/// when a store is opened (`session::assemble`). All of them are for rare events.
#[derive(Clone, Copy)]
pub(in crate::page) struct Above {
    /// Recover a process that was found dead. Return true if everything it held may be free now. The last argument is
    /// the caller's slot, if the caller holds the latch.
    pub(in crate::page) recover_process: fn(&Pager, usize, Option<u32>) -> Result<bool>,
    /// Release what the calling thread has in the store, with its slot: it ends.
    pub(in crate::page) thread_ends: fn(&Pager, u32),
    /// Move an opening of the newest checkpoint to a newer one, if there is one, before a section of the slot's thread.
    pub(in crate::page) follow: fn(&Pager, u32) -> Result<()>,
    /// Run the helper thread until the flag is set.
    pub(in crate::page) help: fn(&Pager, &AtomicBool),
}

/// One open store, as this process sees it.
pub struct Pager {
    shm: Shm,
    map: Map,
    file: Arc<Held>,
    path: PathBuf,
    seed: u64,
    /// Distinguishes this opening from others of this process.
    serial: u64,
    me: Weak<Pager>,
    read_only: bool,
    /// Set for an opening of one checkpoint.
    frozen: Option<Frozen>,
    /// Longest wait if the caller gives no bound.
    bound: Duration,
    membership: Membership,
    pins: Pins,
    lookups: LookupCache,
    lease_holder: LeaseHolder,
    unleased: Unleased,
    kept_index: KeptIndex,
    transactions: Transactions,
    redo: Redo,
    watches: Watches,
    helper: Helper,
    hooks: OnceLock<Box<dyn Hooks>>,
    openness: Openness,
    /// What higher wings do for lower ones.
    above: Above,
    _open: OpenStore,
}

impl std::fmt::Debug for Pager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pager")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Statistics about pages.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageStat {
    /// The last durable checkpoint.
    pub checkpoint: u64,
    /// Number of pages of the file.
    pub file_pages: u64,
    /// Number of known free physical pages.
    pub free_pages: u64,
    /// Number of logical pages ever used.
    pub logical_pages: u64,
    /// Number of pages changed since the last checkpoint.
    pub dirty_pages: u64,
    /// Number of processes that have the store open.
    pub processes: u64,
}

impl Pager {
    /// Return the path it was opened by.
    #[inline(always)]
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Return the uuid of the store. A copy of the file has the same.
    pub(crate) fn uuid(&self) -> [u64; 2] {
        self.shm.uuid()
    }

    /// Return the number of changes completed by all processes (one load).
    #[inline]
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.shm.live().changes()
    }

    /// Return whether it was opened for reading only.
    #[inline(always)]
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Return the number of pages changed since the last checkpoint.
    #[must_use]
    #[inline]
    pub fn dirty_pages(&self) -> u64 {
        self.shm.list_len(self.shm.live().list())
    }

    /// Return statistics about pages.
    #[must_use]
    pub fn page_stat(&self) -> PageStat {
        PageStat {
            checkpoint: self.shm.last_checkpoint().number(),
            file_pages: self.shm.space().file_pages(),
            free_pages: self.shm.space().free(),
            logical_pages: self.shm.live().logical(),
            dirty_pages: self.dirty_pages(),
            processes: self.shm.processes_in_use() as u64,
        }
    }

    /// Return the upper layers' hooks.
    #[inline(always)]
    pub(in crate::page) fn hooks(&self) -> Option<&dyn Hooks> {
        self.hooks.get().map(|hooks| &**hooks)
    }

    /// Return the number that distinguishes this opening from others of this process.
    #[inline(always)]
    pub(in crate::page) fn serial(&self) -> u64 {
        self.serial
    }

    /// Return a reference that does not keep this opening alive.
    pub(in crate::page) fn weak(&self) -> &Weak<Pager> {
        &self.me
    }

    /// Set the upper layers' hooks, once, before the first operation.
    pub fn set_hooks(&self, hooks: Box<dyn Hooks>) {
        let _ = self.hooks.set(hooks);
    }

    /// Return the lock manager's words, wait signals and bucket counters in the sidecar.
    #[must_use]
    pub fn lock_memory(&self) -> LockMemory<'_> {
        LockMemory {
            words: self.shm.lock_table(),
            signals: self.shm.lock_signals(),
            counters: self.shm.lock_counters(),
        }
    }

    /// Return the lock manager's bucket counters.
    #[inline]
    pub(crate) fn lock_counters(&self) -> &[AtomicU32] {
        self.shm.lock_counters()
    }

    /// Return the calling thread's slot, and its process's slot and generation. They identify it among all users of the
    /// store.
    #[inline]
    pub fn identity(&self) -> Result<(u32, u16, u32)> {
        let slot = self.slot()?;
        let (process, generation) = self.process_of_thread(slot);
        Ok((slot, process, generation))
    }

    /// Return the process slot, and its generation, of a thread's slot.
    #[inline]
    pub(crate) fn process_of_thread(&self, slot: u32) -> (u16, u32) {
        self.shm.process_of_thread(slot)
    }

    /// Sleep on a wait signal of the lock manager.
    pub fn sleep_on(&self, signal: u32, expected: u32, at_most: Duration) {
        if let Some(word) = self.lock_memory().signals.get(signal as usize) {
            futex::wait(word, expected, at_most);
        }
    }

    /// Wake the sleepers on a wait signal of the lock manager.
    pub fn wake_on(&self, signal: u32) {
        if let Some(word) = self.lock_memory().signals.get(signal as usize) {
            futex::wake(word, i32::MAX);
        }
    }

    /// Return the seed of the store's key hash.
    #[inline(always)]
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Return whether any process with the store open asked for every completed change to be flushed.
    #[inline]
    #[must_use]
    pub fn wants_commit(&self) -> bool {
        // This process's own setting is known even if the shared word is briefly out of date.
        self.shm.strictest_durability() > 1 || self.redo.commit
    }

    /// Return the longest wait if a caller gives no bound.
    #[inline(always)]
    #[must_use]
    pub fn bound(&self) -> Duration {
        self.bound
    }

    /// Return the number of containers that this process pins.
    #[must_use]
    pub fn pin_count(&self) -> usize {
        self.pins.count()
    }

    /// Release a pin. Return true if it was the process's last one on this container.
    pub fn unpin(&self, id: ObjectId) -> bool {
        self.pins.unpin(&self.shm, self.process(), id)
    }

    /// See `Store::forget_pages`.
    pub(crate) fn forget_pages(&self) {
        self.map.forget_pages();
    }
}

/// The lock manager's part of the sidecar.
#[derive(Clone, Copy, Debug)]
pub struct LockMemory<'a> {
    /// The table's words, zero at first.
    pub words: &'a [std::sync::atomic::AtomicU64],
    /// Futex words, one per wait slot.
    pub signals: &'a [AtomicU32],
    /// One counter per bucket of container ids.
    pub counters: &'a [AtomicU32],
}
