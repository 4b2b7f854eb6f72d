//! Long contents that are built aside (`known::draft`): the daemon's memory does not hold them.
//!
//! 1. A content becomes a draft when a write makes it longer than `SPILL`, except that of a number.
//! 2. A draft takes the place of the value in one operation, without a copy. Its type is decided then: a long content
//!    is a str if it is UTF-8, otherwise bytes, as far as the type of the file allows.
//! 3. A draft that is cut to `SPILL` or less is in memory again.

use crate::fs::context::{Ctx, MAX_FILE};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::draft::Draft;
use crate::fs::known::inodes::Spot;
use crate::fs::known::open_files::State;
use crate::fs::requests::content::in_place::STEP;
use crate::fs::text::scalars::Ty;
use crate::fs::text::scan::TextScan;
use crate::fs::tree::filesystem::Fs;
use persist_core::store::door::Edit;
use persist_core::store::{In, LargeKind, Obj, Reader, Value};
use std::sync::Arc;

/// The longest content that is built aside in memory.
pub(crate) const SPILL: u64 = 1 << 20;
/// The bytes of a draft that one section reads.
const PIECE: usize = 256 << 10;

impl Fs {
    /// Move the content of an open file into a draft.
    fn spill(&self, ctx: &Ctx, state: &mut State) -> FsResult<()> {
        let content = state.data.clone().unwrap_or_default();
        let mut pinned: Option<Obj> = None;
        let made = self.write(ctx, |w, _| {
            if let Some(obj) = pinned.take() {
                self.store.unpin(obj);
            }
            let dict = w.new_dict()?;
            w.set(dict, &Draft::KEY, &In::Bytes(&content))?;
            w.pin(dict)?;
            pinned = Some(dict);
            Ok(dict)
        });
        match made {
            Ok(dict) => {
                state.draft = Some(Draft::new(self.store.clone(), dict, &content));
                state.data = None;
                state.large = None;
                Ok(())
            }
            Err(e) => {
                if let Some(obj) = pinned {
                    self.store.unpin(obj);
                }
                Err(e)
            }
        }
    }

    /// Write into the draft of an open file, which is made if there is none. Returns false if the content stays in
    /// memory.
    pub(crate) fn write_draft(
        &self,
        ctx: &Ctx,
        state: &mut State,
        start: u64,
        bytes: &[u8],
    ) -> FsResult<bool> {
        let end = start + bytes.len() as u64;
        if state.draft.is_none() {
            if end <= SPILL {
                return Ok(false);
            }
            self.spill(ctx, state)?;
        }
        let Some(draft) = &mut state.draft else {
            return Ok(false);
        };
        self.lengthen_draft(ctx, draft, start.saturating_sub(STEP))?;
        let edit = Edit {
            offset: start,
            bytes,
            ..Edit::default()
        };
        self.write(ctx, |w, _| Ok(w.edit(draft.dict, &Draft::step(), &edit)?))?;
        draft.wrote(start, bytes);
        self.passed(bytes.len());
        Ok(true)
    }

    /// Give the draft of an open file this length; it is made if there is none. Returns false if the content stays in
    /// memory, or is there again.
    pub(crate) fn resize_draft(&self, ctx: &Ctx, state: &mut State, size: u64) -> FsResult<bool> {
        if size <= SPILL {
            if let Some(draft) = &state.draft {
                let want = usize::try_from(size.min(draft.len)).unwrap_or(usize::MAX);
                state.data = Some(Arc::new(self.read_draft(ctx, draft, 0, want)?));
                state.draft = None;
            }
            return Ok(false);
        }
        if state.draft.is_none() {
            self.spill(ctx, state)?;
        }
        let Some(draft) = &mut state.draft else {
            return Ok(false);
        };
        self.lengthen_draft(ctx, draft, size)?;
        while draft.len > size {
            let len = size.max(draft.len.saturating_sub(STEP));
            self.set_draft_length(ctx, draft, len)?;
        }
        Ok(true)
    }

    /// Lengthen a draft by zeros.
    fn lengthen_draft(&self, ctx: &Ctx, draft: &mut Draft, size: u64) -> FsResult<()> {
        while draft.len < size {
            let len = size.min(draft.len + STEP);
            self.set_draft_length(ctx, draft, len)?;
        }
        Ok(())
    }

    fn set_draft_length(&self, ctx: &Ctx, draft: &mut Draft, len: u64) -> FsResult<()> {
        let edit = Edit {
            len: Some(len),
            ..Edit::default()
        };
        self.write(ctx, |w, _| Ok(w.edit(draft.dict, &Draft::step(), &edit)?))?;
        self.passed(draft.len.abs_diff(len) as usize);
        draft.resized(len);
        Ok(())
    }

    /// Read a part of a draft.
    pub(crate) fn read_draft(&self, ctx: &Ctx, draft: &Draft, offset: u64, size: usize) -> FsResult<Vec<u8>> {
        let rest = draft.len.saturating_sub(offset);
        let mut out = vec![0; size.min(usize::try_from(rest).unwrap_or(usize::MAX))];
        let mut done = 0;
        while done < out.len() {
            let end = out.len().min(done + PIECE);
            let piece = &mut out[done..end];
            let read = self.read(ctx, |r| read_piece(r, draft.dict, offset + done as u64, piece))?;
            if read == 0 {
                return errno(libc::EIO);
            }
            done += read;
        }
        self.passed(done);
        Ok(out)
    }

    /// True if the content of a draft is text.
    fn draft_is_text(&self, ctx: &Ctx, draft: &Draft) -> FsResult<bool> {
        if let Some(scan) = &draft.scan {
            return Ok(scan.is_text());
        }
        let mut scan = TextScan::default();
        while scan.seen() < draft.len && !scan.is_refuted() {
            scan.feed(&self.read_draft(ctx, draft, scan.seen(), PIECE)?);
        }
        Ok(scan.is_text())
    }

    /// The type that the content of a draft gets. None: it has to be parsed as a whole.
    fn type_of_draft(
        &self,
        ctx: &Ctx,
        (want, old): (Option<&Ty>, &Ty),
        state: &State,
        draft: &Draft,
    ) -> FsResult<Option<Ty>> {
        let bound = want.or(if state.created {
            state.hint.as_ref()
        } else {
            Some(old)
        });
        Ok(match bound {
            Some(Ty::Bytes) => Some(Ty::Bytes),
            Some(Ty::Int | Ty::Float | Ty::Bool) if want.is_some() || !state.created => None,
            Some(Ty::None) if want.is_some() => None,
            Some(Ty::Typed(..)) => None,
            _ if self.draft_is_text(ctx, draft)? => Some(Ty::Str),
            Some(Ty::Str) if want.is_some() => None,
            _ => Some(Ty::Bytes),
        })
    }

    /// Put the draft of an open file in the place of the value of its entry. A content that has to be
    /// parsed is brought into memory instead.
    pub(crate) fn store_draft(
        &self,
        ctx: &Ctx,
        state: &mut State,
        spot: &Spot,
        want: Option<&Ty>,
    ) -> FsResult<Stored> {
        let Some(draft) = &state.draft else {
            return Ok(Stored::Parse);
        };
        let old = self.read(ctx, |r| Ok(self.value_at(r, spot)?.as_ref().and_then(Ty::of)))?;
        let Some(old) = old else {
            return Ok(Stored::Gone);
        };
        // A draft whose first write failed may be short.
        let ty = match draft.len > SPILL {
            true => self.type_of_draft(ctx, (want, &old), state, draft)?,
            false => None,
        };
        let Some(ty) = ty else {
            let len = usize::try_from(draft.len.min(MAX_FILE)).unwrap_or(usize::MAX);
            state.data = Some(Arc::new(self.read_draft(ctx, draft, 0, len)?));
            state.draft = None;
            return Ok(Stored::Parse);
        };
        let folds = ty == Ty::Str && !self.config.exact;
        let last = self.read_draft(ctx, draft, draft.len.saturating_sub(1), 1)?;
        let newline = folds && last == b"\n";
        let kind = match ty {
            Ty::Str => LargeKind::Str {
                no_newline: folds && !newline,
            },
            _ => LargeKind::Bytes,
        };
        let stored = self.write(ctx, |w, _| {
            // The entry became a container, or was removed: the file that was open no longer exists.
            if self.value_at(w, spot)?.as_ref().and_then(Ty::of).is_none() {
                return Ok(false);
            }
            if newline {
                let edit = Edit {
                    len: Some(draft.len - 1),
                    ..Edit::default()
                };
                w.edit(draft.dict, &Draft::step(), &edit)?;
            }
            self.guard_beside(w, spot.parent, false)?;
            let step = self.step(w, spot)?;
            self.changing_content(w, spot.parent, |w| {
                Ok(w.adopt(draft.dict, &Draft::KEY, spot.parent, &step, kind)?)
            })?;
            Ok(true)
        });
        match stored {
            Ok(true) => {
                state.draft = None;
                Ok(Stored::As(ty))
            }
            Ok(false) => Ok(Stored::Gone),
            Err(e) if e.is_gone() => Ok(Stored::Gone),
            Err(e) => Err(e),
        }
    }
}

/// What became of a draft.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stored {
    /// It is the value of the entry, with this type.
    As(Ty),
    /// The entry is gone.
    Gone,
    /// Its content has to be parsed as a whole.
    Parse,
}

/// Read a piece of a draft. Returns the number of bytes.
fn read_piece(r: &Reader<'_>, dict: Obj, offset: u64, piece: &mut [u8]) -> FsResult<usize> {
    match r.get(dict, &Draft::KEY)? {
        Some(Value::Large(large)) => Ok(r.large_read(&large, offset, piece)?),
        Some(Value::Bytes(content)) => {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            let n = piece.len().min(content.len() - start);
            piece[..n].copy_from_slice(&content[start..start + n]);
            Ok(n)
        }
        _ => Err(FsError::Errno(libc::EIO)),
    }
}
