//! Symlinks whose target does not exist yet: entries beside a directory, in memory. They are listed, opened and renamed
//! like any other entry, but the store does not have them (yet).
//!
//! The id of a side is not reused. Ids grow, so a listing continues after the last id that it returned.

use persist_core::store::{Obj, ObjectId};
use std::collections::{BTreeMap, HashMap};

/// One entry beside a directory.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// Its directory.
    pub(crate) parent: Obj,
    /// Its name there.
    pub(crate) name: Vec<u8>,
    /// The text of the symlink.
    pub(crate) target: Vec<u8>,
    /// The entry that it waits for.
    pub(crate) waits: Option<(ObjectId, Vec<u8>)>,
}

/// All sides.
#[derive(Default)]
pub(crate) struct Sides {
    sides: BTreeMap<u64, Side>,
    names: HashMap<ObjectId, HashMap<Vec<u8>, u64>>,
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

    /// Add a side. A side of the same name is replaced.
    pub(crate) fn add(&mut self, side: Side) -> u64 {
        if let Some(old) = self.find(side.parent.id, &side.name) {
            self.take(old);
        }
        self.last += 1;
        self.put(self.last, side);
        self.last
    }

    fn put(&mut self, id: u64, side: Side) {
        self.names
            .entry(side.parent.id)
            .or_default()
            .insert(side.name.clone(), id);
        self.sides.insert(id, side);
    }

    /// Remove and return a side.
    pub(crate) fn take(&mut self, id: u64) -> Option<Side> {
        let side = self.sides.remove(&id)?;
        if let Some(names) = self.names.get_mut(&side.parent.id) {
            names.remove(&side.name);
            if names.is_empty() {
                self.names.remove(&side.parent.id);
            }
        }
        Some(side)
    }

    /// Move a side to another name. A side that had that name is removed.
    pub(crate) fn rename(&mut self, id: u64, (parent, name): (Obj, &[u8])) {
        if let Some(old) = self.find(parent.id, name).filter(|o| *o != id) {
            self.take(old);
        }
        if let Some(mut side) = self.take(id) {
            side.parent = parent;
            side.name = name.to_vec();
            self.put(id, side);
        }
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

    /// The symlinks that wait for an entry; all of them if `entry` is None.
    pub(crate) fn waiting(&self, entry: Option<(ObjectId, &[u8])>) -> Vec<u64> {
        let waits = |side: &Side| match entry {
            None => true,
            Some((dir, name)) => side.waits.as_ref().is_some_and(|(d, n)| *d == dir && n == name),
        };
        self.sides
            .iter()
            .filter(|(_, side)| waits(side))
            .map(|(id, _)| *id)
            .collect()
    }

    /// All sides.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Side> {
        self.sides.values()
    }
}
