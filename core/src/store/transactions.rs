//! Transactions of a store: begin, commit, roll back, and end a block from any thread.

use super::{Error, Result, Store, Wait};
use crate::page::{Block, Reason};
use crate::store::space::debt::Before;

impl Store {
    /// Begin a transaction of the calling thread's running task (`set_task`): acquire the latch and keep it.
    /// Inside a transaction, begin a block of it, a savepoint: `rollback` undoes that block alone.
    ///
    /// After `Error::Conflict` the transaction is rolled back as a whole. Every operation of its owner then
    /// returns `Error::Aborted` until the owner has left each block, by `commit`, which returns it again, or
    /// by `rollback`.
    ///
    /// Locks are not part of a transaction: a lock that `lock` acquired inside one is held until `unlock`,
    /// however the transaction ends.
    ///
    /// ```
    /// use persist_core::store::{Actor, In, Key, Options, Store, Wait};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path().join("a.store"), &Options::default())?;
    /// let root = store.root();
    /// let set = |key: &'static [u8]| {
    ///     store.write(Actor::Thread, &mut Wait::default(), |w| w.set(root, &Key::Str(key), &In::Int(1)))
    /// };
    /// let has = |key: &'static [u8]| store.read(&mut Wait::default(), |r| r.contains(root, &Key::Str(key)));
    /// store.begin(&mut Wait::default())?;
    /// set(b"x")?;
    /// store.begin(&mut Wait::default())?;
    /// set(b"y")?;
    /// store.rollback()?;
    /// store.commit()?;
    /// assert!(has(b"x")? && !has(b"y")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Error::Timeout` naming the holder of the latch; `Error::OtherTask` if another task of this thread has
    /// a transaction open; `Error::Aborted`.
    pub fn begin(&self, wait: &mut Wait<'_>) -> Result<Block> {
        self.expect_live()?;
        self.pager().outside_sections()?;
        self.pager().not_behind_another_task()?;
        if self.inner.debt.is_starved() && !self.in_transaction() {
            // Free entries as a single change without space does. If this fails, the transaction reports the
            // error.
            self.free_waiting();
            let _ = self.sync_forcing();
        }
        if self.pager().lists_are_crowded() && !self.in_transaction() {
            // The transaction cannot make a checkpoint. If this one fails, the transaction may still fit.
            let _ = self.pager().checkpoint(wait);
        }
        let block = self.pager().begin(wait)?;
        if self.pager().depth() == 1
            && let Ok(found) = self.read(&mut Wait::default(), |r| Before::of(r))
        {
            self.inner.debt.begin(found);
        }
        Ok(block)
    }

    /// Leave the innermost block of the running owner's transaction. Leaving the outermost block commits it.
    ///
    /// # Errors
    /// `Error::Invalid` if no transaction is open; `Error::Aborted` if the transaction was rolled back
    /// before; those of the commit, after which it is rolled back. The block is left in any case. After
    /// `Error::DurabilityUnknown` it is committed.
    pub fn commit(&self) -> Result<()> {
        self.commit_without_wait()?;
        if self.must_await_durability() {
            self.await_durability(&mut Wait::default())?;
        }
        Ok(())
    }

    /// Commit as `commit` does, without waiting until the transaction survives a power cut: the caller checks
    /// `must_await_durability` next.
    ///
    /// # Errors
    /// Those of `commit`, except `Error::DurabilityUnknown`: the transaction is rolled back.
    #[doc(hidden)]
    pub fn commit_without_wait(&self) -> Result<()> {
        self.pager().outside_sections()?;
        self.pager().leave_refused()?;
        match self.pager().depth() {
            0 => {
                self.pager().whole()?;
                Err(Error::invalid("no transaction is open on this thread"))
            }
            1 => {
                let mut owed = None;
                let done = self.pager().commit_section(|w| {
                    self.free_unpinned(w)?;
                    owed = self.finish(w, self.inner.debt.begun())?;
                    Ok(())
                });
                if done.is_err() {
                    self.pager().rollback()?;
                }
                done?;
                if let Some(owed) = owed {
                    self.repay(owed);
                }
                self.after_change();
                Ok(())
            }
            _ => self.pager().leave_inner(),
        }
    }

    /// Undo and leave the innermost block of the running owner's transaction. Changes made before the block
    /// began stay in the transaction.
    ///
    /// # Errors
    /// `Error::Invalid` if no transaction is open.
    pub fn rollback(&self) -> Result<()> {
        self.pager().outside_sections()?;
        self.pager().rollback()
    }

    /// End a block returned by `begin`, with the blocks inside it, from any thread or task of the process.
    /// Its owner must not be inside an operation's closure.
    ///
    /// Ending an outermost block commits or rolls back the transaction. If an owner other than the
    /// transaction's ends an inner block, a commit joins it to the surrounding block; a rollback dooms the
    /// whole transaction, and its owner gets `Error::Aborted` from its next operation.
    ///
    /// # Errors
    /// Those of `commit` and `rollback`; `Error::Aborted` if the block had ended before and `commit` is true.
    pub fn end(&self, block: Block, commit: bool) -> Result<()> {
        self.end_without_wait(block, commit)?;
        if commit && self.must_await_durability() {
            self.await_durability(&mut Wait::default())?;
        }
        Ok(())
    }

    /// End a block as `end` does, without waiting until a committed transaction survives a power cut: the
    /// caller checks `must_await_durability`.
    ///
    /// # Errors
    /// Those of `end`, except `Error::DurabilityUnknown`.
    #[doc(hidden)]
    pub fn end_without_wait(&self, block: Block, commit: bool) -> Result<()> {
        self.pager().outside_sections()?;
        self.pager()
            .end(block, commit, || self.commit_without_wait(), || self.rollback())
    }

    /// Return how many blocks of the open transaction surround this one (0: it is the outermost). None if it
    /// has ended, or the transaction was rolled back.
    #[doc(hidden)]
    #[must_use]
    pub fn level_of(&self, block: Block) -> Option<usize> {
        self.pager().level_of(block)
    }

    /// Return whether any owner has the right to change the store at this moment: one load.
    #[doc(hidden)]
    #[must_use]
    pub fn is_latched(&self) -> bool {
        self.pager().latch().owner().is_some()
    }

    /// Return true while the calling thread's running task is inside a transaction, even one that was rolled
    /// back.
    #[inline]
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.pager().depth() > 0
    }

    /// Roll back the transaction that met a lock of another owner.
    pub(super) fn abort_for(&self, what: &str, holder: &str) -> Result<()> {
        self.pager().abort(Reason {
            why: format!("it conflicts with a lock on {what} held by {holder}"),
            again: true,
        })
    }
}
