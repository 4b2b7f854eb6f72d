//! Entries that are kept beside a directory, in memory. They are listed, opened and renamed like any other entry, but
//! the store does not have them (yet).
//!
//! - In a list: an item whose index does not exist yet (`10` while the list has two items), and the temporary files of
//!   editors and copy tools.
//! - Anywhere: a symlink whose target does not exist yet.
//!
//! 1. The id of a side is not reused. Ids grow, so a listing continues after the last id that it returned.
//! 2. The object of a side directory is pinned as long as the side exists.

use crate::fs::text::keys::OwnedKey;
use crate::fs::text::scalars::{Scalar, Ty};
use persist_core::store::{Obj, ObjectId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The content of a side.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A scalar.
    File(Arc<Scalar<'static>>),
    /// A container, pinned.
    Dir(Obj),
    /// A symlink to a missing entry: the text, and the entry that it waits for.
    Link {
        target: Vec<u8>,
        waits: Option<(ObjectId, Vec<u8>)>,
    },
}

/// One entry beside a directory.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// Its directory.
    pub(crate) parent: Obj,
    /// Its name there.
    pub(crate) name: Vec<u8>,
    /// In a list, the serial that it waits for.
    pub(crate) serial: Option<u64>,
    /// In a list, a name that is not an index: the side waits for its rename.
    pub(crate) temporary: bool,
    /// Its content.
    pub(crate) content: Content,
    /// True once its type was set: a rename keeps it.
    pub(crate) typed: bool,
    /// The type that it gets at the first write.
    pub(crate) want: Option<Ty>,
    /// The key that it gets under its final name.
    pub(crate) key: Option<OwnedKey>,
}

impl Side {
    /// A new side.
    pub(crate) fn new(parent: Obj, name: &[u8], serial: Option<u64>, content: Content) -> Side {
        Side {
            parent,
            name: name.to_vec(),
            serial,
            temporary: false,
            content,
            typed: false,
            want: None,
            key: None,
        }
    }
}

/// All sides.
#[derive(Default)]
pub(crate) struct Sides {
    sides: BTreeMap<u64, Side>,
    names: HashMap<ObjectId, HashMap<Vec<u8>, u64>>,
    dirs: HashMap<ObjectId, u64>,
    last: u64,
}

impl Sides {
    /// True if there are none, which is the common case.
    pub(crate) fn is_empty(&self) -> bool {
        self.sides.is_empty()
    }

    /// The id of the side of that name.
    pub(crate) fn find(&self, parent: ObjectId, name: &[u8]) -> Option<u64> {
        self.names.get(&parent)?.get(name).copied()
    }

    /// A side.
    pub(crate) fn get(&self, id: u64) -> Option<&Side> {
        self.sides.get(&id)
    }

    /// A side, for changing anything but its parent and name.
    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Side> {
        self.sides.get_mut(&id)
    }

    /// Add a side. A side of the same name is replaced and returned.
    pub(crate) fn add(&mut self, side: Side) -> (u64, Option<Side>) {
        let old = self.find(side.parent.id, &side.name).and_then(|id| self.take(id));
        self.last += 1;
        self.put(self.last, side);
        (self.last, old)
    }

    fn put(&mut self, id: u64, side: Side) {
        if let Content::Dir(obj) = side.content {
            self.dirs.insert(obj.id, id);
        }
        self.names
            .entry(side.parent.id)
            .or_default()
            .insert(side.name.clone(), id);
        self.sides.insert(id, side);
    }

    /// Remove and return a side.
    pub(crate) fn take(&mut self, id: u64) -> Option<Side> {
        let side = self.sides.remove(&id)?;
        if let Content::Dir(obj) = side.content {
            self.dirs.remove(&obj.id);
        }
        if let Some(names) = self.names.get_mut(&side.parent.id) {
            names.remove(&side.name);
            if names.is_empty() {
                self.names.remove(&side.parent.id);
            }
        }
        Some(side)
    }

    /// Move a side to another name. The side that had that name is returned.
    pub(crate) fn rename(
        &mut self,
        id: u64,
        to: (Obj, &[u8]),
        serial: Option<u64>,
        temporary: bool,
    ) -> Option<Side> {
        let (parent, name) = to;
        let old = self
            .find(parent.id, name)
            .filter(|o| *o != id)
            .and_then(|o| self.take(o));
        if let Some(mut side) = self.take(id) {
            side.parent = parent;
            side.name = name.to_vec();
            side.serial = serial;
            side.temporary = temporary;
            self.put(id, side);
        }
        old
    }

    /// The sides of a directory with greater ids, in order.
    pub(crate) fn list(&self, parent: ObjectId, after: u64) -> Vec<(u64, Side)> {
        let Some(names) = self.names.get(&parent) else {
            return Vec::new();
        };
        let mut ids: Vec<u64> = names.values().copied().filter(|id| *id > after).collect();
        ids.sort_unstable();
        ids.into_iter()
            .filter_map(|id| Some((id, self.sides.get(&id)?.clone())))
            .collect()
    }

    /// True if a directory has sides.
    pub(crate) fn any(&self, parent: ObjectId) -> bool {
        self.names.contains_key(&parent)
    }

    /// The directory and name of a side directory.
    pub(crate) fn home(&self, obj: ObjectId) -> Option<(Obj, Vec<u8>)> {
        let side = self.sides.get(self.dirs.get(&obj)?)?;
        Some((side.parent, side.name.clone()))
    }

    /// The symlinks that wait for an entry; all of them if `entry` is None.
    pub(crate) fn waiting(&self, entry: Option<(ObjectId, &[u8])>) -> Vec<u64> {
        self.sides
            .iter()
            .filter(|(_, side)| match (&side.content, entry) {
                (Content::Link { .. }, None) => true,
                (Content::Link { waits, .. }, Some((dir, name))) => {
                    waits.as_ref().is_some_and(|(d, n)| *d == dir && n == name)
                }
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// The side of a list that waits for a serial.
    pub(crate) fn at_serial(&self, list: ObjectId, serial: u64) -> Option<u64> {
        self.names
            .get(&list)?
            .values()
            .copied()
            .find(|id| self.sides.get(id).is_some_and(|s| s.serial == Some(serial)))
    }

    /// The sides of all lists that wait for their index, by list and serial.
    pub(crate) fn items(&self) -> Vec<(u64, Side)> {
        let mut items: Vec<(u64, Side)> = self
            .sides
            .iter()
            .filter(|(_, s)| s.serial.is_some())
            .map(|(id, s)| (*id, s.clone()))
            .collect();
        items.sort_by_key(|(_, s)| (s.parent.id, s.serial));
        items
    }

    /// All sides.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Side> {
        self.sides.values()
    }
}
