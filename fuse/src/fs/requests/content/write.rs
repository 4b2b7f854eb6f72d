//! Requests that write a file: write. (`resize` is in `commit`.)

use crate::fs::context::{Ctx, MAX_FILE, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::{Place, Spot};
use crate::fs::known::metadata::{Mark, fingerprint};
use crate::fs::known::open_files::State;
use crate::fs::requests::content::commit::overwrite;
use crate::fs::requests::content::in_place::{At, InPlace};
use crate::fs::text::scalars::{self, Ty};
use crate::fs::tree::filesystem::Fs;
use std::sync::Arc;

impl Fs {
    /// The type that the written data must fit.
    fn bound_type(&self, place: &Place, state: &State) -> Option<Ty> {
        let want =
            Mark::of(place).and_then(|m| lock(&self.metadata).get(&m).and_then(|memo| memo.want.clone()));
        want.or(if state.created { None } else { state.ty.clone() })
    }

    /// Request: write. `owner` is the kernel's number of the writer's descriptor table. A write of a shared mapping
    /// (`mapped`) is at its offset, however the file was opened.
    pub(crate) fn write_file(
        &self,
        ctx: &Ctx,
        (fh, owner): (u64, Option<u64>),
        (offset, mapped): (u64, bool),
        bytes: &[u8],
    ) -> FsResult<u32> {
        let handle = self.open_files.get(fh)?;
        if !handle.write {
            return errno(libc::EBADF);
        }
        let place = self.place(handle.ino)?;
        let written = u32::try_from(bytes.len()).map_err(|_| FsError::Errno(libc::EINVAL))?;
        match place {
            Place::Lock(_) => return Ok(written),
            Place::Deleted => return errno(libc::ESTALE),
            _ => {}
        }
        let append = handle.append && !mapped;
        let mut state = handle.state(ctx)?;
        if let (Place::File(spot), false) = (&place, state.aside || (state.dirty && state.cut.is_none())) {
            let at = if append { At::End } else { At::Offset(offset) };
            let file = (&*handle, &mut *state);
            if self.write_with_cut(ctx, file, (spot, owner), at, bytes)? == InPlace::Done {
                return Ok(written);
            }
        }
        self.build_cut(ctx, &handle, &mut state)?;
        // This is the first write since the file was opened, truncated or stored.
        if let (Place::File(spot), false) = (&place, state.in_turn) {
            if let Err(e) = self.wait_for_turn(ctx, spot) {
                state.refused = !e.runs_again();
                return Err(e);
            }
            state.in_turn = true;
            state.refused = false;
        }
        self.ensure_data(ctx, &handle, &mut state)?;
        let ty = self.bound_type(&place, &state);
        let start = if append { state.built() } else { offset };
        let end = start
            .checked_add(bytes.len() as u64)
            .filter(|e| *e <= MAX_FILE)
            .ok_or(FsError::Errno(libc::EFBIG))?;
        let has_a_form = ty.as_ref().is_some_and(Ty::has_a_form);
        if state.aside && !has_a_form && self.write_draft(ctx, &mut state, start, bytes)? {
            state.dirty = true;
            state.writers.add(owner);
            let all_see_it = state.created && state.aside;
            handle.note_written((!all_see_it).then_some(ctx.tid), Some(state.built()));
            return Ok(written);
        }
        let (start, end) = (start as usize, end as usize);
        let base = (append && !state.aside && state.base.is_none()).then(|| {
            state
                .data
                .as_ref()
                .map_or((0, fingerprint(&[])), |d| (d.len(), fingerprint(d)))
        });
        if let Some(ty) = ty.as_ref().filter(|ty| ty.has_a_form()) {
            let mut candidate = state.data.as_deref().cloned().unwrap_or_default();
            overwrite(&mut candidate, start, end, bytes)?;
            if !scalars::could_become(ty, &candidate) {
                return errno(libc::EINVAL);
            }
            state.data = Some(Arc::new(candidate));
        } else {
            overwrite(
                Arc::make_mut(state.data.get_or_insert_default()),
                start,
                end,
                bytes,
            )?;
        }
        state.base = state.base.or(base);
        state.dirty = true;
        state.writers.add(owner);
        let size = state.data.as_ref().map_or(0, |d| d.len() as u64);
        let all_see_it = state.created && state.aside;
        let whole_again = state.dirty && !state.aside && !state.created && ty == Some(Ty::Str);
        if whole_again
            && state
                .data
                .as_ref()
                .is_some_and(|d| std::str::from_utf8(d).is_ok())
        {
            // The text is complete again. If it cannot be stored now, the close or the next write does it.
            let _ = self.commit(ctx, &handle, &mut state, None);
            if !state.dirty {
                return Ok(written);
            }
        }
        handle.note_written((!all_see_it).then_some(ctx.tid), Some(size));
        Ok(written)
    }

    /// Wait until no lock forbids a change of the entry. The data is stored at the close of the file, but many programs
    /// (a shell's own `echo`) check only the result of `write`.
    fn wait_for_turn(&self, ctx: &Ctx, spot: &Spot) -> FsResult<()> {
        let tried = self.write(ctx, |w, _| match self.value_at(w, spot)? {
            Some(old) if Ty::of(&old).is_some() => {
                self.check_change(w, spot)?;
                // Nothing has changed: the request may run again.
                errno::<()>(libc::ECANCELED)
            }
            _ => Ok(()),
        });
        match tried {
            Err(FsError::Errno(libc::ECANCELED)) => Ok(()),
            Err(e) if e.is_gone() => Ok(()),
            other => other,
        }
    }
}
