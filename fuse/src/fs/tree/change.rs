//! Changing entries, in a write section.

use super::filesystem::Fs;
use super::find::Named;
use crate::fs::error::{FsResult, errno};
use crate::fs::known::inodes::{Slot, Spot};
use crate::fs::known::list_names::Renamed;
use crate::fs::text::keys::OwnedKey;
use crate::fs::text::list_entries::key_beside;
use persist_core::store::{In, Obj, Writer};

/// Where an entry of a new name belongs.
pub(crate) enum Room {
    /// It exists, or is a key of a dict or object.
    At(Spot),
    /// A new item of the list, under this number.
    Item(u64),
    /// Beside the list, under this key of the dict of waiting entries.
    Beside(OwnedKey),
}

impl Fs {
    /// Replace the value at a spot.
    pub(crate) fn set_at(&self, w: &mut Writer<'_>, spot: &Spot, value: &In<'_>) -> FsResult<()> {
        match &spot.slot {
            Slot::Key(key) => {
                self.guard_beside(w, spot.parent, false)?;
                w.set(spot.parent, &key.as_key(), value)?;
            }
            Slot::Item(name) => {
                let index = self.index(w, spot.parent, *name)?;
                w.set_item(spot.parent, index, value)?;
            }
        }
        Ok(())
    }

    /// Meet the locks that a change of the entry at a spot would meet, and change nothing.
    pub(crate) fn check_change(&self, w: &mut Writer<'_>, spot: &Spot) -> FsResult<()> {
        let key = match &spot.slot {
            Slot::Key(key) => {
                if let Some(list) = w.list_of_waiting(spot.parent)? {
                    w.check_change(list, None)?;
                }
                Some(key.as_key())
            }
            Slot::Item(_) => None,
        };
        Ok(w.check_change(spot.parent, key.as_ref())?)
    }

    /// Replace the content of a file.
    pub(crate) fn set_content(&self, w: &mut Writer<'_>, spot: &Spot, value: &In<'_>) -> FsResult<()> {
        self.changing_content(w, spot.parent, |w| self.set_at(w, spot, value))
    }

    /// Remove the entry at a spot.
    pub(crate) fn remove_at(
        &self,
        w: &mut Writer<'_>,
        spot: &Spot,
        renamed: &mut Vec<Renamed>,
    ) -> FsResult<()> {
        self.changing_entries(spot.parent);
        match &spot.slot {
            Slot::Key(key) => {
                let list = self.guard_beside(w, spot.parent, true)?;
                if !w.remove(spot.parent, &key.as_key())? {
                    return errno(libc::ENOENT);
                }
                match list {
                    Some(list) => self.drop_beside(w, list),
                    None => Ok(()),
                }
            }
            Slot::Item(name) => self.remove_item(w, spot.parent, *name, renamed),
        }
    }

    /// Move the entry at a spot to another one, which is not a new item of a list.
    pub(crate) fn move_out(
        &self,
        w: &mut Writer<'_>,
        from: &Spot,
        to: &Spot,
        renamed: &mut Vec<Renamed>,
    ) -> FsResult<()> {
        self.changing_entries(from.parent);
        let left = self.guard_beside(w, from.parent, true)?;
        let (source, target) = (self.step(w, from)?, self.step(w, to)?);
        let name = self.item_of(w, from)?;
        w.rename(from.parent, &source, to.parent, &target)?;
        if let Some(name) = name {
            self.rename_in(w, from.parent, name, false, renamed)?;
        }
        match left {
            Some(list) => self.drop_beside(w, list),
            None => Ok(()),
        }
    }

    /// Where an entry of this name is, or would be made.
    pub(crate) fn room(&self, w: &Writer<'_>, dir: Obj, named: &Named) -> FsResult<Room> {
        if let Some(spot) = self.spot_of(w, dir, named)? {
            return Ok(Room::At(spot));
        }
        match named {
            Named::Item(name) => {
                let (dead, next) = self.names(w, dir, |l| (l.is_dead(*name), l.next()))?;
                if dead {
                    // The item has another name now: the caller means that item.
                    errno(libc::ESTALE)
                } else if *name <= next {
                    Ok(Room::Item(*name))
                } else {
                    Ok(Room::Beside(key_beside(*name)))
                }
            }
            Named::Beside(key) => Ok(Room::Beside(key.clone())),
            Named::Key(_) | Named::Impossible => errno(libc::EINVAL),
        }
    }

    /// Store a value under a name, replacing the existing one. Returns where it is.
    pub(crate) fn put(
        &self,
        w: &mut Writer<'_>,
        dir: Obj,
        named: &Named,
        value: &In<'_>,
        renamed: &mut Vec<Renamed>,
    ) -> FsResult<Spot> {
        self.changing_entries(dir);
        match self.room(w, dir, named)? {
            Room::At(spot) => {
                self.set_at(w, &spot, value)?;
                Ok(spot)
            }
            Room::Item(name) => {
                let at = self.names(w, dir, |l| l.place(name))?;
                w.insert(dir, at, value)?;
                self.rename_in(w, dir, name, true, renamed)?;
                Ok(Spot {
                    parent: dir,
                    slot: Slot::Item(name),
                })
            }
            Room::Beside(key) => {
                let dict = self.beside(w, dir)?;
                w.set(dict, &key.as_key(), value)?;
                Ok(Spot {
                    parent: dict,
                    slot: Slot::Key(key),
                })
            }
        }
    }
}
