//! The parts of an open store, for higher wings. The fields of `Pager` are private. A part keeps its words to itself,
//! and a wing calls the part's methods. `tests/system/test_tidy.py` lists which wings use which part.

use crate::error::Result;
use crate::ids::ObjectId;
use crate::page::lookups::Lookups;
use crate::page::pager::Pager;
use crate::page::pager::state::frozen::Frozen;
use crate::page::pager::state::helper::Helper;
use crate::page::pager::state::leases::Unleased;
use crate::page::pager::state::membership::Membership;
use crate::page::pager::state::openness::Openness;
use crate::page::pager::state::redo::Redo;
use crate::page::pager::state::transaction::Transactions;
use crate::page::pager::state::undo_index::KeptIndex;
use crate::page::shared::shm::Shm;
use crate::page::shared::users::pins;
use crate::raw::files::held::Held;
use crate::raw::map::Map;
use std::sync::{Arc, MutexGuard};

impl Pager {
    /// Return the sidecar.
    #[inline(always)]
    pub(in crate::page) fn shm(&self) -> &Shm {
        &self.shm
    }

    /// Return the map of the store file.
    #[inline(always)]
    pub(in crate::page) fn map(&self) -> &Map {
        &self.map
    }

    /// Return the store file.
    #[inline(always)]
    pub(in crate::page) fn file(&self) -> &Arc<Held> {
        &self.file
    }

    /// Return the checkpoint that this opening is of, unless it is of the live state.
    pub(in crate::page) fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_ref()
    }

    /// Return this process's place among the users.
    #[inline(always)]
    pub(in crate::page) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Return the process's slot and generation, as in the latch's word.
    #[inline(always)]
    pub(in crate::page) fn member_word(&self) -> u64 {
        self.membership.word()
    }

    /// Pin a container for this process.
    #[inline]
    pub(in crate::page) fn pin(&self, id: ObjectId) -> Result<()> {
        self.pins.pin(&self.shm, self.process(), id)
    }

    /// Return whether any process pins a container. Called inside a write section.
    pub(in crate::page) fn has_pin(&self, id: ObjectId) -> bool {
        self.pins.is_pinned(&self.shm, id)
    }

    /// Lock this process's pins, for a fork.
    pub(in crate::page) fn hold_pins(&self) -> MutexGuard<'_, pins::Local> {
        self.pins.lock()
    }

    /// Return the cached lookups of a thread's slot, for a section with this number.
    #[inline(always)]
    pub(in crate::page) fn lookups_of(&self, slot: u32, structure: u64) -> Lookups<'_> {
        self.lookups.of(slot, structure)
    }

    /// Return which holder of leases this opening is.
    #[inline]
    pub(in crate::page) fn holder_of_leases(&self) -> Option<usize> {
        self.lease_holder.get()
    }

    /// Set which holder of leases this opening is.
    pub(in crate::page) fn set_holder_of_leases(&self, holder: Option<usize>) {
        self.lease_holder.set(holder);
    }

    /// Return the entries that changes of this process have found not to be leased.
    #[inline]
    pub(in crate::page) fn unleased(&self) -> &Unleased {
        &self.unleased
    }

    /// Count one more watcher of a bucket in this process. Return true if it is the first.
    pub(in crate::page) fn add_watch(&self, bucket: usize) -> bool {
        self.watches.add(self.member_word(), bucket)
    }

    /// Count one watcher of a bucket in this process less. Return true if it was the last.
    pub(in crate::page) fn remove_watch(&self, bucket: usize) -> bool {
        self.watches.remove(self.member_word(), bucket)
    }

    /// Return the index of the undo log that readers of the committed state keep for each other.
    pub(in crate::page) fn kept_index(&self) -> &KeptIndex {
        &self.kept_index
    }

    /// Return the state of this process's transactions.
    #[inline(always)]
    pub(in crate::page) fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// Return the process's state of the redo log.
    #[inline(always)]
    pub(in crate::page) fn redo(&self) -> &Redo {
        &self.redo
    }

    /// Return the state of the helper thread.
    #[inline(always)]
    pub(in crate::page) fn helper(&self) -> &Helper {
        &self.helper
    }

    /// Return whether the store was closed.
    #[inline(always)]
    pub(in crate::page) fn is_closed(&self) -> bool {
        self.openness.is_closed()
    }

    /// Return whether the store is open, for closing it.
    pub(in crate::page) fn openness(&self) -> &Openness {
        &self.openness
    }
}
