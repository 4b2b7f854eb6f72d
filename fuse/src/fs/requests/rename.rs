//! Request: rename. One write section moves the entry and deletes the entry that it replaces.
//!
//! A new file of the default type takes over the type of the file that it replaces, if its content fits: editors write
//! a new file without xattrs and rename it over the old one.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsResult, errno};
use crate::fs::known::inodes::{Place, Slot, Spot};
use crate::fs::known::metadata::Mark;
use crate::fs::known::sides::{Content, Side};
use crate::fs::text::names;
use crate::fs::text::scalars::{self, Ty};
use crate::fs::tree::change::Put;
use crate::fs::tree::filesystem::{Fs, Renumber};
use crate::fs::tree::find::Named;
use persist_core::store::{In, Obj, Step, Value, Writer};
use std::sync::Arc;

/// One side of a rename.
struct End {
    dir: Obj,
    name: Vec<u8>,
    named: Named,
}

impl Fs {
    /// Request: rename. `flags` as renameat2 has them.
    pub(crate) fn rename(
        &self,
        ctx: &Ctx,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        flags: u32,
    ) -> FsResult<()> {
        if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) != 0 {
            return errno(libc::EINVAL);
        }
        for (parent, name) in [(parent, name), (new_parent, new_name)] {
            if self.find_control(ctx, parent, name)?.is_some() || names::is_control_name(name) {
                return errno(libc::EPERM);
            }
        }
        let from = self.end(ctx, parent, name)?;
        let mut to = self.end(ctx, new_parent, new_name)?;
        if matches!(to.named, Named::Impossible) {
            return errno(libc::EINVAL);
        }
        for end in [&from, &to] {
            if let Named::Item(_) = end.named {
                lock(&self.lists).removing(end.dir.id, ctx.tid);
            }
        }
        let replace = flags & libc::RENAME_NOREPLACE == 0;
        if flags & libc::RENAME_EXCHANGE != 0 {
            return self.exchange(ctx, &from, &to);
        }
        let side = lock(&self.sides).find(from.dir.id, &from.name);
        // The key that was set for a long name.
        let told = match (&side, from.named.spot(from.dir)) {
            (Some(id), _) => lock(&self.sides).get(*id).and_then(|s| s.key.clone()),
            (None, Some(spot)) => lock(&self.metadata)
                .get(&Mark::Entry(spot.parent.id, spot.slot))
                .and_then(|m| m.key.clone()),
            _ => None,
        };
        if let (Some(key), Named::Key(_)) = (told, &to.named)
            && names::name_of(&key) == to.name
        {
            to.named = Named::Key(key);
        }
        let done = match side {
            Some(id) => self.rename_side(ctx, id, &from, &to, replace),
            None => self.rename_entry(ctx, &from, &to, replace),
        };
        done?;
        self.entry_appeared(
            &Ctx {
                may_wait: true,
                ..*ctx
            },
            to.dir,
            &to.name,
        );
        Ok(())
    }

    fn end(&self, ctx: &Ctx, parent: u64, name: &[u8]) -> FsResult<End> {
        let dir = self.dir(parent)?;
        Ok(End {
            dir,
            name: name.to_vec(),
            named: self.named(ctx, dir, name)?,
        })
    }

    /// Fail unless the entry at `to` may be replaced by a directory (`is_dir`) or by another entry.
    fn may_replace(&self, w: &Writer<'_>, to: &End, is_dir: bool, replace: bool) -> FsResult<Option<Value>> {
        let there = self.value_of(w, to.dir, &to.named)?;
        let side = lock(&self.sides).find(to.dir.id, &to.name);
        if (there.is_some() || side.is_some()) && !replace {
            return errno(libc::EEXIST);
        }
        let dir_there = match (&there, to.named.spot(to.dir)) {
            (Some(Value::Obj(obj)), Some(spot)) if self.shown_at(w, *obj, &spot)? => Some(*obj),
            _ => match side.and_then(|id| lock(&self.sides).get(id).map(|s| s.content.clone())) {
                Some(Content::Dir(obj)) => Some(obj),
                _ => None,
            },
        };
        match (is_dir, dir_there) {
            (false, Some(_)) => errno(libc::EISDIR),
            (true, Some(obj)) if w.len(obj)? > 0 || lock(&self.sides).any(obj.id) => errno(libc::ENOTEMPTY),
            (true, None) if there.is_some() || side.is_some() => errno(libc::ENOTDIR),
            _ => Ok(there),
        }
    }

    /// Move an entry of the store.
    fn rename_entry(&self, ctx: &Ctx, from: &End, to: &End, replace: bool) -> FsResult<()> {
        let Some(source) = from.named.spot(from.dir) else {
            return errno(libc::ENOENT);
        };
        let mark = Mark::Entry(source.parent.id, source.slot.clone());
        let fresh = lock(&self.metadata).is_fresh(&mark);
        let target = to.named.spot(to.dir);
        if target
            .as_ref()
            .is_some_and(|t| t.parent == source.parent && t.slot == source.slot)
        {
            let there = self.read(ctx, |r| self.value_of(r, from.dir, &from.named))?;
            return if there.is_some() {
                Ok(())
            } else {
                errno(libc::ENOENT)
            };
        }
        let (moved, put, kept) = self.write(ctx, |w, renumber| {
            let Some(value) = self.value_of(w, from.dir, &from.named)? else {
                return errno(libc::ENOENT);
            };
            let child = match value {
                Value::Obj(obj) if self.shown_at(w, obj, &source)? => Some(obj),
                _ => None,
            };
            if let Some(obj) = child
                && self.is_below(w, to.dir, obj)?
            {
                return errno(libc::EINVAL);
            }
            let there = self.may_replace(w, to, child.is_some(), replace)?;
            if to.named.spot(to.dir).is_none() || self.must_wait(w, to)? {
                // The entry leaves the store and waits beside a list.
                let content = match &value {
                    Value::Obj(obj) if child.is_some() => {
                        w.pin(*obj)?;
                        Content::Dir(*obj)
                    }
                    Value::Obj(obj) => Content::Link {
                        target: self.link_text(w, to.dir, *obj)?,
                        waits: None,
                    },
                    other => Content::File(Arc::new(self.scalar(w, other)?)),
                };
                self.remove_at(w, &source, renumber)?;
                return Ok((value, Put::Later, Some(content)));
            }
            let old_ty = there.as_ref().and_then(Ty::of);
            if let (true, Some(old), Some(new)) = (fresh, old_ty, Ty::of(&value))
                && old != new
            {
                let bytes = self.whole(w, &value)?;
                if let Some(scalar) = scalars::parse_as(old, &bytes, self.config.exact) {
                    // Store the value first: removing an item before it would shift the target.
                    self.put(w, to.dir, &to.named, &scalar.as_in(), renumber)?;
                    self.remove_at(w, &source, renumber)?;
                    return Ok((value, Put::Done, None));
                }
            }
            self.move_entry(w, &source, to, there.is_some(), &value, renumber)?;
            Ok((value, Put::Done, None))
        })?;
        if let (Put::Later, Some(content)) = (put, kept) {
            self.spot_beside(&source, to, content, !fresh);
            return Ok(());
        }
        let Some(target) = target else { return Ok(()) };
        let beside = lock(&self.sides).find(to.dir.id, &to.name);
        if let Some(id) = beside {
            self.drop_side(id);
        }
        self.spot_moved(&source, &target);
        if let Some(ty) = Ty::of(&moved) {
            let mut memory = lock(&self.metadata);
            if !fresh {
                memory.moved_away(mark, ty);
            }
            let mark = Mark::Entry(target.parent.id, target.slot);
            if memory.get(&mark).is_some_and(|m| m.key.is_some()) {
                memory.at(mark).key = None;
            }
        }
        Ok(())
    }

    /// True for an item whose index does not exist yet.
    fn must_wait(&self, w: &Writer<'_>, to: &End) -> FsResult<bool> {
        match &to.named {
            Named::Item(spot) if !spot.gone => Ok(self.index_now(to.dir, spot.serial) > w.len(to.dir)?),
            _ => Ok(false),
        }
    }

    fn index_now(&self, list: Obj, serial: u64) -> u64 {
        lock(&self.lists).at(list.id, serial).index
    }

    /// Move an entry that does not have to wait.
    fn move_entry(
        &self,
        w: &mut Writer<'_>,
        source: &Spot,
        to: &End,
        replaces: bool,
        value: &Value,
        renumber: &mut Vec<Renumber>,
    ) -> FsResult<()> {
        if let (Named::Key(_), Some(target)) = (&to.named, to.named.spot(to.dir)) {
            w.rename(
                source.parent,
                &self.step(source)?,
                target.parent,
                &self.step(&target)?,
            )?;
            if let Slot::Item(serial) = source.slot {
                renumber.push(Renumber::Removed(source.parent.id, serial));
            }
            return Ok(());
        }
        if let (Named::Item(spot), true) = (&to.named, replaces) {
            let step = Step::Index(self.index_now(to.dir, spot.serial));
            w.rename(source.parent, &self.step(source)?, to.dir, &step)?;
            if let Slot::Item(serial) = source.slot {
                renumber.push(Renumber::Removed(source.parent.id, serial));
            }
            return Ok(());
        }
        // A new item: it is inserted into the list, then removed from its old place. Its old index may have shifted, if
        // it is the same list and the new item was inserted before it.
        let before = match (&source.slot, &to.named) {
            (Slot::Item(serial), Named::Item(spot)) if source.parent == to.dir && spot.gone => {
                u64::from(spot.serial < *serial)
            }
            _ => 0,
        };
        let scalar;
        let input = match value {
            Value::Obj(obj) => In::Obj(*obj),
            other => {
                scalar = self.scalar(w, other)?;
                scalar.as_in()
            }
        };
        self.put(w, to.dir, &to.named, &input, renumber)?;
        match &source.slot {
            Slot::Item(serial) => {
                let index = self.index_now(source.parent, *serial) + before;
                w.remove_items(source.parent, index, index + 1)?;
                renumber.push(Renumber::Removed(source.parent.id, *serial));
            }
            Slot::Key(_) => self.remove_at(w, source, renumber)?,
        }
        Ok(())
    }

    /// Record that an entry of the store became one beside a list.
    fn spot_beside(&self, source: &Spot, to: &End, content: Content, typed: bool) {
        let mut side = Side::new(to.dir, &to.name, to.named.serial(), content);
        side.temporary = matches!(to.named, Named::Temporary);
        side.typed = typed;
        let (id, old) = lock(&self.sides).add(side);
        if let Some(Side {
            content: Content::Dir(obj),
            ..
        }) = old
        {
            self.store.unpin(obj);
        }
        let mut nodes = lock(&self.inodes);
        nodes.moved(&Place::File(source.clone()), &Place::Side(id));
        nodes.moved(&Place::Link(source.clone()), &Place::Side(id));
        drop(nodes);
        let salt = self.salt(source);
        let from = Mark::Entry(source.parent.id, source.slot.clone());
        lock(&self.metadata).renamed(&from, Mark::Side(id), salt);
    }

    /// Move an entry that is beside a directory.
    fn rename_side(&self, ctx: &Ctx, id: u64, from: &End, to: &End, replace: bool) -> FsResult<()> {
        let Some(side) = lock(&self.sides).get(id).cloned() else {
            return errno(libc::ENOENT);
        };
        if from.dir == to.dir && from.name == to.name {
            return Ok(());
        }
        let is_dir = matches!(side.content, Content::Dir(_));
        let put = self.write(ctx, |w, renumber| {
            if let Content::Dir(obj) = side.content
                && self.is_below(w, to.dir, obj)?
            {
                return errno(libc::EINVAL);
            }
            let there = self.may_replace(w, to, is_dir, replace)?;
            let scalar;
            let input = match &side.content {
                Content::Dir(obj) => In::Obj(*obj),
                // A symlink continues to wait under its new name. The entry that had that name is removed.
                Content::Link { .. } => {
                    if let (Some(_), Some(spot)) = (there, to.named.spot(to.dir)) {
                        self.remove_at(w, &spot, renumber)?;
                    }
                    return Ok(Put::Later);
                }
                Content::File(file) => {
                    let old = there
                        .as_ref()
                        .and_then(Ty::of)
                        .filter(|old| !side.typed && *old != file.ty());
                    let bytes = old.map(|_| file.render(self.config.exact)).unwrap_or_default();
                    let taken = old.and_then(|ty| scalars::parse_as(ty, &bytes, self.config.exact));
                    scalar = taken.map_or_else(|| (**file).clone(), scalars::Scalar::into_owned);
                    scalar.as_in()
                }
            };
            if matches!(to.named, Named::Temporary) || self.must_wait(w, to)? {
                return Ok(Put::Later);
            }
            let put = self.put(w, to.dir, &to.named, &input, renumber)?;
            self.finish_home(w, &side.content, to.dir, &to.named)?;
            Ok(put)
        })?;
        if let Some(spot) = to.named.spot(to.dir) {
            self.spot_deleted(to.dir, &spot.slot);
        }
        let other = lock(&self.sides).find(to.dir.id, &to.name).filter(|o| *o != id);
        if let Some(other) = other {
            self.drop_side(other);
        }
        let temporary = matches!(to.named, Named::Temporary);
        lock(&self.sides).rename(id, (to.dir, &to.name), to.named.serial(), temporary);
        if put == Put::Done {
            self.side_entered(id, &to.named);
        } else if !temporary || matches!(side.content, Content::Link { .. }) {
            self.finish_link(
                &Ctx {
                    may_wait: true,
                    ..*ctx
                },
                id,
            );
        }
        Ok(())
    }

    /// Exchange two entries of the store.
    fn exchange(&self, ctx: &Ctx, from: &End, to: &End) -> FsResult<()> {
        let (Some(one), Some(two)) = (from.named.spot(from.dir), to.named.spot(to.dir)) else {
            return errno(libc::EINVAL);
        };
        let mut pins: Vec<Obj> = Vec::new();
        let result = self.write(ctx, |w, _| {
            pins.drain(..).for_each(|obj| self.store.unpin(obj));
            let (Some(first), Some(second)) = (
                self.value_of(w, from.dir, &from.named)?,
                self.value_of(w, to.dir, &to.named)?,
            ) else {
                return errno(libc::ENOENT);
            };
            for (value, into) in [(&first, to.dir), (&second, from.dir)] {
                if let Value::Obj(obj) = value {
                    if self.is_below(w, into, *obj)? {
                        return errno(libc::EINVAL);
                    }
                    // Between the two steps the object may have no reference.
                    w.pin(*obj)?;
                    pins.push(*obj);
                }
            }
            let (a, b) = (self.owned_in(w, &first)?, self.owned_in(w, &second)?);
            self.set_at(w, &one, &b.as_in())?;
            self.set_at(w, &two, &a.as_in())
        });
        pins.into_iter().for_each(|obj| self.store.unpin(obj));
        result?;
        let places = |s: &Spot| (Place::File(s.clone()), Place::Link(s.clone()));
        let (a, b) = (places(&one), places(&two));
        lock(&self.inodes).exchanged([(&a.0, &b.0), (&a.1, &b.1), (&b.0, &a.0), (&b.1, &a.1)]);
        let mut memory = lock(&self.metadata);
        memory.deleted(&Mark::Entry(one.parent.id, one.slot));
        memory.deleted(&Mark::Entry(two.parent.id, two.slot));
        Ok(())
    }

    fn owned_in(&self, w: &Writer<'_>, value: &Value) -> FsResult<Exchanged> {
        Ok(match value {
            Value::Obj(obj) => Exchanged::Obj(*obj),
            other => Exchanged::Scalar(self.scalar(w, other)?),
        })
    }
}

/// A value on its way to the other entry.
enum Exchanged {
    Obj(Obj),
    Scalar(scalars::Scalar<'static>),
}

impl Exchanged {
    fn as_in(&self) -> In<'_> {
        match self {
            Exchanged::Obj(obj) => In::Obj(*obj),
            Exchanged::Scalar(scalar) => scalar.as_in(),
        }
    }
}
