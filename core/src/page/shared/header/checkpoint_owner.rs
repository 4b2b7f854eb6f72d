//! Which thread makes the checkpoint, and how many steps it has made. `checkpoint::owner` has the rules.
//!
//! `CK_OWNER`: 0, or thread slot + 1, and `KEEPS` if the owner uses it for more than one checkpoint.

use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use std::sync::atomic::Ordering;

/// 0, or the owner.
const CK_OWNER: Word = Word::at(640);
/// Number of steps that owners of the checkpoint have made. An owner that makes none for long counts as stopped.
const CK_HEARTBEAT: Word = Word::at(2752);

const KEEPS: u64 = 1 << 32;

/// The owner of the checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::page) struct Maker(u64);

impl Maker {
    /// Return the owner that is the thread of a slot. `keeps`: it relies on the absence of other checkpoints.
    pub(in crate::page) fn new(slot: u32, keeps: bool) -> Maker {
        Maker((u64::from(slot) + 1) | if keeps { KEEPS } else { 0 })
    }

    /// Return its thread slot, or None in a damaged word.
    pub(in crate::page) fn slot(self) -> Option<u32> {
        (self.0 as u32).checked_sub(1)
    }

    /// Return whether it relies on the absence of other checkpoints.
    pub(in crate::page) fn keeps(self) -> bool {
        self.0 & KEEPS != 0
    }
}

impl Shm {
    /// Return the thread slot that owns the checkpoint.
    pub(in crate::page) fn checkpoint_owner(&self) -> Option<u32> {
        Maker(self.word(CK_OWNER).load(Ordering::SeqCst)).slot()
    }

    /// Return whether this slot owns the checkpoint.
    pub(in crate::page) fn owns_checkpoint(&self, slot: u32) -> bool {
        self.checkpoint_owner() == Some(slot)
    }

    /// Take the checkpoint if it has no owner. Return the owner that it has otherwise.
    pub(in crate::page) fn try_own_checkpoint(&self, mine: Maker) -> Result<(), Maker> {
        self.word(CK_OWNER)
            .compare_exchange(0, mine.0, Ordering::SeqCst, Ordering::SeqCst)
            .map(|_| ())
            .map_err(Maker)
    }

    /// Take the checkpoint from a stopped owner. Return false if it has another one by now.
    pub(in crate::page) fn replace_checkpoint_owner(&self, stopped: Maker, mine: Maker) -> bool {
        self.word(CK_OWNER)
            .compare_exchange(stopped.0, mine.0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Release ownership of the checkpoint, if this slot has it.
    pub(in crate::page) fn leave_checkpoint(&self, slot: u32) {
        for keeps in [false, true] {
            let mine = Maker::new(slot, keeps);
            let _ = self
                .word(CK_OWNER)
                .compare_exchange(mine.0, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Clear the owner: all possible owners are dead.
    pub(in crate::page) fn forget_checkpoint_owner(&self) {
        self.set(CK_OWNER, 0);
    }

    /// Return the number of steps that owners of the checkpoint have made.
    pub(in crate::page) fn checkpoint_steps(&self) -> u64 {
        self.get(CK_HEARTBEAT)
    }

    /// Record that the owner has made a step.
    pub(in crate::page) fn count_checkpoint_step(&self) {
        self.word(CK_HEARTBEAT).fetch_add(1, Ordering::Relaxed);
    }
}
