//! What the entries of a watched container were: a record of a change says that an entry is gone, and not what it was.

use crate::fs::known::inodes::Slot;
use crate::fs::requests::entries::watched::Sort;
use std::collections::HashMap;

/// The entries of a container with more than these are not known, except those that are not files.
pub(super) const MOST: usize = 1 << 17;

/// The entries of a container.
#[derive(Default)]
pub(super) struct Mirror {
    entries: HashMap<Slot, Sort>,
    /// All entries are known; otherwise those that are not files.
    whole: bool,
}

/// How an entry differs from what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Difference {
    Came(Sort),
    Went(Sort),
    /// It is still there, with any content.
    Stayed(Sort),
}

impl Mirror {
    pub(super) fn new((entries, whole): (HashMap<Slot, Sort>, bool)) -> Mirror {
        Mirror { entries, whole }
    }

    /// What an entry was, if that is known.
    pub(super) fn get(&self, slot: &Slot) -> Option<Sort> {
        self.entries.get(slot).copied()
    }

    /// Record what an entry is now.
    pub(super) fn set(&mut self, slot: &Slot, sort: Sort) {
        if !self.whole && sort == Sort::File {
            self.entries.remove(slot);
            return;
        }
        self.entries.insert(slot.clone(), sort);
        if self.whole && self.entries.len() > MOST {
            self.whole = false;
            self.entries.retain(|_, sort| *sort != Sort::File);
        }
    }

    /// Record that an entry is gone.
    pub(super) fn remove(&mut self, slot: &Slot) {
        self.entries.remove(slot);
    }

    /// Return how later entries differ from these; None if that is not known.
    pub(super) fn differences(&self, later: &Mirror) -> Option<Vec<(Slot, Difference)>> {
        if !self.whole || !later.whole {
            return None;
        }
        let mut found = Vec::new();
        for (slot, was) in &self.entries {
            found.push(match later.get(slot) {
                Some(sort) if sort == *was => (slot.clone(), Difference::Stayed(sort)),
                _ => (slot.clone(), Difference::Went(*was)),
            });
        }
        for (slot, sort) in &later.entries {
            if self.get(slot) != Some(*sort) {
                found.push((slot.clone(), Difference::Came(*sort)));
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_what_came_went_and_stayed() {
        let slot = Slot::Item;
        let entries = |all: &[(u64, Sort)]| all.iter().map(|(n, sort)| (slot(*n), *sort)).collect();
        let before = Mirror::new((
            entries(&[(0, Sort::File), (1, Sort::File), (2, Sort::Link)]),
            true,
        ));
        let mut after = Mirror::new((
            entries(&[(1, Sort::File), (2, Sort::File), (3, Sort::Link)]),
            true,
        ));
        let mut found = before.differences(&after).unwrap_or_default();
        found.sort_by_key(|(slot, difference)| {
            (format!("{slot:?}"), matches!(difference, Difference::Came(_)))
        });
        assert_eq!(
            found,
            [
                (slot(0), Difference::Went(Sort::File)),
                (slot(1), Difference::Stayed(Sort::File)),
                (slot(2), Difference::Went(Sort::Link)),
                (slot(2), Difference::Came(Sort::File)),
                (slot(3), Difference::Came(Sort::Link)),
            ]
        );
        assert_eq!(before.differences(&Mirror::default()), None);
        after.whole = false;
        after.set(&slot(1), Sort::File);
        after.set(&slot(2), Sort::Link);
        assert_eq!(
            (after.get(&slot(1)), after.get(&slot(2))),
            (None, Some(Sort::Link))
        );
    }
}
