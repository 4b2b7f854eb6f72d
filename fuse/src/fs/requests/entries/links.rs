//! Requests on symlinks. `tree::links` says which symlinks are references to containers and which are values.
//!
//! Tools that restore a tree create links before their targets. Such a link is stored as a value at once. When a
//! command makes a container under its text, it becomes a reference, before the request that made the container
//! returns: a restored graph has the references of the one that was saved. A process that dies between the two leaves a
//! value.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsResult, errno};
use crate::fs::known::awaited::Missing;
use crate::fs::known::inodes::{Place, Spot};
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::owners::New;
use crate::fs::tree::metadata::records::Subject;
use persist_core::store::{In, Obj, Reader, Value};

impl Fs {
    /// Request: make a symlink.
    pub(crate) fn symlink(&self, ctx: &Ctx, parent: u64, name: &[u8], target: &[u8]) -> FsResult<Attr> {
        if self.find_control(ctx, parent, name)?.is_some() {
            return errno(libc::EEXIST);
        }
        let dir = self.dir(parent)?;
        let named = self.named_to_make(ctx, dir, name)?;
        let (spot, waits) = self.write(ctx, |w, renamed| {
            if self.value_of(w, dir, &named)?.is_some() {
                return errno(libc::EEXIST);
            }
            let (seat, waits) = self.seat_of(w, dir, target, true)?;
            let value = seat.map_or(In::Link(target), In::Obj);
            let spot = self.put(w, dir, &named, &value, renamed)?;
            self.record_new(ctx, w, dir, Subject::Entry(&spot), New::Link)?;
            Ok((spot, waits))
        })?;
        let ctx = &Ctx {
            may_wait: true,
            ..*ctx
        };
        if let Some(entry) = waits {
            lock(&self.awaited).add(&spot, entry);
        }
        self.entry_appeared(ctx, dir, name);
        Ok(self.enter(ctx, self.find(ctx, dir, name)?))
    }

    /// Request: the text of a symlink.
    pub(crate) fn readlink(&self, ctx: &Ctx, ino: u64) -> FsResult<Vec<u8>> {
        let Place::Link(spot) = self.place(ino)? else {
            return errno(libc::EINVAL);
        };
        self.read(ctx, |r| match self.value_at(r, &spot)? {
            Some(Value::Obj(obj)) => match self.link_text(r, spot.parent, obj)? {
                // The kernel accepts at most a path.
                text if text.len() >= libc::PATH_MAX as usize => errno(libc::ENAMETOOLONG),
                text => Ok(text),
            },
            Some(Value::Link(text)) => Ok(text.to_vec()),
            _ => errno(libc::ESTALE),
        })
    }

    /// Finish what waited for a new entry: items of a list behind it, and links to it.
    pub(crate) fn entry_appeared(&self, ctx: &Ctx, dir: Obj, name: &[u8]) {
        self.join(ctx, dir);
        let links = {
            let mut awaited = lock(&self.awaited);
            if awaited.is_empty() {
                return;
            }
            awaited.take(&(dir.id, name.to_vec()))
        };
        for spot in links {
            if let Err(e) = self.try_link(ctx, &spot) {
                log::debug!("a link stays a value: errno {}", e.errno());
            }
        }
    }

    /// Let links that were moved, or became values, refer to what their texts lead to, or wait for it.
    pub(crate) fn finish_links(&self, ctx: &Ctx, links: &[Spot]) {
        for spot in links {
            lock(&self.awaited).drop_link(spot);
            if let Err(e) = self.try_link(ctx, spot) {
                log::debug!("a link stays a value: errno {}", e.errno());
            }
        }
    }

    /// Make a reference of a link value if its text leads to a container now; otherwise it waits for the next step.
    fn try_link(&self, ctx: &Ctx, spot: &Spot) -> FsResult<()> {
        let (seat, waits) = self.read(ctx, |r| self.seat_of_link(r, spot))?;
        if let Some(entry) = waits {
            lock(&self.awaited).add(spot, entry);
        }
        if seat.is_none() {
            return Ok(());
        }
        self.write(ctx, |w, _| match self.seat_of_link(w, spot)? {
            (Some(obj), _) => self.replace_link(w, spot, &In::Obj(obj)),
            _ => Ok(()),
        })
    }

    fn seat_of_link(&self, r: &Reader<'_>, spot: &Spot) -> FsResult<(Option<Obj>, Option<Missing>)> {
        let Some(Value::Link(text)) = self.value_at(r, spot)? else {
            return Ok((None, None));
        };
        let dir = self.shown_in(r, spot.parent)?;
        self.seat_of(r, dir, &text, false)
    }
}
