//! Closing a store.

use super::{Error, Result, Store, Wait};
use crate::object::graph;
use std::time::Duration;

impl Store {
    /// Close the store. Further calls return `Error::Closed`, on clones of this handle too. The last process
    /// to close makes a checkpoint. Waits for transactions that are open on other threads. Descriptors and
    /// mappings are released at once, whatever handles exist; a descriptor in use by another thread is closed
    /// at the end of that use.
    ///
    /// # Errors
    /// Those of the checkpoint; the store is closed nevertheless. `Error::Timeout` if a transaction outlasts
    /// the lock timeout; then the store stays open.
    pub fn close(&self) -> Result<()> {
        if self.end_frozen() {
            return Ok(());
        }
        self.pager().outside_sections()?;
        self.drop_kept();
        self.pager().close()
    }

    /// Drop the checkpoint from before an inherited session (`page::checkpoint::before_recovery`) if the last
    /// user of the store closes it and the check finds it sound. A large store is not checked: there the
    /// checkpoint stays until it is dropped by name.
    fn drop_kept(&self) {
        let pager = self.pager();
        let figures = pager.page_stat();
        if figures.logical_pages > CHECKED_PAGES_MAX
            || figures.processes != 1
            || self.in_transaction()
            || !pager.has_kept()
        {
            return;
        }
        // A transaction of another thread is open. Closing decides how long to wait for it.
        let Some(latch) = pager.hold_latch(CHECK_LATCH_WAIT) else {
            return;
        };
        let sound = self.check().and_then(|graph| {
            self.read(&mut Wait::default(), |r| {
                graph
                    .containers
                    .iter()
                    .try_for_each(|h| graph::verify_body(r, *h))
            })
        });
        drop(latch);
        if let Err(e) = sound.and_then(|()| pager.drop_kept()) {
            log::warn!("{}: {e}", self.path().display());
        }
    }

    /// Close at the end of the process. A transaction that another thread has open after half a second ends
    /// with the process, as after a kill: the next user of the store undoes it.
    ///
    /// # Errors
    /// Those of the checkpoint.
    #[doc(hidden)]
    pub fn close_at_exit(&self) -> Result<()> {
        if self.end_frozen() {
            return Ok(());
        }
        self.pager().outside_sections()?;
        self.drop_kept();
        match self.pager().close_dropped() {
            Err(Error::Timeout { .. }) => Ok(()),
            done => done,
        }
    }
}

/// How long closing waits for the latch before it checks the store.
const CHECK_LATCH_WAIT: Duration = Duration::from_millis(50);

/// The largest store, in pages, that is checked when it is closed (64 MiB).
const CHECKED_PAGES_MAX: u64 = 16384;
