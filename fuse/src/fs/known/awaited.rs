//! Which links wait for which entries: an index over link values of the store. It holds nothing that the store does
//! not: a link is stored when it is made, and this table says which links to look at when an entry appears where none
//! was, or one that was not a container. A link that is missing here stays a link value, which the mount shows in the
//! same way.
//!
//! 1. Its size is bounded: beyond `MAX` links, further ones are not noted.
//! 2. What it says is checked against the store before it is used (`requests::entries::links`).

use super::inodes::{Slot, Spot};
use persist_core::store::ObjectId;
use std::collections::HashMap;

/// The maximal number of links.
const MAX: usize = 1 << 16;

/// An entry that does not exist, or is not a container: its directory and its name there.
pub(crate) type Missing = (ObjectId, Vec<u8>);

/// The table.
#[derive(Default)]
pub(crate) struct Awaited {
    links: HashMap<Missing, Vec<Spot>>,
    entries: HashMap<(ObjectId, Slot), Missing>,
}

fn key(spot: &Spot) -> (ObjectId, Slot) {
    (spot.parent.id, spot.slot.clone())
}

impl Awaited {
    /// True if no link waits, which is the common case.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// True if this link waits.
    pub(crate) fn knows(&self, spot: &Spot) -> bool {
        !self.entries.is_empty() && self.entries.contains_key(&key(spot))
    }

    /// Note that a link waits for an entry, and for no other any more.
    pub(crate) fn add(&mut self, spot: &Spot, entry: Missing) {
        self.drop_link(spot);
        if self.entries.len() < MAX {
            self.links.entry(entry.clone()).or_default().push(spot.clone());
            self.entries.insert(key(spot), entry);
        }
    }

    /// Forget a link.
    pub(crate) fn drop_link(&mut self, spot: &Spot) {
        if self.entries.is_empty() {
            return;
        }
        let Some(entry) = self.entries.remove(&key(spot)) else {
            return;
        };
        if let Some(links) = self.links.get_mut(&entry) {
            links.retain(|s| key(s) != key(spot));
            if links.is_empty() {
                self.links.remove(&entry);
            }
        }
    }

    /// Note that a link is at another place now, where its text means the same.
    pub(crate) fn moved(&mut self, from: &Spot, to: &Spot) {
        if self.entries.is_empty() {
            return;
        }
        let entry = self.entries.get(&key(from)).cloned();
        self.drop_link(from);
        self.drop_link(to);
        if let Some(entry) = entry {
            self.add(to, entry);
        }
    }

    /// Forget and return the links that wait for an entry.
    pub(crate) fn take(&mut self, entry: &Missing) -> Vec<Spot> {
        let links = self.links.remove(entry).unwrap_or_default();
        for spot in &links {
            self.entries.remove(&key(spot));
        }
        links
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::store::Obj;
    use persist_core::store::door::Addr;

    fn spot(id: u64, name: u64) -> Spot {
        Spot {
            parent: Obj {
                addr: Addr(id * 64),
                id: ObjectId(id),
            },
            slot: Slot::Item(name),
        }
    }

    fn taken(table: &mut Awaited, id: u64) -> Vec<Slot> {
        let links = table.take(&(ObjectId(id), b"x".to_vec()));
        links.into_iter().map(|s| s.slot).collect()
    }

    #[test]
    fn links_wait_for_one_entry_each() {
        let mut table = Awaited::default();
        table.add(&spot(1, 1), (ObjectId(7), b"x".to_vec()));
        table.add(&spot(1, 2), (ObjectId(7), b"x".to_vec()));
        table.add(&spot(1, 1), (ObjectId(8), b"x".to_vec()));
        table.moved(&spot(1, 2), &spot(1, 3));
        assert!(table.knows(&spot(1, 3)) && !table.knows(&spot(1, 2)));
        assert_eq!(taken(&mut table, 7), [Slot::Item(3)]);
        assert_eq!(taken(&mut table, 7), []);
        table.drop_link(&spot(1, 1));
        assert!(table.is_empty() && table.entries.is_empty());
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = Awaited::default();
        for n in 0..MAX as u64 + 10 {
            table.add(&spot(1, n), (ObjectId(n), b"x".to_vec()));
        }
        assert_eq!(table.entries.len(), MAX);
        assert_eq!(table.links.len(), MAX);
    }
}
