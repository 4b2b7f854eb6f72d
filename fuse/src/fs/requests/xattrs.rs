//! Extended attributes: the types, classes and keys that names and text cannot express.
//!
//! | attribute | of | value |
//! | --- | --- | --- |
//! | `user.persist.type` | everything | `none bool int float str bytes dict list object`, `date` and the like (`text::typed`) |
//! | `user.persist.class` | directories of objects | `module:qualname`; empty for a generic object |
//! | `user.persist.key` | entries with a long name | the whole key: `s:text`, `i:5`, `b:00ff` |
//! | other `user.` | files and directories | any bytes, kept in the record of the entry (`text::record`) |
//!
//! Setting a type converts the entry. A file keeps its bytes and reads as before (`EINVAL` if they do not fit the
//! type). An empty file gets its value at its first write. A directory of entries `0`..`n-1` becomes a list, in any
//! order and with items that do not exist yet.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::{Place, Slot, Spot};
use crate::fs::known::metadata::Mark;
use crate::fs::text::keys::OwnedKey;
use crate::fs::text::list_entries;
use crate::fs::text::names;
use crate::fs::text::record::Record;
use crate::fs::text::scalars::{self, Scalar, Ty};
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::metadata::records::Subject;
use crate::fs::tree::removed::Removal;
use crate::fs::tree::shape::Shape;
use crate::fs::tree::values::owned_key;
use persist_core::store::door::builtin_kind;
use persist_core::store::{Kind, Obj, Reader, Step, Value, Writer};
use std::borrow::Cow;

const TYPE: &[u8] = b"user.persist.type";
const CLASS: &[u8] = b"user.persist.class";
const KEY: &[u8] = b"user.persist.key";
/// Attributes that tools give a meaning.
const USER: &[u8] = b"user.";
/// Attributes that the mount gives a meaning.
const OURS: &[u8] = b"user.persist.";
/// The maximal number of items in a conversion to a list.
const MAX_ITEMS: u64 = 1 << 32;

impl Fs {
    /// Request: an attribute's value.
    pub(crate) fn getxattr(&self, ctx: &Ctx, ino: u64, name: &[u8]) -> FsResult<Vec<u8>> {
        if !name.starts_with(USER) {
            // Programs ask for these twice for every line of `ls -l` and at every write, so the answer comes first.
            return errno(if name.starts_with(b"system.") {
                libc::EOPNOTSUPP
            } else {
                libc::ENODATA
            });
        }
        let place = self.place(ino)?;
        if !name.starts_with(OURS) {
            let Some(subject) = Subject::of(&place) else {
                return errno(libc::ENODATA);
            };
            let record = self.read(ctx, |r| self.record(r, subject))?;
            let value = record.attributes.get(name);
            return value.cloned().ok_or(FsError::Errno(libc::ENODATA));
        }
        match name {
            TYPE => self
                .type_name(ctx, &place)
                .map(|name| name.into_owned().into_bytes()),
            CLASS => match place {
                Place::Dir(obj) => match self.shape(ctx, obj)?.own_class() {
                    Some(class) => Ok(class.as_bytes().to_vec()),
                    None => errno(libc::ENODATA),
                },
                _ => errno(libc::ENODATA),
            },
            KEY => match self.long_key_of(ctx, &place)? {
                Some(key) => Ok(names::key_text(&key)),
                None => errno(libc::ENODATA),
            },
            _ => errno(libc::ENODATA),
        }
    }

    /// Request: the names of the attributes, each with a NUL.
    pub(crate) fn listxattr(&self, ctx: &Ctx, ino: u64) -> FsResult<Vec<u8>> {
        let place = self.place(ino)?;
        let record = match Subject::of(&place) {
            Some(subject) => self.read(ctx, |r| self.record(r, subject))?,
            None => Record::default(),
        };
        let mut found: Vec<&[u8]> = Vec::new();
        match &place {
            Place::File(_) => found.push(TYPE),
            Place::Dir(obj) => {
                found.push(TYPE);
                if self.shape(ctx, *obj)?.own_class().is_some() {
                    found.push(CLASS);
                }
            }
            _ => {}
        }
        if self.long_key_of(ctx, &place)?.is_some() {
            found.push(KEY);
        }
        found.extend(record.attributes.keys().map(Vec::as_slice));
        Ok(found.iter().flat_map(|n| n.iter().copied().chain([0])).collect())
    }

    fn shape(&self, ctx: &Ctx, obj: Obj) -> FsResult<Shape> {
        self.read(ctx, |r| Shape::of(r, obj))
    }

    fn type_name(&self, ctx: &Ctx, place: &Place) -> FsResult<Cow<'static, str>> {
        match place {
            Place::Dir(obj) => Ok(Cow::Owned(self.shape(ctx, *obj)?.name().to_owned())),
            Place::File(spot) => {
                let want = Mark::of(place)
                    .and_then(|m| lock(&self.metadata).get(&m).and_then(|memo| memo.want.clone()));
                let there = self.read(ctx, |r| match self.value_at(r, spot)? {
                    Some(value) => self.type_of(r, &value),
                    None => Ok(None),
                })?;
                match want.or(there) {
                    Some(ty) => Ok(ty.name()),
                    None => errno(libc::ESTALE),
                }
            }
            _ => errno(libc::ENODATA),
        }
    }

    /// The key of an entry whose name contains a hash of it.
    fn long_key_of(&self, ctx: &Ctx, place: &Place) -> FsResult<Option<OwnedKey>> {
        let key = match place {
            Place::File(Spot {
                slot: Slot::Key(key), ..
            }) => Some(key.clone()),
            Place::Dir(obj) if *obj != self.root => self.read(ctx, |r| match r.home(*obj)? {
                Some((_, Step::Key(key))) => owned_key(r, &key).map(Some),
                _ => Ok(None),
            })?,
            _ => None,
        };
        Ok(key.filter(|k| names::is_long(&names::name_of(k))))
    }

    /// Request: set an attribute. `flags` may demand that it exists, or that it does not.
    pub(crate) fn setxattr(
        &self,
        ctx: &Ctx,
        ino: u64,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> FsResult<()> {
        let place = self.place(ino)?;
        if name.starts_with(USER) && !name.starts_with(OURS) {
            return self.change_attributes(ctx, &place, |record| {
                let there = record.attributes.contains_key(name);
                if there && flags & libc::XATTR_CREATE != 0 {
                    return errno(libc::EEXIST);
                }
                if !there && flags & libc::XATTR_REPLACE != 0 {
                    return errno(libc::ENODATA);
                }
                record.set_attribute(name, value)
            });
        }
        match (name, &place) {
            (TYPE, Place::Dir(obj)) => self.set_kind(ctx, *obj, value),
            (TYPE, Place::File(_)) => match Ty::named(value) {
                Some(ty) => self.set_type(ctx, ino, &place, &ty),
                None => errno(libc::EINVAL),
            },
            (CLASS, Place::Dir(obj)) => {
                let class = std::str::from_utf8(value).map_err(|_| FsError::Errno(libc::EINVAL))?;
                self.write(ctx, |w, _| {
                    let shape = Shape::of(w, *obj)?;
                    if shape.own_class() == Some(class) {
                        return Ok(());
                    }
                    match shape.kind {
                        // Otherwise the class of a directory makes it an object.
                        Kind::Dict | Kind::List if shape.class.is_some() => {
                            if shape.is_builtin() || builtin_kind(class) == Some(shape.kind) {
                                return errno(libc::EINVAL);
                            }
                            w.set_class(*obj, Some(class))?;
                        }
                        _ => w.convert(*obj, Kind::Object, class)?,
                    }
                    Ok(())
                })
            }
            (KEY, Place::Dir(_) | Place::File(_)) => {
                let key = names::key_from_text(value).ok_or(FsError::Errno(libc::EINVAL))?;
                self.set_key(ctx, &place, key)
            }
            (TYPE | CLASS | KEY, _) => errno(libc::EINVAL),
            _ => errno(libc::EOPNOTSUPP),
        }
    }

    /// Request: remove an attribute. `rsync -X` removes attributes that its source does not have. The request is
    /// accepted and the type stays, as it does when a file is overwritten.
    pub(crate) fn removexattr(&self, ctx: &Ctx, ino: u64, name: &[u8]) -> FsResult<()> {
        match name {
            TYPE | CLASS | KEY => Ok(()),
            _ if name.starts_with(USER) && !name.starts_with(OURS) => {
                let place = self.place(ino)?;
                self.change_attributes(ctx, &place, |record| match record.attributes.remove(name) {
                    Some(_) => Ok(()),
                    None => errno(libc::ENODATA),
                })
            }
            _ => errno(libc::ENODATA),
        }
    }

    /// Change the attributes of a file or directory that its record has.
    fn change_attributes(
        &self,
        ctx: &Ctx,
        place: &Place,
        f: impl Fn(&mut Record) -> FsResult<()>,
    ) -> FsResult<()> {
        match Subject::of(place) {
            Some(subject) => self.write(ctx, |w, _| self.change_record(w, subject, &f)),
            // The kernel refuses attributes of users on symlinks; control files have none.
            None => errno(libc::EPERM),
        }
    }

    /// Set the type of a file.
    fn set_type(&self, ctx: &Ctx, ino: u64, place: &Place, ty: &Ty) -> FsResult<()> {
        for handle in self.open_files.of_inode(ino) {
            let mut state = handle.state(ctx)?;
            self.build_cut(ctx, &handle, &mut state)?;
            let empty = state.data.as_ref().is_none_or(|d| d.is_empty());
            if state.draft.is_some() {
                self.commit(ctx, &handle, &mut state, None)?;
            } else if state.dirty && !empty {
                self.commit(ctx, &handle, &mut state, Some(ty.clone()))?;
            }
            state.created = false;
            state.hint = None;
        }
        let exact = self.config.exact;
        match place {
            Place::File(spot) => {
                let waits = self.write(ctx, |w, _| {
                    let Some(old) = self.value_at(w, spot)? else {
                        return errno(libc::ESTALE);
                    };
                    let Some(old_ty) = self.type_of(w, &old)? else {
                        return errno(libc::ESTALE);
                    };
                    if old_ty == *ty {
                        return Ok(false);
                    }
                    let bytes = self.whole(w, &old)?;
                    match retyped(ty, &bytes, exact) {
                        Retyped::Value(scalar) => {
                            self.set_content(w, spot, &scalar.as_in())?;
                            Ok(false)
                        }
                        Retyped::Waits => Ok(true),
                        Retyped::Unfit => errno(libc::EINVAL),
                    }
                })?;
                if let Some(mark) = Mark::of(place) {
                    let mut memory = lock(&self.metadata);
                    if waits || memory.get(&mark).is_some() {
                        let memo = memory.at(mark);
                        memo.want = waits.then(|| ty.clone());
                        memo.fresh = None;
                    }
                }
                for handle in self.open_files.of_inode(ino) {
                    handle.state(ctx)?.ty = Some(ty.clone());
                }
                Ok(())
            }
            _ => errno(libc::EINVAL),
        }
    }

    /// Make a container a dict, list or object, or a dict or list of a class.
    fn set_kind(&self, ctx: &Ctx, obj: Obj, name: &[u8]) -> FsResult<()> {
        let shape = self.shape(ctx, obj)?;
        let (kind, class) = shape.named(name).ok_or(FsError::Errno(libc::EINVAL))?;
        let now = shape.kind;
        if now == kind {
            if kind == Kind::Object || shape.class == class {
                return Ok(());
            }
            return self.write(ctx, |w, _| Ok(w.set_class(obj, class.as_deref())?));
        }
        if kind == Kind::List {
            return self.make_list(ctx, obj, class.as_deref());
        }
        self.write(ctx, |w, _| {
            match now {
                Kind::List => self.convert_list(w, obj, kind)?,
                _ => w.convert(obj, kind, "")?,
            }
            if class.is_some() {
                w.set_class(obj, class.as_deref())?;
            }
            Ok(())
        })?;
        if now == Kind::List {
            lock(&self.lists).forget(obj.id);
            lock(&self.metadata).forget_items(obj.id);
        }
        Ok(())
    }

    /// Convert a list to a dict or object. Entries that wait beside it become entries under their names.
    fn convert_list(&self, w: &mut Writer<'_>, obj: Obj, kind: Kind) -> FsResult<()> {
        let Some(dict) = w.waiting(obj)? else {
            return Ok(w.convert(obj, kind, "")?);
        };
        let held = w.new_dict()?;
        while let Some(entry) = w.next(dict, 0)? {
            let step = Step::Key(entry.key);
            w.rename(dict, &step, held, &step)?;
        }
        w.drop_waiting(obj)?;
        w.convert(obj, kind, "")?;
        while let Some(entry) = w.next(held, 0)? {
            let key = owned_key(w, &entry.key)?;
            let to = match kind {
                Kind::Object => OwnedKey::Str(list_entries::name_beside(&key)),
                _ => key.clone(),
            };
            w.rename(held, &Step::Key(key.to_value()), obj, &Step::Key(to.to_value()))?;
        }
        Ok(())
    }

    /// Convert a dict to a list. Entries above a gap (a file that is not restored yet) wait beside it.
    fn make_list(&self, ctx: &Ctx, obj: Obj, class: Option<&str>) -> FsResult<()> {
        let _moving = self.moving.begin();
        let (ready, waiting) = self.write(ctx, |w, _| {
            let mut keys = self.index_keys(w, obj)?;
            keys.sort_unstable_by_key(|(n, _)| *n);
            if keys.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return errno(libc::EINVAL);
            }
            let ready = keys
                .iter()
                .enumerate()
                .take_while(|(at, (n, _))| *at as u64 == *n)
                .count();
            let waiting = keys.split_off(ready);
            if waiting.is_empty() {
                w.convert(obj, Kind::List, "")?;
                w.set_class(obj, class)?;
                return Ok((keys, None));
            }
            let held = w.new_dict()?;
            for (n, key) in &waiting {
                let to = list_entries::key_beside(*n);
                w.rename(obj, &Step::Key(key.to_value()), held, &Step::Key(to.to_value()))?;
            }
            w.convert(obj, Kind::List, "")?;
            w.set_class(obj, class)?;
            let dict = self.beside(w, obj)?;
            for (n, _) in &waiting {
                let step = Step::Key(list_entries::key_beside(*n).to_value());
                w.rename(held, &step, dict, &step)?;
            }
            Ok((keys, Some((dict, waiting))))
        })?;
        // The entries keep their inodes.
        let places = |parent: Obj, slot: Slot| Spot { parent, slot };
        for (n, key) in ready.into_iter().take(1 << 16) {
            self.spot_moved(&places(obj, Slot::Key(key)), &places(obj, Slot::Item(n)));
        }
        if let Some((dict, waiting)) = waiting {
            for (n, key) in waiting.into_iter().take(1 << 16) {
                let to = places(dict, Slot::Key(list_entries::key_beside(n)));
                self.spot_moved(&places(obj, Slot::Key(key)), &to);
            }
        }
        let ctx = &Ctx {
            may_wait: true,
            ..*ctx
        };
        self.entry_appeared(ctx, obj, b"");
        Ok(())
    }

    /// The keys of a dict, all of which must be indices.
    fn index_keys(&self, r: &Reader<'_>, obj: Obj) -> FsResult<Vec<(u64, OwnedKey)>> {
        if r.len(obj)? > MAX_ITEMS {
            return errno(libc::EFBIG);
        }
        let (mut keys, mut cursor) = (Vec::new(), 0);
        while let Some(entry) = r.next(obj, cursor)? {
            cursor = entry.cursor;
            let n = match &entry.key {
                Value::Int(n) => u64::try_from(*n).ok(),
                Value::Str { bytes, .. } => list_entries::number_of(bytes),
                _ => None,
            };
            match (n, OwnedKey::from_value(&entry.key)) {
                (Some(n), Some(key)) => keys.push((n, key)),
                _ => return errno(libc::EINVAL),
            }
        }
        Ok(keys)
    }

    /// Set the whole key of an entry: now if its name is the name of that key, otherwise when it is renamed to it.
    fn set_key(&self, ctx: &Ctx, place: &Place, key: OwnedKey) -> FsResult<()> {
        let spot = match place {
            Place::File(spot) => spot.clone(),
            Place::Dir(obj) => {
                let home = self.read(ctx, |r| match r.home(*obj)? {
                    Some((parent, Step::Key(key))) => Ok(Some((parent, owned_key(r, &key)?))),
                    _ => Ok(None),
                })?;
                match home {
                    Some((parent, key)) => Spot {
                        parent,
                        slot: Slot::Key(key),
                    },
                    None => return errno(libc::EINVAL),
                }
            }
            _ => return errno(libc::EINVAL),
        };
        let Slot::Key(now) = &spot.slot else {
            return errno(libc::EINVAL);
        };
        if *now == key {
            return Ok(());
        }
        let name = names::name_of(&key);
        let stands_for_itself = matches!(now, OwnedKey::Str(text) if names::is_long(text) && *text == name);
        if !stands_for_itself {
            if let Some(mark) = Mark::of(place) {
                lock(&self.metadata).at(mark).key = Some(key);
            }
            return Ok(());
        }
        let to = Spot {
            parent: spot.parent,
            slot: Slot::Key(key),
        };
        let _moving = self.moving.begin();
        let mut removal = Removal::new(self);
        let (_, unforgotten) = self.write_to_follow(ctx, |w, _| {
            removal.run(|removal| {
                removal.leaves(&spot);
                removal.arrives(&to);
                Ok(w.rename(spot.parent, &self.step(w, &spot)?, to.parent, &self.step(w, &to)?)?)
            })
        })?;
        self.spot_moved(&spot, &to);
        drop(removal);
        drop(unforgotten);
        Ok(())
    }
}

/// The effect of a new type on a file's bytes.
enum Retyped<'a> {
    Value(Scalar<'a>),
    /// An empty file that will be a number: it gets its value at its first write.
    Waits,
    Unfit,
}

fn retyped<'a>(ty: &Ty, bytes: &'a [u8], exact: bool) -> Retyped<'a> {
    match scalars::parse_as(ty, bytes, exact) {
        Some(scalar) => Retyped::Value(scalar),
        None if bytes.is_empty() => Retyped::Waits,
        None => Retyped::Unfit,
    }
}
