//! Symbolic links: which are references to containers and which are values, and what becomes of references when their
//! target is removed or moved.
//!
//! 1. A symlink that is made with a text that leads to a container of the mount, and that the mount would show for a
//!    reference to it, is a reference: the entry holds the container itself. So is one with an absolute text into the
//!    mount, which is shown as a relative one. Every other symlink is a link value (`Value::Link`): its text is stored
//!    and shown byte for byte.
//! 2. The text of a symlink changes only with the symlink's own place, or when a directory above its target is renamed:
//!    then a reference keeps its container and its text follows.
//! 3. When the mount removes a container's directory (rmdir) or renames it, the references to it keep their text, not
//!    their container. A text that still leads to a container as in 1 is a reference to that container; any other is a
//!    link value from then on. No content is lost by that: rmdir removes only what is empty, and a renamed directory is
//!    under its new name. What Python removes (`del`) leaves the other references as they are: one of them becomes the
//!    directory.
//!    A link value that a command renames, or that becomes one by this rule, is a reference as soon as a command makes
//!    a container under its text.
//! 4. All of that happens in the write section that removes or renames. Only of a container with more than `BATCH`
//!    references, the first ones become link values in sections before it; the mount shows them as before.

use super::filesystem::Fs;
use super::find::Named;
use super::values::owned_key;
use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::awaited::Missing;
use crate::fs::known::inodes::{Slot, Spot};
use crate::fs::text::keys::OwnedKey;
use crate::fs::text::list_entries;
use crate::fs::text::names::{self, Meaning};
use persist_core::store::{In, Kind, Obj, Reader, Step, Value, Writer};
use std::os::unix::ffi::OsStrExt;

/// The maximal number of steps in a target.
const MAX_STEPS: usize = 4096;
/// The maximal number of references that one section changes.
const BATCH: usize = 1024;
/// The maximal number of containers that are looked at for references.
const MAX_PARENTS: usize = 1 << 20;
/// Entries that one section looks at.
const LOOK: usize = 1024;
/// Attempts to find all references while other programs add some.
const ROUNDS: usize = 8;

/// The result of resolving the text of a symlink.
enum Target {
    /// A container of the store.
    Container(Obj),
    /// The first entry that is not a container: it is missing, a scalar or a link.
    Missing(Missing),
    /// A path out of the mount.
    Other,
}

/// The symlinks that refer to a container.
#[derive(Default)]
pub(crate) struct References {
    obj: Option<Obj>,
    /// The number of references when they were read.
    refs: u64,
    /// Where they are, and their texts.
    shown: Vec<(Spot, Vec<u8>)>,
}

impl References {
    /// True if there is such a container.
    pub(crate) fn any(&self) -> bool {
        self.obj.is_some()
    }
}

impl Fs {
    /// Resolve the text of a symlink in the directory `from`.
    fn resolve(&self, r: &Reader<'_>, from: Obj, target: &[u8]) -> FsResult<Target> {
        let (mut at, path) = match target.first() {
            Some(b'/') => {
                let mount = self.config.mountpoint.as_os_str().as_bytes();
                match target.strip_prefix(mount) {
                    Some(rest) if rest.is_empty() || rest[0] == b'/' => (self.root, rest),
                    _ => return Ok(Target::Other),
                }
            }
            _ => (from, target),
        };
        for (n, name) in path.split(|c| *c == b'/').enumerate() {
            if n > MAX_STEPS {
                return Ok(Target::Other);
            }
            match name {
                b"" | b"." => continue,
                b".." if at == self.root => return Ok(Target::Other),
                b".." => {
                    at = match self.above(r, at) {
                        Ok((parent, _)) => parent,
                        Err(FsError::Errno(libc::ENOENT)) => return Ok(Target::Other),
                        Err(e) => return Err(e),
                    };
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
                    // `named` finds long names, outside of sections.
                    Meaning::Long => Named::Key(OwnedKey::Str(name.to_vec())),
                },
            };
            match self.value_of(r, at, &named)? {
                Some((_, Value::Obj(obj))) => at = obj,
                _ => return Ok(Target::Missing((at.id, name.to_vec()))),
            }
        }
        Ok(Target::Container(at))
    }

    /// The container that a symlink of this text in `dir` refers to, and the entry that it waits for if that is not a
    /// container. `made`: it is being made, and may be absolute.
    pub(crate) fn seat_of(
        &self,
        r: &Reader<'_>,
        dir: Obj,
        text: &[u8],
        made: bool,
    ) -> FsResult<(Option<Obj>, Option<Missing>)> {
        match self.resolve(r, dir, text)? {
            Target::Container(obj) => {
                let shown = (made && text.starts_with(b"/")) || self.text_is(r, dir, obj, text)?;
                Ok((shown.then_some(obj), None))
            }
            Target::Missing(entry) => Ok((None, Some(entry))),
            Target::Other => Ok((None, None)),
        }
    }

    /// True if a reference to `obj` in `dir` is shown under this text.
    fn text_is(&self, r: &Reader<'_>, dir: Obj, obj: Obj, text: &[u8]) -> FsResult<bool> {
        match self.link_text(r, dir, obj) {
            Ok(shown) => Ok(shown == text),
            Err(FsError::Errno(libc::ENOENT | libc::ELOOP)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The directory that shows the entries of a container.
    pub(crate) fn shown_in(&self, r: &Reader<'_>, parent: Obj) -> FsResult<Obj> {
        Ok(r.list_of_waiting(parent)?.unwrap_or(parent))
    }

    /// Note which entry a link value waits for.
    pub(crate) fn note_link(&self, r: &Reader<'_>, spot: &Spot, text: &[u8]) -> FsResult<()> {
        if lock(&self.awaited).knows(spot) {
            return Ok(());
        }
        let dir = self.shown_in(r, spot.parent)?;
        if let (_, Some(entry)) = self.seat_of(r, dir, text, false)? {
            lock(&self.awaited).add(spot, entry);
        }
        Ok(())
    }

    /// Store a value in place of a link or a reference. To the user the entry does not change.
    pub(crate) fn replace_link(&self, w: &mut Writer<'_>, spot: &Spot, value: &In<'_>) -> FsResult<()> {
        let time = w.mtime(spot.parent)?;
        self.set_at(w, spot, value)?;
        Ok(w.set_mtime(spot.parent, time)?)
    }

    /// The symlinks that refer to the directory of that name; none if it is something else, or a directory with entries
    /// and `empty`.
    pub(crate) fn references_to(
        &self,
        ctx: &Ctx,
        dir: Obj,
        named: &Named,
        empty: bool,
    ) -> FsResult<References> {
        for round in 1.. {
            let found = self.read(ctx, |r| match self.value_of(r, dir, named)? {
                Some((spot, Value::Obj(obj))) if self.shown_at(r, obj, &spot)? => {
                    let fits = !empty || self.is_empty(r, obj)?;
                    Ok(fits.then_some((obj, r.refs(obj)?)))
                }
                _ => Ok(None),
            })?;
            let Some((obj, refs)) = found else {
                return Ok(References::default());
            };
            let mut all = References {
                obj: Some(obj),
                refs,
                shown: Vec::new(),
            };
            if refs <= 1 {
                return Ok(all);
            }
            self.collect(ctx, obj, &mut all)?;
            if round == ROUNDS || !self.read(ctx, |r| self.has_changed(r, &all))? {
                return Ok(all);
            }
        }
        Ok(References::default())
    }

    fn collect(&self, ctx: &Ctx, obj: Obj, all: &mut References) -> FsResult<()> {
        let parents = self.read(ctx, |r| Ok(r.referrers(obj, MAX_PARENTS)?))?;
        for parent in parents {
            let mut cursor = 0;
            loop {
                let read = self.read(ctx, |r| {
                    let (mut at, mut steps) = (cursor, Vec::new());
                    let more = r.references(parent, obj, &mut at, LOOK, &mut steps)?;
                    let mut shown = Vec::new();
                    for step in steps {
                        shown.extend(self.reference_at(r, parent, &step, obj)?);
                    }
                    Ok((at, more, shown))
                });
                match read {
                    Ok((at, more, shown)) => {
                        all.shown.extend(shown);
                        if all.shown.len() >= BATCH {
                            self.make_values(ctx, obj, all)?;
                        }
                        if !more {
                            break;
                        }
                        cursor = at;
                    }
                    Err(e) if e.is_gone() => break,
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// A reference that the mount shows as a symlink, and its text.
    fn reference_at(
        &self,
        r: &Reader<'_>,
        parent: Obj,
        step: &Step,
        obj: Obj,
    ) -> FsResult<Option<(Spot, Vec<u8>)>> {
        let slot = match step {
            Step::Key(key) => Slot::Key(owned_key(r, key)?),
            Step::Index(index) => {
                match self.name_at(r, parent, i64::try_from(*index).unwrap_or(i64::MAX))? {
                    Some(name) => Slot::Item(name),
                    None => return Ok(None),
                }
            }
        };
        let spot = Spot { parent, slot };
        if self.shown_at(r, obj, &spot)? {
            return Ok(None);
        }
        match self.link_text(r, parent, obj) {
            Ok(text) if text.len() < libc::PATH_MAX as usize => Ok(Some((spot, text))),
            // In a container that no path leads to, or too deep for a path.
            Ok(_) | Err(FsError::Errno(libc::ENOENT | libc::ELOOP)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Make values of the references that were read so far.
    fn make_values(&self, ctx: &Ctx, obj: Obj, all: &mut References) -> FsResult<()> {
        let shown = std::mem::take(&mut all.shown);
        all.refs = self.write(ctx, |w, _| {
            for (spot, text) in &shown {
                if matches!(self.value_at(w, spot)?, Some(Value::Obj(there)) if there == obj)
                    && !self.shown_at(w, obj, spot)?
                {
                    self.replace_link(w, spot, &In::Link(text))?;
                }
            }
            Ok(w.refs(obj)?)
        })?;
        Ok(())
    }

    /// True if the references to the container are not those that were read.
    pub(crate) fn has_changed(&self, r: &Reader<'_>, all: &References) -> FsResult<bool> {
        match all.obj {
            Some(obj) => Ok(r.refs(obj)? != all.refs),
            None => Ok(false),
        }
    }

    /// Fail with EAGAIN if the references that were read are not those to `obj`: the caller reads them again.
    pub(crate) fn check_references(
        &self,
        r: &Reader<'_>,
        all: &References,
        obj: Option<Obj>,
    ) -> FsResult<()> {
        if all.obj == obj && !self.has_changed(r, all)? {
            return Ok(());
        }
        errno(libc::EAGAIN)
    }

    /// After a container was removed or renamed: let the symlinks that referred to it keep their texts (3). Returns
    /// those that are values now.
    pub(crate) fn keep_texts(&self, w: &mut Writer<'_>, all: &References) -> FsResult<Vec<Spot>> {
        let mut values = Vec::new();
        let Some(obj) = all.obj else {
            return Ok(values);
        };
        for (spot, text) in &all.shown {
            if !matches!(self.value_at(w, spot)?, Some(Value::Obj(there)) if there == obj) {
                continue;
            }
            if !self.shown_at(w, obj, spot)? && self.text_is(w, spot.parent, obj, text)? {
                continue;
            }
            let dir = self.shown_in(w, spot.parent)?;
            match self.seat_of(w, dir, text, false)? {
                (Some(new), _) => self.replace_link(w, spot, &In::Obj(new))?,
                (None, _) => {
                    self.replace_link(w, spot, &In::Link(text))?;
                    values.push(spot.clone());
                }
            }
        }
        Ok(values)
    }

    /// Repeat a change while it finds other references than were read before it.
    pub(crate) fn with_references<R>(&self, mut change: impl FnMut() -> FsResult<R>) -> FsResult<R> {
        for _ in 1..ROUNDS {
            match change() {
                Err(FsError::Errno(libc::EAGAIN)) => {}
                done => return done,
            }
        }
        change()
    }
}
