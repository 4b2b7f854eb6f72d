//! Finding entries by name, describing them, and the paths of containers.
//!
//! 1. A name is understood before a section (`named`), since that may ask about the process; inside a
//!    section only serials are turned into indices.
//! 2. A container is a directory at its home and a symlink everywhere else.

use super::attrs::Attr;
use super::error::{FsError, FsResult, errno};
use super::names::{self, Meaning, OwnedKey};
use super::nodes::{Place, Slot, Spot};
use super::sides::Content;
use super::{Ctx, Fs, Renumber, lists, lock};
use persist_core::store::{In, Kind, Large, Obj, ObjectId, Reader, Step, Value, Writer};

/// Deepest path that is followed: more cannot be said in a path of 4096 bytes.
const MAX_DEPTH: usize = 2048;
/// Longest key that is read to learn its name.
const MAX_KEY: u64 = 16 << 20;
/// Entries looked at in one section when a long name is looked for.
const SCAN: usize = 1000;

/// What a name means in a directory.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    /// This key of a dict or object.
    Key(OwnedKey),
    /// This item of a list.
    Item(lists::Spot),
    /// In a list: a temporary name, beside the items.
    Temporary,
    /// In a list or object: a name no entry can have.
    Impossible,
}

impl Named {
    /// The serial of a list item.
    pub(crate) fn serial(&self) -> Option<u64> {
        match self {
            Named::Item(spot) => Some(spot.serial),
            _ => None,
        }
    }

    /// The entry of that name.
    pub(crate) fn spot(&self, parent: Obj) -> Option<Spot> {
        let slot = match self {
            Named::Key(key) => Slot::Key(key.clone()),
            Named::Item(spot) => Slot::Item(spot.serial),
            _ => return None,
        };
        Some(Spot { parent, slot })
    }
}

/// An entry as found: what it stands for, its attributes (without a number), and the object that was
/// pinned for it.
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) attr: Attr,
    pub(crate) pinned: Option<Obj>,
}

/// The outcome of putting something under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Put {
    /// It is there.
    Done,
    /// It has to wait beside the list: its turn has not come.
    Later,
}

impl Fs {
    /// What a name means in a directory, for the thread that asks.
    pub(crate) fn named(&self, ctx: &Ctx, dir: Obj, name: &[u8]) -> FsResult<Named> {
        if name.len() > names::NAME_MAX {
            return errno(libc::ENAMETOOLONG);
        }
        let kind = self.read(ctx, |r| Ok(r.kind(dir)?))?;
        Ok(match kind {
            Kind::List => match names::index_of(name) {
                Some(n) => Named::Item(lock(&self.lists).spot(dir.id, n, ctx.tid)),
                None if names::is_temporary(name) => Named::Temporary,
                None => Named::Impossible,
            },
            Kind::Dict | Kind::Object => match names::key_of(name) {
                Meaning::Key(key) if kind == Kind::Dict || matches!(key, OwnedKey::Str(_)) => Named::Key(key),
                Meaning::Key(_) => Named::Impossible,
                // A long name that no key has yet stands for itself until its key is told.
                Meaning::Long => Named::Key(
                    self.long_key(ctx, dir, name)?
                        .unwrap_or_else(|| OwnedKey::Str(name.to_vec())),
                ),
            },
        })
    }

    /// Looks through a dict for the key that has this long name.
    fn long_key(&self, ctx: &Ctx, dir: Obj, name: &[u8]) -> FsResult<Option<OwnedKey>> {
        let mut cursor = 0;
        loop {
            let (key, next) = self.read(ctx, |r| self.scan(r, dir, name, cursor))?;
            match next {
                _ if key.is_some() => return Ok(key),
                Some(at) => cursor = at,
                None => return Ok(None),
            }
        }
    }

    /// One step of that: the key if it is among the next entries, and where to go on.
    fn scan(
        &self,
        r: &Reader<'_>,
        dir: Obj,
        name: &[u8],
        mut cursor: u64,
    ) -> FsResult<(Option<OwnedKey>, Option<u64>)> {
        for _ in 0..SCAN {
            let Some(entry) = r.next(dir, cursor)? else {
                return Ok((None, None));
            };
            cursor = entry.cursor;
            let candidate = match &entry.key {
                Value::Large(_) | Value::BigInt { .. } => true,
                Value::Str { bytes, .. } => bytes.len() * 3 > names::NAME_MAX,
                Value::Bytes(b) => b.len() * 2 > names::NAME_MAX - 3,
                _ => false,
            };
            if candidate {
                let key = owned_key(r, &entry.key)?;
                if names::name_of(&key) == name {
                    return Ok((Some(key), Some(cursor)));
                }
            }
        }
        Ok((None, Some(cursor)))
    }

    /// The value under a name.
    pub(crate) fn value_of(&self, r: &Reader<'_>, dir: Obj, named: &Named) -> FsResult<Option<Value>> {
        match named {
            Named::Item(spot) if spot.gone => Ok(None),
            _ => match named.spot(dir) {
                Some(spot) => self.value_at(r, &spot),
                None => Ok(None),
            },
        }
    }

    /// The value at a spot.
    pub(crate) fn value_at(&self, r: &Reader<'_>, spot: &Spot) -> FsResult<Option<Value>> {
        match &spot.slot {
            Slot::Key(key) => Ok(r.get(spot.parent, &key.as_key())?),
            Slot::Item(serial) => match self.index(spot.parent.id, *serial) {
                Some(index) => Ok(r.item(spot.parent, index)?),
                None => Ok(None),
            },
        }
    }

    /// The index of an item.
    pub(crate) fn index(&self, list: ObjectId, serial: u64) -> Option<u64> {
        lock(&self.lists).index(list, serial)
    }

    /// A spot as the engine names it.
    pub(crate) fn step(&self, spot: &Spot) -> FsResult<Step> {
        match &spot.slot {
            Slot::Key(key) => Ok(Step::Key(key.to_value())),
            Slot::Item(serial) => self
                .index(spot.parent.id, *serial)
                .map(Step::Index)
                .ok_or(FsError::Errno(libc::ENOENT)),
        }
    }

    /// Replaces the value at a spot.
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

    /// Removes the entry at a spot.
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

    /// Puts a value under a name, replacing what is there.
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

    /// What a name means under which something new is to be made.
    pub(crate) fn named_to_make(&self, ctx: &Ctx, dir: Obj, name: &[u8]) -> FsResult<Named> {
        let named = self.named(ctx, dir, name)?;
        if matches!(named, Named::Impossible) {
            return errno(libc::EINVAL);
        }
        if lock(&self.sides).find(dir.id, name).is_some() {
            return errno(libc::EEXIST);
        }
        Ok(named)
    }

    /// Describes an entry. For a directory (`pin`) its object is pinned.
    pub(crate) fn describe(&self, r: &Reader<'_>, spot: &Spot, value: &Value, pin: bool) -> FsResult<Found> {
        let Value::Obj(obj) = value else {
            let attr = self.file_attr(r, spot, value)?;
            return Ok(Found {
                place: Place::File(spot.clone()),
                attr,
                pinned: None,
            });
        };
        if self.shown_at(r, *obj, spot)? {
            let attr = self.dir_attr(r, *obj)?;
            // The last thing in the section: if it is run again, the pin is not taken twice.
            let pinned = if pin {
                r.pin(*obj)?;
                Some(*obj)
            } else {
                None
            };
            return Ok(Found {
                place: Place::Dir(*obj),
                attr,
                pinned,
            });
        }
        let size = self.link_size(r, spot.parent, *obj)?;
        let attr = self.link_attr(r, spot.parent, size)?;
        Ok(Found {
            place: Place::Link(spot.clone()),
            attr,
            pinned: None,
        })
    }

    /// Finds an entry by name. The caller registers its inode (`enter`).
    pub(crate) fn find(&self, ctx: &Ctx, dir: Obj, name: &[u8]) -> FsResult<Found> {
        let named = self.named(ctx, dir, name)?;
        let found = match named.spot(dir) {
            None => None,
            Some(spot) => self.read(ctx, |r| match self.value_of(r, dir, &named)? {
                Some(value) => self.describe(r, &spot, &value, true).map(Some),
                None => Ok(None),
            })?,
        };
        if let Some(found) = found {
            return Ok(found);
        }
        let side = {
            let sides = lock(&self.sides);
            if sides.is_empty() {
                None
            } else {
                sides.find(dir.id, name)
            }
        };
        let Some(side) = side else {
            return errno(libc::ENOENT);
        };
        if self.settle_link(ctx, side) {
            return self.find(ctx, dir, name);
        }
        self.find_side(ctx, side)
    }

    /// Describes a side entry.
    pub(crate) fn find_side(&self, ctx: &Ctx, id: u64) -> FsResult<Found> {
        let side = lock(&self.sides)
            .get(id)
            .cloned()
            .ok_or(FsError::Errno(libc::ENOENT))?;
        if let Content::Dir(obj) = side.content {
            return self.read(ctx, |r| {
                let attr = self.dir_attr(r, obj)?;
                r.pin(obj)?;
                Ok(Found {
                    place: Place::Dir(obj),
                    attr,
                    pinned: Some(obj),
                })
            });
        }
        Ok(Found {
            place: Place::Side(id),
            attr: self.side_attr(id, &side),
            pinned: None,
        })
    }

    /// Counts a lookup: the kernel holds the inode from now on.
    pub(crate) fn enter(&self, found: Found) -> Attr {
        let (ino, spare) = lock(&self.nodes).hold(self.root, &found.place, found.pinned);
        if let Some(obj) = spare {
            self.store.unpin(obj);
        }
        Attr { ino, ..found.attr }
    }

    /// The number an entry has, or would get, without counting a lookup.
    pub(crate) fn number(&self, place: &Place) -> u64 {
        lock(&self.nodes).number(self.root, place)
    }

    /// Request: an entry of a directory.
    pub(crate) fn lookup(&self, ctx: &Ctx, parent: u64, name: &[u8]) -> FsResult<Attr> {
        if let Some(found) = self.find_control(ctx, parent, name)? {
            return Ok(self.enter(found));
        }
        let dir = self.dir(parent)?;
        Ok(self.enter(self.find(ctx, dir, name)?))
    }

    /// Where the container is shown: the names from the root to it.
    pub(crate) fn path(&self, r: &Reader<'_>, mut obj: Obj) -> FsResult<Vec<Vec<u8>>> {
        let mut path = Vec::new();
        while obj != self.root {
            let (parent, name) = self.above(r, obj)?;
            path.push(name);
            obj = parent;
            if path.len() > MAX_DEPTH {
                return errno(libc::ELOOP);
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The directory a container is shown in, and its name there.
    pub(crate) fn above(&self, r: &Reader<'_>, obj: Obj) -> FsResult<(Obj, Vec<u8>)> {
        // A directory that waits beside a list is at home there, whatever else refers to it.
        if let Some(beside) = self.side_home(obj) {
            return Ok(beside);
        }
        match r.home(obj)? {
            Some((parent, Step::Key(key))) => Ok((parent, names::name_of(&owned_key(r, &key)?))),
            Some((parent, Step::Index(index))) => Ok((parent, index.to_string().into_bytes())),
            None => errno(libc::ENOENT),
        }
    }

    fn side_home(&self, obj: Obj) -> Option<(Obj, Vec<u8>)> {
        lock(&self.sides).home(obj.id)
    }

    /// True if a directory is shown at this spot, and not a symlink.
    pub(crate) fn shown_at(&self, r: &Reader<'_>, obj: Obj, spot: &Spot) -> FsResult<bool> {
        Ok(r.is_home(obj, spot.parent, &self.step(spot)?)? && self.side_home(obj).is_none())
    }

    /// Makes an entry the home of a container, and what was its home a reference.
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

    /// True if `obj` is `top` or is shown somewhere below it.
    pub(crate) fn is_below(&self, r: &Reader<'_>, mut obj: Obj, top: Obj) -> FsResult<bool> {
        for _ in 0..MAX_DEPTH {
            if obj == top {
                return Ok(true);
            }
            if obj == self.root {
                return Ok(false);
            }
            obj = match self.above(r, obj) {
                Ok((parent, _)) => parent,
                // A directory that was removed while somebody is in it.
                Err(FsError::Errno(libc::ENOENT)) => return Ok(false),
                Err(e) => return Err(e),
            };
        }
        errno(libc::ELOOP)
    }

    /// The length of that text. A target too deep for any text is no reason not to list its symlink.
    pub(crate) fn link_size(&self, r: &Reader<'_>, from: Obj, to: Obj) -> FsResult<u64> {
        match self.link_text(r, from, to) {
            Ok(text) => Ok(text.len() as u64),
            Err(FsError::Errno(libc::ELOOP)) => Ok(libc::PATH_MAX as u64),
            Err(e) => Err(e),
        }
    }

    /// The text of a symlink in `from` to the home of `to`.
    pub(crate) fn link_text(&self, r: &Reader<'_>, from: Obj, to: Obj) -> FsResult<Vec<u8>> {
        let (from, to) = (self.path(r, from)?, self.path(r, to)?);
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        let mut parts: Vec<&[u8]> = vec![b".."; from.len() - common];
        parts.extend(to[common..].iter().map(Vec::as_slice));
        if parts.is_empty() {
            parts.push(b".");
        }
        Ok(parts.join(&b'/'))
    }
}

/// A key the engine gave, whole.
pub(crate) fn owned_key(r: &Reader<'_>, key: &Value) -> FsResult<OwnedKey> {
    use persist_core::store::LargeKind;
    if let Value::Large(large) = key {
        if large.len > MAX_KEY {
            return errno(libc::ENAMETOOLONG);
        }
        let bytes = read_large(r, large)?;
        return Ok(match large.kind {
            LargeKind::Str { .. } => OwnedKey::Str(bytes),
            LargeKind::Bytes => OwnedKey::Bytes(bytes),
            LargeKind::Int { negative } => OwnedKey::BigInt {
                negative,
                magnitude: bytes,
            },
        });
    }
    OwnedKey::from_value(key).ok_or(FsError::Errno(libc::EIO))
}

/// A large value, whole. Memory is taken as the bytes come: the length is not trusted.
pub(crate) fn read_large(r: &Reader<'_>, large: &Large) -> FsResult<Vec<u8>> {
    let mut out = Vec::with_capacity(large.len.min(1 << 20) as usize);
    let mut piece = vec![0u8; 256 << 10];
    while (out.len() as u64) < large.len {
        let got = r.large_read(large, out.len() as u64, &mut piece)?;
        if got == 0 {
            break;
        }
        out.extend_from_slice(&piece[..got]);
    }
    Ok(out)
}
