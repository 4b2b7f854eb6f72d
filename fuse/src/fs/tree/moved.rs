//! What the mount knows of an entry, after it has moved within the store: its inode, its locks, its metadata.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult};
use crate::fs::known::inodes::{Place, Slot, Spot};
use crate::fs::known::locks::request::Target;
use crate::fs::known::metadata::Mark;
use crate::fs::tree::filesystem::Fs;

impl Fs {
    /// Record that an entry moved within the store.
    pub(crate) fn spot_moved(&self, from: &Spot, to: &Spot) {
        let mut nodes = lock(&self.inodes);
        nodes.deleted(&Place::File(to.clone()));
        nodes.deleted(&Place::Link(to.clone()));
        nodes.moved(&Place::File(from.clone()), &Place::File(to.clone()));
        nodes.moved(&Place::Link(from.clone()), &Place::Link(to.clone()));
        drop(nodes);
        if !self.locks.with(|table| table.is_idle()) {
            self.locks_follow(self.number(&Place::File(to.clone())));
        }
        lock(&self.awaited).moved(from, to);
        let from = Mark::Entry(from.parent.id, from.slot.clone());
        lock(&self.metadata).renamed(&from, to);
    }

    /// Let the locks of a file follow it, after its entry was moved or removed.
    pub(crate) fn locks_follow(&self, ino: u64) {
        let Some(from) = self.locks.with(|table| table.target_of(ino).cloned()) else {
            return;
        };
        match self.lock_target(&Ctx::own(true), ino) {
            Ok(to) if to != from => self.locks.change(&self.store, |table, out| {
                table.moved(&self.store, ino, &from, &to, out);
            }),
            Ok(_) => {}
            Err(e) => log::warn!(
                "the locks of a file that was moved stay at its old name: {}",
                e.message(self.store.path())
            ),
        }
    }

    /// The target of a lock on an inode.
    pub(crate) fn lock_target(&self, ctx: &Ctx, ino: u64) -> FsResult<Target> {
        Ok(match self.place(ino)? {
            Place::Lock(obj) | Place::Dir(obj) => Target::Stored(obj, None),
            Place::File(spot) if self.is_removed(ino, &spot) => Target::Removed(ino),
            Place::File(spot) => match spot.slot {
                Slot::Item(_) => Target::Stored(spot.parent, None),
                Slot::Key(key) => match self.read(ctx, |r| Ok(r.list_of_waiting(spot.parent)?))? {
                    Some(list) => Target::Stored(list, None),
                    None => Target::Stored(spot.parent, Some(key)),
                },
            },
            Place::Deleted => Target::Removed(ino),
            Place::Link(_) | Place::Control(_) => return Err(FsError::Errno(libc::ENOLCK)),
        })
    }
}
