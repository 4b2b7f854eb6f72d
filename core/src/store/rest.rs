//! Resting: how a process that has nothing to do for a store sleeps until the next change, at no cost for the changes.
//!
//! A store stirs with the first change after a checkpoint, of any process. So where every change is durable
//! (`undurable_age`) and nothing else is to be done, the next change ends the sleep.

use super::{Result, Store};
use std::time::Duration;

/// The longest sleep in a store that has not stirred yet: a closed store looks like one.
const UNSTIRRED: Duration = Duration::from_secs(1);

impl Store {
    /// Return how long ago the oldest change was made that is in no durable checkpoint; None: every change is durable.
    #[doc(hidden)]
    #[must_use]
    pub fn undurable_age(&self) -> Option<Duration> {
        self.pager().undurable_age()
    }

    /// Return how often the store has stirred.
    ///
    /// # Errors
    /// `Error::Closed`.
    #[doc(hidden)]
    pub fn stirs(&self) -> Result<u32> {
        let stirs = self.pager().stirs();
        self.pager().check_open()?;
        Ok(stirs)
    }

    /// Sleep until the store stirs, if it has not since it had stirred `seen` times, for `at_most`. Inside a section it
    /// returns at once.
    ///
    /// # Errors
    /// `Error::Closed`.
    #[doc(hidden)]
    pub fn await_stir(&self, seen: u32, at_most: Duration) -> Result<()> {
        let pager = self.pager();
        pager.check_open()?;
        if pager.outside_sections().is_ok() {
            let at_most = if seen == 0 {
                at_most.min(UNSTIRRED)
            } else {
                at_most
            };
            pager.await_stir(seen, at_most);
        }
        pager.check_open()
    }

    /// Let the store stir: end the sleeps of `await_stir`, in every process.
    #[doc(hidden)]
    pub fn stir(&self) {
        self.pager().stir();
    }
}
