//! Releases that could not acquire the latch in time. They are recorded in shared memory, and the next lock
//! operation performs them.
//!
//! A release must not fail and must not wait for a transaction of another process. So after a bounded wait it
//! leaves a note here, and the lock is released before any later request is decided. While a transaction
//! holds the latch, no other owner could be granted the lock anyway.
//!
//! | WORD | CONTENT |
//! | --- | --- |
//! | 0 | state (8 bits); request (8 bits); while `CLAIMED`: slot (16), generation (32) of the claimant |
//! | 1, 2 | the owner, as in an owner's record |
//! | 3 | id of the container |
//! | 4 | hash of the key, if the lock is an entry's |
//!
//! Invariants:
//! 1. The thread that claimed a note fills it. The note takes effect with the store of `READY`. The word
//!    `DEFERRED` is set after that store and cleared before a scan, so no note is missed.
//! 2. Without the latch only `FREE` -> `CLAIMED` -> `READY` happens; `READY` -> `FREE` needs the latch.
//! 3. The release of one level and the freeing of its note are one mutation, so neither a kill nor a repeated
//!    recovery releases two levels. Releases of everything can be repeated.
//! 4. A note that its dead claimant left `CLAIMED` is freed when that process is recovered.

use crate::error::Result;
use crate::ids::ObjectId;
use crate::lock::memory::layout::{DEFERRED, NOTE_COUNT, NOTES, RECORD};
use crate::lock::memory::op::{Hold, Op};
use crate::lock::memory::words::corrupt;
use crate::lock::rules::conflict::{identity, owner_of};
use crate::lock::rules::grant::HoldPart;
use crate::lock::{LockMode, Owner, Table, Target, Wakes};
use std::sync::atomic::Ordering;

const STATE: u64 = 0xff;
const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const READY: u64 = 2;

/// The requested release, as bits of word 0.
const LEVEL_OF_CONTAINER: u64 = 1 << 8;
const LEVEL_OF_ENTRY: u64 = 2 << 8;
const LOCKS: u64 = 3 << 8;
const RESERVATIONS: u64 = 4 << 8;
/// With the first two: the mode in which the level was acquired; neither bit: the strongest.
const SHARED: u64 = 16 << 8;
const EXCLUSIVE: u64 = 32 << 8;
const WHAT: u64 = 0xf << 8;

/// What an owner releases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// One level of a lock (of a mount's owner: the lock).
    Level(Target),
    /// One level that was acquired in this mode, even if another level was acquired later.
    LevelOf(Target, LockMode),
    /// All its locks.
    Locks,
    /// All its reservations.
    Reservations,
}

fn at(note: usize) -> usize {
    NOTES + note * RECORD
}

impl Table<'_> {
    /// Return whether a deferred release is still to be performed: one load.
    #[inline]
    #[must_use]
    pub fn has_deferred(&self) -> bool {
        self.load_word(DEFERRED) != 0
    }

    /// Record a release without the latch. False means that no note is free.
    #[must_use]
    pub fn defer(&self, owner: &Owner, what: Release) -> bool {
        let claim = CLAIMED | u64::from(owner.slot) << 16 | u64::from(owner.generation) << 32;
        let claimed = (0..NOTE_COUNT).find(|n| {
            let state = &self.words[at(*n)];
            state.load(Ordering::Relaxed) == FREE
                && state
                    .compare_exchange(FREE, claim, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
        });
        let Some(note) = claimed else { return false };
        let level_of = |t: Target| {
            if t.key.is_some() {
                LEVEL_OF_ENTRY
            } else {
                LEVEL_OF_CONTAINER
            }
        };
        let (flag, target) = match what {
            Release::Level(t) => (level_of(t), t),
            Release::LevelOf(t, LockMode::Shared) => (level_of(t) | SHARED, t),
            Release::LevelOf(t, LockMode::Exclusive) => (level_of(t) | EXCLUSIVE, t),
            Release::Locks => (LOCKS, Target::container(ObjectId(0))),
            Release::Reservations => (RESERVATIONS, Target::container(ObjectId(0))),
        };
        let (identity, id) = identity(owner);
        for (word, value) in [identity, id, target.id.0, target.key.unwrap_or(0)]
            .into_iter()
            .enumerate()
        {
            self.words[at(note) + 1 + word].store(value, Ordering::Relaxed);
        }
        self.words[at(note)].store(READY | flag, Ordering::SeqCst);
        self.words[DEFERRED].store(1, Ordering::SeqCst);
        true
    }

    /// Perform the deferred releases. Requires the latch, and no open mutation.
    #[inline]
    pub fn finish_deferred(&self, wakes: &mut Wakes) -> Result<()> {
        if self.has_deferred() {
            self.finish_notes(wakes)
        } else {
            Ok(())
        }
    }

    #[cold]
    fn finish_notes(&self, wakes: &mut Wakes) -> Result<()> {
        self.count_down()?;
        self.words[DEFERRED].swap(0, Ordering::SeqCst);
        let done = (0..NOTE_COUNT).try_for_each(|note| {
            let state = self.words[at(note)].load(Ordering::SeqCst);
            if state & STATE == READY {
                self.finish_note(note, state, wakes)
            } else {
                Ok(())
            }
        });
        if done.is_err() {
            self.words[DEFERRED].store(1, Ordering::SeqCst);
        }
        done
    }

    fn finish_note(&self, note: usize, state: u64, wakes: &mut Wakes) -> Result<()> {
        let word = |n: usize| self.load_word(at(note) + n);
        let owner = owner_of(word(1), word(2), 0).ok_or_else(|| {
            corrupt(
                "an impossible owner in a deferred release of the lock table, word",
                at(note),
            )
        })?;
        let key = (state & WHAT == LEVEL_OF_ENTRY).then(|| word(4));
        let level = match state & (SHARED | EXCLUSIVE) {
            SHARED => HoldPart::LevelOf(LockMode::Shared),
            EXCLUSIVE => HoldPart::LevelOf(LockMode::Exclusive),
            _ => HoldPart::Level,
        };
        match state & WHAT {
            LOCKS => self.drop_all(&owner, HoldPart::Lock, wakes)?,
            RESERVATIONS => self.drop_all(&owner, HoldPart::Reservations, wakes)?,
            _ => {
                self.inflate_for(ObjectId(word(3)))?;
                self.mutate(|op| {
                    let l = op.find(word(3), key)?;
                    let o = op.find_owner(&owner)?;
                    if !l.is_none() && !o.is_none() {
                        let h: Hold = op.find_hold(l, o)?;
                        if !h.is_none() {
                            op.release(h, level)?;
                        }
                    }
                    op.put(at(note), FREE)
                })?;
                return self.grant_pending(wakes);
            }
        }
        self.store(at(note), FREE)
    }

    /// Free the notes that a dead process had claimed and not completed. May be repeated.
    pub(in crate::lock) fn forget_claims(&self, slot: u16, generation: u32) -> Result<()> {
        let claim = CLAIMED | u64::from(slot) << 16 | u64::from(generation) << 32;
        for note in 0..NOTE_COUNT {
            if Op::new(self).load(at(note))? == claim {
                self.store(at(note), FREE)?;
            }
        }
        Ok(())
    }
}
