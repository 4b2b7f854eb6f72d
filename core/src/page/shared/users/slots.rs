//! Process slots: the processes that use the store; `threads` has the slots of their threads.
//! `recovery::process_recovery` handles the slots of dead processes.
//!
//! 1. A process holds an exclusive OFD lock on its slot's byte (of the lock file, far past any content), through a
//!    descriptor that is never mapped and closes on exec. The kernel releases the lock when the process ends for any
//!    reason. A pid proves nothing and is kept for messages only.
//! 2. A thread slot's owner word holds process slot and generation, so that a late check of a slot that was reassigned
//!    is detected.
//! 3. A forked child shares none of these locks (`Unshared`), and takes its own slot before its first operation
//!    (`Pager::registration`).
//! 4. A thread that ends while another thread keeps the latch cannot release its locks. It keeps its slot and sets
//!    `ENDED`. The next user of locks, or a checkpoint, releases the locks and frees the slot
//!    (`release_ended_threads`). Otherwise the next thread in the slot would own the locks.
//!
//! Process slot: state 0 free, 1 in use; generation; pid and its namespace; bytes, mask and overflow of its pins;
//! durability; traits: whether it came by a fork, whether it has a helper, `max_age` in milliseconds << 32.

use crate::error::{Error, Result};
use crate::page::shared::layout::{self, PROCESSES};
use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::files::held::Descriptor;
use crate::raw::process::{self, Unshared};
use std::sync::atomic::{AtomicU64, Ordering};

/// Process slots ever used.
const PROCESSES_HIGH: Word = Word::at(456);
/// The strictest durability that any process with the store open asked for: 0 none, 1 checkpoints are flushed, 2 every
/// commit is.
const STRICTEST: Word = Word::at(816);
/// The shortest `max_age` that a present process asked for, in milliseconds; 0: none.
const MAX_AGE: Word = Word::at(2584);

/// Locked shared by every process that has the store open.
pub(crate) const BYTE_PRESENCE: u64 = 1 << 62;
/// Locked exclusively while closing.
pub(crate) const BYTE_CLOSING: u64 = BYTE_PRESENCE + 1;
/// First byte of the process slots.
pub(crate) const BYTE_PROCESS: u64 = BYTE_PRESENCE + 16;

/// A word of a process slot.
#[derive(Clone, Copy)]
pub(super) enum P {
    State = 0,
    Generation = 8,
    Pid = 16,
    PinBytes = 24,
    PinMask = 32,
    PinOverflow = 40,
    Durability = 48,
    /// `FORKED`, `HELPS`, and the requested bound on loss << `MAX_AGE_SHIFT`.
    Traits = 56,
}

/// The process came by a fork, and has opened nothing itself.
const FORKED: u64 = 1;
/// The process has a helper.
const HELPS: u64 = 2;
const MAX_AGE_SHIFT: u32 = 32;

/// The durability that a process requires for all changes of a store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Requirements {
    /// 0: nothing is flushed; 1: checkpoints are; 2: every completed change is.
    pub(crate) durability: u8,
    /// The bound on loss, in milliseconds; 0: none.
    pub(crate) max_age: u32,
}

/// This process's registration in one store.
#[derive(Debug)]
pub(crate) struct Registration {
    /// A lock on the store file: shows that it is in use (`lock_file`). Released before the following fields.
    pub(crate) mark: Unshared,
    /// The lock file's descriptor: holds presence and slot byte; never mapped.
    pub(crate) file: Unshared,
    /// Holds a shared lock on the sidecar: a sidecar without such a lock is not the one in use.
    pub(crate) side: Unshared,
    pub(crate) process: u16,
    pub(crate) generation: u32,
    pub(crate) requirements: Requirements,
    pub(crate) forks: u32,
}

impl Shm {
    /// Return the strictest durability that a present process asked for. It may be briefly out of date.
    #[inline]
    pub(in crate::page) fn strictest_durability(&self) -> u64 {
        self.get(STRICTEST)
    }

    /// Return the shortest bound on loss that a present process asked for, in milliseconds; 0: none.
    pub(in crate::page) fn shortest_max_age(&self) -> u64 {
        self.get(MAX_AGE)
    }

    /// Clear all slots of threads and processes: every process that used the sidecar is dead.
    pub(in crate::page) fn forget_slots(&self) {
        self.forget_all_thread_slots();
        for p in 0..layout::PROCESS_SLOTS {
            for field in [
                P::State,
                P::Pid,
                P::PinMask,
                P::PinOverflow,
                P::PinBytes,
                P::Durability,
                P::Traits,
            ] {
                self.process_word(p, field).store(0, Ordering::Relaxed);
            }
        }
        for word in [PROCESSES_HIGH, STRICTEST, MAX_AGE] {
            self.set(word, 0);
        }
    }

    /// Return the number of process slots in use.
    pub(in crate::page) fn processes_in_use(&self) -> usize {
        (0..layout::PROCESS_SLOTS)
            .filter(|p| self.is_process_present(*p))
            .count()
    }

    /// Return whether a process slot is in use.
    #[inline]
    pub(in crate::page) fn is_process_present(&self, process: usize) -> bool {
        self.process_word(process, P::State).load(Ordering::SeqCst) != 0
    }

    /// Return the generation of a process slot.
    pub(in crate::page) fn process_generation(&self, process: usize) -> u32 {
        self.process_word(process, P::Generation).load(Ordering::SeqCst) as u32
    }

    /// Return the pid of a process, with its namespace.
    pub(in crate::page) fn process_pid(&self, process: usize) -> u64 {
        self.process_word(process, P::Pid).load(Ordering::Relaxed)
    }

    /// Record this process's pid in a slot that its parent has taken for it.
    pub(in crate::page) fn name_process(&self, process: usize) {
        self.process_word(process, P::Pid)
            .store(process::named_pid(), Ordering::Relaxed);
    }

    /// Return whether a process came by a fork.
    pub(in crate::page) fn came_by_fork(&self, process: usize) -> bool {
        self.process_word(process, P::Traits).load(Ordering::SeqCst) & FORKED != 0
    }

    /// Return whether a process has a helper.
    pub(in crate::page) fn has_helper(&self, process: usize) -> bool {
        self.process_word(process, P::Traits).load(Ordering::SeqCst) & HELPS != 0
    }

    /// Record whether a process has a helper.
    pub(in crate::page) fn set_has_helper(&self, process: usize, helps: bool) {
        let traits = self.process_word(process, P::Traits);
        if helps {
            traits.fetch_or(HELPS, Ordering::SeqCst);
        } else {
            traits.fetch_and(!HELPS, Ordering::SeqCst);
        }
    }

    /// Record the bound on loss that a process asks for, in milliseconds.
    pub(in crate::page) fn set_max_age(&self, process: usize, ms: u32) {
        let traits = self.process_word(process, P::Traits);
        let others = traits.load(Ordering::SeqCst) & (FORKED | HELPS);
        traits.store(others | u64::from(ms) << MAX_AGE_SHIFT, Ordering::SeqCst);
        find_strictest(self);
    }

    /// Return whether a process died without leaving its slot.
    pub(in crate::page) fn has_process_slots_in_use(&self) -> bool {
        self.processes_in_use() != 0
    }

    /// Return the number of process slots that were ever used.
    #[inline]
    pub(crate) fn process_slots(&self) -> usize {
        (self.get(PROCESSES_HIGH) as usize).min(layout::PROCESS_SLOTS)
    }

    #[inline]
    pub(super) fn process_word(&self, process: usize, field: P) -> &AtomicU64 {
        self.fixed_word(PROCESSES + process * 64 + field as usize)
    }
}

/// Mark a process slot free and forget its pins.
pub(crate) fn free_process_slot(shm: &Shm, process: usize) {
    shm.process_word(process, P::PinMask).store(0, Ordering::Relaxed);
    shm.process_word(process, P::PinOverflow)
        .store(0, Ordering::Relaxed);
    shm.process_word(process, P::Pid).store(0, Ordering::Relaxed);
    shm.process_word(process, P::Durability)
        .store(0, Ordering::Relaxed);
    shm.process_word(process, P::Traits).store(0, Ordering::Relaxed);
    shm.process_word(process, P::State).store(0, Ordering::Release);
    find_strictest(shm);
}

fn present(shm: &Shm) -> impl Iterator<Item = usize> + '_ {
    (0..shm.process_slots()).filter(|p| shm.is_process_present(*p))
}

/// Return the strictest durability that any present process asked for.
pub(in crate::page) fn strictest(shm: &Shm) -> u64 {
    present(shm)
        .map(|p| shm.process_word(p, P::Durability).load(Ordering::SeqCst))
        .max()
        .unwrap_or(1)
}

/// Return the shortest bound on loss that a present process asked for; 0: none.
fn shortest_age(shm: &Shm) -> u64 {
    present(shm)
        .map(|p| shm.process_word(p, P::Traits).load(Ordering::SeqCst) >> MAX_AGE_SHIFT)
        .filter(|age| *age != 0)
        .min()
        .unwrap_or(0)
}

/// Store the strictest durability and the shortest bound on loss.
fn find_strictest(shm: &Shm) {
    // Other processes arrive and leave concurrently. The process that stores last has looked after all of them arrived.
    loop {
        let found = (strictest(shm), shortest_age(shm));
        shm.word(STRICTEST).store(found.0, Ordering::SeqCst);
        shm.word(MAX_AGE).store(found.1, Ordering::SeqCst);
        if (strictest(shm), shortest_age(shm)) == found {
            return;
        }
    }
}

/// Take a free process slot: its byte first, then its state. A slot in use whose byte is free belongs to a dead process
/// and is left for recovery.
pub(crate) fn claim_process_slot(
    shm: &Shm,
    file: &impl Descriptor,
    requirements: Requirements,
) -> Result<(u16, u32)> {
    for p in 0..layout::PROCESS_SLOTS {
        if shm.process_word(p, P::State).load(Ordering::Acquire) != 0
            || !file::ofd_lock(file, BYTE_PROCESS + p as u64, Ofd::Exclusive)?
        {
            continue;
        }
        if shm.process_word(p, P::State).load(Ordering::Acquire) != 0 {
            file::ofd_lock(file, BYTE_PROCESS + p as u64, Ofd::None)?;
            continue;
        }
        let generation =
            (shm.process_word(p, P::Generation).fetch_add(1, Ordering::SeqCst) as u32).wrapping_add(1);
        shm.process_word(p, P::Pid)
            .store(process::named_pid(), Ordering::Relaxed);
        shm.process_word(p, P::PinMask).store(0, Ordering::Relaxed);
        shm.process_word(p, P::PinOverflow).store(0, Ordering::Relaxed);
        shm.process_word(p, P::Traits).store(
            u64::from(requirements.max_age) << MAX_AGE_SHIFT,
            Ordering::Relaxed,
        );
        shm.word(PROCESSES_HIGH).fetch_max(p as u64 + 1, Ordering::SeqCst);
        shm.process_word(p, P::Durability)
            .store(u64::from(requirements.durability), Ordering::Relaxed);
        shm.process_word(p, P::State).store(1, Ordering::SeqCst);
        find_strictest(shm);
        return Ok((p as u16, generation));
    }
    Err(Error::TooMany {
        what: "processes using the store",
        limit: layout::PROCESS_SLOTS,
    })
}

/// Record that the process of a slot came by a fork.
pub(crate) fn note_fork(shm: &Shm, process: u16) {
    shm.process_word(process as usize, P::Traits)
        .fetch_or(FORKED, Ordering::SeqCst);
}

/// Release a process slot's byte, after its state was set free.
pub(crate) fn give_back_byte(file: &impl Descriptor, process: usize) -> Result<()> {
    file::ofd_lock(file, BYTE_PROCESS + process as u64, Ofd::None).map(|_| ())
}
