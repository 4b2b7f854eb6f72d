//! The places that inode numbers mean.

use crate::fs::text::keys::OwnedKey;
use persist_core::store::{Obj, ObjectId};

/// An entry of a container.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Slot {
    /// The entry of a dict or object under this key.
    Key(OwnedKey),
    /// The item of a list that was found under this name (see `list_names`).
    Item(u64),
}

/// A container and one of its entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    /// The container.
    pub(crate) parent: Obj,
    /// The entry.
    pub(crate) slot: Slot,
}

/// The files that the filesystem itself provides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Control {
    /// `/.persist`
    Root,
    /// `/.persist/stat`
    Stat,
    /// `/.persist/locks`
    Locks,
    /// `/.persist/snapshots`
    Snapshots,
}

/// The meaning of an inode.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A container.
    Dir(Obj),
    /// A scalar.
    File(Spot),
    /// A symlink: another reference to a container, or a link value.
    Link(Spot),
    /// The lock file of a container.
    Lock(Obj),
    /// A control file.
    Control(Control),
    /// An entry that was removed.
    Deleted,
}

/// A place as a key of the table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Identity {
    File(ObjectId, Slot),
    Link(ObjectId, Slot),
}

/// The same of a place in hand. It has the hash of the owned one.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum IdentityOf<'a> {
    File(ObjectId, &'a Slot),
    Link(ObjectId, &'a Slot),
}
