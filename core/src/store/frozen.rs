//! Views of a moment: a store's state that stays readable while others change the store.
//!
//! ```
//! use persist_core::store::{Actor, In, Key, Options, Store, Value, Wait};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("a.store");
//! let store = Store::open(&path, &Options::default())?;
//! let root = store.root();
//! let set = |n| store.write(Actor::Thread, &mut Wait::default(), |w| w.set(root, &Key::Str(b"n"), &In::Int(n)));
//! set(1)?;
//! let view = store.frozen(&mut Wait::default())?;
//! set(2)?;
//! let n = view.read(&mut Wait::default(), |r| r.get(view.root(), &Key::Str(b"n")))?;
//! assert_eq!(n, Some(Value::Int(1)));
//! view.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A view is a handle of its own on the same opening (`page::section::moment`). It pins nothing: nothing that it shows
//! is freed before its end. Its reads wait for no writer, and no writer waits for them.

use super::run::Attempt;
use super::{Error, Inner, Reader, Result, Store, Wait, space};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

impl Store {
    /// Return a read-only store that shows this moment, whatever is changed afterwards: before a transaction that is
    /// open, also one of this thread. Copies nothing and flushes nothing. The pages that are changed while it lives are
    /// kept until it is closed (`close`, or dropping its last handle), this store is closed, or the process dies. If
    /// they take too much space, all views end: their reads return `Error::ViewEnded`.
    ///
    /// # Errors
    /// `Error::TooMany` (64 views of all processes); `Error::Timeout`; `Error::Invalid` for an opening that could only
    /// be read; those of any read.
    pub fn frozen(&self, wait: &mut Wait<'_>) -> Result<Store> {
        if self.inner.view.is_some() || self.opened_snapshot().is_some() {
            // It never changes.
            return Ok(self.clone());
        }
        let view = self.pager().take_view(wait)?;
        Ok(Store {
            inner: Arc::new(Inner {
                pager: Arc::clone(&self.inner.pager),
                root: self.inner.root,
                unpinned: Mutex::new(Vec::new()),
                has_unpinned: AtomicBool::new(false),
                debt: space::debt::Debt::default(),
                view: Some(view),
            }),
        })
    }

    /// Return whether this handle shows a moment.
    #[doc(hidden)]
    #[must_use]
    pub fn is_view(&self) -> bool {
        self.inner.view.is_some()
    }

    /// Return an error if this handle shows a moment: the operation is about the present.
    #[inline]
    pub(super) fn expect_live(&self) -> Result<()> {
        match self.inner.view {
            Some(_) => Err(Error::ReadOnly),
            None => Ok(()),
        }
    }

    /// End the view that this handle shows. Return false if it shows none.
    pub(super) fn end_frozen(&self) -> bool {
        let view = self.inner.view.as_ref();
        view.inspect(|view| self.pager().end_view(view)).is_some()
    }

    /// Run `f` in a section of the view, again if it did not hold.
    #[cold]
    pub(super) fn read_frozen<R>(
        &self,
        wait: &mut Wait<'_>,
        mut f: impl FnMut(&Reader<'_>) -> Result<R>,
    ) -> Result<R> {
        let pager = self.pager();
        let begun = Instant::now();
        loop {
            let Some(view) = &self.inner.view else {
                return Err(Error::Closed);
            };
            let section = pager.read_view(view)?;
            if let Attempt::Done(done) = self.attempt(section, &mut f)? {
                return done;
            }
            if wait.interrupted.as_mut().is_some_and(|ask| ask()) {
                return Err(Error::Interrupted);
            }
            if begun.elapsed() >= wait.timeout.unwrap_or(pager.bound()).max(AT_LEAST) {
                return Err(Error::timeout(
                    "a moment to read a view in",
                    begun.elapsed(),
                    "checkpoints that are made all the time",
                ));
            }
        }
    }
}

/// How long a read of a view is tried at least: it waits for no other thread.
const AT_LEAST: std::time::Duration = std::time::Duration::from_millis(20);
