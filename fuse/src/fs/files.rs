//! Requests on files: create, open, read, write, flush, release.

use super::attrs::{Attr, NodeKind, fingerprint};
use super::commit::{MAX_FILE, overwrite};
use super::error::{FsError, FsResult, errno};
use super::handles::{Handle, State};
use super::memory::Mark;
use super::names;
use super::nodes::{Place, Spot};
use super::sides::{Content, Side};
use super::text::{self, Scalar, Ty};
use super::tree::{Named, Put, read_large};
use super::{Ctx, Fs, lock, procs};
use persist_core::Error;
use persist_core::store::{In, LargeKind, Obj, Reader, Value};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// Bytes of a large value read in one section.
const PIECE: usize = 256 << 10;

/// What an open file begins with.
struct Loaded {
    ty: Ty,
    data: Option<Arc<Vec<u8>>>,
    large: Option<persist_core::store::Large>,
}

impl Fs {
    /// A scalar's file: its bytes, or, when it is large and readable in place, where they are.
    fn load(&self, r: &Reader<'_>, value: &Value) -> FsResult<Loaded> {
        let Some(ty) = Ty::of(value) else {
            return errno(libc::ESTALE);
        };
        match value {
            Value::Large(large) if !matches!(large.kind, LargeKind::Int { .. }) => Ok(Loaded {
                ty,
                data: None,
                large: Some(*large),
            }),
            _ => Ok(Loaded {
                ty,
                data: Some(Arc::new(self.whole(r, value)?)),
                large: None,
            }),
        }
    }

    /// A scalar's file, whole.
    pub(crate) fn whole(&self, r: &Reader<'_>, value: &Value) -> FsResult<Vec<u8>> {
        let exact = self.config.exact;
        let Value::Large(large) = value else {
            return Scalar::from_value(value)
                .map(|s| s.render(exact))
                .ok_or(FsError::Errno(libc::ESTALE));
        };
        let mut bytes = read_large(r, large)?;
        match large.kind {
            LargeKind::Bytes => {}
            LargeKind::Str { no_newline } => {
                if !no_newline && !exact {
                    bytes.push(b'\n');
                }
            }
            LargeKind::Int { negative } => {
                bytes = Scalar::BigInt {
                    negative,
                    magnitude: bytes,
                }
                .render(exact);
            }
        }
        Ok(bytes)
    }

    /// What a file holds now.
    fn load_place(&self, ctx: &Ctx, place: &Place) -> FsResult<Option<Loaded>> {
        match place {
            Place::File(spot) => self.read(ctx, |r| match self.value_at(r, spot)? {
                Some(value) => self.load(r, &value).map(Some),
                None => Ok(None),
            }),
            Place::Side(id) => {
                let content = lock(&self.sides).get(*id).map(|s| s.content.clone());
                Ok(match content {
                    Some(Content::File(scalar)) => Some(Loaded {
                        ty: scalar.ty(),
                        data: Some(Arc::new(scalar.render(self.config.exact))),
                        large: None,
                    }),
                    _ => None,
                })
            }
            _ => Ok(None),
        }
    }

    /// Request: open.
    pub(crate) fn open(&self, ctx: &Ctx, ino: u64, flags: i32) -> FsResult<u64> {
        let place = self.place(ino)?;
        let write = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let state = match &place {
            Place::Dir(_) => return errno(libc::EISDIR),
            Place::Link(_) => return errno(libc::ELOOP),
            Place::Deleted => State {
                data: Some(Arc::default()),
                ..State::default()
            },
            Place::Lock(_) => State {
                data: Some(Arc::default()),
                ..State::default()
            },
            Place::Control(_) if write => return errno(libc::EACCES),
            Place::Control(c) => State {
                data: Some(Arc::new(self.control_content(*c)?)),
                ..State::default()
            },
            Place::File(_) | Place::Side(_) => {
                let count = self.store.change_count();
                let Some(loaded) = self.load_place(ctx, &place)? else {
                    return errno(libc::ESTALE);
                };
                let mut state = State {
                    data: loaded.data,
                    large: loaded.large,
                    ty: Some(loaded.ty),
                    loaded_at: Some(count),
                    ..State::default()
                };
                if write && flags & libc::O_TRUNC != 0 {
                    state.data = Some(Arc::default());
                    state.large = None;
                    state.dirty = true;
                    state.replaces = true;
                }
                state
            }
        };
        let truncated = state.dirty;
        let fh = self.handles.add(ino, flags, ctx.tid, state);
        if truncated {
            self.handles.get(fh)?.note_written(ctx.tid, Some(0));
        }
        Ok(fh)
    }

    /// Makes a new empty file: in the store, or beside a list. `exclusive`: it must not be there.
    fn make(&self, ctx: &Ctx, dir: Obj, name: &[u8], mode: u32) -> FsResult<Option<Ty>> {
        let named = self.named_to_make(ctx, dir, name)?;
        let empty = Scalar::Str {
            bytes: Cow::Borrowed(b""),
            no_newline: !self.config.exact,
        };
        let put = self.write(ctx, |w, renumber| {
            if self.value_of(w, dir, &named)?.is_some() {
                return errno(libc::EEXIST);
            }
            self.put(w, dir, &named, &empty.as_in(), renumber)
        })?;
        let mark = match (put, named.spot(dir)) {
            (Put::Done, Some(spot)) => Mark::Entry(dir.id, spot.slot),
            _ => {
                let serial = named.serial();
                let content = Content::File(Arc::new(empty.into_owned()));
                let mut side = Side::new(dir, name, serial, content);
                side.temporary = matches!(named, Named::Temporary);
                let (id, _) = lock(&self.sides).add(side);
                Mark::Side(id)
            }
        };
        let mut memory = lock(&self.memory);
        let hint = memory.was_here(&mark);
        let memo = memory.at(mark);
        *memo = super::memory::Memo {
            fresh: Some(Instant::now()),
            ..Default::default()
        };
        let mode = (mode & 0o7777) as u16;
        if mode != 0o666 & !self.config.umask {
            memo.mode = Some(mode);
        }
        drop(memory);
        self.settled(ctx, dir, name);
        Ok(hint)
    }

    /// Request: create and open.
    pub(crate) fn create(
        &self,
        ctx: &Ctx,
        parent: u64,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> FsResult<(Attr, u64)> {
        if let Some(found) = self.find_control(ctx, parent, name)? {
            let attr = self.enter(found);
            return Ok((attr, self.open(ctx, attr.ino, flags)?));
        }
        let dir = self.dir(parent)?;
        let made = match self.make(ctx, dir, name, mode) {
            Ok(hint) => Some(hint),
            Err(FsError::Errno(libc::EEXIST)) if flags & libc::O_EXCL == 0 => None,
            Err(e) => return Err(e),
        };
        // Made already: from here on the request must not be run again.
        let ctx = &Ctx {
            patient: ctx.patient || made.is_some(),
            ..*ctx
        };
        let found = self.find(ctx, dir, name)?;
        if found.attr.kind != NodeKind::File {
            if let Some(obj) = found.pinned {
                self.store.unpin(obj);
            }
            return errno(if found.attr.kind == NodeKind::Dir {
                libc::EISDIR
            } else {
                libc::EEXIST
            });
        }
        let attr = self.enter(found);
        let Some(hint) = made else {
            return Ok((attr, self.open(ctx, attr.ino, flags)?));
        };
        let state = State {
            data: Some(Arc::default()),
            created: true,
            replaces: true,
            hint,
            ty: Some(Ty::Str),
            ..State::default()
        };
        Ok((attr, self.handles.add(attr.ino, flags, ctx.tid, state)))
    }

    /// Request: make a file without opening it.
    pub(crate) fn mknod(&self, ctx: &Ctx, parent: u64, name: &[u8], mode: u32) -> FsResult<Attr> {
        if !matches!(mode & libc::S_IFMT, libc::S_IFREG | 0) {
            return errno(libc::EPERM);
        }
        if self.find_control(ctx, parent, name)?.is_some() {
            return errno(libc::EEXIST);
        }
        let dir = self.dir(parent)?;
        self.make(ctx, dir, name, mode)?;
        let ctx = &Ctx {
            patient: true,
            ..*ctx
        };
        Ok(self.enter(self.find(ctx, dir, name)?))
    }

    /// Looks again what the file holds.
    fn refresh(&self, ctx: &Ctx, handle: &Handle, state: &mut State) -> FsResult<()> {
        let place = self.place(handle.ino)?;
        if !matches!(place, Place::File(_) | Place::Side(_)) {
            return Ok(());
        }
        let count = self.store.change_count();
        if state.loaded_at == Some(count) && matches!(place, Place::File(_)) {
            return Ok(());
        }
        match self.load_place(ctx, &place) {
            Ok(Some(loaded)) => {
                state.data = loaded.data;
                state.large = loaded.large;
                state.ty = Some(loaded.ty);
                state.loaded_at = Some(count);
                Ok(())
            }
            // The entry is gone: what was read of it stays readable.
            Ok(None) => Ok(()),
            Err(e) if e.is_gone() || e.errno() == libc::ESTALE => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Request: read.
    pub(crate) fn read_file(&self, ctx: &Ctx, fh: u64, offset: u64, size: u32) -> FsResult<Vec<u8>> {
        let handle = self.handles.get(fh)?;
        let mut state = handle.state(ctx)?;
        let goes_on = offset == state.read_end && !state.at_end;
        if !state.dirty && (offset == 0 || !goes_on || (state.data.is_none() && state.large.is_none())) {
            self.refresh(ctx, &handle, &mut state)?;
        }
        let out = match (&state.data, state.large) {
            (Some(data), _) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
                let end = start.saturating_add(size as usize).min(data.len());
                data[start..end].to_vec()
            }
            (None, Some(_)) => self.read_in_place(ctx, &handle, &mut state, offset, size as usize)?,
            (None, None) => Vec::new(),
        };
        state.read_end = offset + out.len() as u64;
        state.at_end = out.is_empty();
        Ok(out)
    }

    /// Reads a piece of a large value; when it was replaced meanwhile, of the new one.
    fn read_in_place(
        &self,
        ctx: &Ctx,
        handle: &Handle,
        state: &mut State,
        offset: u64,
        size: usize,
    ) -> FsResult<Vec<u8>> {
        for _ in 0..16 {
            let Some(large) = state.large else {
                let data = state.data.clone().unwrap_or_default();
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
                return Ok(data[start..start.saturating_add(size).min(data.len())].to_vec());
            };
            let newline = matches!(large.kind, LargeKind::Str { no_newline: false }) && !self.config.exact;
            let total = large.len + u64::from(newline);
            let want = size.min(usize::try_from(total.saturating_sub(offset)).unwrap_or(usize::MAX));
            let mut out = vec![0u8; want];
            let mut done = 0;
            let mut gone = false;
            while done < want && offset + (done as u64) < large.len {
                let end = want
                    .min(done + PIECE)
                    .min(usize::try_from(large.len - offset).unwrap_or(usize::MAX));
                let at = offset + done as u64;
                match self.read(ctx, |r| Ok(r.large_read(&large, at, &mut out[done..end])?)) {
                    Ok(0) => break,
                    Ok(n) => done += n,
                    Err(FsError::Store(Error::Gone(_))) => {
                        gone = true;
                        break;
                    }
                    Err(e) => return Err(e),
                }
            }
            if !gone {
                if newline && done < want && offset + done as u64 == large.len {
                    out[done] = b'\n';
                    done += 1;
                }
                out.truncate(done);
                return Ok(out);
            }
            state.loaded_at = None;
            state.large = None;
            state.data = None;
            self.refresh(ctx, handle, state)?;
        }
        errno(libc::EAGAIN)
    }

    /// The whole content of an open file, to be changed.
    pub(crate) fn ensure_data(&self, ctx: &Ctx, handle: &Handle, state: &mut State) -> FsResult<()> {
        if state.dirty && state.data.is_some() {
            return Ok(());
        }
        self.refresh(ctx, handle, state)?;
        if state.data.is_none() {
            let bytes = match self.place(handle.ino)? {
                Place::File(spot) => self.read(ctx, |r| match self.value_at(r, &spot)? {
                    Some(value) => self.whole(r, &value),
                    None => Ok(Vec::new()),
                })?,
                _ => Vec::new(),
            };
            state.data = Some(Arc::new(bytes));
            state.large = None;
        }
        Ok(())
    }

    /// The type that what is written must fit.
    fn bound_type(&self, place: &Place, state: &State) -> Option<Ty> {
        let want = match place {
            Place::Side(id) => lock(&self.sides).get(*id).and_then(|s| s.want),
            other => Mark::of(other).and_then(|m| lock(&self.memory).get(&m).and_then(|memo| memo.want)),
        };
        want.or(if state.created { None } else { state.ty })
    }

    /// Request: write.
    pub(crate) fn write_file(&self, ctx: &Ctx, fh: u64, offset: u64, bytes: &[u8]) -> FsResult<u32> {
        let handle = self.handles.get(fh)?;
        if !handle.write {
            return errno(libc::EBADF);
        }
        let place = self.place(handle.ino)?;
        let written = u32::try_from(bytes.len()).map_err(|_| FsError::Errno(libc::EINVAL))?;
        if let Place::Lock(_) = place {
            return Ok(written);
        }
        let mut state = handle.state(ctx)?;
        // Before the first write since the file was opened, emptied or stored.
        if let (Place::File(spot), false) = (&place, state.in_turn) {
            if let Err(e) = self.wait_for_turn(ctx, spot) {
                state.refused = !matches!(e, FsError::Blocked);
                return Err(e);
            }
            state.in_turn = true;
            state.refused = false;
        }
        self.ensure_data(ctx, &handle, &mut state)?;
        let ty = self.bound_type(&place, &state);
        let old_len = state.data.as_ref().map_or(0, |d| d.len());
        let start = if handle.append { old_len as u64 } else { offset };
        let end = start
            .checked_add(bytes.len() as u64)
            .filter(|e| *e <= MAX_FILE)
            .ok_or(FsError::Errno(libc::EFBIG))?;
        let (start, end) = (start as usize, end as usize);
        let base = (handle.append && state.base.is_none()).then(|| {
            state
                .data
                .as_ref()
                .map_or((0, fingerprint(&[])), |d| (d.len(), fingerprint(d)))
        });
        if let Some(ty @ (Ty::Int | Ty::Float | Ty::Bool)) = ty {
            let mut candidate = state.data.as_deref().cloned().unwrap_or_default();
            overwrite(&mut candidate, start, end, bytes)?;
            if !text::could_become(ty, &candidate) {
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
        handle.note_written(ctx.tid, Some(state.data.as_ref().map_or(0, |d| d.len() as u64)));
        Ok(written)
    }

    /// Waits until no lock forbids to change the entry. What is written is stored at the close of the
    /// file, but many programs (a shell's own `echo`) look only at what `write` says.
    fn wait_for_turn(&self, ctx: &Ctx, spot: &Spot) -> FsResult<()> {
        let tried = self.write(ctx, |w, _| match self.value_at(w, spot)? {
            Some(old) if Ty::of(&old).is_some() => {
                // A change that is taken back: it meets whatever the real one would.
                self.set_at(w, spot, &In::None)?;
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

    /// Request: flush, at every close of a descriptor. `owner` is whose fcntl locks end.
    pub(crate) fn flush(&self, ctx: &Ctx, ino: u64, fh: u64, owner: u64) -> FsResult<()> {
        let handle = self.handles.get(fh)?;
        let result = {
            let mut state = handle.state(ctx)?;
            // A shell that redirects closes one of two descriptors before anything is written, and its
            // children theirs between its own lines: none of that must show.
            let opener = if handle.opener == 0 {
                ctx.tid
            } else {
                handle.opener
            };
            let waits = state.dirty
                && state.replaces
                && self.handles.of_inode(ino).iter().filter(|h| h.write).count() == 1
                && procs::has_open(opener, ino);
            if waits {
                Ok(())
            } else {
                self.commit(ctx, &handle, &mut state, None)
            }
        };
        if !matches!(result, Err(FsError::Blocked)) {
            self.locks.flush(&self.store, ino, owner);
        }
        result
    }

    /// Request: fsync.
    pub(crate) fn fsync(&self, ctx: &Ctx, fh: u64) -> FsResult<()> {
        let handle = self.handles.get(fh)?;
        self.commit_handle(ctx, &handle)?;
        self.sync()
    }

    /// Request: the last descriptor was closed.
    pub(crate) fn release(&self, ctx: &Ctx, fh: u64) -> FsResult<()> {
        let handle = self.handles.get(fh)?;
        let result = self.commit_handle(ctx, &handle);
        if matches!(result, Err(FsError::Blocked)) {
            return result;
        }
        if let Err(e) = result {
            log::warn!(
                "a closed file was not stored: {}",
                std::io::Error::from_raw_os_error(e.errno())
            );
        }
        self.handles.remove(fh);
        self.locks.release(&self.store, fh);
        Ok(())
    }

    /// Request: lseek for data and holes: there are none.
    pub(crate) fn lseek(&self, ctx: &Ctx, ino: u64, fh: u64, offset: i64, whence: i32) -> FsResult<i64> {
        let size = self.getattr(ctx, ino, Some(fh))?.size as i64;
        match whence {
            libc::SEEK_SET => Ok(offset),
            libc::SEEK_END => Ok(size.saturating_add(offset)),
            libc::SEEK_DATA if (0..size).contains(&offset) => Ok(offset),
            libc::SEEK_HOLE if (0..size).contains(&offset) => Ok(size),
            libc::SEEK_DATA | libc::SEEK_HOLE => errno(libc::ENXIO),
            _ => errno(libc::EINVAL),
        }
    }
}

/// True for names no entry can be given.
pub(crate) fn is_control_name(name: &[u8]) -> bool {
    name == names::LOCK || name == names::CONTROL
}
