//! The names of list items, which must not change while a command works on a list.
//!
//! In Python the items after a removed one move down at once. A shell command has its names before it starts (`rm
//! list/*`, `rm -r`, `for i in list/*`). For such a command, item 4 must stay `4` after it removed `3`. Two numberings
//! besides the index provide this:
//!
//! - The *serial* of an item does not change as long as this table has state for the list. At first, the serial is the
//!   index. A removal adds the serial to the *gone* serials. The index of an item is its serial minus the number of
//!   gone serials below it. Inodes and open files hold serials.
//! - A *view* is the numbering of one process: the gone serials at the moment when it listed the directory (or first
//!   removed an item). Its name `n` is the `n`-th serial that was not gone at that moment.
//!
//! 1. A process uses its own view until it lists the directory again. If it has none, it uses the view of its nearest
//!    ancestor, if that view was used within two seconds (a shell's `for` loop lists, its children remove). Otherwise
//!    names are indices.
//! 2. An inherited view ends when it names an item that is gone, or when another process lists the directory: `rm
//!    list/0; rm list/0` removes the first item twice.
//! 3. A list whose serials are no longer held is forgotten: its serials are indices again.
//!
//! Removals and insertions by Python shift the serials: names are then indices of the changed list.

use crate::kernel::processes::{self, Process};
use persist_core::store::ObjectId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const INHERITED_REST: Duration = Duration::from_secs(2);
/// Views kept of one list.
const MAX_VIEWS: usize = 256;
/// How many ancestors of a process are searched for a view.
const MAX_ANCESTORS: usize = 16;

/// The serials of removed items: sorted, disjoint ranges.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Gone(Vec<(u64, u64)>);

impl Gone {
    fn contains(&self, serial: u64) -> bool {
        let at = self.0.partition_point(|r| r.1 <= serial);
        self.0.get(at).is_some_and(|r| r.0 <= serial)
    }

    /// The number of serials below this one that are not gone.
    fn rank(&self, serial: u64) -> u64 {
        let below = self.0.iter().take_while(|r| r.0 < serial);
        serial - below.map(|r| r.1.min(serial) - r.0).sum::<u64>()
    }

    /// The `n`-th serial that is not gone.
    fn select(&self, n: u64) -> u64 {
        let mut serial = n;
        for (start, end) in &self.0 {
            if *start > serial {
                break;
            }
            serial += end - start;
        }
        serial
    }

    fn insert(&mut self, serial: u64) {
        let at = self.0.partition_point(|r| r.1 < serial);
        match self.0.get_mut(at) {
            Some(r) if r.0 <= serial && serial < r.1 => {}
            Some(r) if r.1 == serial => {
                r.1 += 1;
                if self.0.get(at + 1).is_some_and(|next| next.0 == serial + 1) {
                    let end = self.0.remove(at + 1).1;
                    self.0[at].1 = end;
                }
            }
            Some(r) if r.0 == serial + 1 => r.0 = serial,
            _ => self.0.insert(at, (serial, serial + 1)),
        }
    }

    fn remove(&mut self, serial: u64) {
        let at = self.0.partition_point(|r| r.1 <= serial);
        let Some(&(start, end)) = self.0.get(at).filter(|r| r.0 <= serial) else {
            return;
        };
        let parts = [(start, serial), (serial + 1, end)];
        self.0.splice(at..=at, parts.into_iter().filter(|r| r.0 < r.1));
    }
}

struct View {
    owner: Process,
    gone: Gone,
    used: Instant,
}

#[derive(Default)]
struct List {
    gone: Gone,
    views: Vec<View>,
}

/// The target of a name in a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    /// The item's serial.
    pub(crate) serial: u64,
    /// Its index. For a removed item, the index where it would be put back.
    pub(crate) index: u64,
    /// True if the item was removed under this name.
    pub(crate) gone: bool,
}

/// The names of a list's items at one moment, for one process.
pub(crate) struct Namer(Gone);

impl Namer {
    /// The name of an item; None if the item has no name in this view.
    pub(crate) fn name(&self, serial: u64) -> Option<u64> {
        (!self.0.contains(serial)).then(|| self.0.rank(serial))
    }
}

/// The lists whose names have moved, or that were listed.
#[derive(Default)]
pub(crate) struct Lists {
    lists: HashMap<ObjectId, List>,
}

impl Lists {
    /// The target of a name for the requesting thread.
    pub(crate) fn spot(&mut self, list: ObjectId, name: u64, tid: u32) -> Spot {
        let plain = Spot {
            serial: name,
            index: name,
            gone: false,
        };
        let Some(state) = self.lists.get_mut(&list) else {
            return plain;
        };
        if state.gone.0.is_empty() {
            return plain;
        }
        let process = processes::process_of(tid);
        if let Some((at, inherited)) = state.view_of(process) {
            let serial = state.views[at].gone.select(name);
            let gone = state.gone.contains(serial);
            if !(inherited && gone) {
                state.views[at].used = Instant::now();
                return Spot {
                    serial,
                    index: state.gone.rank(serial),
                    gone,
                };
            }
            state.views.remove(at);
        }
        Spot {
            serial: state.gone.select(name),
            index: name,
            gone: false,
        }
    }

    /// The index of an item; None if it is gone.
    pub(crate) fn index(&self, list: ObjectId, serial: u64) -> Option<u64> {
        let Some(state) = self.lists.get(&list) else {
            return Some(serial);
        };
        (!state.gone.contains(serial)).then(|| state.gone.rank(serial))
    }

    /// The position of a serial. For a removed item, the position where it would be put back.
    pub(crate) fn at(&self, list: ObjectId, serial: u64) -> Spot {
        match self.lists.get(&list) {
            Some(s) => Spot {
                serial,
                index: s.gone.rank(serial),
                gone: s.gone.contains(serial),
            },
            None => Spot {
                serial,
                index: serial,
                gone: false,
            },
        }
    }

    /// The current names of a list's items for the requesting thread.
    pub(crate) fn namer(&mut self, list: ObjectId, tid: u32) -> Namer {
        let Some(state) = self.lists.get_mut(&list).filter(|s| !s.gone.0.is_empty()) else {
            return Namer(Gone::default());
        };
        match state.view_of(processes::process_of(tid)) {
            Some((at, _)) => {
                state.views[at].used = Instant::now();
                Namer(state.views[at].gone.clone())
            }
            None => Namer(state.gone.clone()),
        }
    }

    /// The serial of an index.
    pub(crate) fn serial(&self, list: ObjectId, index: u64) -> u64 {
        self.lists.get(&list).map_or(index, |s| s.gone.select(index))
    }

    /// Record that a thread is about to remove items: its process keeps the names that it has now.
    pub(crate) fn removing(&mut self, list: ObjectId, tid: u32) {
        let Some(owner) = processes::process_of(tid) else {
            return;
        };
        let state = self.lists.entry(list).or_default();
        if state.view_of(Some(owner)).is_none() {
            let gone = state.gone.clone();
            state.add_view(View {
                owner,
                gone,
                used: Instant::now(),
            });
        }
    }

    /// Record that an item was removed. (Does not read /proc, so it may be called inside a section.)
    pub(crate) fn removed(&mut self, list: ObjectId, serial: u64) {
        self.lists.entry(list).or_default().gone.insert(serial);
    }

    /// Record that an item was put back (or that its removal was undone).
    pub(crate) fn restored(&mut self, list: ObjectId, serial: u64) {
        if let Some(state) = self.lists.get_mut(&list) {
            state.gone.remove(serial);
        }
    }

    /// Record that a thread opened the directory for listing.
    pub(crate) fn listed(&mut self, list: ObjectId, tid: u32) {
        let Some(owner) = processes::process_of(tid) else {
            return;
        };
        let state = self.lists.entry(list).or_default();
        let now = Instant::now();
        state
            .views
            .retain(|v| v.owner != owner && processes::is_alive(v.owner));
        // A process that listed earlier through a common ancestor sees the new numbers from now on, unless its own view
        // is still in use.
        let mut up = processes::parent_of(owner);
        for _ in 0..MAX_ANCESTORS {
            let Some(parent) = up else { break };
            state.views.retain(|v| v.owner != parent);
            up = processes::parent_of(parent);
        }
        let gone = state.gone.clone();
        state.add_view(View {
            owner,
            gone,
            used: now,
        });
    }

    /// Forget state that no living process needs. `in_use` returns whether an inode or side entry still holds serials
    /// of that list.
    /// The lists whose serials are indices again are added to `dropped`.
    pub(crate) fn tidy(&mut self, mut in_use: impl FnMut(ObjectId) -> bool, dropped: &mut Vec<ObjectId>) {
        self.lists.retain(|id, state| {
            state.views.retain(|v| processes::is_alive(v.owner));
            // No item is gone: an idle view equals the default.
            if state.gone.0.is_empty() {
                state.views.retain(|v| v.used.elapsed() < INHERITED_REST);
            }
            let keep = !state.views.is_empty() || (!state.gone.0.is_empty() && in_use(*id));
            if !keep && !state.gone.0.is_empty() {
                dropped.push(*id);
            }
            keep
        });
    }

    /// Forget a list that was converted, cleared or deleted.
    pub(crate) fn forget(&mut self, list: ObjectId) {
        self.lists.remove(&list);
    }
}

impl List {
    /// The view that a process uses, and whether it is inherited.
    fn view_of(&self, process: Option<Process>) -> Option<(usize, bool)> {
        if self.views.is_empty() {
            return None;
        }
        let process = process?;
        let owned_by = |p: Process| self.views.iter().position(|v| v.owner == p);
        if let Some(at) = owned_by(process) {
            return Some((at, false));
        }
        let mut up = processes::parent_of(process);
        for _ in 0..MAX_ANCESTORS {
            let parent = up?;
            if let Some(at) = owned_by(parent) {
                return (self.views[at].used.elapsed() < INHERITED_REST).then_some((at, true));
            }
            up = processes::parent_of(parent);
        }
        None
    }

    fn add_view(&mut self, view: View) {
        if self.views.len() >= MAX_VIEWS {
            self.views.retain(|v| processes::is_alive(v.owner));
            if self.views.len() >= MAX_VIEWS {
                self.views.remove(0);
            }
        }
        self.views.push(view);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const L: ObjectId = ObjectId(7);

    fn me() -> u32 {
        std::process::id()
    }

    #[test]
    fn removing_all_items_by_their_first_names() {
        let mut lists = Lists::default();
        let mut items: Vec<u32> = (0..20).collect();
        for name in [
            0, 1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 2, 3, 4, 5, 6, 7, 8, 9,
        ] {
            let spot = lists.spot(L, name, me());
            assert!(!spot.gone);
            assert_eq!(items.remove(spot.index as usize), name as u32);
            lists.removing(L, me());
            lists.removed(L, spot.serial);
            assert!(lists.spot(L, name, me()).gone);
        }
        assert!(items.is_empty());
    }

    #[test]
    fn putting_an_item_back() {
        let mut lists = Lists::default();
        lists.removing(L, me());
        lists.removed(L, 1);
        let spot = lists.spot(L, 1, me());
        assert_eq!(
            spot,
            Spot {
                serial: 1,
                index: 1,
                gone: true
            }
        );
        assert_eq!(lists.spot(L, 2, me()).index, 1);
        lists.restored(L, 1);
        assert_eq!(lists.spot(L, 2, me()).index, 2);
    }

    #[test]
    fn others_see_indices() {
        let mut lists = Lists::default();
        lists.removing(L, me());
        lists.removed(L, 0);
        // Process 1 is not a descendant of this one.
        assert_eq!(
            lists.spot(L, 0, 1),
            Spot {
                serial: 1,
                index: 0,
                gone: false
            }
        );
        assert_eq!(lists.namer(L, 1).name(1), Some(0));
        assert_eq!(lists.namer(L, me()).name(1), Some(1));
        assert_eq!(lists.index(L, 0), None);
        assert_eq!(lists.index(L, 5), Some(4));
        assert_eq!(lists.serial(L, 4), 5);
    }

    #[test]
    fn a_child_inherits_up_to_a_removed_name() {
        let mut lists = Lists::default();
        let Ok(mut child) = std::process::Command::new("sleep").arg("60").spawn() else {
            panic!("no sleep")
        };
        lists.listed(L, me());
        lists.removing(L, child.id());
        lists.removed(L, 0);
        assert_eq!(lists.spot(L, 2, child.id()).index, 1);
        // A repeated name can only mean the new first item.
        assert_eq!(
            lists.spot(L, 0, child.id()),
            Spot {
                serial: 1,
                index: 0,
                gone: false
            }
        );
        let _ = child.kill();
        let _ = child.wait();
        lists.lists.values_mut().for_each(|l| l.views.clear());
        let mut dropped = Vec::new();
        lists.tidy(|_| false, &mut dropped);
        assert_eq!(dropped, [L]);
        assert!(lists.lists.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn gone_is_a_set(ops in proptest::collection::vec((0u64..40, any::<bool>()), 0..60)) {
            let mut gone = Gone::default();
            let mut model = std::collections::BTreeSet::new();
            for (serial, add) in ops {
                if add {
                    gone.insert(serial);
                    model.insert(serial);
                } else {
                    gone.remove(serial);
                    model.remove(&serial);
                }
                prop_assert!(gone.0.windows(2).all(|w| w[0].1 < w[1].0));
                let live: Vec<u64> = (0..60).filter(|s| !model.contains(s)).collect();
                for s in 0..60 {
                    prop_assert_eq!(gone.contains(s), model.contains(&s));
                    prop_assert_eq!(gone.rank(s), live.iter().filter(|l| **l < s).count() as u64);
                }
                for (n, s) in live.iter().enumerate() { prop_assert_eq!(gone.select(n as u64), *s); }
            }
        }
    }
}
