//! This process among the users of the store: its registration, its slot, and its probe of other processes.
//!
//! The slot and its generation are also in a word of their own, as the latch's word names them, because most callers
//! need only that. A forked child makes its own registration (`threads::registration`), so the word changes then.

use crate::page::shared::users::probe::Probe;
use crate::page::shared::users::slots::Registration;
use crate::page::sync::latch;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug)]
pub(in crate::page) struct Membership {
    registration: Mutex<Registration>,
    word: AtomicU64,
    pub(in crate::page) probe: Probe,
}

impl Membership {
    /// Begin without a slot.
    pub(in crate::page) fn new(registration: Registration, probe: Probe) -> Membership {
        Membership {
            registration: Mutex::new(registration),
            word: AtomicU64::new(0),
            probe,
        }
    }

    /// Return the registration as it is: in a forked child it may be the parent's.
    pub(in crate::page) fn registration(&self) -> MutexGuard<'_, Registration> {
        self.registration.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Return the mutex of the registration, for a lock with a bounded wait.
    pub(in crate::page) fn mutex(&self) -> &Mutex<Registration> {
        &self.registration
    }

    /// Return the process's slot and generation, as in the latch's word.
    #[inline(always)]
    pub(in crate::page) fn word(&self) -> u64 {
        self.word.load(Ordering::Relaxed)
    }

    /// Set the process's slot.
    pub(in crate::page) fn set_slot(&self, process: u16, generation: u32) {
        self.word
            .store(latch::process_bits(process, generation), Ordering::Release);
    }

    /// Return the process's slot.
    #[inline]
    pub(in crate::page) fn slot(&self) -> usize {
        latch::process_in(self.word())
    }

    /// Return the generation of the process's slot.
    pub(in crate::page) fn generation(&self) -> u32 {
        (self.word() >> 32) as u32
    }
}
