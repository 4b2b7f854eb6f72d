//! The latch: the right to change the store. One word: 0, or its owner.
//!
//! | BITS | of an owner |
//! | --- | --- |
//! | 0..16 | thread slot + 1 |
//! | 16..32 | process slot |
//! | 32..64 | generation of the process slot |
//!
//! 1. The word goes from 0 to an owner by compare-and-swap, from a dead owner to the process that took the dead
//!    process's byte lock (`slots`), and back to the dead owner if that process could not recover. Otherwise only its
//!    owner changes an owned word. Inside one process, a thread that keeps the latch between operations (a transaction)
//!    can have it moved to another thread by `pass_on`. The process's `Turn` (`blocks`) separates this from that
//!    thread's operations.
//! 2. An owner whose process slot has another generation, or is not in use, came too late: the store had been closed
//!    under it, and it releases what it has without having changed anything (`take_latch`). If it dies before that, any
//!    process may free the word; so it releases only a word that is still its own.
//! 3. Unlocking stores 0 and then checks the waiters; a waiter counts itself and then reads the word (`waiters`). So
//!    one of the two sees the other.

use crate::page::sync::waiters::Waiters;
use crate::raw::sync::{AtomicU32, AtomicU64, FutexWord, Ordering};
use std::time::Duration;

/// The latch's words.
pub(crate) struct Latch<'a> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) futex: &'a FutexWord,
    pub(crate) waiters: &'a AtomicU32,
    /// 0, or the waiter for which the latch is reserved (`turn`).
    pub(crate) turn: &'a AtomicU64,
    /// Process slot and generation of the process that takes it, as in the word.
    pub(crate) process: u64,
}

/// The owner of the latch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner(u64);

impl Owner {
    /// Return the owner for a thread of the process given as in `process_bits`.
    pub(crate) fn new(process: u64, slot: u32) -> Owner {
        Owner(process | (u64::from(slot) + 1))
    }

    /// Return the owner in a word, if there is one.
    pub(crate) fn in_word(word: u64) -> Option<Owner> {
        (word != 0).then_some(Owner(word))
    }

    /// Return the owner's form in a word.
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// Return its thread slot.
    pub(crate) fn slot(self) -> u32 {
        (self.0 as u16 as u32).wrapping_sub(1)
    }

    /// Return its process slot.
    pub(crate) fn process(self) -> usize {
        process_in(self.0)
    }

    /// Return whether it is a thread of the process given as in `process_bits`.
    pub(crate) fn is_of(self, process: u64) -> bool {
        self.0 & !0xffff == process
    }

    /// Return the generation of its process slot.
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Return the part of the latch's word that identifies a process.
pub(crate) fn process_bits(process: u16, generation: u32) -> u64 {
    u64::from(process) << 16 | u64::from(generation) << 32
}

/// Return the process slot in such a word.
#[inline]
pub(crate) fn process_in(word: u64) -> usize {
    (word >> 16 & 0xffff) as usize
}

/// Attempts before a waiter sleeps: a few microseconds, more than a single operation takes.
const SPINS: u32 = 400;

impl Latch<'_> {
    #[inline]
    fn mine(&self, slot: u32) -> u64 {
        Owner::new(self.process, slot).0
    }

    /// Take a free latch that is not reserved for another waiter.
    #[inline]
    pub(crate) fn try_take(&self, slot: u32) -> bool {
        let (turn, mine) = (self.turn.load(Ordering::Relaxed), self.mine(slot));
        if turn != 0 && turn != mine {
            return false;
        }
        let taken = self
            .word
            .compare_exchange(0, mine, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok();
        if taken && turn == mine {
            self.turn.store(0, Ordering::SeqCst);
        }
        taken
    }

    /// Return whether this thread of this process has it.
    #[inline]
    pub(crate) fn is_held_by(&self, slot: u32) -> bool {
        self.word.load(Ordering::Acquire) == self.mine(slot)
    }

    /// Return the waiter that it is reserved for, as an owner word; 0: none.
    pub(crate) fn turn(&self) -> u64 {
        self.turn.load(Ordering::SeqCst)
    }

    /// Reserve it for `new` instead of `old`. Return false if it is reserved for another one by now.
    pub(crate) fn replace_turn(&self, old: u64, new: u64) -> bool {
        self.turn
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Take it, spinning for a few microseconds.
    pub(crate) fn spin(&self, slot: u32) -> bool {
        for i in 0..SPINS {
            if self.word.load(Ordering::Relaxed) == 0 && self.try_take(slot) {
                return true;
            }
            if i % 100 == 99 {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Return its owner.
    #[inline]
    pub(crate) fn owner(&self) -> Option<Owner> {
        Owner::in_word(self.word.load(Ordering::Acquire))
    }

    /// Sleep until it may be free, for at most `slice`.
    pub(crate) fn sleep(&self, slice: Duration) {
        self.sleepers().sleep(u32::MAX, slice);
    }

    fn sleepers(&self) -> Waiters<'_> {
        Waiters {
            count: self.waiters,
            futex: self.futex,
        }
    }

    /// Release it. This is also a full barrier.
    #[inline]
    pub(crate) fn release(&self) {
        self.word.store(0, Ordering::SeqCst);
        // If the latch is reserved, wake all sleepers: a single one might not be the waiter that it is reserved for.
        let most = if self.turn.load(Ordering::Relaxed) == 0 {
            1
        } else {
            i32::MAX
        };
        self.sleepers().wake(most);
    }

    /// Hand it back to the dead owner it was taken over from. The caller still holds the byte lock.
    pub(crate) fn hand_back(&self, dead: Owner) {
        self.word.store(dead.0, Ordering::SeqCst);
    }

    /// Free it if it still belongs to this owner, which came too late and has changed nothing (invariant 2).
    pub(crate) fn free_unused(&self, late: Owner) {
        let freed = self
            .word
            .compare_exchange(late.0, 0, Ordering::SeqCst, Ordering::Relaxed);
        if freed.is_ok() {
            self.sleepers().wake(1);
        }
    }

    /// Release it, unless another process has freed it (invariant 2).
    #[cold]
    pub(crate) fn release_late(&self, slot: u32) {
        self.free_unused(Owner(self.mine(slot)));
    }

    /// Pass it from one thread of this process to another. The caller has the process's turn.
    pub(crate) fn pass_on(&self, from: u32, to: u32) {
        let (from, to) = (self.mine(from), self.mine(to));
        let _ = self
            .word
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed);
    }

    /// Take it over from a dead owner. The caller holds the dead process's byte lock.
    pub(crate) fn take_over(&self, dead: Owner, slot: u32) -> bool {
        self.word
            .compare_exchange(dead.0, self.mine(slot), Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }
}
