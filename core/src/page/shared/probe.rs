//! The descriptor by which a process asks whether others live, and takes the byte of one that is dead.
//!
//! 1. It is open from the start: a process that gave up its privileges after opening could not open the lock file
//!    again, and could recover nothing that others leave.
//!    No lock is kept through it, so no mapping keeps its description.
//! 2. Locks of an open file description do not exclude each other. So two threads of one process that take one byte
//!    exclude each other by a set of bytes that is kept here.

use crate::error::Result;
use crate::page::shared::slots::BYTE_PROCESS;
use crate::raw::file::{self, Ofd};
use crate::raw::process::{self, Unshared};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The descriptor, and the process bytes that are taken through it.
#[derive(Debug)]
pub(crate) struct Held {
    file: Unshared,
    taken: u128,
}

#[derive(Debug)]
pub(crate) struct Probe(Mutex<Held>);

/// The byte of a dead process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Byte<'p> {
    probe: &'p Probe,
    process: usize,
    forks: u32,
}

impl Probe {
    pub(crate) fn new(file: Unshared) -> Probe {
        Probe(Mutex::new(Held { file, taken: 0 }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a forked child: its own. What its parent's other threads have taken is theirs.
    pub(crate) fn renew(&self, file: Unshared) {
        *self.lock() = Held { file, taken: 0 };
    }

    /// Gives the descriptor back: the store is closed.
    pub(crate) fn retire(&self) {
        self.lock().file.retire();
    }

    /// Whether no living process has this byte.
    pub(crate) fn is_free(&self, byte: u64) -> Result<bool> {
        Ok(!file::ofd_is_held(&self.lock().file, byte, Ofd::Exclusive)?)
    }

    /// Takes a process's byte. None: the process lives, or another thread or process has taken the byte.
    pub(crate) fn take(&self, process: usize) -> Result<Option<Byte<'_>>> {
        let mut held = self.lock();
        let bit = 1u128 << process;
        if held.taken & bit != 0
            || !file::ofd_lock(&held.file, BYTE_PROCESS + process as u64, Ofd::Exclusive)?
        {
            return Ok(None);
        }
        held.taken |= bit;
        Ok(Some(Byte {
            probe: self,
            process,
            forks: process::forks(),
        }))
    }
}

impl Held {
    /// In a forked child whose descriptor is its own already.
    pub(crate) fn forget_taken(&mut self) {
        self.taken = 0;
    }
}

impl Drop for Byte<'_> {
    fn drop(&mut self) {
        let mut held = self.probe.lock();
        if self.forks == process::forks() {
            held.taken &= !(1u128 << self.process);
            // Only a descriptor that is no file's can refuse it.
            let _ = file::ofd_lock(&held.file, BYTE_PROCESS + self.process as u64, Ofd::None);
        }
    }
}

const _: () = assert!(crate::page::shared::layout::PROCESS_SLOTS <= 128);
