//! Loading the content of a file.

use crate::fs::context::Ctx;
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::Place;
use crate::fs::known::open_files::{OpenFile, State};
use crate::fs::text::scalars::Ty;
use crate::fs::tree::filesystem::Fs;
use persist_core::store::{Large, LargeKind, Reader, Value};
use std::sync::Arc;

/// The first state of an open file.
pub(crate) struct Loaded {
    pub(crate) ty: Ty,
    pub(crate) data: Option<Arc<Vec<u8>>>,
    pub(crate) large: Option<Large>,
}

impl Fs {
    /// The file of a scalar: its bytes, or its location if it is large and readable in place.
    fn load(&self, r: &Reader<'_>, value: &Value) -> FsResult<Loaded> {
        let Some(ty) = self.type_of(r, value)? else {
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

    /// The current content of a file.
    pub(crate) fn load_place(&self, ctx: &Ctx, place: &Place) -> FsResult<Option<Loaded>> {
        match place {
            Place::File(spot) => self.read(ctx, |r| match self.value_at(r, spot)? {
                Some(value) => self.load(r, &value).map(Some),
                None => Ok(None),
            }),
            _ => Ok(None),
        }
    }

    /// Read the content of the file again if the store has changed.
    pub(crate) fn refresh(&self, ctx: &Ctx, handle: &OpenFile, state: &mut State) -> FsResult<()> {
        let place = self.place(handle.ino)?;
        if !matches!(place, Place::File(_)) {
            return Ok(());
        }
        let count = self.store.change_count();
        if state.loaded_at == Some(count) {
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
            // The entry was deleted: what was read of it stays readable.
            Ok(None) => Ok(()),
            Err(e) if e.is_gone() => Ok(()),
            Err(FsError::Errno(libc::ESTALE)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The whole content of an open file, for changing it.
    pub(crate) fn ensure_data(&self, ctx: &Ctx, handle: &OpenFile, state: &mut State) -> FsResult<()> {
        if state.draft.is_some() || (state.dirty && state.data.is_some()) {
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
}
