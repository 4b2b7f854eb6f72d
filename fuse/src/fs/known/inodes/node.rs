//! A node of the inode table. The kernel holds as many as it has seen names, so a node is small:
//!
//! 1. A name of at most `SHORT` bytes stands in the node itself.
//! 2. What few nodes have stands beside the table: how often they have moved, and pins of another object than their
//!    own (`own`).

use super::place::{Control, IdentityOf, Place, Slot, Spot};
use super::shown::Shown;
use crate::fs::text::keys::OwnedKey;
use persist_core::store::Obj;

/// The longest str that stands in the node.
const SHORT: usize = 22;
/// A symlink.
const LINK: u64 = 1;
/// Its entry is being removed: opens wait.
pub(super) const CLOSING: u64 = 2;
/// A removed file that is still open.
pub(super) const REMOVED: u64 = 4;
/// Its own object is pinned.
pub(super) const PINNED: u64 = 8;
/// The lookups are counted in the bits from here on.
const LOOKUPS: u32 = 8;

/// A slot, in 24 bytes.
#[derive(Debug)]
enum Name {
    /// A str: its length, and its bytes.
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
    Int(i64),
    Other(Box<OwnedKey>),
    Item(u64),
}

impl Name {
    fn of(slot: Slot) -> Name {
        match slot {
            Slot::Item(name) => Name::Item(name),
            Slot::Key(OwnedKey::Int(int)) => Name::Int(int),
            Slot::Key(OwnedKey::Str(text)) => {
                let mut short = [0; SHORT];
                match (u8::try_from(text.len()), short.get_mut(..text.len())) {
                    (Ok(len), Some(room)) => {
                        room.copy_from_slice(&text);
                        Name::Short(len, short)
                    }
                    _ => Name::Long(text.into_boxed_slice()),
                }
            }
            Slot::Key(key) => Name::Other(Box::new(key)),
        }
    }

    /// The bytes of a str.
    fn text(&self) -> Option<&[u8]> {
        match self {
            Name::Short(len, short) => short.get(..usize::from(*len)),
            Name::Long(text) => Some(text),
            _ => None,
        }
    }

    fn slot(&self) -> Slot {
        match self {
            Name::Item(name) => Slot::Item(*name),
            Name::Int(int) => Slot::Key(OwnedKey::Int(*int)),
            Name::Other(key) => Slot::Key((**key).clone()),
            Name::Short(..) | Name::Long(_) => {
                Slot::Key(OwnedKey::Str(self.text().unwrap_or_default().to_vec()))
            }
        }
    }

    fn is(&self, slot: &Slot) -> bool {
        match (self, slot) {
            (Name::Item(name), Slot::Item(other)) => name == other,
            (Name::Int(int), Slot::Key(OwnedKey::Int(other))) => int == other,
            (Name::Other(key), Slot::Key(other)) => **key == *other,
            (_, Slot::Key(OwnedKey::Str(other))) => self.text() == Some(other),
            _ => false,
        }
    }
}

/// What a node means. Whether an entry is a file or a symlink stands in the flags.
#[derive(Debug)]
enum What {
    Dir(Obj),
    Entry(Obj, Name),
    Lock(Obj),
    Control(Control),
    Deleted,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    what: What,
    /// Lookups and flags.
    counts: u64,
    pub(super) shown: Shown,
}

impl Node {
    /// A node that was looked up once.
    pub(super) fn new(place: Place) -> Node {
        let mut node = Node {
            what: What::Deleted,
            counts: 1 << LOOKUPS,
            shown: Shown::default(),
        };
        node.set_place(place);
        node
    }

    pub(super) fn place(&self) -> Place {
        match &self.what {
            What::Dir(obj) => Place::Dir(*obj),
            What::Entry(parent, name) => {
                let spot = Spot {
                    parent: *parent,
                    slot: name.slot(),
                };
                match self.has(LINK) {
                    true => Place::Link(spot),
                    false => Place::File(spot),
                }
            }
            What::Lock(obj) => Place::Lock(*obj),
            What::Control(control) => Place::Control(*control),
            What::Deleted => Place::Deleted,
        }
    }

    /// Set the meaning. A pin of the node's own object is that of another one after it, unless `own` is the same.
    pub(super) fn set_place(&mut self, place: Place) {
        self.set(LINK, matches!(place, Place::Link(_)));
        self.what = match place {
            Place::Dir(obj) => What::Dir(obj),
            Place::File(spot) | Place::Link(spot) => What::Entry(spot.parent, Name::of(spot.slot)),
            Place::Lock(obj) => What::Lock(obj),
            Place::Control(control) => What::Control(control),
            Place::Deleted => What::Deleted,
        };
    }

    /// True if the node means this file or symlink.
    pub(super) fn is(&self, identity: &IdentityOf<'_>) -> bool {
        let (id, slot, is_link) = match identity {
            IdentityOf::File(id, slot) => (*id, *slot, false),
            IdentityOf::Link(id, slot) => (*id, *slot, true),
        };
        match &self.what {
            What::Entry(parent, name) => parent.id == id && self.has(LINK) == is_link && name.is(slot),
            _ => false,
        }
    }

    /// The container of the node: the directory itself, or the one of the entry.
    pub(super) fn own(&self) -> Option<Obj> {
        match &self.what {
            What::Dir(obj) | What::Entry(obj, _) | What::Lock(obj) => Some(*obj),
            What::Control(_) | What::Deleted => None,
        }
    }

    pub(super) fn has(&self, flag: u64) -> bool {
        self.counts & flag != 0
    }

    pub(super) fn set(&mut self, flag: u64, to: bool) {
        self.counts = if to {
            self.counts | flag
        } else {
            self.counts & !flag
        };
    }

    /// Count one more lookup.
    pub(super) fn look_up(&mut self) {
        self.counts += 1 << LOOKUPS;
    }

    /// Subtract lookups; true if none is left.
    pub(super) fn forget(&mut self, lookups: u64) -> bool {
        let left = (self.counts >> LOOKUPS).saturating_sub(lookups);
        self.counts = left << LOOKUPS | self.counts & ((1 << LOOKUPS) - 1);
        left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::store::ObjectId;
    use persist_core::store::door::Addr;

    #[test]
    fn a_node_is_small() {
        // One line of the processor's cache.
        assert_eq!(size_of::<(u64, Node)>(), 64);
    }

    #[test]
    fn a_node_means_the_place_that_it_was_given() {
        let parent = Obj {
            addr: Addr(64),
            id: ObjectId(1),
        };
        let text = |len: usize| Slot::Key(OwnedKey::Str(vec![b'x'; len]));
        let slots = [
            text(0),
            text(SHORT - 1),
            text(SHORT),
            text(SHORT + 1),
            text(300),
            Slot::Key(OwnedKey::Str(vec![0; 3])),
            Slot::Key(OwnedKey::Bytes(vec![b'x'; SHORT])),
            Slot::Key(OwnedKey::Int(5)),
            Slot::Key(OwnedKey::None),
            Slot::Item(5),
        ];
        for slot in &slots {
            let spot = Spot {
                parent,
                slot: slot.clone(),
            };
            for place in [Place::File(spot.clone()), Place::Link(spot)] {
                let mut node = Node::new(place.clone());
                node.set(CLOSING, true);
                assert_eq!(format!("{:?}", node.place()), format!("{place:?}"));
                for other in &slots {
                    let is_link = matches!(place, Place::Link(_));
                    let (file, link) = (
                        IdentityOf::File(parent.id, other),
                        IdentityOf::Link(parent.id, other),
                    );
                    assert_eq!(node.is(&file), slot == other && !is_link);
                    assert_eq!(node.is(&link), slot == other && is_link);
                }
                assert!(!node.is(&IdentityOf::File(ObjectId(2), slot)));
                node.look_up();
                assert!(!node.forget(1) && node.forget(1) && node.has(CLOSING));
            }
        }
    }
}
