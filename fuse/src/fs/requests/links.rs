//! Symlinks: further references to containers, and symlinks whose target does not exist yet.
//!
//! `ln -s` to a container inside the mount stores a reference. Tools that restore a tree create links before their
//! targets. Such links wait beside their directory (`sides`) and enter the store when the entry that they wait for
//! appears.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsResult, errno};
use crate::fs::known::inodes::Place;
use crate::fs::known::metadata::Mark;
use crate::fs::known::sides::Side;
use crate::fs::text::keys::OwnedKey;
use crate::fs::text::list_entries;
use crate::fs::text::names::{self, Meaning};
use crate::fs::tree::attributes::Attr;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::Named;
use persist_core::store::{In, Kind, Obj, ObjectId, Reader, Value};
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
            let named = match r.kind(at)? {
                Kind::List => match list_entries::number_of(name) {
                    Some(number) => Named::Item(number),
                    None => Named::Impossible,
                },
                _ => match names::key_of(name) {
                    Meaning::Key(key) => Named::Key(key),
                    // `named` finds long names, outside of sections; a link through one waits until then.
                    Meaning::Long => Named::Key(OwnedKey::Str(name.to_vec())),
                },
            };
            match self.value_of(r, at, &named)? {
                Some((_, Value::Obj(obj))) => at = obj,
                Some(_) => return Ok(Target::Impossible),
                None => return Ok(Target::Missing(at.id, name.to_vec())),
            }
        }
        Ok(Target::Container(at))
    }

    /// Request: make a symlink.
    pub(crate) fn symlink(&self, ctx: &Ctx, parent: u64, name: &[u8], target: &[u8]) -> FsResult<Attr> {
        if self.find_control(ctx, parent, name)?.is_some() {
            return errno(libc::EEXIST);
        }
        let dir = self.dir(parent)?;
        let named = self.named_to_make(ctx, dir, name)?;
        let waits = self.write(ctx, |w, renamed| {
            if self.value_of(w, dir, &named)?.is_some() {
                return errno(libc::EEXIST);
            }
            match self.resolve(w, dir, target)? {
                Target::Container(obj) => {
                    self.put(w, dir, &named, &In::Obj(obj), renamed)?;
                    Ok(None)
                }
                Target::Missing(dir, name) => Ok(Some((dir, name))),
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
        if waits.is_some() {
            let id = lock(&self.sides).add(Side {
                parent: dir,
                name: name.to_vec(),
                target: target.to_vec(),
                waits,
            });
            return Ok(self.enter(self.find_side(id)?));
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
            Place::Side(id) => match lock(&self.sides).get(id) {
                Some(side) => Ok(side.target.clone()),
                None => errno(libc::EINVAL),
            },
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

    /// Finish what waited for a new entry: symlinks to it, and items of a list behind it.
    pub(crate) fn entry_appeared(&self, ctx: &Ctx, dir: Obj, name: &[u8]) {
        self.join(ctx, dir);
        if lock(&self.sides).is_empty() {
            return;
        }
        let mut work = vec![(dir, name.to_vec())];
        while let Some((dir, name)) = work.pop() {
            let waiting = lock(&self.sides).waiting(Some((dir.id, &name)));
            for entry in waiting.into_iter().filter_map(|id| self.try_link(ctx, id)) {
                self.join(ctx, entry.0);
                work.push(entry);
            }
        }
    }

    /// Try a waiting symlink. Returns the entry that it became.
    fn try_link(&self, ctx: &Ctx, id: u64) -> Option<(Obj, Vec<u8>)> {
        let side = lock(&self.sides).get(id).cloned()?;
        let named = self.named(ctx, side.parent, &side.name).ok()?;
        let mut missing = None;
        let put = self.write(ctx, |w, renamed| {
            missing = None;
            match self.resolve(w, side.parent, &side.target)? {
                Target::Container(obj) if self.value_of(w, side.parent, &named)?.is_none() => {
                    // To the user the entry existed since it was created.
                    let time = w.mtime(side.parent)?;
                    let spot = self.put(w, side.parent, &named, &In::Obj(obj), renamed)?;
                    w.set_mtime(side.parent, time)?;
                    Ok(Some(spot))
                }
                Target::Missing(dir, name) => {
                    missing = Some((dir, name));
                    Ok(None)
                }
                _ => Ok(None),
            }
        });
        match put {
            Ok(Some(spot)) => {
                lock(&self.sides).take(id);
                let from = Place::Side(id);
                lock(&self.inodes).moved(&from, &Place::Link(spot.clone()));
                let mark = Mark::Entry(spot.parent.id, spot.slot);
                lock(&self.metadata).renamed(&Mark::Side(id), mark);
                Some((side.parent, side.name))
            }
            Ok(None) => {
                if let Some(side) = lock(&self.sides).get_mut(id) {
                    side.waits = missing;
                }
                None
            }
            Err(_) => None,
        }
    }

    /// Remove a side.
    pub(crate) fn drop_side(&self, id: u64) {
        lock(&self.sides).take(id);
        self.entry_deleted(&Place::Side(id));
    }

    /// At the end of the mount, name the symlinks that were not stored.
    pub(crate) fn report_remaining(&self) {
        for side in lock(&self.sides).all() {
            let name = String::from_utf8_lossy(&side.name);
            let target = String::from_utf8_lossy(&side.target);
            log::warn!("the symlink {name} was not stored: {target} is not in this store");
        }
    }
}
