//! Request: rename. One write section moves the entry and deletes the entry that it replaces.
//!
//! A new file of the default type takes over the type of the file that it replaces, if its content fits: editors write
//! a new file without xattrs and rename it over the old one.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsResult, errno};
use crate::fs::known::inodes::{Place, Slot, Spot};
use crate::fs::known::leases::Held;
use crate::fs::known::list_names::Renamed;
use crate::fs::known::metadata::Mark;
use crate::fs::text::names;
use crate::fs::text::scalars::{self, Ty};
use crate::fs::tree::change::Room;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::Named;
use crate::fs::tree::links::References;
use crate::fs::tree::metadata::records::Subject;
use crate::fs::tree::removed::Removal;
use persist_core::store::{Obj, Value, Writer};

/// One side of a rename.
struct End {
    dir: Obj,
    name: Vec<u8>,
    named: Named,
    parent: u64,
}

impl Fs {
    /// Request: rename. `flags` as renameat2 has them.
    pub(crate) fn rename(
        &self,
        ctx: &Ctx,
        (parent, name): (u64, &[u8]),
        (new_parent, new_name): (u64, &[u8]),
        flags: u32,
        held: &mut Held,
    ) -> FsResult<()> {
        let _moving = self.moving.begin();
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
        let replace = flags & libc::RENAME_NOREPLACE == 0;
        if flags & libc::RENAME_EXCHANGE != 0 {
            let moves = [
                [(from.dir, &from.named), (to.dir, &to.named)],
                [(to.dir, &to.named), (from.dir, &from.named)],
            ];
            let _names = self.hold_names(ctx, &moves)?;
            let values = self.with_references(|| self.exchange(ctx, &from, &to, held))?;
            self.after_rename(ctx, &values, &[&from, &to]);
            return Ok(());
        }
        // The key that was set for a long name.
        let told = match &from.named {
            Named::Key(key) => lock(&self.metadata)
                .get(&Mark::Entry(from.dir.id, Slot::Key(key.clone())))
                .and_then(|m| m.key.clone()),
            _ => None,
        };
        if let (Some(key), Named::Key(_)) = (told, &to.named)
            && names::name_of(&key) == to.name
        {
            to.named = Named::Key(key);
        }
        let _names = self.hold_names(ctx, &[[(from.dir, &from.named), (to.dir, &to.named)]])?;
        let values = self.with_references(|| self.rename_entry(ctx, &from, &to, replace, held))?;
        self.after_rename(ctx, &values, &[&to]);
        Ok(())
    }

    /// After entries have new names: finish these links, and finish what waited for the names.
    fn after_rename(&self, ctx: &Ctx, links: &[Spot], named: &[&End]) {
        let ctx = &Ctx {
            may_wait: true,
            ..*ctx
        };
        self.finish_links(ctx, links);
        for end in named {
            self.entry_appeared(ctx, end.dir, &end.name);
        }
    }

    fn end(&self, ctx: &Ctx, parent: u64, name: &[u8]) -> FsResult<End> {
        let dir = self.dir(parent)?;
        Ok(End {
            dir,
            name: name.to_vec(),
            named: self.named(ctx, dir, name)?,
            parent,
        })
    }

    /// An entry is about to get this name: the kernel keeps it under its new name for as long as it would have kept it
    /// under the old one.
    fn moving(&self, held: &mut Held, to: &End) {
        let key = match &to.named {
            Named::Key(key) => Some(key.as_key()),
            _ => None,
        };
        held.moving(self.store.lease_bucket(to.dir, key.as_ref()), to.parent, &to.name);
    }

    /// Fail unless the entry at `to` may be replaced by a directory (`is_dir`) or by another entry. Returns it.
    fn may_replace(
        &self,
        w: &Writer<'_>,
        to: &End,
        is_dir: bool,
        replace: bool,
    ) -> FsResult<Option<(Spot, Value)>> {
        let there = self.value_of(w, to.dir, &to.named)?;
        if there.is_some() && !replace {
            return errno(libc::EEXIST);
        }
        let dir_there = match &there {
            Some((spot, Value::Obj(obj))) if self.shown_at(w, *obj, spot)? => Some(*obj),
            _ => None,
        };
        match (is_dir, dir_there) {
            (false, Some(_)) => errno(libc::EISDIR),
            (true, Some(obj)) if !self.is_empty(w, obj)? => errno(libc::ENOTEMPTY),
            (true, None) if there.is_some() => errno(libc::ENOTDIR),
            _ => Ok(there),
        }
    }

    /// Move an entry. Returns the links that may wait for entries now.
    fn rename_entry(
        &self,
        ctx: &Ctx,
        from: &End,
        to: &End,
        replace: bool,
        held: &mut Held,
    ) -> FsResult<Vec<Spot>> {
        let references = self.references_to(ctx, from.dir, &from.named, false)?;
        let replaced = match references.any() {
            true => self.references_to(ctx, to.dir, &to.named, true)?,
            false => References::default(),
        };
        let mut values = Vec::new();
        let mut removal = Removal::new(self);
        let (moved, unforgotten) = self.write_to_follow(ctx, |w, renamed| {
            removal.run(|removal| {
                let Some((source, value)) = self.value_of(w, from.dir, &from.named)? else {
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
                if let Some(there) = self.spot_of(w, to.dir, &to.named)?
                    && there.parent == source.parent
                    && there.slot == source.slot
                {
                    return Ok(None);
                }
                self.moving(held, to);
                removal.leaves(&source);
                let there = self.may_replace(w, to, child.is_some(), replace)?;
                self.check_references(w, &references, child)?;
                if child.is_some() {
                    let there = there.as_ref().and_then(|(_, value)| match value {
                        Value::Obj(obj) => Some(*obj),
                        _ => None,
                    });
                    self.check_references(w, &replaced, there)?;
                }
                if let Some((spot, value)) = &there {
                    // From its move on, lookups of the name wait for the entry that replaces it.
                    removal.arrives(spot);
                    removal.replace(w, spot, value)?;
                }
                let mark = Mark::Entry(source.parent.id, source.slot.clone());
                let fresh = lock(&self.metadata).is_fresh(&mark);
                let old_ty = match &there {
                    Some((_, value)) => self.type_of(w, value)?,
                    None => self.type_moved_from(to),
                };
                let new_ty = self.type_of(w, &value)?;
                if let (true, Some(old), Some(new)) = (fresh, old_ty, &new_ty)
                    && old != *new
                {
                    let bytes = self.whole(w, &value)?;
                    if let Some(scalar) = scalars::parse_as(&old, &bytes, self.config.exact) {
                        let record = self.record(w, Subject::Entry(&source))?;
                        let target = self.put(w, to.dir, &to.named, &scalar.as_in(), renamed)?;
                        removal.arrives(&target);
                        self.carry_record(w, &record, &target)?;
                        self.remove_at(w, &source, renamed)?;
                        return Ok(Some((source, target, value, new_ty, fresh)));
                    }
                }
                let target = self.move_entry(w, &source, to, renamed)?;
                removal.arrives(&target);
                values = self.keep_texts(w, &references)?;
                values.extend(self.keep_texts(w, &replaced)?);
                Ok(Some((source, target, value, new_ty, fresh)))
            })
        })?;
        let Some((source, target, value, ty, fresh)) = moved else {
            return Ok(Vec::new());
        };
        removal.finish();
        if matches!(value, Value::Link(_)) {
            values.push(target.clone());
        }
        self.spot_moved(&source, &target);
        drop(removal);
        drop(unforgotten);
        if let Some(ty) = ty {
            let mut memory = lock(&self.metadata);
            if !fresh {
                memory.moved_away(Mark::Entry(source.parent.id, source.slot), ty);
            }
            let mark = Mark::Entry(target.parent.id, target.slot);
            memory.was_here(&mark);
            if memory.get(&mark).is_some_and(|m| m.key.is_some()) {
                memory.at(mark).key = None;
            }
        }
        Ok(values)
    }

    /// The type of the scalar that was moved away from a name a moment ago: `sed -i.bak` moves the file to its backup
    /// before it moves the new one to its name.
    fn type_moved_from(&self, to: &End) -> Option<Ty> {
        let slot = match &to.named {
            Named::Key(key) => Slot::Key(key.clone()),
            Named::Item(name) => Slot::Item(*name),
            Named::Beside(_) | Named::Impossible => return None,
        };
        lock(&self.metadata).moved_from(&Mark::Entry(to.dir.id, slot))
    }

    /// Move an entry to its new name, in place of what is there. Returns where it is.
    fn move_entry(
        &self,
        w: &mut Writer<'_>,
        source: &Spot,
        to: &End,
        renamed: &mut Vec<Renamed>,
    ) -> FsResult<Spot> {
        self.changing_entries(to.dir);
        let target = match self.room(w, to.dir, &to.named)? {
            Room::At(spot) => spot,
            Room::Beside(key) => Spot {
                parent: self.beside(w, to.dir)?,
                slot: Slot::Key(key),
            },
            Room::Item(name) => {
                self.changing_entries(source.parent);
                let left = self.guard_beside(w, source.parent, true)?;
                self.enter_list(w, source, to.dir, name, renamed)?;
                if let Some(list) = left {
                    self.drop_beside(w, list)?;
                }
                return Ok(Spot {
                    parent: to.dir,
                    slot: Slot::Item(name),
                });
            }
        };
        self.guard_beside(w, target.parent, true)?;
        self.move_out(w, source, &target, renamed)?;
        Ok(target)
    }

    /// Exchange values of which one is a container.
    fn exchange_values(
        &self,
        w: &mut Writer<'_>,
        (one, first): (&Spot, &Value),
        (two, second): (&Spot, &Value),
    ) -> FsResult<()> {
        let (a, b) = (self.owned(w, first)?, self.owned(w, second)?);
        let first = self.record(w, Subject::Entry(one))?;
        let second = self.record(w, Subject::Entry(two))?;
        self.set_at(w, one, &b.as_in())?;
        self.set_at(w, two, &a.as_in())?;
        self.carry_record(w, &second, one)?;
        self.carry_record(w, &first, two)
    }

    /// Exchange two entries. Returns the links that may wait for entries now.
    fn exchange(&self, ctx: &Ctx, from: &End, to: &End, held: &mut Held) -> FsResult<Vec<Spot>> {
        let references = [
            self.references_to(ctx, from.dir, &from.named, false)?,
            self.references_to(ctx, to.dir, &to.named, false)?,
        ];
        let mut pins: Vec<Obj> = Vec::new();
        let mut values = Vec::new();
        // Nothing is removed, but opens of both wait.
        let mut removal = Removal::new(self);
        let mut exchange = |removal: &mut Removal<'_>, w: &mut Writer<'_>| {
            pins.drain(..).for_each(|obj| self.store.unpin(obj));
            let (Some((one, first)), Some((two, second))) = (
                self.value_of(w, from.dir, &from.named)?,
                self.value_of(w, to.dir, &to.named)?,
            ) else {
                return errno(libc::ENOENT);
            };
            if one.parent == two.parent && one.slot == two.slot {
                return Ok(None);
            }
            self.moving(held, from);
            self.moving(held, to);
            removal.leaves(&one);
            removal.leaves(&two);
            let moves = [(&first, &one, to.dir), (&second, &two, from.dir)];
            for ((value, spot, into), references) in moves.into_iter().zip(&references) {
                let Value::Obj(obj) = value else {
                    self.check_references(w, references, None)?;
                    continue;
                };
                let shown = self.shown_at(w, *obj, spot)?;
                self.check_references(w, references, shown.then_some(*obj))?;
                if shown && self.is_below(w, into, *obj)? {
                    return errno(libc::EINVAL);
                }
                // Between the two steps the object may have no reference.
                w.pin(*obj)?;
                pins.push(*obj);
            }
            self.changing_entries(one.parent);
            self.changing_entries(two.parent);
            match (&first, &second) {
                (Value::Obj(_), _) | (_, Value::Obj(_)) => {
                    self.exchange_values(w, (&one, &first), (&two, &second))?
                }
                _ => {
                    self.guard_beside(w, one.parent, false)?;
                    self.guard_beside(w, two.parent, false)?;
                    let steps = (self.step(w, &one)?, self.step(w, &two)?);
                    w.exchange(one.parent, &steps.0, two.parent, &steps.1)?;
                }
            }
            values.clear();
            for references in &references {
                values.extend(self.keep_texts(w, references)?);
            }
            Ok(Some((one, two)))
        };
        let result = self.write_to_follow(ctx, |w, _| removal.run(|removal| exchange(removal, w)));
        pins.into_iter().for_each(|obj| self.store.unpin(obj));
        let (exchanged, unforgotten) = result?;
        let Some((one, two)) = exchanged else {
            return Ok(Vec::new());
        };
        let places = |s: &Spot| (Place::File(s.clone()), Place::Link(s.clone()));
        let (a, b) = (places(&one), places(&two));
        lock(&self.inodes).exchanged([(&a.0, &b.0), (&a.1, &b.1), (&b.0, &a.0), (&b.1, &a.1)]);
        drop(removal);
        drop(unforgotten);
        self.locks_follow(self.number(&a.0));
        self.locks_follow(self.number(&b.0));
        values.extend([one.clone(), two.clone()]);
        let mut memory = lock(&self.metadata);
        memory.deleted(&Mark::Entry(one.parent.id, one.slot));
        memory.deleted(&Mark::Entry(two.parent.id, two.slot));
        Ok(values)
    }
}
