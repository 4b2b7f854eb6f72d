//! The events that wait for their replay, in order.
//!
//! 1. An event that equals one that waits, with no other event of the same entry after it, is dropped.
//! 2. The number is bounded. If there are more, `push` says so, and all are dropped.

use crate::fs::known::inodes::Slot;
use crate::fs::requests::entries::watched::Sort;
use persist_core::store::{Obj, ObjectId};
use std::collections::{HashSet, VecDeque};

/// The most events that wait.
const MOST: usize = 1 << 16;

/// What happened to an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Created(Sort),
    Removed(Sort),
    Modified,
}

/// An event of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Event {
    pub(super) container: Obj,
    /// The entry, and what happened to it; None: attributes of the container itself changed.
    pub(super) entry: Option<(Slot, What)>,
}

/// The events that wait.
#[derive(Default)]
pub(super) struct Pending {
    events: VecDeque<Event>,
    /// Entries whose last event is `Modified`, and containers (None) whose last event is one of attributes.
    repeated: HashSet<(ObjectId, Option<Slot>)>,
}

impl Pending {
    /// Add an event; false if there were too many, and are none now.
    pub(super) fn push(&mut self, event: Event) -> bool {
        let of = (
            event.container.id,
            event.entry.as_ref().map(|(slot, _)| slot.clone()),
        );
        match event.entry {
            None | Some((_, What::Modified)) => {
                if !self.repeated.insert(of) {
                    return true;
                }
            }
            Some(_) => {
                self.repeated.remove(&of);
            }
        }
        self.events.push_back(event);
        if self.events.len() <= MOST {
            return true;
        }
        *self = Pending::default();
        false
    }

    /// Take the oldest event.
    pub(super) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let None | Some((_, What::Modified)) = event.entry {
            let of = (
                event.container.id,
                event.entry.as_ref().map(|(slot, _)| slot.clone()),
            );
            self.repeated.remove(&of);
        }
        Some(event)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::store::door::Addr;

    fn event(name: u64, what: What) -> Event {
        let (id, addr) = (ObjectId(1), Addr(64));
        Event {
            container: Obj { addr, id },
            entry: Some((Slot::Item(name), what)),
        }
    }

    #[test]
    fn equal_events_that_wait_are_one() {
        let mut pending = Pending::default();
        let (modified, removed) = (event(1, What::Modified), event(1, What::Removed(Sort::File)));
        for one in [
            &modified,
            &event(2, What::Modified),
            &modified,
            &removed,
            &modified,
            &modified,
        ] {
            assert!(pending.push(one.clone()));
        }
        assert_eq!(pending.pop(), Some(modified.clone()));
        assert!(pending.push(event(2, What::Modified)));
        let rest: Vec<Event> = std::iter::from_fn(|| pending.pop()).collect();
        assert_eq!(rest, [event(2, What::Modified), removed, modified.clone()]);
        assert!(pending.push(modified) && !pending.is_empty());
    }

    #[test]
    fn too_many_events_are_reported() {
        let mut pending = Pending::default();
        let mut all = (0..).map(|n| pending.push(event(n, What::Modified)));
        assert_eq!(all.position(|taken| !taken), Some(MOST));
        drop(all);
        assert!(pending.is_empty());
    }
}
