//! Transactions as the users of a store see them: begun, left, ended from anywhere, rolled back.

use super::debt::Before;
use super::{Error, Result, Store, Wait};
use crate::page::{Block, Reason};

impl Store {
    /// Begins a transaction of the calling thread's running task (`set_task`): takes the latch and keeps it. Inside a
    /// transaction it begins a block of it, a savepoint: `rollback` undoes that block alone.
    ///
    /// After `Error::Conflict` the transaction is rolled back as a whole, and every operation of its owner is
    /// `Error::Aborted` until each of its blocks was left by `commit`, which says so again, or by `rollback`.
    ///
    /// Locks are not part of a transaction: what `lock` took inside one is held until `unlock`, however it ends.
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
    /// `Error::Timeout` naming the holder of the latch; `Error::OtherTask` if another task of this thread has a
    /// transaction open; `Error::Aborted`.
    pub fn begin(&self, wait: &mut Wait<'_>) -> Result<Block> {
        self.pager().outside_sections()?;
        if self.inner.debt.is_starved() && !self.in_transaction() {
            // As a lone change does that finds no space. What fails here the transaction meets.
            self.free_waiting();
            let _ = self.sync_forcing();
        }
        if self.pager().lists_are_crowded() && !self.in_transaction() {
            // No checkpoint can be made in the transaction. If this one fails, the transaction may still fit.
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

    /// Leaves the innermost block of the running owner's transaction. The outermost commits it.
    ///
    /// # Errors
    /// `Error::Invalid` if there is none; `Error::Aborted` if the transaction was rolled back before; those of the
    /// commit, after which it is rolled back. The block is left in any case. After `Error::DurabilityUnknown` it is
    /// committed.
    pub fn commit(&self) -> Result<()> {
        self.commit_unsettled()?;
        if self.must_settle() {
            self.settle(&mut Wait::default())?;
        }
        Ok(())
    }

    /// As `commit`, without waiting until the transaction survives a power cut: the caller asks `must_settle` next.
    ///
    /// # Errors
    /// Those of `commit` but for `Error::DurabilityUnknown`: the transaction is rolled back.
    pub fn commit_unsettled(&self) -> Result<()> {
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
                    self.look_at_unpinned(w)?;
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

    /// Undoes the innermost block of the running owner's transaction, and leaves it: what was done before the block
    /// began stays in the transaction.
    ///
    /// # Errors
    /// `Error::Invalid` if there is none.
    pub fn rollback(&self) -> Result<()> {
        self.pager().outside_sections()?;
        self.pager().rollback()
    }

    /// Ends a block that `begin` gave, from any thread or task of the process, with what lies inside it. Its owner must
    /// not be in the middle of an operation's closure.
    ///
    /// An outermost block ends the transaction as it is told. An inner one that another owner than its transaction's
    /// ends is joined to the block around it by a commit; a rollback dooms the whole transaction: its owner meets
    /// `Error::Aborted` at its next operation.
    ///
    /// # Errors
    /// Those of `commit` and `rollback`; `Error::Aborted` if the block had ended before and was to be committed.
    pub fn end(&self, block: Block, commit: bool) -> Result<()> {
        self.end_unsettled(block, commit)?;
        if commit && self.must_settle() {
            self.settle(&mut Wait::default())?;
        }
        Ok(())
    }

    /// As `end`, without waiting until a committed transaction survives a power cut: the caller asks `must_settle`.
    ///
    /// # Errors
    /// Those of `end` but for `Error::DurabilityUnknown`.
    pub fn end_unsettled(&self, block: Block, commit: bool) -> Result<()> {
        self.pager().outside_sections()?;
        self.pager()
            .end(block, commit, || self.commit_unsettled(), || self.rollback())
    }

    /// How many blocks of the open transaction are around this one (0: it is the outermost). None: it has ended, or the
    /// transaction was rolled back.
    #[must_use]
    pub fn level_of(&self, block: Block) -> Option<usize> {
        self.pager().level_of(block)
    }

    /// True while the calling thread's running task is inside a transaction, though that may have been rolled back
    /// already.
    #[inline]
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.pager().depth() > 0
    }

    /// Rolls back the transaction that met a lock of another owner.
    pub(super) fn abort_for(&self, what: &str, holder: &str) -> Result<()> {
        self.pager().abort(Reason {
            why: format!("it conflicts with a lock on {what} held by {holder}"),
            again: true,
        })
    }
}
