//! Thin locks: the lock of one thread on a whole container that nothing else in the table concerns, in four words.
//!
//! Most locks are acquired and released while no other owner asks for the container. Such a lock needs no records: its
//! slot contains the owner, the container and the levels.
//!
//! | WORD | CONTENT |
//! | --- | --- |
//! | 0, 1 | the owner, as in an owner's record |
//! | 2 | id of the container |
//! | 3 | shared levels (lo), exclusive levels (hi) |
//!
//! Invariants:
//! 1. The counter of a container's bucket decides. While it is `THIN`, the bucket's slot contains the only lock in the
//!    bucket, and no record concerns a container of the bucket. While it has another value, the slot's words mean
//!    nothing for the bucket.
//! 2. Several buckets share a slot. At most one of their counters is `THIN`.
//! 3. The words of a slot are stored before the counter. One store of the counter begins or ends a thin lock, and one
//!    store of word 3 changes its levels. So a process killed at any instruction leaves the lock as it was before or
//!    as it is after, and there is nothing to undo.
//! 4. Before a record of a container in the bucket is made, the thin lock becomes records (`inflate`), in one mutation
//!    of its own. So a waiter, a reservation, an entry's lock and a second holder never exist beside a thin lock, and
//!    no edge of the wait-for graph leads to one.
//! 5. A thin lock becomes records at any time without failing for lack of room: none begins while a pool is more than
//!    half full, and then all of them become records before the next record is made.

use crate::error::Result;
use crate::ids::ObjectId;
use crate::lock::memory::layout::{
    CAP, HOLD, LOCKABLE, OWNER, POOL_USED, POOLS, THIN, THIN_COUNT, THIN_WORDS, THINS, bucket, clashes, hi,
    lo,
};
use crate::lock::memory::words::corrupt;
use crate::lock::rules::conflict::{Tried, Want, identity, mode_of, name_of, owner_of};
use crate::lock::rules::grant::{HoldPart, levels_after, levels_before};
use crate::lock::waiting::contest::granted_at_once;
use crate::lock::{Holder, LockMode, Mode, Owner, OwnerKind, Request, Table, Target};
use std::sync::atomic::Ordering;

/// A thin lock, as read from its slot.
#[derive(Clone, Copy, Debug)]
pub(in crate::lock) struct ThinLock {
    pub(in crate::lock) owner: Owner,
    pub(in crate::lock) id: ObjectId,
    pub(in crate::lock) levels: u64,
    /// The bucket, and the index of its counter.
    bucket: usize,
}

impl ThinLock {
    /// Return whether it blocks a request of any kind.
    fn blocks(&self, request: &Request) -> bool {
        let want = Want::of(request, crate::lock::memory::op::OwnerRec::NONE);
        request.target.id == self.id
            && request.owner != self.owner
            && clashes(want.on_container()) & mode_of(self.levels) != 0
    }

    fn target(&self) -> Target {
        Target::container(self.id)
    }

    /// Return its owner and mode for an error or a list.
    pub(in crate::lock) fn holder(&self) -> Holder {
        Holder {
            owner: self.owner,
            target: self.target(),
            mode: name_of(mode_of(self.levels)),
            waiting: false,
            change: false,
        }
    }

    /// Return all levels.
    pub(in crate::lock) fn count(&self) -> u32 {
        lo(self.levels).saturating_add(hi(self.levels))
    }
}

/// Return the first word of a bucket's slot.
#[inline]
fn slot_of(bucket: usize) -> usize {
    THINS + bucket % THIN_COUNT * THIN_WORDS
}

impl Table<'_> {
    #[inline]
    fn counter(&self, bucket: usize) -> u32 {
        self.counts.get(bucket).map_or(0, |c| c.load(Ordering::Relaxed))
    }

    /// Return the thin lock of a bucket.
    #[inline]
    pub(in crate::lock) fn thin(&self, bucket: usize) -> Result<Option<ThinLock>> {
        if self.counter(bucket) == THIN {
            self.read_thin(bucket).map(Some)
        } else {
            Ok(None)
        }
    }

    fn read_thin(&self, bucket_number: usize) -> Result<ThinLock> {
        let slot = slot_of(bucket_number);
        let (id, levels) = (self.load_word(slot + 2), self.load_word(slot + 3));
        match owner_of(self.load_word(slot), self.load_word(slot + 1), 0) {
            Some(owner)
                if owner.kind == OwnerKind::Thread && bucket(id, None) == bucket_number && levels != 0 =>
            {
                Ok(ThinLock {
                    owner,
                    id: ObjectId(id),
                    levels,
                    bucket: bucket_number,
                })
            }
            _ => Err(corrupt(
                "an impossible thin lock in the lock table (close the store everywhere), word",
                slot,
            )),
        }
    }

    /// Return all thin locks.
    pub(in crate::lock) fn thin_locks(&self) -> impl Iterator<Item = Result<ThinLock>> + '_ {
        (0..THIN_COUNT).filter_map(|slot| {
            let bucket = bucket(self.load_word(THINS + slot * THIN_WORDS + 2), None);
            // An unused slot, or one of a released lock, has an id that does not count.
            let is_its_slot = bucket % THIN_COUNT == slot;
            is_its_slot.then(|| self.thin(bucket).transpose()).flatten()
        })
    }

    /// Return whether a pool is more than half full.
    #[inline]
    fn is_crowded(&self) -> bool {
        [LOCKABLE, HOLD, OWNER]
            .into_iter()
            .any(|pool| self.load_word(POOLS + 4 * pool + POOL_USED) > CAP[pool] as u64 / 2)
    }

    /// Decide a request for a lock if no records are needed for that.
    #[inline]
    pub(in crate::lock) fn try_thin(&self, request: &Request) -> Result<Tried> {
        let bucket = bucket(request.target.id.0, None);
        match self.counter(bucket) {
            0 => self.begin_thin(request, bucket),
            THIN => self.try_again(request, bucket),
            _ => Ok(Tried::Undecided),
        }
    }

    /// Grant a request without records, or prepare for its records. A function of its own: the models of the queue have
    /// small stacks, and `enqueue` calls deeply.
    #[inline(never)]
    pub(in crate::lock) fn is_granted_thin(&self, request: &Request) -> Result<bool> {
        if let Tried::Granted = self.try_thin(request)? {
            return Ok(true);
        }
        self.inflate_for(request.target.id)?;
        Ok(false)
    }

    #[inline]
    fn begin_thin(&self, request: &Request, bucket_number: usize) -> Result<Tried> {
        let is_plain =
            request.owner.kind == OwnerKind::Thread && request.target.key.is_none() && !request.change;
        if !is_plain || self.is_crowded() || !self.has_thin() {
            return Ok(Tried::Undecided);
        }
        let slot = slot_of(bucket_number);
        let last = bucket(self.load_word(slot + 2), None);
        if last != bucket_number && slot_of(last) == slot && self.counter(last) == THIN {
            return Ok(Tried::Undecided);
        }
        let (process, id) = identity(&request.owner);
        self.store(slot, process)?;
        self.store(slot + 1, id)?;
        self.store(slot + 2, request.target.id.0)?;
        self.store(slot + 3, levels_after(0, request.exclusive)?)?;
        self.store_count(bucket_number, THIN)?;
        Ok(Tried::Granted)
    }

    fn try_again(&self, request: &Request, bucket: usize) -> Result<Tried> {
        let thin = self.read_thin(bucket)?;
        if thin.blocks(request) {
            return Ok(Tried::Blocked(thin.holder()));
        }
        let is_same = thin.owner == request.owner && thin.target() == request.target;
        if !is_same || request.change {
            return Ok(Tried::Undecided);
        }
        self.store(slot_of(bucket) + 3, levels_after(thin.levels, request.exclusive)?)?;
        Ok(Tried::Granted)
    }

    /// Grant a lock on a whole container if that needs no records and no earlier work. False decides nothing.
    #[inline]
    pub fn lock_at_once(&self, owner: &Owner, id: ObjectId, exclusive: bool) -> bool {
        let request = Request {
            owner: *owner,
            target: Target::container(id),
            exclusive,
            change: false,
        };
        let granted = self.is_complete() && matches!(self.try_thin(&request), Ok(Tried::Granted));
        if granted {
            granted_at_once();
        }
        granted
    }

    /// Release one level of a lock on a whole container, the strongest or one of this mode, if that needs no records
    /// and no earlier work. False decides nothing.
    #[inline]
    pub fn unlock_at_once(&self, owner: &Owner, id: ObjectId, mode: Option<LockMode>) -> bool {
        let what = mode.map_or(HoldPart::Level, HoldPart::LevelOf);
        self.is_complete()
            && matches!(
                self.drop_thin(owner, &Target::container(id), what),
                Ok(Some(true))
            )
    }

    /// Return whether the only lock of the container's bucket is a thin one of this owner on it. Then no lock forbids
    /// this owner a change of it.
    #[inline]
    #[must_use]
    pub fn is_thin_of(&self, owner: &Owner, id: ObjectId) -> bool {
        self.is_complete()
            && matches!(
                self.thin(bucket(id.0, None)),
                Ok(Some(thin)) if thin.owner == *owner && thin.id == id
            )
    }

    /// Return whether a thin lock blocks a request, without the latch: a hint, since the slot may change at any time.
    pub(in crate::lock) fn seems_blocked(&self, request: &Request) -> bool {
        let thin = self.thin(bucket(request.target.id.0, None));
        matches!(thin, Ok(Some(thin)) if thin.blocks(request))
    }

    /// Release a part of a thin lock. Return whether the owner held that part; None if records decide it.
    #[inline]
    pub(in crate::lock) fn drop_thin(
        &self,
        owner: &Owner,
        target: &Target,
        what: HoldPart,
    ) -> Result<Option<bool>> {
        let bucket = bucket(target.id.0, None);
        let Some(thin) = self.thin(bucket)? else {
            return Ok(None);
        };
        if thin.owner != *owner || thin.target() != *target {
            return Ok(Some(false));
        }
        let left = levels_before(thin.levels, what);
        if left == thin.levels {
            return Ok(Some(false));
        }
        if left == 0 {
            self.store_count(bucket, 0)?;
        } else {
            self.store(slot_of(bucket) + 3, left)?;
        }
        Ok(Some(true))
    }

    /// Release all thin locks of these owners.
    pub(in crate::lock) fn drop_thins(&self, which: impl Fn(&Owner) -> bool) -> Result<()> {
        for thin in self.thin_locks() {
            let thin = thin?;
            if which(&thin.owner) {
                self.store_count(thin.bucket, 0)?;
            }
        }
        Ok(())
    }

    /// Return the thin lock that blocks a request; None if records decide it, and Some(None) if nothing blocks it.
    #[inline]
    pub(in crate::lock) fn thin_blocker(&self, request: &Request) -> Result<Option<Option<Holder>>> {
        let thin = self.thin(bucket(request.target.id.0, None))?;
        Ok(thin.map(|thin| thin.blocks(request).then(|| thin.holder())))
    }

    /// Return the mode in which an owner holds a target; None if records decide it.
    pub(in crate::lock) fn thin_held(&self, owner: &Owner, target: &Target) -> Result<Option<Option<Mode>>> {
        let thin = self.thin(bucket(target.id.0, None))?;
        Ok(thin.map(|thin| {
            let is_this = thin.owner == *owner && thin.target() == *target;
            is_this.then(|| name_of(mode_of(thin.levels)))
        }))
    }

    /// Prepare for a record that concerns a container: no thin lock remains in its bucket, and none at all if a pool
    /// is more than half full.
    pub(in crate::lock) fn inflate_for(&self, id: ObjectId) -> Result<()> {
        if let Some(thin) = self.thin(bucket(id.0, None))? {
            self.inflate(&thin)?;
        }
        if self.is_crowded() {
            for thin in self.thin_locks() {
                self.inflate(&thin?)?;
            }
        }
        Ok(())
    }

    /// Replace a thin lock by records.
    #[cold]
    fn inflate(&self, thin: &ThinLock) -> Result<()> {
        self.mutate(|op| {
            op.set_count(thin.bucket, 0)?;
            let c = op.container_or_new(thin.id)?;
            let o = op.owner_or_new(&thin.owner)?;
            op.hold_levels(c, o, thin.levels)
        })
    }
}
