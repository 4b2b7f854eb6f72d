//! The names of list items: a name that the mount has shown never comes to mean another item (P10).
//!
//! 1. The numeric order of the names is the order of the list. A list that is seen for the first time has the names 0,
//!    1, 2, ... (without those under which entries wait beside it).
//! 2. A removed item leaves a hole. `next` is above every name that the list has shown; it is the name of the next item
//!    that is appended, through either door.
//! 3. Items that another door inserts between others find no free numbers there: all names are renumbered, from
//!    `next` on. The names below `floor` are then dead: they mean nothing, and nothing can be made under them. So are
//!    the names of items that another door removed (`dead`): a command that still uses one means that item. Under the
//!    name of an item that the mount itself removed, another can be made: editors replace files that way.
//! 4. The state of a list is that of one state of the store, which `seen` identifies. A section brings it up to
//!    date before it uses it (`tree::items`), by the store's log of splices. Where the log has no answer, the items
//!    are renumbered: a name without an item is always allowed, a name with another item never.
//! 5. Inodes and open files keep the name under which their item was found. `current` follows it through
//!    renumberings.
//!
//! The state of a list is made when it is first shown, and lives as long as the mount and the list do.

use super::name_set::NameSet;
use persist_core::store::door::{Cursor, Splice};
use persist_core::store::{Obj, ObjectId};
use std::collections::{HashMap, VecDeque};

/// Renumberings through which an old name is followed.
const PAST: usize = 16;

/// The state of the store that the names belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// The place in the log of splices.
    Log(Cursor),
    /// Without a log: the store's count of changes, and a hash of the items.
    Content(u64, u64),
    /// Not known: the names must be renumbered.
    Unknown,
}

/// One renumbering: item `i` of those before has the place `i` of those after, or `i + inserted` from `at` on.
#[derive(Clone, Debug)]
struct Renumbering {
    before: NameSet,
    after: NameSet,
    at: u64,
    inserted: u64,
}

/// The names of one list.
#[derive(Clone, Debug)]
pub(crate) struct ListNames {
    names: NameSet,
    next: u64,
    floor: u64,
    /// Names from `floor` on whose items another door removed.
    dead: NameSet,
    pub(crate) seen: Seen,
    past: VecDeque<Renumbering>,
    /// Names that were passed over because entries wait under them: those can enter the list now.
    passed: Vec<u64>,
}

impl ListNames {
    /// The names of a list that is seen for the first time. `taken` says under which names entries wait.
    pub(crate) fn new(len: u64, seen: Seen, taken: &mut dyn FnMut(u64) -> bool) -> ListNames {
        let mut list = ListNames {
            names: NameSet::default(),
            next: 0,
            floor: 0,
            dead: NameSet::default(),
            seen,
            past: VecDeque::new(),
            passed: Vec::new(),
        };
        list.append(len, taken);
        list
    }

    /// The number of items.
    pub(crate) fn len(&self) -> u64 {
        self.names.len()
    }

    /// The name of the next item.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// True for a name that is dead: another door removed its item, or the names were renumbered.
    pub(crate) fn is_dead(&self, name: u64) -> bool {
        name < self.floor || self.dead.contains(name)
    }

    /// Let all names of before be dead.
    fn raise_floor(&mut self) {
        self.floor = self.next;
        self.dead = NameSet::default();
    }

    /// The index of the item of that name.
    pub(crate) fn index(&self, name: u64) -> Option<u64> {
        self.names.index(name)
    }

    /// The index at which an item of that name belongs.
    pub(crate) fn place(&self, name: u64) -> u64 {
        self.names.rank(name)
    }

    /// The name of the item at an index.
    pub(crate) fn name(&self, index: u64) -> Option<u64> {
        self.names.select(index)
    }

    /// True if items may have been found under other names than they have now.
    pub(crate) fn were_renumbered(&self) -> bool {
        !self.past.is_empty()
    }

    /// The index of the item that had this name when it was found.
    pub(crate) fn current(&self, name: u64) -> Option<u64> {
        let mut name = name;
        for renumbering in &self.past {
            if let Some(index) = renumbering.before.index(name) {
                let index = index
                    + if index < renumbering.at {
                        0
                    } else {
                        renumbering.inserted
                    };
                name = renumbering.after.select(index)?;
            }
        }
        self.names.index(name)
    }

    /// A name under which an entry waits and can enter the list now, besides `next`.
    pub(crate) fn passed(&self) -> Option<u64> {
        self.passed.last().copied()
    }

    fn append(&mut self, n: u64, taken: &mut dyn FnMut(u64) -> bool) {
        let mut left = n;
        while left > 0 {
            let start = self.next;
            while left > 0 && !taken(self.next) {
                (self.next, left) = (self.next + 1, left - 1);
            }
            self.names.push_run(start, self.next - start);
            if left > 0 {
                self.passed.push(self.next);
                self.next += 1;
            }
        }
    }

    /// Renumber all items, after `inserted` items came at an index.
    fn renumber(&mut self, at: u64, inserted: u64, taken: &mut dyn FnMut(u64) -> bool) {
        let before = std::mem::take(&mut self.names);
        self.raise_floor();
        self.append(before.len() + inserted, taken);
        if self.past.len() == PAST {
            self.past.pop_front();
        }
        self.past.push_back(Renumbering {
            before,
            after: self.names.clone(),
            at,
            inserted,
        });
    }

    /// Follow changes that another door made.
    pub(crate) fn follow(&mut self, splices: &[Splice], taken: &mut dyn FnMut(u64) -> bool) {
        for splice in splices {
            if splice.at == 0 && splice.removed >= self.names.len() {
                self.names = NameSet::default();
                self.raise_floor();
            } else {
                let dead = &mut self.dead;
                self.names
                    .remove_items(splice.at, splice.removed, &mut |name| dead.insert(name));
            }
            if splice.inserted == 0 {
                continue;
            }
            if splice.at >= self.names.len() {
                self.append(splice.inserted, taken);
            } else {
                self.renumber(splice.at, splice.inserted, taken);
            }
        }
    }

    /// Deal the names of `len` items of which nothing is known.
    pub(crate) fn start_over(&mut self, len: u64, taken: &mut dyn FnMut(u64) -> bool) {
        self.names = NameSet::default();
        self.past.clear();
        self.raise_floor();
        self.append(len, taken);
    }

    /// Record that the item of that name was removed.
    pub(crate) fn removed(&mut self, name: u64) {
        self.names.remove(name);
    }

    /// Record that an item was inserted under that name.
    pub(crate) fn inserted(&mut self, name: u64) {
        self.names.insert(name);
        self.next = self.next.max(name + 1);
        self.passed.retain(|p| *p != name);
    }

    /// Take back a removal.
    pub(crate) fn restored(&mut self, name: u64) {
        self.names.insert(name);
    }

    /// Take back an insertion.
    pub(crate) fn uninserted(&mut self, name: u64, next: u64) {
        self.names.remove(name);
        if name < next {
            self.passed.push(name);
        }
        self.next = next;
    }
}

/// A change of the names of a list in a write section, and how to take it back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renamed {
    pub(crate) list: ObjectId,
    pub(crate) name: u64,
    /// The item was inserted; otherwise removed.
    pub(crate) inserted: bool,
    /// `seen` and `next` before the change.
    pub(crate) seen: Seen,
    pub(crate) next: u64,
}

/// The lists that were shown.
#[derive(Default)]
pub(crate) struct Lists {
    lists: HashMap<ObjectId, ListNames>,
    /// Lists beside which entries wait.
    waiting: HashMap<ObjectId, Obj>,
}

impl Lists {
    /// The names of a list, if it was shown.
    pub(crate) fn get(&self, list: ObjectId) -> Option<&ListNames> {
        self.lists.get(&list)
    }

    /// The names of a list, for changing them.
    pub(crate) fn get_mut(&mut self, list: ObjectId) -> Option<&mut ListNames> {
        self.lists.get_mut(&list)
    }

    /// Take back the changes of a section that failed.
    pub(crate) fn take_back(&mut self, renamed: &[Renamed]) {
        for change in renamed.iter().rev() {
            if let Some(names) = self.lists.get_mut(&change.list) {
                if change.inserted {
                    names.uninserted(change.name, change.next);
                } else {
                    names.restored(change.name);
                }
                names.seen = change.seen;
            }
        }
    }

    /// Set the names of a list.
    pub(crate) fn put(&mut self, list: ObjectId, names: ListNames) {
        self.lists.insert(list, names);
    }

    /// Forget a list that was deleted or converted.
    pub(crate) fn forget(&mut self, list: ObjectId) {
        self.lists.remove(&list);
        self.waiting.remove(&list);
    }

    /// Note whether entries wait beside a list.
    pub(crate) fn note_waiting(&mut self, list: Obj, waits: bool) {
        if waits {
            self.waiting.insert(list.id, list);
        } else if !self.waiting.is_empty() {
            self.waiting.remove(&list.id);
        }
    }

    /// Lists beside which entries wait.
    pub(crate) fn waiting(&self) -> Vec<Obj> {
        self.waiting.values().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn splice(at: u64, removed: u64, inserted: u64) -> Splice {
        Splice {
            at,
            removed,
            inserted,
        }
    }

    fn names(list: &ListNames) -> Vec<u64> {
        (0..list.len()).filter_map(|i| list.name(i)).collect()
    }

    #[test]
    fn holes_and_dealings() {
        let mut list = ListNames::new(4, Seen::Unknown, &mut |_| false);
        list.follow(&[splice(1, 1, 0), splice(3, 0, 2)], &mut |_| false);
        assert_eq!(names(&list), [0, 2, 3, 4, 5]);
        list.follow(&[splice(1, 0, 1)], &mut |_| false);
        assert_eq!(names(&list), [6, 7, 8, 9, 10, 11]);
        assert_eq!(
            (list.current(0), list.current(1), list.current(2)),
            (Some(0), None, Some(2))
        );
        assert_eq!(
            (list.index(2), list.is_dead(5), list.is_dead(6)),
            (None, true, false)
        );
    }

    #[test]
    fn names_of_waiting_entries_are_passed_over() {
        let mut list = ListNames::new(3, Seen::Unknown, &mut |n| n == 1);
        assert_eq!(names(&list), [0, 2, 3]);
        assert_eq!(list.passed(), Some(1));
        list.inserted(1);
        assert_eq!((list.place(1), list.passed(), list.next()), (1, None, 4));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// A name means the item that it was shown for, or nothing, whatever happens to the list.
        #[test]
        fn a_name_never_means_two_things(ops in proptest::collection::vec((0u64..8, 0u64..3, 0u64..3), 1..40)) {
            let mut list = ListNames::new(5, Seen::Unknown, &mut |_| false);
            let (mut items, mut fresh) = ((0..5u64).collect::<Vec<_>>(), 100);
            let mut shown: HashMap<u64, u64> = HashMap::new();
            for (at, removed, inserted) in ops {
                for (name, item) in names(&list).into_iter().zip(&items) {
                    prop_assert_eq!(*shown.entry(name).or_insert(*item), *item);
                }
                let (at, before) = (at.min(items.len() as u64), names(&list));
                let removed = removed.min(items.len() as u64 - at);
                list.follow(&[splice(at, removed, 0), splice(at, 0, inserted)], &mut |_| false);
                items.splice(at as usize..(at + removed) as usize, fresh..fresh + inserted);
                fresh += inserted;
                prop_assert_eq!(list.len(), items.len() as u64);
                for gone in before.iter().skip(at as usize).take(removed as usize) {
                    prop_assert!(list.is_dead(*gone));
                }
                let names = names(&list);
                prop_assert!(names.iter().all(|name| !list.is_dead(*name)));
                prop_assert!(names.windows(2).all(|w| w[0] < w[1]));
                for (name, item) in &shown {
                    if let Some(index) = list.index(*name) {
                        prop_assert_eq!(items[index as usize], *item);
                    }
                    // An inode finds its item under every name that it had.
                    match list.current(*name) {
                        Some(index) => prop_assert_eq!(items[index as usize], *item),
                        None if list.past.len() < PAST => prop_assert!(!items.contains(item)),
                        None => {}
                    }
                }
            }
        }
    }
}
