//! Cycles of waiting owners, through ranges of files and the queue of the store.

use super::request::{Call, State, Waiter};
use super::table::Table;
use persist_core::store::{Actor, Store};
use std::collections::HashSet;

impl Table {
    /// The owners that a request waits for.
    fn blockers(&self, store: &Store, waiter: &Waiter) -> Vec<(Call, u64)> {
        let ask = &waiter.ask;
        match &waiter.state {
            State::Table => self.file(&waiter.target).map_or_else(Vec::new, |file| {
                file.ranges(ask.call)
                    .excluding(ask.origin.owner, ask.range, ask.mode)
                    .map(|held| (ask.call, held.owner))
                    .collect()
            }),
            State::Store(pending, _) => {
                let actors = store.lock_behind(pending).unwrap_or_default();
                actors
                    .into_iter()
                    .filter_map(|actor| match actor {
                        Actor::Flock(owner, _) => Some((Call::Flock, owner)),
                        Actor::Posix(owner, _) => Some((Call::Fcntl, owner)),
                        Actor::Thread | Actor::Command => None,
                    })
                    .collect()
            }
            State::Later => Vec::new(),
        }
    }

    /// Return whether a request waits for an owner that waits for the request's own.
    pub(super) fn closes_cycle(&self, store: &Store, waiter: &Waiter) -> bool {
        let me = waiter.ask.holder();
        let mut todo = self.blockers(store, waiter);
        let mut seen: HashSet<(Call, u64)> = HashSet::new();
        while let Some(owner) = todo.pop() {
            if owner == me {
                return true;
            }
            if seen.insert(owner) {
                for other in self.waiters.iter().filter(|w| w.ask.holder() == owner) {
                    todo.extend(self.blockers(store, other));
                }
            }
        }
        false
    }
}
