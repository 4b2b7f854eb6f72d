//! Changing entries, in a write section.

use super::filesystem::{Fs, Renumber};
use super::find::Named;
use super::values::owned_key;
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::{Slot, Spot};
use persist_core::store::{In, Obj, Step, Writer};

/// The result of storing an entry under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Put {
    /// The entry is stored.
    Done,
    /// The entry has to wait beside the list: its index does not exist yet.
    Later,
}

impl Fs {
    /// Replace the value at a spot.
    pub(crate) fn set_at(&self, w: &mut Writer<'_>, spot: &Spot, value: &In<'_>) -> FsResult<()> {
        match &spot.slot {
            Slot::Key(key) => w.set(spot.parent, &key.as_key(), value)?,
            Slot::Item(serial) => {
                let index = self
                    .index(spot.parent.id, *serial)
                    .ok_or(FsError::Errno(libc::ENOENT))?;
                w.set_item(spot.parent, index, value)?;
            }
        }
        Ok(())
    }

    /// Remove the entry at a spot.
    pub(crate) fn remove_at(
        &self,
        w: &mut Writer<'_>,
        spot: &Spot,
        renumber: &mut Vec<Renumber>,
    ) -> FsResult<()> {
        match &spot.slot {
            Slot::Key(key) => {
                if !w.remove(spot.parent, &key.as_key())? {
                    return errno(libc::ENOENT);
                }
            }
            Slot::Item(serial) => {
                let index = self
                    .index(spot.parent.id, *serial)
                    .ok_or(FsError::Errno(libc::ENOENT))?;
                w.remove_items(spot.parent, index, index + 1)?;
                renumber.push(Renumber::Removed(spot.parent.id, *serial));
            }
        }
        Ok(())
    }

    /// Store a value under a name, replacing the existing one.
    pub(crate) fn put(
        &self,
        w: &mut Writer<'_>,
        dir: Obj,
        named: &Named,
        value: &In<'_>,
        renumber: &mut Vec<Renumber>,
    ) -> FsResult<Put> {
        match named {
            Named::Key(key) => w.set(dir, &key.as_key(), value)?,
            Named::Item(spot) if spot.gone => {
                w.insert(dir, spot.index.min(w.len(dir)?), value)?;
                renumber.push(Renumber::Restored(dir.id, spot.serial));
            }
            Named::Item(spot) => {
                let index = self.index(dir.id, spot.serial).unwrap_or(spot.index);
                let len = w.len(dir)?;
                if index > len {
                    return Ok(Put::Later);
                } else if index == len {
                    w.insert(dir, len, value)?;
                } else {
                    w.set_item(dir, index, value)?;
                }
            }
            Named::Temporary => return Ok(Put::Later),
            Named::Impossible => return errno(libc::EINVAL),
        }
        Ok(Put::Done)
    }

    /// Make an entry the home of a container; its former home becomes a reference.
    pub(crate) fn make_home(&self, w: &mut Writer<'_>, obj: Obj, list: Obj, index: u64) -> FsResult<()> {
        let step = Step::Index(index);
        if w.is_home(obj, list, &step)? {
            return Ok(());
        }
        let Some((parent, old)) = w.home(obj)? else {
            return Ok(());
        };
        let time = w.mtime(parent)?;
        w.rename(parent, &old, list, &step)?;
        match &old {
            Step::Key(key) => w.set(parent, &owned_key(w, key)?.as_key(), &In::Obj(obj))?,
            Step::Index(at) => w.insert(parent, *at, &In::Obj(obj))?,
        }
        Ok(w.set_mtime(parent, time)?)
    }
}
