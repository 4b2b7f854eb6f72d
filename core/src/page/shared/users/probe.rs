//! The descriptor through which a process checks whether others are alive, and takes the byte of a dead one.
//!
//! 1. It is open from the start: a process that dropped its privileges after opening could not open the lock file again
//!    and could not run recovery for others. No lock is kept through it, so no mapping keeps its description.
//! 2. Locks through one open file description do not exclude each other. So a set of bytes kept here makes two threads
//!    of one process that take the same byte exclude each other.

use crate::error::Result;
use crate::page::shared::users::slots::BYTE_PROCESS;
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::process::{self, Unshared};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The descriptor, and the process bytes taken through it.
#[derive(Debug)]
pub(crate) struct Held {
    file: Unshared,
    taken: u128,
}

#[derive(Debug)]
pub(crate) struct Probe(Mutex<Held>);

/// The byte of a dead process, held until it is dropped.
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

    /// In a forked child: use its own descriptor. The bytes taken by its parent's other threads belong to the parent.
    pub(crate) fn renew(&self, file: Unshared) {
        *self.lock() = Held { file, taken: 0 };
    }

    /// Close the descriptor when the store is closed.
    pub(crate) fn retire(&self) {
        self.lock().file.retire();
    }

    /// Return whether no living process holds this byte.
    pub(crate) fn is_free(&self, byte: u64) -> Result<bool> {
        Ok(!file::ofd_is_held(&self.lock().file, byte, Ofd::Exclusive)?)
    }

    /// Take a process's byte. Return None if the process lives, or if another thread or process has taken the byte.
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
    /// Forget the taken bytes, in a forked child that has its own descriptor already.
    pub(crate) fn forget_taken(&mut self) {
        self.taken = 0;
    }
}

impl Drop for Byte<'_> {
    fn drop(&mut self) {
        let mut held = self.probe.lock();
        if self.forks == process::forks() {
            held.taken &= !(1u128 << self.process);
            // The unlock can fail only if the descriptor is not a file's.
            let _ = file::ofd_lock(&held.file, BYTE_PROCESS + self.process as u64, Ofd::None);
        }
    }
}

const _: () = assert!(crate::page::shared::layout::PROCESS_SLOTS <= 128);
