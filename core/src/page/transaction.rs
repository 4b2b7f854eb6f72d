//! Explicit transactions: several write sections that commit or roll back together.
//!
//! 1. A transaction is its thread's hold of the latch, with a depth above 0 in the thread's slot. No
//!    other change happens meanwhile, so the undo log holds nothing but this transaction.
//! 2. The containers it changed are marked; readers of other threads find them as they were before it (`committed`).

use super::section::WriteSection;
use super::shm::at;
use super::wait::Wait;
use super::{Pager, marks};
use crate::error::{Error, Result};
use crate::raw::failpoint::fail_point;
use std::sync::atomic::Ordering;

/// Free pages looked through in one section, or a few hundred more.
const RELEASED_AT_ONCE: u64 = 4096;

impl Pager {
    /// Begins a transaction of this thread, or deepens the one it has.
    pub fn begin(&self, wait: &mut Wait<'_>) -> Result<()> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let slot = self.slot()?;
        let took = self.take_latch(slot, wait)?;
        if self.shm.get(at::POISON) != 0 || self.whole().is_err() {
            if took {
                self.latch().release();
            }
            return Err(self.whole().err().unwrap_or_else(|| self.poisoned()));
        }
        self.shm.depth(slot).fetch_add(1, Ordering::Relaxed);
        fail_point!("transaction.begun");
        Ok(())
    }

    /// How deep this thread is in transactions.
    #[must_use]
    pub fn depth(&self) -> u64 {
        match self.slot() {
            Ok(slot) if self.latch().is_held_by(slot) => self.shm.depth(slot).load(Ordering::Relaxed),
            _ => 0,
        }
    }

    /// Leaves an inner level. The outermost is left by `commit` or `rollback`.
    pub fn leave_inner(&self) -> Result<()> {
        let slot = self.slot()?;
        self.shm.depth(slot).fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// The section in which the transaction's frees are applied and it is committed.
    pub fn commit_section(&self, apply: impl FnOnce(&mut WriteSection<'_>) -> Result<()>) -> Result<()> {
        let mut section = self.write(&mut Wait::forever())?;
        // What the transaction puts there is there; this only frees.
        section.removing();
        section.take_transaction_frees();
        apply(&mut section)?;
        section.whole()?;
        section.commit_transaction();
        Ok(())
    }

    /// Drops the frees that an undone transaction has deferred.
    pub(crate) fn forget_transaction(&self) {
        self.transaction_frees
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clear();
    }

    /// Lets go of the physical pages under all logical pages that are free, in steps. Right after a
    /// checkpoint, which makes them old enough; their space is there two checkpoints later.
    pub fn release_free_pages(&self) -> Result<()> {
        loop {
            let mut section = self.write(&mut Wait::forever())?;
            let released = match section.release_free_pages(RELEASED_AT_ONCE) {
                // No room to note more: what was released is.
                Err(Error::NoSpace { .. } | Error::TransactionTooLarge { .. }) => 0,
                done => done?,
            };
            section.whole()?;
            section.commit();
            if released < RELEASED_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Undoes this thread's whole transaction.
    pub fn rollback(&self) -> Result<()> {
        let slot = self.slot()?;
        if !self.latch().is_held_by(slot) {
            self.whole()?;
            return Err(Error::invalid("no transaction is open on this thread"));
        }
        self.raise_gate(slot)?;
        let undone = if self.take_back(0) {
            self.whole()
        } else {
            Err(self.poisoned())
        };
        fail_point!("transaction.undone");
        self.forget_transaction();
        self.shm.depth(slot).store(0, Ordering::Relaxed);
        marks::clear(&self.shm);
        self.lower_gate(false);
        self.latch().release();
        undone
    }
}
