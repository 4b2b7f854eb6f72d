//! Thread slots: the threads that use the store. Invariants 2 and 4 of `slots`.
//!
//! A thread slot:
//!
//! | OFFSET | SIZE | CONTENT |
//! | --- | --- | --- |
//! | 0 | 8 | mark (see `gate`) |
//! | 8 | 8 | owner: process slot + 1, `ENDED`, generation << 32 |
//! | 16 | 8 | depth of its transaction |
//! | 24 | 8 | ticket (see `section::latch::turn`) |
//! | 32 | 8 | the kernel's id of the thread, in the pid namespace of its process; for messages only |
//! | 40 | 8 | the task that has its transaction; for messages only |
//! | 48 | 16 | - |

use crate::error::{Error, Result};
use crate::page::shared::layout::{self, THREADS};
use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use crate::raw::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// Thread slots ever used.
const SLOTS_HIGH: Word = Word::at(448);
/// Number of ended threads that could not release their locks; 0: none.
const ENDED_THREADS: Word = Word::at(464);

/// In the owner word of a thread slot: the thread has ended and left its locks.
const ENDED: u64 = 1 << 31;

/// Return the owner word of a process's threads.
pub(in crate::page) fn owner_word(process: usize, generation: u32) -> u64 {
    (process as u64 + 1) | u64::from(generation) << 32
}

impl Shm {
    /// Return the number of thread slots that were ever used.
    #[inline]
    pub(in crate::page) fn thread_slots(&self) -> u32 {
        self.word(SLOTS_HIGH).load(Ordering::SeqCst) as u32
    }

    /// Record that a thread slot is used, before it has an owner, so that no recovery can miss it.
    pub(in crate::page) fn note_thread_slot(&self, slot: u32) {
        self.word(SLOTS_HIGH)
            .fetch_max(u64::from(slot) + 1, Ordering::SeqCst);
    }

    /// Take a free thread slot for a thread of a process.
    pub(in crate::page) fn claim_thread_slot(&self, process: usize, generation: u32) -> Result<u32> {
        let mine = owner_word(process, generation);
        for slot in 0..layout::THREAD_SLOTS as u32 {
            let owner = self.owner(slot);
            if owner.load(Ordering::Relaxed) != 0 {
                continue;
            }
            self.note_thread_slot(slot);
            if owner
                .compare_exchange(0, mine, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
            {
                // The mark may remain from a thread that was killed just after it had entered and found the store
                // closed.
                self.clear_mark(slot);
                self.set_depth(slot, 0);
                self.thread_id_word(slot)
                    .store(u64::from(process::thread_id()), Ordering::Relaxed);
                return Ok(slot);
            }
        }
        Err(Error::TooMany {
            what: "threads using the store",
            limit: layout::THREAD_SLOTS,
        })
    }

    /// Return the process slot that owns a thread slot.
    pub(in crate::page) fn process_of_slot(&self, slot: u32) -> Option<usize> {
        let owner = (self.owner(slot).load(Ordering::Acquire) & !ENDED) as u32;
        (owner != 0 && owner as usize <= layout::PROCESS_SLOTS).then(|| owner as usize - 1)
    }

    /// Return the kernel's id of a slot's thread. It proves nothing and is for messages only: an earlier thread of the
    /// slot may have left it.
    pub(in crate::page) fn thread_id_of(&self, slot: u32) -> u32 {
        self.thread_id_word(slot).load(Ordering::Relaxed) as u32
    }

    /// Return the process slot and generation of a running thread's own slot.
    #[inline]
    pub(in crate::page) fn process_of_thread(&self, slot: u32) -> (u16, u32) {
        let owner = self.owner(slot).load(Ordering::Relaxed);
        ((owner as u32).wrapping_sub(1) as u16, (owner >> 32) as u32)
    }

    /// Return whether any thread has the slot.
    pub(in crate::page) fn is_slot_taken(&self, slot: u32) -> bool {
        self.owner(slot).load(Ordering::Relaxed) != 0
    }

    /// Return whether a slot belongs to a thread of a process, running or ended.
    pub(in crate::page) fn is_slot_of(&self, slot: u32, process: usize, generation: u32) -> bool {
        self.owner(slot).load(Ordering::SeqCst) & !ENDED == owner_word(process, generation)
    }

    /// Return whether a slot belongs to a running thread of a process.
    pub(in crate::page) fn is_thread_of(&self, slot: u32, process: usize, generation: u32) -> bool {
        self.owner(slot).load(Ordering::SeqCst) == owner_word(process, generation)
    }

    /// Return the generation of the process whose ended thread still has the slot.
    pub(in crate::page) fn ended_generation(&self, slot: u32) -> Option<u32> {
        let owner = self.owner(slot).load(Ordering::SeqCst);
        (owner & ENDED != 0).then_some((owner >> 32) as u32)
    }

    /// Give back the slot of a thread of a process, unless it belongs to another one by now because the store was
    /// closed.
    pub(in crate::page) fn give_back_slot(&self, slot: u32, process: usize, generation: u32) {
        self.replace_owner(slot, process, generation, 0);
    }

    /// As `give_back_slot`, for a thread that could not release its locks: it keeps the slot.
    pub(in crate::page) fn end_with_locks(&self, slot: u32, process: usize, generation: u32) {
        let ended = owner_word(process, generation) | ENDED;
        if self.replace_owner(slot, process, generation, ended) {
            self.word(ENDED_THREADS).fetch_add(1, Ordering::SeqCst);
        }
    }

    fn replace_owner(&self, slot: u32, process: usize, generation: u32, left: u64) -> bool {
        let mine = owner_word(process, generation);
        self.owner(slot)
            .compare_exchange(mine, left, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Free a thread slot. The caller has released what its thread held.
    pub(in crate::page) fn free_thread_slot(&self, slot: u32) {
        self.owner(slot).store(0, Ordering::SeqCst);
    }

    /// Return the number of ended threads that could not release their locks.
    pub(in crate::page) fn ended_threads(&self) -> u64 {
        self.get(ENDED_THREADS)
    }

    /// Record that their locks are released, unless further threads have ended since there were `ended`.
    pub(in crate::page) fn released_ended_threads(&self, ended: u64) {
        let _ = self
            .word(ENDED_THREADS)
            .compare_exchange(ended, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Return the depth of the transaction that the calling thread has open in its slot.
    #[inline]
    pub(in crate::page) fn depth(&self, slot: u32) -> u64 {
        self.depth_word(slot).load(Ordering::Relaxed)
    }

    /// Set the depth of the calling thread's transaction.
    #[inline]
    pub(in crate::page) fn set_depth(&self, slot: u32, depth: u64) {
        self.depth_word(slot).store(depth, Ordering::Relaxed);
    }

    /// Return the depth of another thread's transaction, for messages: it may be out of date.
    pub(in crate::page) fn depth_of_other(&self, slot: u32) -> u64 {
        self.depth_word(slot).load(Ordering::Relaxed)
    }

    /// Set the depth of another thread's transaction, which does not run now.
    pub(in crate::page) fn set_depth_of_other(&self, slot: u32, depth: u64) {
        self.depth_word(slot).store(depth, Ordering::SeqCst);
    }

    /// Return the task that has a slot's transaction, or had the last one.
    pub(in crate::page) fn task_of_transaction(&self, slot: u32) -> u64 {
        self.task_word(slot).load(Ordering::Relaxed)
    }

    /// Record the task that has a slot's transaction.
    pub(in crate::page) fn set_task_of_transaction(&self, slot: u32, task: u64) {
        self.task_word(slot).store(task, Ordering::Relaxed);
    }

    /// Return the ticket of the thread that waits in a slot for the latch; 0 if it does not wait.
    pub(in crate::page) fn ticket(&self, slot: u32) -> u64 {
        self.ticket_word(slot).load(Ordering::SeqCst)
    }

    pub(in crate::page) fn set_ticket(&self, slot: u32, ticket: u64) {
        self.ticket_word(slot).store(ticket, Ordering::SeqCst);
    }

    /// Clear the thread slots that were used: no thread of an earlier session lives.
    pub(in crate::page) fn forget_thread_slots(&self) {
        let threads = (self.thread_slots() as usize).min(layout::THREAD_SLOTS);
        for word in self.words(THREADS, threads * 8) {
            word.store(0, Ordering::Relaxed);
        }
        self.set(SLOTS_HIGH, 0);
    }

    /// Clear all thread slots, also those past the number that was used: every process that used the sidecar is dead.
    pub(super) fn forget_all_thread_slots(&self) {
        for word in self.words(THREADS, layout::THREAD_SLOTS * 8) {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
        for word in [SLOTS_HIGH, ENDED_THREADS] {
            self.set(word, 0);
        }
    }

    /// Return the mark of a slot's thread, for the gate.
    #[inline(always)]
    pub(in crate::page::shared) fn mark(&self, slot: u32) -> &AtomicU64 {
        self.fixed_word(THREADS + slot as usize * 64)
    }

    #[inline]
    fn owner(&self, slot: u32) -> &AtomicU64 {
        self.fixed_word(THREADS + slot as usize * 64 + 8)
    }

    #[inline]
    fn depth_word(&self, slot: u32) -> &AtomicU64 {
        self.fixed_word(THREADS + slot as usize * 64 + 16)
    }

    fn thread_id_word(&self, slot: u32) -> &AtomicU64 {
        self.fixed_word(THREADS + slot as usize * 64 + 32)
    }

    fn task_word(&self, slot: u32) -> &AtomicU64 {
        self.fixed_word(THREADS + slot as usize * 64 + 40)
    }

    fn ticket_word(&self, slot: u32) -> &AtomicU64 {
        self.fixed_word(THREADS + slot as usize * 64 + 24)
    }
}
