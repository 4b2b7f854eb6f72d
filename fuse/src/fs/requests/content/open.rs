//! Requests that open or create files: open, create, mknod.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::Place;
use crate::fs::known::leases::Held;
use crate::fs::known::metadata::{Mark, Remembered};
use crate::fs::known::open_files::State;
use crate::fs::text::scalars::{Scalar, Ty};
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::attributes::NodeKind;
use crate::fs::tree::metadata::owners::New;
use crate::fs::tree::metadata::records::Subject;
use persist_core::store::Obj;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest wait for a command that removes the file.
const CLOSING: Duration = Duration::from_secs(10);

impl Fs {
    /// Request: open.
    pub(crate) fn open(&self, ctx: &Ctx, ino: u64, flags: i32) -> FsResult<u64> {
        let begun = Instant::now();
        loop {
            let moves = lock(&self.inodes).moves(ino);
            let fh = self.open_place(ctx, ino, flags)?;
            // A command may have removed or moved the file after it was loaded, or remove it, without seeing that it is
            // open (`tree::removed`).
            if lock(&self.inodes).remains(ino, moves) {
                return Ok(fh);
            }
            self.open_files.remove(fh);
            if !ctx.may_wait {
                return Err(FsError::Blocked);
            }
            if begun.elapsed() > CLOSING {
                return errno(libc::ESTALE);
            }
            let nodes = lock(&self.inodes);
            drop(self.await_admission(nodes, CLOSING, |nodes| nodes.is_closing(ino)));
        }
    }

    fn open_place(&self, ctx: &Ctx, ino: u64, flags: i32) -> FsResult<u64> {
        let place = self.place(ino)?;
        let write = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let state = match &place {
            Place::Dir(_) => return errno(libc::EISDIR),
            Place::Link(_) => return errno(libc::ELOOP),
            Place::Deleted => {
                self.moving.note_late();
                return errno(libc::ESTALE);
            }
            Place::Lock(_) => State {
                data: Some(Arc::default()),
                ..State::default()
            },
            Place::Control(_) if write => return errno(libc::EACCES),
            Place::Control(c) => State {
                data: Some(Arc::new(self.control_content(*c)?)),
                ..State::default()
            },
            Place::File(_) => {
                if flags & libc::O_TRUNC == 0
                    && let Some(fh) = self.open_files.add_to_new(ino, flags, ctx.tid)
                {
                    return Ok(fh);
                }
                if !write && flags & libc::O_TRUNC != 0 {
                    self.resize(ctx, ino, &place, None, 0)?;
                }
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
                    state.aside = true;
                    state.dirty = true;
                }
                state
            }
        };
        let truncated = state.dirty;
        let fh = self.open_files.add(ino, flags, ctx.tid, state);
        if truncated {
            self.open_files.get(fh)?.note_written(Some(ctx.tid), Some(0));
        }
        Ok(fh)
    }

    /// Create a new empty file, which must not exist.
    fn make(&self, ctx: &Ctx, dir: Obj, name: &[u8], mode: u32) -> FsResult<Option<Ty>> {
        let named = self.named_to_make(ctx, dir, name)?;
        let empty = Scalar::Str {
            bytes: Cow::Borrowed(b""),
            no_newline: !self.config.exact,
        };
        let (spot, count) = self.write(ctx, |w, renamed| {
            if self.value_of(w, dir, &named)?.is_some() {
                return errno(libc::EEXIST);
            }
            let before = self.count_before(w, dir)?;
            let spot = self.put(w, dir, &named, &empty.as_in(), renamed)?;
            self.record_new(ctx, w, dir, Subject::Entry(&spot), New::File(mode))?;
            let count = self.count_after(w, dir, before, 0)?;
            Ok((spot, count))
        })?;
        self.keep_count(count);
        let mark = Mark::Entry(spot.parent.id, spot.slot);
        let mut memory = lock(&self.metadata);
        let hint = memory.was_here(&mark);
        *memory.at(mark) = Remembered {
            fresh: Some(Instant::now()),
            ..Default::default()
        };
        drop(memory);
        self.entry_appeared(ctx, dir, name);
        Ok(hint)
    }

    /// Request: create and open. The kernel may keep a new entry, and its attributes until it is written.
    pub(crate) fn create(
        &self,
        ctx: &Ctx,
        parent: u64,
        name: &[u8],
        mode: u32,
        flags: i32,
        held: &mut Held,
    ) -> FsResult<(Attr, u64)> {
        if let Some(found) = self.find_control(ctx, parent, name)? {
            let attr = self.enter(ctx, found);
            return Ok((attr, self.open(ctx, attr.ino, flags)?));
        }
        let dir = self.dir(parent)?;
        let made = match self.make(ctx, dir, name, mode) {
            Ok(hint) => Some(hint),
            Err(FsError::Errno(libc::EEXIST)) if flags & libc::O_EXCL == 0 => None,
            Err(e) => return Err(e),
        };
        // The file is created: from here on the request must not be run again.
        let ctx = &Ctx {
            may_wait: ctx.may_wait || made.is_some(),
            ..*ctx
        };
        if made.is_none() {
            *held = Held::none();
        }
        let found = self.find_to_keep(ctx, dir, name, held)?;
        let found = found.map_err(|_| FsError::Errno(libc::ENOENT))?;
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
        let attr = self.enter(ctx, found);
        let Some(hint) = made else {
            return match self.open(ctx, attr.ino, flags) {
                Ok(fh) => Ok((attr, fh)),
                Err(e) => {
                    self.note_unknown(attr.ino);
                    self.forget(attr.ino, 1);
                    Err(e)
                }
            };
        };
        // What is appended is stored at once: a log has readers while it is written.
        let aside = flags & libc::O_APPEND == 0 || hint.is_some();
        let state = State {
            data: Some(Arc::default()),
            aside,
            created: true,
            hint,
            ty: Some(Ty::Str),
            ..State::default()
        };
        let fh = self.open_files.add(attr.ino, flags, ctx.tid, state);
        if aside {
            self.open_files.get(fh)?.note_written(None, Some(0));
        }
        Ok((attr, fh))
    }

    /// Request: create a file without opening it.
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
            may_wait: true,
            ..*ctx
        };
        Ok(self.enter(ctx, self.find(ctx, dir, name)?))
    }
}
