//! The inode table: the meaning of each inode number that the kernel holds.
//!
//! 1. A number that the kernel holds (its lookup count is above 0) keeps its meaning until the kernel forgets it.
//! 2. A directory's number derives from the id of its object. A file's number is a hash of its directory and key, which
//!    finds it again; while that number is taken, the next ones are tried (`NEAR`), and listed (`others`). Numbers
//!    therefore stay the same after the kernel forgets them. Names can be chosen so that their hashes are the same:
//!    beyond the next ones a hash with a secret is tried.
//! 3. A directory in the table pins its object. `forget` and `drain` return the pins for the caller to undo.
//! 4. The upper bits of a number name its table: 0 for the mounted store, otherwise a view of a snapshot (`view_of`).
//! 5. When an entry is removed or replaced by a rename, its number means nothing from then on (`Place::Deleted`). If it
//!    is open, the number follows the entry to where it is kept (`tree::removed`), and pins the container there. A new
//!    entry of the same name gets another number.

use super::by_number::{ByNumber, shrink};
use crate::fs::text::keys::OwnedKey;
use node::{CLOSING, Node, REMOVED};
use persist_core::store::Obj;
use pins::{pin, set_pin, set_place, take_pin};
use place::{Identity, IdentityOf};
use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use xxhash_rust::xxh3::xxh3_64_with_seed;

mod node;
mod pins;
mod place;
mod shown;

pub(crate) use place::{Control, Place, Slot, Spot};
pub(crate) use shown::{Shown, Single};

/// The number of the root (of a view: `root_of`).
pub(crate) const ROOT: u64 = 1;
/// The bits from here on name the table of a number.
const VIEW_SHIFT: u32 = 52;
/// The maximal number of views at one time.
pub(crate) const MAX_VIEWS: u64 = (1 << (u64::BITS - VIEW_SHIFT)) - 1;
/// This bit is set in numbers of files and clear in numbers of directories.
const FILE_BIT: u64 = 1 << (VIEW_SHIFT - 1);
/// How many numbers are tried from the hash of a place on.
const NEAR: u64 = 8;
/// Numbers of control files have this bit as well.
const CONTROL_BIT: u64 = 1 << (VIEW_SHIFT - 2);

/// The table of an inode number: 0 for the store, otherwise the number of the view.
pub(crate) fn view_of(ino: u64) -> u64 {
    ino >> VIEW_SHIFT
}

/// The number of a view's root.
pub(crate) fn root_of(view: u64) -> u64 {
    view << VIEW_SHIFT | ROOT
}

/// A number for an entry that does not exist, and that the kernel is told of nevertheless. It is in no table.
pub(crate) fn placeholder(n: u64) -> u64 {
    hashed(("stand-in", n)) | CONTROL_BIT
}

impl IdentityOf<'_> {
    /// The hash of most keys takes one pass over their bytes. Of what has the same hash, one gets the next number.
    fn number(&self) -> u64 {
        let (id, slot, is_link) = match self {
            IdentityOf::File(id, slot) => (id, *slot, 0),
            IdentityOf::Link(id, slot) => (id, *slot, 1),
        };
        let seed = id.0 << 1 | is_link;
        let hash = match slot {
            Slot::Key(OwnedKey::Str(text)) => xxh3_64_with_seed(text, seed),
            Slot::Item(name) => xxh3_64_with_seed(&name.to_le_bytes(), !seed),
            Slot::Key(_) => return hashed(self),
        };
        hash & (CONTROL_BIT - 1) | FILE_BIT
    }

    fn to_owned(&self) -> Identity {
        match *self {
            IdentityOf::File(id, slot) => Identity::File(id, slot.clone()),
            IdentityOf::Link(id, slot) => Identity::Link(id, slot.clone()),
        }
    }
}

/// The table.
#[derive(Default)]
pub(crate) struct Inodes {
    view: u64,
    nodes: ByNumber<u64, Node>,
    /// The objects that are pinned for nodes, where they are not those of the nodes themselves.
    pins: ByNumber<u64, Obj>,
    /// How often nodes have come to mean another place.
    moves: ByNumber<u64, u32>,
    secret: RandomState,
    /// What the kernel has of the root. Its inode is made with the mount, without the attributes.
    root: Shown,
    /// The numbers of files and symlinks that are not the hash of their place: few.
    others: HashMap<Identity, u64>,
    /// Places that entries get, or have got, while their inodes still mean the places that they had.
    arriving: Vec<Spot>,
    /// Requests that wait until an entry has arrived or an inode is open to them.
    pub(in crate::fs) awaited: u32,
}

fn identity(place: &Place) -> Option<IdentityOf<'_>> {
    Some(match place {
        Place::File(s) => IdentityOf::File(s.parent.id, &s.slot),
        Place::Link(s) => IdentityOf::Link(s.parent.id, &s.slot),
        _ => return None,
    })
}

/// The number of a directory, in the store or in a view.
fn dir_number(root: Obj, obj: Obj) -> u64 {
    if obj.id == root.id {
        ROOT
    } else {
        (obj.id.0 & (FILE_BIT / 2 - 1)) * 2 + 2
    }
}

fn hashed(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish() & (CONTROL_BIT - 1) | FILE_BIT
}

impl Inodes {
    /// An empty table. `view` is 0 for the mounted store, otherwise the number of a view.
    pub(crate) fn new(view: u64) -> Inodes {
        Inodes {
            view,
            root: Shown::unknown(),
            ..Inodes::default()
        }
    }

    /// True if the kernel holds none of these numbers.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The number that a place has or would get.
    pub(crate) fn number(&self, root: Obj, place: &Place) -> u64 {
        let of_view = self.view << VIEW_SHIFT;
        match place {
            Place::Dir(obj) => of_view | dir_number(root, *obj),
            Place::Lock(obj) => of_view | hashed(("lock", obj.id)) | CONTROL_BIT,
            Place::Control(c) => of_view | hashed(("control", c)) | CONTROL_BIT,
            Place::Deleted => 0,
            _ => {
                let Some(identity) = identity(place) else { return 0 };
                self.number_of(&identity)
            }
        }
    }

    /// The number that a file or symlink at a spot has or would get.
    pub(crate) fn number_at(&self, spot: &Spot, is_link: bool) -> u64 {
        self.number_of(&match is_link {
            true => IdentityOf::Link(spot.parent.id, &spot.slot),
            false => IdentityOf::File(spot.parent.id, &spot.slot),
        })
    }

    fn number_of(&self, identity: &IdentityOf<'_>) -> u64 {
        if !self.others.is_empty()
            && let Some(number) = self.others.get(&identity.to_owned())
        {
            return *number;
        }
        let of_view = self.view << VIEW_SHIFT;
        let mut number = self.hash_of(identity);
        for tried in 1.. {
            let Some(node) = self.nodes.get(&number) else {
                break;
            };
            if node.is(identity) {
                break;
            }
            let next = match tried < NEAR {
                true => number + 1,
                false => self.secret.hash_one((identity, tried)),
            };
            number = of_view | next & (CONTROL_BIT - 1) | FILE_BIT;
        }
        number
    }

    /// The number of a file or symlink in the table.
    fn held(&self, identity: &IdentityOf<'_>) -> Option<u64> {
        if !self.others.is_empty()
            && let Some(number) = self.others.get(&identity.to_owned())
        {
            return Some(*number);
        }
        let number = self.hash_of(identity);
        self.nodes.get(&number)?.is(identity).then_some(number)
    }

    fn hash_of(&self, identity: &IdentityOf<'_>) -> u64 {
        self.view << VIEW_SHIFT | identity.number()
    }

    fn list(&mut self, place: &Place, number: u64) {
        if let Some(identity) = identity(place)
            && self.hash_of(&identity) != number
        {
            self.others.insert(identity.to_owned(), number);
        }
    }

    /// Count one more lookup of a place. `pinned` is the object that was pinned for it. The pin is returned if the node
    /// has one already.
    pub(crate) fn hold(&mut self, root: Obj, place: Place, pinned: Option<Obj>) -> (u64, Option<Obj>) {
        let number = self.number(root, &place);
        if let Some(node) = self.nodes.get_mut(&number) {
            node.look_up();
            if let Place::File(_) | Place::Link(_) | Place::Dir(_) = place {
                set_place(&mut self.pins, number, node, place);
            }
            let Some(obj) = pinned else { return (number, None) };
            if pin(&self.pins, number, node).is_some() {
                return (number, Some(obj));
            }
            set_pin(&mut self.pins, number, node, obj);
            return (number, None);
        }
        self.list(&place, number);
        let mut node = Node::new(place);
        if let Some(obj) = pinned {
            set_pin(&mut self.pins, number, &mut node, obj);
        }
        self.nodes.insert(number, node);
        (number, None)
    }

    /// What the kernel has of the attributes of an inode that it holds.
    pub(crate) fn shown(&mut self, number: u64) -> Option<&mut Shown> {
        match number == root_of(self.view) {
            true => Some(&mut self.root),
            false => self.nodes.get_mut(&number).map(|node| &mut node.shown),
        }
    }

    /// True if the kernel holds this number.
    pub(crate) fn holds(&self, number: u64) -> bool {
        self.nodes.contains_key(&number)
    }

    /// Count one more lookup of a number; false if the kernel does not hold it.
    pub(crate) fn hold_again(&mut self, number: u64) -> bool {
        match self.nodes.get_mut(&number) {
            Some(node) => {
                node.look_up();
                true
            }
            None => false,
        }
    }

    /// The meaning of a number.
    pub(crate) fn place(&self, root: Obj, number: u64) -> Option<Place> {
        match self.nodes.get(&number) {
            Some(node) => Some(node.place()),
            None if number == root_of(self.view) => Some(Place::Dir(root)),
            None => None,
        }
    }

    /// Subtract lookups that the kernel forgets. Returns the pin to undo if those were the last.
    pub(crate) fn forget(&mut self, number: u64, lookups: u64) -> Option<Obj> {
        let node = self.nodes.get_mut(&number)?;
        if !node.forget(lookups) {
            return None;
        }
        let mut node = self.nodes.remove(&number)?;
        shrink(&mut self.nodes);
        if !self.others.is_empty() {
            self.unlist(&node.place(), number);
        }
        if !self.moves.is_empty() {
            self.moves.remove(&number);
        }
        take_pin(&mut self.pins, number, &mut node)
    }

    fn unlist(&mut self, place: &Place, number: u64) {
        if self.others.is_empty() {
            return;
        }
        if let Some(identity) = identity(place).map(|identity| identity.to_owned())
            && self.others.get(&identity) == Some(&number)
        {
            self.others.remove(&identity);
        }
    }

    /// Record that an entry was deleted.
    pub(crate) fn deleted(&mut self, place: &Place) {
        let Some(number) = identity(place).and_then(|i| self.held(&i)) else {
            return;
        };
        self.become_place(number, Place::Deleted);
    }

    /// An entry is about to get this place; its inode follows.
    pub(crate) fn arriving(&mut self, spot: &Spot) {
        self.arriving.push(spot.clone());
    }

    /// The inode of an entry has followed it, or stays.
    pub(crate) fn arrived(&mut self, spot: &Spot) {
        if let Some(at) = self.arriving.iter().position(|s| s == spot) {
            self.arriving.swap_remove(at);
        }
    }

    /// True if the inode of the entry at a place is still to follow it there: a lookup must not make another one.
    pub(crate) fn is_arriving(&self, place: &Place) -> bool {
        match place {
            Place::File(spot) | Place::Link(spot) => self.arriving.contains(spot),
            _ => false,
        }
    }

    /// Let opens of an inode wait, since its entry is about to be removed. Returns its number, if it has one.
    pub(crate) fn close(&mut self, place: &Place) -> Option<u64> {
        let number = self.held(&identity(place)?)?;
        self.set_closing(number, true);
        Some(number)
    }

    /// Let opens of an inode wait, or no longer.
    pub(crate) fn set_closing(&mut self, number: u64, closing: bool) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.set(CLOSING, closing);
        }
    }

    /// True if opens of an inode wait.
    pub(crate) fn is_closing(&self, number: u64) -> bool {
        self.nodes.get(&number).is_some_and(|node| node.has(CLOSING))
    }

    /// How often an inode has come to mean another place.
    pub(crate) fn moves(&self, number: u64) -> u32 {
        if self.moves.is_empty() {
            return 0;
        }
        self.moves.get(&number).copied().unwrap_or_default()
    }

    /// False if an inode has moved since it had moved this often, or is about to.
    pub(crate) fn remains(&self, number: u64, moves: u32) -> bool {
        let node = self.nodes.get(&number);
        node.is_none_or(|node| self.moves(number) == moves && !node.has(CLOSING))
    }

    /// Record that an open file was removed: its entry is `to` now, in a container that was pinned. The pin is returned
    /// if there is no inode.
    pub(crate) fn removed(&mut self, from: &Place, to: Place, pinned: Obj) -> Option<Obj> {
        let number = identity(from).and_then(|i| self.held(&i));
        match number {
            Some(number) => self.removed_number(number, to, pinned),
            None => Some(pinned),
        }
    }

    /// The same, by the number of the inode.
    pub(crate) fn removed_number(&mut self, number: u64, to: Place, pinned: Obj) -> Option<Obj> {
        self.become_place(number, to);
        let Some(node) = self.nodes.get_mut(&number) else {
            return Some(pinned);
        };
        node.set(REMOVED, true);
        let spare = take_pin(&mut self.pins, number, node);
        set_pin(&mut self.pins, number, node, pinned);
        spare
    }

    /// True for a removed file that is still open.
    pub(crate) fn is_removed(&self, number: u64) -> bool {
        self.nodes.get(&number).is_some_and(|node| node.has(REMOVED))
    }

    /// Record that the entry of a number was deleted.
    pub(crate) fn deleted_number(&mut self, number: u64) {
        self.become_place(number, Place::Deleted);
    }

    /// Record that an entry was moved. If the kernel holds its inode, the inode moves too.
    pub(crate) fn moved(&mut self, from: &Place, to: &Place) {
        let Some(number) = identity(from).and_then(|i| self.held(&i)) else {
            return;
        };
        self.deleted(to);
        self.become_place(number, to.clone());
    }

    /// Record that entries were exchanged: each of these moves from its first to its second place, all at once.
    pub(crate) fn exchanged(&mut self, moves: [(&Place, &Place); 4]) {
        let numbers = moves.map(|(from, _)| identity(from).and_then(|i| self.held(&i)));
        for (number, (_, to)) in numbers.into_iter().zip(moves) {
            if let Some(number) = number {
                self.become_place(number, to.clone());
            }
        }
    }

    fn become_place(&mut self, number: u64, to: Place) {
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        let moves = self.moves.entry(number).or_default();
        *moves = moves.wrapping_add(1);
        let from = node.place();
        set_place(&mut self.pins, number, node, to.clone());
        self.unlist(&from, number);
        self.list(&to, number);
    }

    /// The pinned objects.
    pub(crate) fn pinned(&self) -> Vec<Obj> {
        let all = self.nodes.iter();
        all.filter_map(|(number, node)| pin(&self.pins, *number, node))
            .collect()
    }

    /// Empty the table. Returns all pins for the caller to undo.
    pub(crate) fn drain(&mut self) -> Vec<Obj> {
        let pinned = self.pinned();
        self.others.clear();
        self.pins.clear();
        self.moves.clear();
        self.nodes = ByNumber::default();
        pinned
    }
}

#[cfg(test)]
mod tests;
