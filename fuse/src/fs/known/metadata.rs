//! Metadata of entries that the store does not hold: the type that an empty file will get, which files are new, and
//! when each file's content was first seen.
//!
//! 1. The time of a content that no tool has set is that of its container when the content was first seen. Later
//!    changes of its neighbours do not count. The times are written to the store at the end of the mount
//!    (`tree::times`).
//! 2. Its size is bounded: beyond `MAX` entries, old entries are dropped.

use super::by_number::ByNumber;
use super::inodes::{Place, Slot, Spot};
use crate::fs::text::keys::OwnedKey;
use crate::fs::text::names;
use crate::fs::text::scalars::Ty;
use persist_core::store::{Obj, ObjectId};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

/// The maximal number of entries.
const MAX: usize = 1 << 20;
/// The maximal number of files whose time of change is known: more than a table of times holds.
const MAX_SEEN: usize = 1 << 20;
/// How long a file counts as new, for taking over the type of a replaced file.
const FRESH: Duration = Duration::from_secs(60);
/// How long the type of a file that an editor moved away is kept for the file that it creates in its place.
const MOVED: Duration = Duration::from_secs(10);

/// A hash of a content, to detect changes. (Fast, but not resistant to a program that constructs two contents with the
/// same hash: they would share a time of change.)
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The subject of remembered metadata.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Mark {
    /// An entry of a container.
    Entry(ObjectId, Slot),
    /// A container.
    Dir(ObjectId),
}

impl Mark {
    /// The mark of a place, if metadata is kept for such places.
    pub(crate) fn of(place: &Place) -> Option<Mark> {
        Some(match place {
            Place::Dir(obj) => Mark::Dir(obj.id),
            Place::File(s) | Place::Link(s) => Mark::Entry(s.parent.id, s.slot.clone()),
            _ => return None,
        })
    }
}

/// The remembered metadata of one mark.
#[derive(Clone, Default, Debug)]
pub(crate) struct Remembered {
    /// The type that the file gets at its first write.
    pub(crate) want: Option<Ty>,
    /// When the file was created with the default type.
    pub(crate) fresh: Option<Instant>,
    /// The key that it gets under its final name.
    pub(crate) key: Option<OwnedKey>,
}

/// The table of metadata.
#[derive(Default)]
pub(crate) struct Metadata {
    memos: HashMap<Mark, Remembered>,
    moved: HashMap<Mark, (Ty, Instant)>,
    seen: ByNumber<ObjectId, Shown>,
    /// The number of entries in all of `seen`.
    shown: usize,
    /// The tables that the store has, of containers whose entries were seen.
    tables: ByNumber<ObjectId, Table>,
    /// The number of entries in all tables.
    listed: usize,
}

/// When a content was first seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// The fingerprint of the content.
    pub(crate) print: u64,
    /// The time in nanoseconds since 1970.
    pub(crate) time: u64,
}

/// When the contents of a container's entries were first seen, by a number for each entry (`tree::times`).
pub(crate) type Table = ByNumber<u64, Seen>;

/// The contents that were seen in a container, by `number_of`.
struct Shown {
    container: Obj,
    times: Table,
}

/// The number of an entry among those that were seen in its container: a hash of its name; in a list, the item's name.
pub(crate) fn number_of(slot: &Slot) -> u64 {
    match slot {
        Slot::Key(key) => fingerprint(&names::name_in(key)),
        Slot::Item(name) => *name,
    }
}

impl Metadata {
    /// The metadata of a mark, if there is any.
    pub(crate) fn get(&self, mark: &Mark) -> Option<&Remembered> {
        if self.memos.is_empty() {
            None
        } else {
            self.memos.get(mark)
        }
    }

    /// The metadata of a mark, for changing it.
    pub(crate) fn at(&mut self, mark: Mark) -> &mut Remembered {
        if self.memos.len() >= MAX {
            // Half of the entries are dropped at once. This is rare, and cheaper than keeping an order of age.
            let mut keep = false;
            self.memos.retain(|_, m| {
                keep = !keep;
                keep || m.want.is_some() || m.key.is_some()
            });
        }
        self.memos.entry(mark).or_default()
    }

    /// When the file's present content was first seen, if it was.
    pub(crate) fn seen(&self, container: ObjectId, number: u64, print: u64) -> Option<u64> {
        let seen = self.last_shown(container, number)?;
        (seen.print == print).then_some(seen.time)
    }

    /// Return the content that the file has shown last, and when that was first seen.
    pub(crate) fn last_shown(&self, container: ObjectId, number: u64) -> Option<Seen> {
        self.seen.get(&container)?.times.get(&number).copied()
    }

    /// Record when a content was first seen.
    pub(crate) fn see(&mut self, container: Obj, number: u64, seen: Seen) {
        if self.shown >= MAX_SEEN {
            log::warn!(
                "{MAX_SEEN} files were shown, of which the times are forgotten: a file whose directory has changed since \
                 shows the time of that change"
            );
            self.seen.clear();
            self.shown = 0;
        }
        let shown = self.seen.entry(container.id).or_insert_with(|| Shown {
            container,
            times: Table::default(),
        });
        self.shown += usize::from(shown.times.insert(number, seen).is_none());
    }

    /// Forget when a content was first seen, and return it.
    fn take_seen(&mut self, mark: &Mark) -> Option<Seen> {
        let Mark::Entry(container, slot) = mark else {
            return None;
        };
        if self.seen.is_empty() {
            return None;
        }
        let shown = self.seen.get_mut(container)?;
        let seen = shown.times.remove(&number_of(slot))?;
        if shown.times.is_empty() {
            self.seen.remove(container);
        }
        self.shown -= 1;
        Some(seen)
    }

    /// The table of a container that the store has, if it was read.
    pub(crate) fn table(&self, container: ObjectId) -> Option<&Table> {
        self.tables.get(&container)
    }

    /// Record the table of a container.
    pub(crate) fn add_table(&mut self, container: ObjectId, table: Table) {
        if self.listed >= MAX_SEEN {
            self.tables.clear();
            self.listed = 0;
        }
        self.listed += table.len() + 1;
        self.tables.insert(container, table);
    }

    /// All contents that were seen, and when, by container.
    pub(crate) fn all_seen(&self) -> Vec<(Obj, Table)> {
        let all = self.seen.values();
        all.map(|shown| (shown.container, shown.times.clone())).collect()
    }

    /// True if this new file has the default type.
    pub(crate) fn is_fresh(&self, mark: &Mark) -> bool {
        self.get(mark)
            .and_then(|m| m.fresh)
            .is_some_and(|t| t.elapsed() < FRESH)
    }

    /// Record that an entry was deleted.
    pub(crate) fn deleted(&mut self, mark: &Mark) {
        self.memos.remove(mark);
        self.take_seen(mark);
    }

    /// Record that an entry was removed, and where the open file has it.
    pub(crate) fn removed(&mut self, from: &Mark, to: &Spot) {
        self.memos.remove(from);
        if let Some(seen) = self.take_seen(from) {
            self.see(to.parent, number_of(&to.slot), seen);
        }
    }

    /// Record that an entry was moved.
    pub(crate) fn renamed(&mut self, from: &Mark, to: &Spot) {
        let target = Mark::Entry(to.parent.id, to.slot.clone());
        self.memos.remove(&target);
        match self.take_seen(from) {
            Some(seen) => self.see(to.parent, number_of(&to.slot), seen),
            None => {
                self.take_seen(&target);
            }
        }
        if let Some(memo) = self.memos.remove(from) {
            self.memos.insert(target, memo);
        }
    }

    /// Record that a scalar of that type was moved away from here.
    pub(crate) fn moved_away(&mut self, mark: Mark, ty: Ty) {
        if self.moved.len() > 4096 {
            self.moved.retain(|_, (_, when)| when.elapsed() < MOVED);
        }
        self.moved.insert(mark, (ty, Instant::now()));
    }

    /// The type of the scalar that was moved away from here a moment ago.
    pub(crate) fn moved_from(&self, mark: &Mark) -> Option<Ty> {
        self.moved
            .get(mark)
            .filter(|(_, when)| when.elapsed() < MOVED)
            .map(|(ty, _)| ty.clone())
    }

    /// The same, for the entry that is made in its place: later ones do not get that type.
    pub(crate) fn was_here(&mut self, mark: &Mark) -> Option<Ty> {
        let ty = self.moved_from(mark);
        self.moved.remove(mark);
        ty
    }

    /// Forget the items of a list that was converted.
    pub(crate) fn forget_items(&mut self, list: ObjectId) {
        self.memos
            .retain(|mark, _| !matches!(mark, Mark::Entry(id, Slot::Item(_)) if *id == list));
        if let Some(shown) = self.seen.remove(&list) {
            self.shown -= shown.times.len();
        }
    }
}
