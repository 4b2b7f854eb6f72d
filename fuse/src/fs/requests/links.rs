//! Symlinks: further references to containers, and symlinks whose target does not exist yet.
//!
//! `ln -s` to a container inside the mount stores a reference. Tools that restore a tree create links before their
//! targets, and list items in any order. Such entries wait beside their directory (`sides`) and enter the store when
//! the entry that they wait for appears.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsResult, errno};
use crate::fs::known::inodes::Place;
use crate::fs::known::metadata::Mark;
use crate::fs::known::sides::{Content, Side};
use crate::fs::text::list_entries;
use crate::fs::text::names::{self, Meaning};
use crate::fs::tree::attributes::Attr;
use crate::fs::tree::change::Put;
use crate::fs::tree::filesystem::{Fs, Renumber};
use crate::fs::tree::find::Named;
use persist_core::store::{In, Kind, Obj, ObjectId, Reader, Value, Writer};
use std::os::unix::ffi::OsStrExt;

/// The maximal number of steps in a target.
const MAX_STEPS: usize = 4096;
/// The maximal number of links that one round of maintenance tries.
const MAX_ROUND: usize = 1024;

/// The result of resolving the text of a symlink.
enum Target {
    /// A container of the store.
    Container(Obj),
    /// The first missing entry.
    Missing(ObjectId, Vec<u8>),
    /// A scalar, or a path out of the mount.
    Impossible,
}

impl Fs {
    /// Resolve the text of a symlink in the directory `from`.
    fn resolve(&self, r: &Reader<'_>, from: Obj, target: &[u8]) -> FsResult<Target> {
        let (mut at, path) = match target.first() {
            Some(b'/') => {
                let mount = self.config.mountpoint.as_os_str().as_bytes();
                match target.strip_prefix(mount) {
                    Some(rest) if rest.is_empty() || rest[0] == b'/' => (self.root, rest),
                    _ => return Ok(Target::Impossible),
                }
            }
            Some(_) => (from, target),
            None => return Ok(Target::Impossible),
        };
        for (n, name) in path.split(|c| *c == b'/').enumerate() {
            if n > MAX_STEPS {
                return errno(libc::ELOOP);
            }
            match name {
                b"" | b"." => continue,
                b".." if at == self.root => return Ok(Target::Impossible),
                b".." => {
                    at = self.above(r, at)?.0;
                    continue;
                }
                _ => {}
            }
            let value = match r.kind(at)? {
                Kind::List => match list_entries::index_of(name) {
                    Some(index) => r.item(at, index)?,
                    None => None,
                },
                _ => match names::key_of(name) {
                    Meaning::Key(key) => r.get(at, &key.as_key())?,
                    // `named` finds long names, outside of sections; a link through one waits until then.
                    Meaning::Long => r.get(at, &persist_core::store::Key::Str(name))?,
                },
            };
            match value {
                Some(Value::Obj(obj)) => at = obj,
                Some(_) => return Ok(Target::Impossible),
                None => match self.side_dir(at.id, name) {
                    Some(obj) => at = obj,
                    None => return Ok(Target::Missing(at.id, name.to_vec())),
                },
            }
        }
        // A directory that waits beside a list must enter the list first: the list is its home.
        let beside = lock(&self.sides).home(at.id);
        if let Some((parent, name)) = beside {
            return Ok(Target::Missing(parent.id, name));
        }
        Ok(Target::Container(at))
    }

    fn side_dir(&self, dir: ObjectId, name: &[u8]) -> Option<Obj> {
        let sides = lock(&self.sides);
        match sides.get(sides.find(dir, name)?)?.content {
            Content::Dir(obj) => Some(obj),
            _ => None,
        }
    }

    /// Request: make a symlink.
    pub(crate) fn symlink(&self, ctx: &Ctx, parent: u64, name: &[u8], target: &[u8]) -> FsResult<Attr> {
        if self.find_control(ctx, parent, name)?.is_some() {
            return errno(libc::EEXIST);
        }
        let dir = self.dir(parent)?;
        let named = self.named_to_make(ctx, dir, name)?;
        let waits = self.write(ctx, |w, renumber| {
            if self.value_of(w, dir, &named)?.is_some() {
                return errno(libc::EEXIST);
            }
            match self.resolve(w, dir, target)? {
                Target::Container(obj) => match self.put(w, dir, &named, &In::Obj(obj), renumber)? {
                    Put::Done => Ok(None),
                    Put::Later => Ok(Some(None)),
                },
                Target::Missing(dir, name) => Ok(Some(Some((dir, name)))),
                Target::Impossible => errno(libc::EPERM),
            }
        });
        let waits = waits.inspect_err(|e| {
            if e.errno() == libc::EPERM {
                let target = String::from_utf8_lossy(target);
                log::info!(
                    "refused a symlink to {target:?}: only containers of this store can be referred to"
                );
            }
        })?;
        let ctx = &Ctx {
            may_wait: true,
            ..*ctx
        };
        if let Some(waits) = waits {
            let content = Content::Link {
                target: target.to_vec(),
                waits,
            };
            let mut side = Side::new(dir, name, named.serial(), content);
            side.temporary = matches!(named, Named::Temporary);
            let (id, _) = lock(&self.sides).add(side);
            return Ok(self.enter(self.find_side(ctx, id)?));
        }
        self.entry_appeared(ctx, dir, name);
        Ok(self.enter(self.find(ctx, dir, name)?))
    }

    /// Request: the text of a symlink.
    pub(crate) fn readlink(&self, ctx: &Ctx, ino: u64) -> FsResult<Vec<u8>> {
        match self.place(ino)? {
            Place::Link(spot) => self.read(ctx, |r| match self.value_at(r, &spot)? {
                Some(Value::Obj(obj)) => match self.link_text(r, spot.parent, obj)? {
                    // The kernel accepts at most a path.
                    text if text.len() >= libc::PATH_MAX as usize => errno(libc::ENAMETOOLONG),
                    text => Ok(text),
                },
                _ => errno(libc::ESTALE),
            }),
            Place::Side(id) => {
                let content = lock(&self.sides).get(id).map(|s| s.content.clone());
                match content {
                    Some(Content::Link { target, .. }) => Ok(target),
                    _ => errno(libc::EINVAL),
                }
            }
            _ => errno(libc::EINVAL),
        }
    }

    /// Try one waiting symlink. Returns true if it entered the store.
    pub(crate) fn finish_link(&self, ctx: &Ctx, id: u64) -> bool {
        match self.try_link(ctx, id) {
            Some((dir, name)) => {
                self.entry_appeared(ctx, dir, &name);
                true
            }
            None => false,
        }
    }

    /// Try the waiting symlinks (all, or those that wait for one entry).
    pub(crate) fn finish_links(&self, ctx: &Ctx, entry: Option<(ObjectId, &[u8])>) {
        let waiting = {
            let sides = lock(&self.sides);
            if sides.is_empty() {
                return;
            } else {
                sides.waiting(entry)
            }
        };
        for id in waiting.into_iter().take(MAX_ROUND) {
            self.finish_link(ctx, id);
        }
    }

    /// Finish the entries that waited for a new entry or for the index after it.
    pub(crate) fn entry_appeared(&self, ctx: &Ctx, dir: Obj, name: &[u8]) {
        if lock(&self.sides).is_empty() {
            return;
        }
        let mut work = vec![(dir, name.to_vec())];
        while let Some((dir, name)) = work.pop() {
            while let Some(entry) = self.next_item(ctx, dir) {
                work.push(entry);
            }
            let waiting = lock(&self.sides).waiting(Some((dir.id, &name)));
            work.extend(waiting.into_iter().filter_map(|id| self.try_link(ctx, id)));
        }
    }

    /// Try a waiting symlink. Returns the entry that it became.
    fn try_link(&self, ctx: &Ctx, id: u64) -> Option<(Obj, Vec<u8>)> {
        let side = lock(&self.sides).get(id).cloned()?;
        let Content::Link { target, .. } = &side.content else {
            return None;
        };
        // A temporary name waits for its rename.
        let named = self.side_name(&side)?;
        let mut missing = None;
        let put = self.write(ctx, |w, renumber| {
            missing = None;
            match self.resolve(w, side.parent, target)? {
                Target::Container(obj) if self.value_of(w, side.parent, &named)?.is_none() => {
                    self.put_late(w, &side, &named, &In::Obj(obj), renumber)
                }
                Target::Missing(dir, name) => {
                    missing = Some((dir, name));
                    Ok(Put::Later)
                }
                _ => Ok(Put::Later),
            }
        });
        match put {
            Ok(Put::Done) => {
                self.side_entered(id, &named);
                Some((side.parent, side.name))
            }
            Ok(Put::Later) => {
                if let Some(Content::Link { waits, .. }) =
                    lock(&self.sides).get_mut(id).map(|s| &mut s.content)
                {
                    *waits = missing;
                }
                None
            }
            Err(_) => None,
        }
    }

    /// The meaning of a side's name; None while it is a temporary name.
    fn side_name(&self, side: &Side) -> Option<Named> {
        if let Some(serial) = side.serial {
            return Some(Named::Item(lock(&self.lists).at(side.parent.id, serial)));
        }
        match names::key_of(&side.name) {
            Meaning::Key(key) if !side.temporary => Some(Named::Key(key)),
            _ => None,
        }
    }

    /// Record that the side entered the store under its name: its inode is now that of the entry.
    pub(crate) fn side_entered(&self, id: u64, named: &Named) {
        let Some(side) = lock(&self.sides).take(id) else {
            return;
        };
        let Some(spot) = named.spot(side.parent) else {
            return;
        };
        let from = Place::Side(id);
        let to = match side.content {
            Content::File(_) => Place::File(spot.clone()),
            Content::Link { .. } => Place::Link(spot.clone()),
            Content::Dir(obj) => {
                self.store.unpin(obj);
                return;
            }
        };
        lock(&self.inodes).moved(&from, &to);
        let salt = self.salt(&spot);
        let mark = Mark::Entry(spot.parent.id, spot.slot);
        let mut memory = lock(&self.metadata);
        memory.renamed(&Mark::Side(id), mark.clone(), salt);
        if side.want.is_some() {
            memory.at(mark).want = side.want;
        }
    }

    /// Append the waiting item whose index is the length of a list. Returns the entry that it became.
    fn next_item(&self, ctx: &Ctx, list: Obj) -> Option<(Obj, Vec<u8>)> {
        if !lock(&self.sides).any(list.id) {
            return None;
        }
        let len = self
            .read(ctx, |r| {
                Ok(if r.kind(list)? == Kind::List {
                    Some(r.len(list)?)
                } else {
                    None
                })
            })
            .ok()??;
        let serial = lock(&self.lists).serial(list.id, len);
        let id = lock(&self.sides).at_serial(list.id, serial)?;
        let side = lock(&self.sides).get(id).cloned()?;
        self.enter_item(ctx, id, &side, None)
    }

    /// Store a waiting item under its name, or at the end of its list (`at`: its length).
    fn enter_item(&self, ctx: &Ctx, id: u64, side: &Side, at: Option<u64>) -> Option<(Obj, Vec<u8>)> {
        let serial = at.or(side.serial)?;
        let named = Named::Item(lock(&self.lists).at(side.parent.id, serial));
        let input = match &side.content {
            Content::Link { .. } => return self.try_link(ctx, id),
            Content::File(scalar) => scalar.as_in(),
            Content::Dir(obj) => In::Obj(*obj),
        };
        let put = self.write(ctx, |w, renumber| {
            self.put_late(w, side, &named, &input, renumber)
        });
        match put {
            Ok(Put::Done) => {
                self.side_entered(id, &named);
                Some((side.parent, side.name.clone()))
            }
            Ok(Put::Later) => None,
            Err(e) => {
                log::warn!("a list item waits on: errno {}", e.errno());
                None
            }
        }
    }

    /// Store a waiting entry under its name. To the user it existed since it was created, so the directory's time,
    /// which a tool may have set since, does not change.
    fn put_late(
        &self,
        w: &mut Writer<'_>,
        side: &Side,
        named: &Named,
        value: &In<'_>,
        renumber: &mut Vec<Renumber>,
    ) -> FsResult<Put> {
        let time = w.mtime(side.parent)?;
        let put = self.put(w, side.parent, named, value, renumber)?;
        if put == Put::Done {
            self.finish_home(w, &side.content, side.parent, named)?;
            w.set_mtime(side.parent, time)?;
        }
        Ok(put)
    }

    /// Record that a directory has entered a list: the list is its home, as it was while it waited.
    pub(crate) fn finish_home(
        &self,
        w: &mut Writer<'_>,
        content: &Content,
        list: Obj,
        named: &Named,
    ) -> FsResult<()> {
        match (content, named) {
            (Content::Dir(obj), Named::Item(spot)) => {
                let index = lock(&self.lists).at(list.id, spot.serial).index;
                self.make_home(w, *obj, list, index)
            }
            _ => Ok(()),
        }
    }

    /// At the end of the mount, append the items that still wait to their lists.
    pub(crate) fn finish_remaining(&self, ctx: &Ctx) {
        let items = lock(&self.sides).items();
        for (id, side) in items {
            let name = String::from_utf8_lossy(&side.name).into_owned();
            let Ok(len) = self.read(ctx, |r| Ok(r.len(side.parent)?)) else {
                continue;
            };
            let serial = lock(&self.lists).serial(side.parent.id, len);
            if let Some(side) = lock(&self.sides).get_mut(id) {
                side.serial = Some(serial);
            }
            match self.enter_item(ctx, id, &side, Some(serial)) {
                Some(_) => log::warn!(
                    "item {name} of a list was stored at index {len}: the items before it never came"
                ),
                None => log::warn!("item {name} of a list was not stored"),
            }
        }
        for side in lock(&self.sides).all() {
            let name = String::from_utf8_lossy(&side.name);
            match &side.content {
                Content::Link { target, .. } => {
                    let target = String::from_utf8_lossy(target);
                    log::warn!("the symlink {name} was not stored: {target} is not in this store");
                }
                _ => log::info!("the temporary file {name} was not stored"),
            }
        }
    }
}
