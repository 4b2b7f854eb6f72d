//! The change feed: what other threads and processes have changed in watched containers, in the order of the commits.
//!
//! 1. `Feed::next` returns each committed change of a watched container, of any process and through either door, also
//!    those of this process (`own` tells them). Changes of one operation or transaction are returned together or in one
//!    sequence.
//! 2. What was undone is not reported: an operation, a block of a transaction, a transaction. A change may be reported
//!    that was made shortly before the container was watched, or that a process did not make because it died. If
//!    changes are missing, `Changes::Lost` says so: everything may have changed.
//! 3. Watching costs the changes of other containers one load. A change of a watched container takes the slow path and
//!    adds a record to a ring in shared memory.
//! 4. In a forked child a feed watches again by itself, and first reports `Lost`.

use super::{Error, Obj, ObjectId, Result, Store, Wait};
use crate::object::notice::{self, Change, Read};
use crate::page::Found;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// The longest sleep without a look at signals and at the store's end.
const SLICE: Duration = Duration::from_millis(100);
/// How long a feed that ends waits for the latch.
const AT_AN_END: Duration = Duration::from_millis(50);

/// What happened in the watched containers.
#[derive(Clone, Debug, PartialEq)]
pub enum Changes {
    /// These changes, the oldest first.
    These(Vec<Change>),
    /// More changes than the ring holds: everything watched may have changed.
    Lost,
}

/// A reader of the change feed. See the module.
#[derive(Debug)]
pub struct Feed {
    store: Store,
    /// The position in the feed up to which changes were returned.
    at: u64,
    /// This process, as the store knows it.
    member: u64,
    watched: HashSet<ObjectId>,
    /// Whether it watches every container.
    all: bool,
    words: Vec<u64>,
    /// Of each change that was returned last, whether this process made it, and its container.
    own: Vec<bool>,
    containers: Vec<Obj>,
}

impl Store {
    /// Return a reader of the changes from now on. It watches nothing yet.
    ///
    /// # Errors
    /// `Error::Closed`; `Error::Invalid` for a store that never changes (a snapshot, or without write permission).
    pub fn feed(&self) -> Result<Feed> {
        self.pager().outside_sections()?;
        if self.is_frozen() {
            return Err(Error::invalid(
                "a snapshot, or a store that is opened without write permission, shows no changes",
            ));
        }
        Ok(Feed {
            store: self.clone(),
            at: self.pager().feed_end(),
            member: self.pager().member()?,
            watched: HashSet::new(),
            all: false,
            words: Vec::new(),
            own: Vec::new(),
            containers: Vec::new(),
        })
    }

    /// Return where the feed ends. Without watched containers it does not move.
    #[must_use]
    pub fn feed_end(&self) -> u64 {
        self.pager().feed_end()
    }

    /// Sleep for at most `at_most` while the feed ends at `seen`, and return where it ends then. A call of `stir_feeds`
    /// ends the sleep. Inside a section it returns at once.
    ///
    /// # Errors
    /// `Error::Closed`.
    pub fn await_changes(&self, seen: u64, at_most: Duration) -> Result<u64> {
        let pager = self.pager();
        pager.check_open()?;
        if pager.outside_sections().is_ok() && pager.feed_end() == seen {
            pager.await_feed(seen, at_most);
        }
        pager.check_open()?;
        Ok(pager.feed_end())
    }

    /// Wake every sleeper of `await_changes` and `Feed::next`, in any process: those of the latter go on to sleep.
    pub fn stir_feeds(&self) {
        self.pager().wake_feeds();
    }
}

impl Feed {
    /// Watch a container: `next` returns its changes from now on.
    ///
    /// # Errors
    /// `Error::Gone`; `Error::Timeout` of the wait for the latch; `Error::Closed`.
    pub fn watch(&mut self, obj: Obj, wait: &mut Wait<'_>) -> Result<()> {
        self.store.read(wait, |r| r.kind(obj))?;
        if self.watched.contains(&obj.id) {
            return Ok(());
        }
        let pager = self.store.pager();
        // In a forked child, `take` watches all again.
        if pager.member()? == self.member {
            pager.watch(obj.id, wait)?;
        }
        self.watched.insert(obj.id);
        Ok(())
    }

    /// Watch every container, also those that are made later.
    ///
    /// # Errors
    /// `Error::Timeout` of the wait for the latch; `Error::Closed`.
    pub fn watch_all(&mut self, wait: &mut Wait<'_>) -> Result<()> {
        let pager = self.store.pager();
        if !self.all && pager.member()? == self.member {
            pager.watch_all(wait)?;
        }
        self.all = true;
        Ok(())
    }

    /// Return the position up to which `next` has returned changes, for `Store::await_changes`.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Return of each change that `next` returned last its container, which may be gone by now.
    #[must_use]
    pub fn containers(&self) -> &[Obj] {
        &self.containers
    }

    /// Return of each change that `next` returned last whether this process made it, through this opening of the store.
    #[must_use]
    pub fn own(&self) -> &[bool] {
        &self.own
    }

    /// Return whether changes were made, of any watched container, that `next` has not read.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.store.pager().feed_end() != self.at
    }

    /// Watch a container no more.
    pub fn unwatch(&mut self, id: ObjectId) {
        if self.watched.remove(&id) {
            self.store.pager().unwatch(id, &mut Wait::at_most(AT_AN_END));
        }
    }

    /// Return the changes since the last call; wait for one as `wait` says. None: nothing changed in that time.
    ///
    /// # Errors
    /// `Error::Interrupted`; `Error::Closed`; those of `watch` in a forked child.
    pub fn next(&mut self, wait: &mut Wait<'_>) -> Result<Option<Changes>> {
        self.store.pager().outside_sections()?;
        let begun = Instant::now();
        loop {
            if let Some(found) = self.take()? {
                return Ok(Some(found));
            }
            let left = wait
                .timeout
                .map_or(SLICE, |timeout| timeout.saturating_sub(begun.elapsed()));
            if left.is_zero() {
                return Ok(None);
            }
            if wait.interrupted.as_mut().is_some_and(|ask| ask()) {
                return Err(Error::Interrupted);
            }
            self.store.pager().await_feed(self.at, left.min(SLICE));
        }
    }

    /// Return the changes that are there.
    fn take(&mut self) -> Result<Option<Changes>> {
        let pager = self.store.pager();
        let member = pager.member()?;
        if member != self.member {
            for id in &self.watched {
                pager.watch(*id, &mut Wait::default())?;
            }
            if self.all {
                pager.watch_all(&mut Wait::default())?;
            }
            (self.member, self.at) = (member, pager.feed_end());
            return Ok(Some(Changes::Lost));
        }
        self.words.clear();
        let read = match pager.feed(self.at, &mut self.words) {
            Found::To(end) => {
                self.at = end;
                notice::changes(&self.words)
            }
            Found::Lost(end) => {
                self.at = end;
                None
            }
        };
        let Some(mut changes) = read else {
            return Ok(Some(Changes::Lost));
        };
        changes.retain(|(_, _, change)| self.all || self.watched.contains(&change.container()));
        let me = pager.process_number();
        self.own = changes.iter().map(|(by, _, _)| *by == me).collect();
        let container = |(_, addr, change): &Read| Obj {
            addr: *addr,
            id: change.container(),
        };
        self.containers = changes.iter().map(container).collect();
        let changes: Vec<Change> = changes.into_iter().map(|(_, _, change)| change).collect();
        Ok((!changes.is_empty()).then_some(Changes::These(changes)))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // In a forked child that has not looked yet, the store does not know these.
        if self.store.pager().member().ok() != Some(self.member) {
            return;
        }
        for id in self.watched.drain() {
            self.store.pager().unwatch(id, &mut Wait::at_most(AT_AN_END));
        }
        if self.all {
            self.store.pager().unwatch_all(&mut Wait::at_most(AT_AN_END));
        }
    }
}
