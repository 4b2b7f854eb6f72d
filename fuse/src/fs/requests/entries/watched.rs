//! What the replay of changes for inotify asks of the filesystem: the entries of watched containers, their names, and
//! the inodes that the kernel holds of entries that are gone.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::{Place, Slot, Spot};
use crate::fs::known::leases::Held;
use crate::fs::text::names;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::attributes::NodeKind;
use crate::fs::tree::values::owned_key;
use persist_core::store::{Kind, Obj, Reader, Step, Value};
use std::collections::HashMap;

/// Entries that one section reads.
const BATCH: usize = 256;

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sort {
    File,
    Link,
    Dir(Obj),
}

impl Sort {
    /// Its kind for the kernel.
    pub(crate) fn kind(self) -> NodeKind {
        match self {
            Sort::File => NodeKind::File,
            Sort::Link => NodeKind::Link,
            Sort::Dir(_) => NodeKind::Dir,
        }
    }
}

/// The name of an entry.
pub(crate) fn name_of(slot: &Slot) -> Vec<u8> {
    match slot {
        Slot::Key(key) => names::name_of(key),
        Slot::Item(name) => name.to_string().into_bytes(),
    }
}

impl Fs {
    fn sort_of(&self, r: &Reader<'_>, spot: &Spot, value: &Value) -> FsResult<Sort> {
        Ok(match value {
            Value::Obj(obj) if self.shown_at(r, *obj, spot)? => Sort::Dir(*obj),
            Value::Obj(_) | Value::Link(_) => Sort::Link,
            _ => Sort::File,
        })
    }

    /// What an entry is; None if there is none.
    pub(crate) fn sort_at(&self, ctx: &Ctx, dir: Obj, slot: &Slot) -> FsResult<Option<Sort>> {
        let spot = Spot {
            parent: dir,
            slot: slot.clone(),
        };
        self.read(ctx, |r| match self.value_at(r, &spot) {
            Ok(Some(value)) => self.sort_of(r, &spot, &value).map(Some),
            Ok(None) | Err(FsError::Errno(libc::ENOENT)) => Ok(None),
            Err(e) => Err(e),
        })
    }

    /// The entries of a container. Of one with more than `most`, only those that are not files; false then.
    pub(crate) fn entries_of(
        &self,
        ctx: &Ctx,
        dir: Obj,
        most: usize,
    ) -> FsResult<(HashMap<Slot, Sort>, bool)> {
        let (kind, len) = self.read(ctx, |r| Ok((r.kind(dir)?, r.len(dir)?)))?;
        let all = len <= most as u64;
        let mut found = HashMap::new();
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            let (some, next) = self.read(ctx, |r| match kind {
                Kind::List => self.some_items(r, dir, at),
                Kind::Dict | Kind::Object => self.some_entries(r, dir, at),
            })?;
            found.extend(some.into_iter().filter(|(_, sort)| all || *sort != Sort::File));
            if found.len() > most {
                // It grows while it is read.
                found.retain(|_, sort| *sort != Sort::File);
                return Ok((found, false));
            }
            cursor = next;
        }
        Ok((found, all))
    }

    #[expect(clippy::type_complexity, reason = "used once, right above")]
    fn some_entries(
        &self,
        r: &Reader<'_>,
        dir: Obj,
        mut cursor: u64,
    ) -> FsResult<(Vec<(Slot, Sort)>, Option<u64>)> {
        let mut found = Vec::new();
        while found.len() < BATCH {
            let Some(entry) = r.next(dir, cursor)? else {
                return Ok((found, None));
            };
            cursor = entry.cursor;
            let spot = Spot {
                parent: dir,
                slot: Slot::Key(owned_key(r, &entry.key)?),
            };
            let sort = self.sort_of(r, &spot, &entry.value)?;
            found.push((spot.slot, sort));
        }
        Ok((found, Some(cursor)))
    }

    #[expect(clippy::type_complexity, reason = "used once, right above")]
    fn some_items(&self, r: &Reader<'_>, list: Obj, from: u64) -> FsResult<(Vec<(Slot, Sort)>, Option<u64>)> {
        let (first, names) = self.names_from(r, list, from, BATCH)?;
        let mut values = Vec::new();
        r.items(list, first, names.len(), &mut values)?;
        let mut found = Vec::new();
        for (name, value) in names.iter().zip(&values) {
            let spot = Spot {
                parent: list,
                slot: Slot::Item(*name),
            };
            let sort = self.sort_of(r, &spot, value)?;
            found.push((spot.slot, sort));
        }
        let next = names.last().filter(|_| names.len() == BATCH).map(|last| last + 1);
        Ok((found, next))
    }

    /// The names of all items of a list; None if it has more than `most`, or if it is not a list.
    pub(crate) fn all_names(&self, ctx: &Ctx, list: Obj, most: usize) -> FsResult<Option<Vec<u64>>> {
        self.read(ctx, |r| {
            if r.kind(list)? != Kind::List || r.len(list)? > most as u64 {
                return Ok(None);
            }
            Ok(Some(self.names_from(r, list, 0, most)?.1))
        })
    }

    /// The entry that shows a container as a directory; None for the root, and for a container that is removed.
    pub(crate) fn entry_of(&self, ctx: &Ctx, obj: Obj) -> FsResult<Option<(Obj, Slot)>> {
        if obj == self.root {
            return Ok(None);
        }
        self.read(ctx, |r| match r.home(obj)? {
            Some((parent, Step::Key(key))) => Ok(Some((parent, Slot::Key(owned_key(r, &key)?)))),
            Some((parent, Step::Index(index))) => {
                let index = i64::try_from(index).unwrap_or(i64::MAX);
                let name = self.name_at(r, parent, index)?;
                Ok(name.map(|name| (parent, Slot::Item(name))))
            }
            None => Ok(None),
        })
    }

    /// The names from the root to a container that is shown.
    pub(crate) fn path_to(&self, ctx: &Ctx, dir: Obj) -> FsResult<Vec<Vec<u8>>> {
        self.read(ctx, |r| self.path(r, dir))
    }

    /// The inode that the kernel holds of an entry.
    pub(crate) fn held_entry(&self, dir: Obj, slot: &Slot, sort: Sort) -> Option<u64> {
        let spot = Spot {
            parent: dir,
            slot: slot.clone(),
        };
        let place = match sort {
            Sort::File => Place::File(spot),
            Sort::Link => Place::Link(spot),
            Sort::Dir(obj) => Place::Dir(obj),
        };
        let inodes = lock(&self.inodes);
        let ino = inodes.number(self.root, &place);
        inodes.holds(ino).then_some(ino)
    }

    /// The attributes of an entry that is gone and whose inode the kernel holds, counting a lookup; None if that is not
    /// known. The kernel must not be told a smaller size than that which programs have mapped.
    pub(crate) fn attr_of_removed(&self, ino: u64) -> Option<Attr> {
        let ctx = Ctx::own(true);
        let kind = match self.place(ino).ok()? {
            Place::Dir(_) => NodeKind::Dir,
            Place::File(_) => NodeKind::File,
            Place::Link(_) => NodeKind::Link,
            Place::Lock(_) | Place::Control(_) | Place::Deleted => return None,
        };
        let attr = match self.attributes(&ctx, ino, None, &mut Held::none()) {
            Ok(attr) if attr.kind == kind => attr,
            _ => {
                let mut size = 0;
                for handle in self.open_files.of_inode(ino) {
                    let state = handle.state(&Ctx::own(false)).ok()?;
                    let large = state.large.as_ref().map_or(0, |large| large.len);
                    size = size.max(state.built()).max(large);
                }
                Attr {
                    ino,
                    ..self.control_attr(kind, size)
                }
            }
        };
        lock(&self.inodes).hold_again(ino).then_some(attr)
    }

    /// What a watched inode stands for: a directory, or an entry of one.
    pub(crate) fn watched_place(&self, ino: u64) -> FsResult<(Obj, Option<Slot>)> {
        match self.place(ino)? {
            Place::Dir(obj) => Ok((obj, None)),
            Place::File(spot) | Place::Link(spot) => Ok((spot.parent, Some(spot.slot))),
            Place::Lock(_) | Place::Control(_) | Place::Deleted => errno(libc::ENOENT),
        }
    }
}
