//! What happened to the names of a list: from the names before, the splices that were reported, and the names after.
//!
//! 1. Changes that this mount has made itself give no events: the kernel has made them.
//! 2. If the numbers do not add up, the names after are those of a later state: more splices will come.

/// A reported change of items: `removed` items at `at` were replaced by `added` others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Splice {
    pub(super) at: u64,
    pub(super) removed: u64,
    pub(super) added: u64,
    /// This mount has made it.
    pub(super) own: bool,
}

/// What happened to a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Fate {
    Went,
    Came,
    /// Its value was replaced.
    Changed,
}

#[derive(Clone, Copy)]
enum Item {
    Old { name: u64, changed: bool },
    New { own: bool },
}

/// Return the names to which something happened; None if the numbers do not add up.
pub(super) fn fates(before: &[u64], splices: &[Splice], after: &[u64]) -> Option<Vec<(u64, Fate)>> {
    let old = |name: &u64| Item::Old {
        name: *name,
        changed: false,
    };
    let mut items: Vec<Item> = before.iter().map(old).collect();
    let mut fates = Vec::new();
    for splice in splices {
        let at = usize::try_from(splice.at).ok()?;
        let end = usize::try_from(splice.at.checked_add(splice.removed)?).ok()?;
        let there = items.get_mut(at..end)?;
        if splice.removed == splice.added {
            for item in there {
                if let Item::Old { changed, .. } = item {
                    *changed |= !splice.own;
                }
            }
            continue;
        }
        let new = Item::New { own: splice.own };
        let added = usize::try_from(splice.added).ok().filter(|n| *n <= after.len())?;
        for item in items.splice(at..end, std::iter::repeat_n(new, added)) {
            if let Item::Old { name, .. } = item
                && !splice.own
            {
                fates.push((name, Fate::Went));
            }
        }
    }
    if items.len() != after.len() {
        return None;
    }
    for (item, now) in items.iter().zip(after) {
        match *item {
            Item::Old { name, changed: true } if name == *now => fates.push((name, Fate::Changed)),
            Item::Old { name, .. } if name == *now => {}
            // The names were renumbered.
            Item::Old { name, .. } => fates.extend([(name, Fate::Went), (*now, Fate::Came)]),
            Item::New { own: false } => fates.push((*now, Fate::Came)),
            Item::New { own: true } => {}
        }
    }
    fates.sort_by_key(|(name, fate)| (*fate != Fate::Went, *name));
    Some(fates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splice(at: u64, removed: u64, added: u64) -> Splice {
        Splice {
            at,
            removed,
            added,
            own: false,
        }
    }

    #[test]
    fn items_that_go_come_and_change_are_reported() {
        let replaced = [splice(1, 1, 1), splice(0, 1, 0), splice(2, 0, 1)];
        assert_eq!(
            fates(&[0, 1, 2], &replaced, &[1, 2, 3]),
            Some(vec![(0, Fate::Went), (1, Fate::Changed), (3, Fate::Came)])
        );
        // An insertion before others deals the names again.
        assert_eq!(
            fates(&[0, 2], &[splice(0, 0, 1)], &[3, 4, 5]),
            Some(vec![
                (0, Fate::Went),
                (2, Fate::Went),
                (3, Fate::Came),
                (4, Fate::Came),
                (5, Fate::Came)
            ])
        );
        assert_eq!(fates(&[], &[], &[]), Some(Vec::new()));
    }

    #[test]
    fn own_changes_have_no_events() {
        let mine = |at, removed, added| Splice {
            own: true,
            ..splice(at, removed, added)
        };
        let all = [mine(0, 1, 1), mine(1, 1, 0), mine(2, 0, 1), splice(0, 1, 1)];
        assert_eq!(
            fates(&[0, 1, 2], &all, &[0, 2, 7]),
            Some(vec![(0, Fate::Changed)])
        );
    }

    #[test]
    fn numbers_that_do_not_add_up_are_reported() {
        assert_eq!(fates(&[0, 1], &[splice(2, 0, 1)], &[0, 1]), None);
        assert_eq!(fates(&[0, 1], &[splice(1, 2, 0)], &[0]), None);
        assert_eq!(fates(&[], &[splice(0, 0, u64::MAX)], &[]), None);
        assert_eq!(fates(&[], &[splice(u64::MAX, 1, 1)], &[]), None);
    }
}
