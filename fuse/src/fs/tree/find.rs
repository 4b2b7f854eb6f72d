//! Finding entries by name, and describing them.
//!
//! 1. A name is taken apart before a section (`named`), because long names need a scan. What the number of a list item
//!    means is found in the section that uses it (`spot_of`).
//! 2. A container is a directory at its home and a symlink everywhere else.

use super::filesystem::Fs;
use super::values::owned_key;
use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::{Place, Shown, Slot, Spot};
use crate::fs::known::leases::{Covered, Held};
use crate::fs::text::keys::OwnedKey;
use crate::fs::text::list_entries;
use crate::fs::text::names::{self, Meaning};
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::attributes::NodeKind;
use persist_core::store::door::{LeaseBucket, lease_clock};
use persist_core::store::{Kind, Obj, Reader, Step, Value};
use std::time::Duration;

/// The number of entries that one section reads in a scan for a long name.
const SCAN: usize = 1000;

/// The longest wait for an inode that follows its entry.
const ARRIVING: Duration = Duration::from_secs(1);

/// The meaning of a name in a directory.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    /// This key of a dict or object.
    Key(OwnedKey),
    /// This number in a list: an item, or an entry that waits to become one.
    Item(u64),
    /// In a list: a temporary name, beside the items.
    Beside(OwnedKey),
    /// In a list or object: a name that an entry cannot have.
    Impossible,
}

/// A found entry: its place, its attributes (without a number), and the object that was pinned for it.
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) attr: Attr,
    pub(crate) pinned: Option<Obj>,
}

impl Fs {
    /// The meaning of a name in a directory.
    pub(crate) fn named(&self, ctx: &Ctx, dir: Obj, name: &[u8]) -> FsResult<Named> {
        if name.len() > names::NAME_MAX {
            return errno(libc::ENAMETOOLONG);
        }
        let kind = self.read(ctx, |r| Ok(r.kind(dir)?))?;
        Ok(match kind {
            Kind::List => match (list_entries::number_of(name), list_entries::place_of(name)) {
                (Some(n), _) => Named::Item(n),
                (None, Some(place)) => match self.read(ctx, |r| self.name_at(r, dir, place))? {
                    Some(n) => Named::Item(n),
                    None => Named::Impossible,
                },
                _ if list_entries::is_temporary(name) => Named::Beside(OwnedKey::Str(name.to_vec())),
                _ => Named::Impossible,
            },
            Kind::Dict | Kind::Object => match names::key_of(name) {
                Meaning::Key(key) if kind == Kind::Dict || matches!(key, OwnedKey::Str(_)) => Named::Key(key),
                Meaning::Key(_) => Named::Impossible,
                // A long name without a key stands for itself until its key is set.
                Meaning::Long => Named::Key(
                    self.long_key(ctx, dir, name)?
                        .unwrap_or_else(|| OwnedKey::Str(name.to_vec())),
                ),
            },
        })
    }

    /// Scan a dict for the key that has this long name.
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

    /// One step of the scan: the key if it is among the next entries, and the cursor to continue from.
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
                Value::Large(_) | Value::BigInt { .. } | Value::Typed(_) => true,
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

    /// The entry of a name: of a list, only if it exists.
    pub(crate) fn spot_of(&self, r: &Reader<'_>, dir: Obj, named: &Named) -> FsResult<Option<Spot>> {
        let (key, name) = match named {
            Named::Key(key) => {
                return Ok(Some(Spot {
                    parent: dir,
                    slot: Slot::Key(key.clone()),
                }));
            }
            Named::Item(name) => (list_entries::key_beside(*name), Some(*name)),
            Named::Beside(key) => (key.clone(), None),
            Named::Impossible => return Ok(None),
        };
        if let Some(name) = name
            && self.names(r, dir, |l| l.index(name))?.is_some()
        {
            return Ok(Some(Spot {
                parent: dir,
                slot: Slot::Item(name),
            }));
        }
        match r.waiting(dir)? {
            Some(dict) if r.contains(dict, &key.as_key())? => Ok(Some(Spot {
                parent: dict,
                slot: Slot::Key(key),
            })),
            _ => Ok(None),
        }
    }

    /// The entry of a name and its value.
    pub(crate) fn value_of(
        &self,
        r: &Reader<'_>,
        dir: Obj,
        named: &Named,
    ) -> FsResult<Option<(Spot, Value)>> {
        let Some(spot) = self.spot_of(r, dir, named)? else {
            return Ok(None);
        };
        Ok(self.value_at(r, &spot)?.map(|value| (spot, value)))
    }

    /// The value at a spot.
    pub(crate) fn value_at(&self, r: &Reader<'_>, spot: &Spot) -> FsResult<Option<Value>> {
        match &spot.slot {
            Slot::Key(key) => Ok(r.get(spot.parent, &key.as_key())?),
            Slot::Item(name) => match self.item(r, spot.parent, *name)? {
                Some((index, _)) => Ok(r.item(spot.parent, index)?),
                None => Ok(None),
            },
        }
    }

    /// The engine's form of a spot.
    pub(crate) fn step(&self, r: &Reader<'_>, spot: &Spot) -> FsResult<Step> {
        match &spot.slot {
            Slot::Key(key) => Ok(Step::Key(key.to_value())),
            Slot::Item(name) => self.index(r, spot.parent, *name).map(Step::Index),
        }
    }

    /// True for a container without entries, also without such that wait.
    pub(crate) fn is_empty(&self, r: &Reader<'_>, obj: Obj) -> FsResult<bool> {
        let waiting = r.kind(obj)? == Kind::List && r.waiting(obj)?.is_some();
        Ok(!waiting && r.len(obj)? == 0)
    }

    /// The meaning of a name for a new entry.
    pub(crate) fn named_to_make(&self, ctx: &Ctx, dir: Obj, name: &[u8]) -> FsResult<Named> {
        let named = self.named(ctx, dir, name)?;
        if matches!(named, Named::Impossible) {
            return errno(libc::EINVAL);
        }
        Ok(named)
    }

    /// Describe an entry. The object of a directory is pinned.
    pub(crate) fn describe(&self, r: &Reader<'_>, spot: Spot, value: &Value) -> FsResult<Found> {
        match value {
            Value::Obj(obj) if self.shown_at(r, *obj, &spot)? => {
                let attr = self.dir_attr(r, *obj)?;
                // This is the last step in the section: if the section runs again, the pin is not taken twice.
                r.pin(*obj)?;
                Ok(Found {
                    place: Place::Dir(*obj),
                    attr,
                    pinned: Some(*obj),
                })
            }
            Value::Obj(_) | Value::Link(_) => {
                if let Value::Link(text) = value {
                    self.note_link(r, &spot, text)?;
                }
                Ok(Found {
                    attr: self.link_attr(r, &spot, value)?,
                    place: Place::Link(spot),
                    pinned: None,
                })
            }
            _ => Ok(Found {
                attr: self.file_attr(r, &spot, value)?,
                place: Place::File(spot),
                pinned: None,
            }),
        }
    }

    /// Find an entry by name. The caller registers its inode (`enter`).
    pub(crate) fn find(&self, ctx: &Ctx, dir: Obj, name: &[u8]) -> FsResult<Found> {
        let found = self.find_leased(ctx, dir, name, &mut Held::none())?;
        found.map_err(|_| FsError::Errno(libc::ENOENT))
    }

    /// Find an entry by name and lease what the kernel may keep of it. If there is none, return what covers that.
    fn find_leased(
        &self,
        ctx: &Ctx,
        dir: Obj,
        name: &[u8],
        held: &mut Held,
    ) -> FsResult<Result<Found, Covered>> {
        let named = self.named(ctx, dir, name)?;
        self.read(ctx, |r| match self.value_of(r, dir, &named)? {
            Some((spot, value)) => self.describe_leased(r, dir, name, spot, &value, held).map(Ok),
            None => {
                let bucket = match &named {
                    Named::Key(key) if is_plain(name) => {
                        Some(self.store.lease_bucket(dir, Some(&key.as_key())))
                    }
                    _ => None,
                };
                Ok(Err(Covered {
                    entry: bucket
                        .filter(|_| held.keeps_entries())
                        .and_then(|bucket| held.take(r, bucket)),
                    attributes: None,
                }))
            }
        })
    }

    /// Describe an entry for the kernel, which keeps it as long as it is leased.
    pub(crate) fn describe_leased(
        &self,
        r: &Reader<'_>,
        dir: Obj,
        name: &[u8],
        spot: Spot,
        value: &Value,
        held: &mut Held,
    ) -> FsResult<Found> {
        if !held.is_on() {
            return self.describe(r, spot, value);
        }
        let bucket = self.bucket_of(dir, &spot, name);
        let cover = bucket.and_then(|bucket| held.take(r, bucket));
        let attributes = match value {
            Value::Obj(obj) => held.take(r, self.store.lease_bucket(*obj, None)),
            _ => cover,
        };
        let entry = cover.filter(|_| held.keeps_entries());
        // The pin of a described directory is the last step.
        let mut found = self.describe(r, spot, value)?;
        // A symlink depends on more than its entry.
        if matches!(found.place, Place::Dir(_) | Place::File(_)) {
            found.attr.covered = Covered { entry, attributes };
        }
        Ok(found)
    }

    /// The bucket of an entry that is shown under a name; None if the name may come to mean another entry by a change
    /// elsewhere.
    pub(crate) fn bucket_of(&self, dir: Obj, spot: &Spot, name: &[u8]) -> Option<LeaseBucket> {
        match &spot.slot {
            _ if spot.parent.id != dir.id => None,
            Slot::Key(key) => is_plain(name).then(|| self.store.lease_bucket(dir, Some(&key.as_key()))),
            Slot::Item(_) => list_entries::number_of(name).map(|_| self.store.lease_bucket(dir, None)),
        }
    }

    /// Count a lookup: the kernel holds the inode from now on.
    pub(crate) fn enter(&self, ctx: &Ctx, found: Found) -> Attr {
        let mut nodes = lock(&self.inodes);
        if nodes.is_arriving(&found.place) {
            // An operation has moved an entry to this place. Its inode follows in a moment.
            nodes = self.await_admission(nodes, ARRIVING, |nodes| nodes.is_arriving(&found.place));
        }
        let (ino, spare) = nodes.hold(self.root, found.place, found.pinned);
        drop(nodes);
        if let Some(obj) = spare {
            self.store.unpin(obj);
        }
        let mut attr = Attr { ino, ..found.attr };
        // The kernel takes every size that it is told: a smaller one cuts what programs have mapped of a new file.
        if attr.kind == NodeKind::File
            && let Some((size, at)) = self.open_files.size_of_new(ino)
        {
            attr.show_written(size, at);
        }
        self.uncover_written(&mut attr);
        self.note_sent(ctx, &mut attr);
        attr
    }

    /// Note which attributes are sent. The kernel keeps them only if it has them already, or if no other thread looks
    /// (`known::inodes::shown`). Return whether the thread of the request alone asks for attributes.
    pub(crate) fn note_sent(&self, ctx: &Ctx, attr: &mut Attr) -> bool {
        let print = attr.print();
        let mut nodes = lock(&self.inodes);
        // Under the lock: times are noted in their order.
        let now = lease_clock();
        let is_single = self.single.asks(ctx.tid, now);
        let shown = nodes.shown(attr.ino);
        if !shown.is_some_and(|shown| shown.sent(print, now, ctx.tid, is_single)) {
            attr.covered.attributes = None;
        }
        is_single
    }

    /// The kernel got no attributes of an inode, or others than those that were noted.
    pub(crate) fn note_unknown(&self, ino: u64) {
        if let Some(shown) = lock(&self.inodes).shown(ino) {
            *shown = Shown::unknown();
        }
    }

    /// The kernel keeps no attributes of a file that is open for writing.
    pub(crate) fn uncover_written(&self, attr: &mut Attr) {
        if attr.covered.attributes.is_some()
            && attr.kind == NodeKind::File
            && self.open_files.is_written(attr.ino)
        {
            attr.covered.attributes = None;
        }
    }

    /// The number that an entry has or would get, without counting a lookup.
    pub(crate) fn number(&self, place: &Place) -> u64 {
        lock(&self.inodes).number(self.root, place)
    }

    /// Request: an entry of a directory. If there is none, return what covers that.
    pub(crate) fn lookup(
        &self,
        ctx: &Ctx,
        parent: u64,
        name: &[u8],
        held: &mut Held,
    ) -> FsResult<Result<Attr, Covered>> {
        if let Some(found) = self.find_control(ctx, parent, name)? {
            return Ok(Ok(self.enter(ctx, found)));
        }
        let dir = self.dir(parent)?;
        let found = self.find_to_keep(ctx, dir, name, held)?;
        Ok(found.map(|found| self.enter(ctx, found)))
    }

    /// Find an entry by name and lease it, unless its inode is still to follow it there.
    pub(crate) fn find_to_keep(
        &self,
        ctx: &Ctx,
        dir: Obj,
        name: &[u8],
        held: &mut Held,
    ) -> FsResult<Result<Found, Covered>> {
        let mut found = self.find_leased(ctx, dir, name, held)?;
        if let Ok(found) = &mut found
            && lock(&self.inodes).is_arriving(&found.place)
        {
            // The operation that moves the entry here waits, before its reply, for the requests that have leases.
            *held = Held::none();
            found.attr.covered = Covered::default();
        }
        Ok(found)
    }
}

/// True for a name that denotes its key by itself.
fn is_plain(name: &[u8]) -> bool {
    !names::is_hashed(name)
}
