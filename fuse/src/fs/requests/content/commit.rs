//! Storing written data: the content of an open file becomes a value, in one operation.

use crate::fs::context::{Ctx, MAX_FILE, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::{Place, Spot};
use crate::fs::known::metadata::{Mark, fingerprint};
use crate::fs::known::open_files::{OpenFile, State};
use crate::fs::requests::content::drafts::Stored;
use crate::fs::requests::content::in_place::InPlace;
use crate::fs::text::scalars::{self, Scalar, Ty};
use crate::fs::tree::filesystem::Fs;
use std::borrow::Cow;
use std::sync::Arc;

impl Fs {
    /// `truncate`: through an open file a change like a write, otherwise stored at once.
    pub(crate) fn resize(
        &self,
        ctx: &Ctx,
        ino: u64,
        place: &Place,
        fh: Option<u64>,
        size: u64,
    ) -> FsResult<()> {
        if size > MAX_FILE {
            return errno(libc::EFBIG);
        }
        let size = size as usize;
        if let Some(handle) = fh
            .and_then(|fh| self.open_files.get(fh).ok())
            .filter(|h| h.write && h.ino == ino)
        {
            match place {
                Place::Lock(_) => return Ok(()),
                Place::Deleted => return errno(libc::ESTALE),
                _ => {}
            }
            let mut state = handle.state(ctx)?;
            self.build_cut(ctx, &handle, &mut state)?;
            if let (Place::File(spot), false, false) = (place, state.aside, state.dirty)
                && self.resize_in_place(ctx, spot, size as u64)? == InPlace::Done
            {
                state.data = None;
                state.large = None;
                state.loaded_at = None;
                self.open_files.note_change(ino);
                return Ok(());
            }
            self.ensure_data(ctx, &handle, &mut state)?;
            if !state.aside || !self.resize_draft(ctx, &mut state, size as u64)? {
                resize_vec(Arc::make_mut(state.data.get_or_insert_default()), size)?;
            }
            state.writers.add(None);
            state.dirty = true;
            state.base = None;
            let all_see_it = state.created && state.aside;
            handle.note_written((!all_see_it).then_some(ctx.tid), Some(size as u64));
            return Ok(());
        }
        // A new file that another open file is building has its content there.
        if let Some(fh) = fh.is_none().then(|| self.open_files.new_of(ino)).flatten() {
            return self.resize(ctx, ino, place, Some(fh), size as u64);
        }
        if let Place::File(spot) = place
            && self.resize_in_place(ctx, spot, size as u64)? == InPlace::Done
        {
            self.open_files.note_change(ino);
            return Ok(());
        }
        match place {
            Place::Dir(_) => errno(libc::EISDIR),
            Place::Control(_) | Place::Link(_) => errno(libc::EPERM),
            Place::Lock(_) => Ok(()),
            Place::Deleted => errno(libc::ESTALE),
            Place::File(spot) => self.write(ctx, |w, _| {
                let Some(value) = self.value_at(w, spot)? else {
                    return errno(libc::ESTALE);
                };
                let Some(ty) = self.type_of(w, &value)? else {
                    return errno(libc::ESTALE);
                };
                let mut bytes = self.whole(w, &value)?;
                resize_vec(&mut bytes, size)?;
                let new = scalars::parse_over(&ty, &bytes, false, self.config.exact);
                self.set_content(w, spot, &new.ok_or(FsError::Errno(libc::EINVAL))?.as_in())
            }),
        }?;
        self.open_files.note_change(ino);
        Ok(())
    }

    /// Store the data written to an open file.
    pub(crate) fn commit_handle(&self, ctx: &Ctx, handle: &OpenFile) -> FsResult<()> {
        let mut state = handle.state(ctx)?;
        self.commit(ctx, handle, &mut state, None)
    }

    /// Store the data written to all open files of an inode.
    pub(crate) fn commit_inode(&self, ctx: &Ctx, ino: u64) -> FsResult<()> {
        for handle in self.open_files.of_inode(ino) {
            self.commit_handle(ctx, &handle)?;
        }
        Ok(())
    }

    /// Store the written data, as the type `forced` if there is one.
    pub(crate) fn commit(
        &self,
        ctx: &Ctx,
        handle: &OpenFile,
        state: &mut State,
        force: Option<Ty>,
    ) -> FsResult<()> {
        if !state.dirty || state.refused || !handle.write {
            return Ok(());
        }
        self.build_cut(ctx, handle, state)?;
        let place = self.place(handle.ino)?;
        let stored = match &place {
            Place::File(spot) => self.commit_entry(ctx, handle, state, spot, force)?,
            _ => None,
        };
        state.writers.clear();
        if !state.aside && stored.is_some() {
            self.open_files.note_change(handle.ino);
        }
        state.aside = false;
        state.dirty = false;
        state.in_turn = false;
        state.loaded_at = None;
        if state.base.take().is_some() && stored.is_some() {
            // Another writer's text may have been stored in between: read the value again.
            state.data = None;
        }
        handle.note_written(None, None);
        if stored.is_some() {
            state.ty = stored;
        }
        Ok(())
    }

    fn commit_entry(
        &self,
        ctx: &Ctx,
        handle: &OpenFile,
        state: &mut State,
        spot: &Spot,
        force: Option<Ty>,
    ) -> FsResult<Option<Ty>> {
        let mark = Mark::Entry(spot.parent.id, spot.slot.clone());
        let want = force.or_else(|| lock(&self.metadata).get(&mark).and_then(|m| m.want.clone()));
        let stored = match self.store_draft(ctx, state, spot, want.as_ref())? {
            Stored::As(ty) => Ok(Some(ty)),
            Stored::Gone => Ok(None),
            Stored::Parse => self.store_content(ctx, handle, state, spot, want.as_ref()),
        };
        match stored {
            Ok(Some(ty)) => {
                let mut memory = lock(&self.metadata);
                if memory.get(&mark).is_some_and(|m| m.want.is_some()) {
                    memory.at(mark).want = None;
                }
                Ok(Some(ty))
            }
            Ok(None) => Ok(None),
            // The directory was deleted: the written data is discarded.
            Err(e) if e.is_gone() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Store a content that is in memory. Returns its type; None if the entry is gone.
    fn store_content(
        &self,
        ctx: &Ctx,
        handle: &OpenFile,
        state: &State,
        spot: &Spot,
        want: Option<&Ty>,
    ) -> FsResult<Option<Ty>> {
        let content = state.data.clone().unwrap_or_default();
        self.write(ctx, |w, _| {
            let Some(old) = self.value_at(w, spot)? else {
                return Ok(None);
            };
            // The entry became a container: the file that was open no longer exists.
            let Some(old_ty) = self.type_of(w, &old)? else {
                return Ok(None);
            };
            let mut content = Cow::Borrowed(&content[..]);
            if let Some((len, print)) = state.base.filter(|_| handle.append && !state.aside) {
                let mut now = self.whole(w, &old)?;
                if fingerprint(&now) != print {
                    now.extend_from_slice(content.get(len..).unwrap_or_default());
                    content = Cow::Owned(now);
                }
            }
            let scalar = self.decide(want, state, &old_ty, &content)?;
            let same = scalar.ty() == old_ty
                && Scalar::from_value(&old).is_some_and(|s| s.render(self.config.exact) == *content);
            if same {
                self.note_written_at(w, spot, &old)?;
            } else {
                self.set_content(w, spot, &scalar.as_in())?;
            }
            Ok(Some(scalar.ty()))
        })
    }

    /// The value that a content becomes.
    fn decide<'a>(
        &self,
        want: Option<&Ty>,
        state: &State,
        old: &Ty,
        content: &'a [u8],
    ) -> FsResult<Scalar<'a>> {
        let (infer, exact) = (self.config.infer, self.config.exact);
        let scalar = match want {
            Some(ty) => scalars::parse_as(ty, content, exact),
            None if state.created => Some(scalars::parse_new(content, state.hint.as_ref(), infer, exact)),
            None => scalars::parse_over(old, content, infer, exact),
        };
        scalar.ok_or(FsError::Errno(libc::EINVAL))
    }
}

/// Put bytes at `start..end`, after zeros if the content is shorter.
pub(crate) fn overwrite(content: &mut Vec<u8>, start: usize, end: usize, bytes: &[u8]) -> FsResult<()> {
    if end > content.len() {
        resize_vec(content, end)?;
    }
    content[start..end].copy_from_slice(bytes);
    Ok(())
}

/// Make a content shorter, or longer with zeros.
pub(crate) fn resize_vec(content: &mut Vec<u8>, size: usize) -> FsResult<()> {
    if let Some(more) = size.checked_sub(content.len()) {
        content
            .try_reserve(more)
            .map_err(|_| FsError::Errno(libc::ENOMEM))?;
    }
    content.resize(size, 0);
    Ok(())
}
