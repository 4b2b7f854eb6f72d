//! Requests on directories: opendir, mkdir, unlink, rmdir.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsResult, errno};
use crate::fs::known::inodes::Place;
use crate::fs::known::metadata::Mark;
use crate::fs::text::names;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::Named;
use crate::fs::tree::links::References;
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::owners::New;
use crate::fs::tree::metadata::records::Subject;
use crate::fs::tree::removed::Removal;
use persist_core::store::{In, Obj, Value};

impl Fs {
    /// Request: open a directory.
    pub(crate) fn opendir(&self, ctx: &Ctx, ino: u64) -> FsResult<()> {
        match self.place(ino)? {
            Place::Dir(obj) => {
                self.join(ctx, obj);
                Ok(())
            }
            Place::Control(_) => Ok(()),
            _ => errno(libc::ENOTDIR),
        }
    }

    /// Request: make a directory.
    pub(crate) fn mkdir(&self, ctx: &Ctx, parent: u64, name: &[u8], mode: u32) -> FsResult<Attr> {
        if self.find_control(ctx, parent, name)?.is_some() || name == names::LOCK {
            return errno(libc::EEXIST);
        }
        let dir = self.dir(parent)?;
        let named = self.named_to_make(ctx, dir, name)?;
        let counts = self.write(ctx, |w, renamed| {
            if self.value_of(w, dir, &named)?.is_some() {
                return errno(libc::EEXIST);
            }
            let before = self.count_before(w, dir)?;
            let obj = w.new_dict()?;
            let spot = self.put(w, dir, &named, &In::Obj(obj), renamed)?;
            self.record_new(ctx, w, dir, Subject::Dir(obj), New::Dir(mode))?;
            // A name that waits beside a list changes another container.
            let before = before.filter(|_| spot.parent.id == dir.id);
            Ok([
                self.count_after(w, dir, before, 1)?,
                self.count_after(w, obj, Some(0), 0)?,
            ])
        })?;
        counts.into_iter().for_each(|count| self.keep_count(count));
        let ctx = &Ctx {
            may_wait: true,
            ..*ctx
        };
        self.entry_appeared(ctx, dir, name);
        Ok(self.enter(ctx, self.find(ctx, dir, name)?))
    }

    /// Request: remove a file or a reference.
    pub(crate) fn unlink(&self, ctx: &Ctx, parent: u64, name: &[u8]) -> FsResult<()> {
        self.remove(ctx, parent, name, false)
    }

    /// Request: remove an empty directory.
    pub(crate) fn rmdir(&self, ctx: &Ctx, parent: u64, name: &[u8]) -> FsResult<()> {
        self.remove(ctx, parent, name, true)
    }

    fn remove(&self, ctx: &Ctx, parent: u64, name: &[u8], dir_wanted: bool) -> FsResult<()> {
        if self.find_control(ctx, parent, name)?.is_some() {
            return errno(libc::EPERM);
        }
        let dir = self.dir(parent)?;
        let named = self.named(ctx, dir, name)?;
        self.with_references(|| self.remove_named(ctx, dir, &named, dir_wanted))
    }

    fn remove_named(&self, ctx: &Ctx, dir: Obj, named: &Named, dir_wanted: bool) -> FsResult<()> {
        let references = match dir_wanted {
            true => self.references_to(ctx, dir, named, true)?,
            false => References::default(),
        };
        let _moving = self.moving.begin();
        let mut removal = Removal::new(self);
        let (removed, unforgotten) = self.write_to_follow(ctx, |w, renamed| {
            removal.run(|removal| {
                let Some((spot, value)) = self.value_of(w, dir, named)? else {
                    return errno(libc::ENOENT);
                };
                let child = match value {
                    Value::Obj(obj) if self.shown_at(w, obj, &spot)? => Some(obj),
                    _ => None,
                };
                match (child, dir_wanted) {
                    (Some(_), false) => return errno(libc::EISDIR),
                    (None, true) => return errno(libc::ENOTDIR),
                    (Some(obj), true) if !self.is_empty(w, obj)? => return errno(libc::ENOTEMPTY),
                    (Some(_), true) => self.check_references(w, &references, child)?,
                    (None, false) => {}
                }
                let before = self.count_before(w, dir)?.filter(|_| spot.parent.id == dir.id);
                removal.remove(w, &spot, &value, renamed)?;
                let values = self.keep_texts(w, &references)?;
                let count = self.count_after(w, dir, before, -i32::from(child.is_some()))?;
                Ok((spot, child, values, count))
            })
        })?;
        let (spot, child, values, count) = removed;
        self.keep_count(count);
        removal.finish();
        self.spot_deleted(spot.parent, &spot.slot);
        drop(unforgotten);
        if let Some(obj) = child {
            lock(&self.lists).forget(obj.id);
            lock(&self.metadata).deleted(&Mark::Dir(obj.id));
        }
        let ctx = &Ctx {
            may_wait: true,
            ..*ctx
        };
        self.finish_links(ctx, &values);
        Ok(())
    }
}
