//! Writes at the end of a str whose last character is cut by the end of the program's buffer.
//!
//! 1. The complete characters are stored at once, in place. The bytes of the cut one, three at most, stay with the open
//!    file (`State::cut`) until the next write at the end completes them.
//! 2. Any other request that needs the content of the open file, and its close, first builds the content aside with
//!    these bytes (`build_cut`). It is stored, or refused, as any content that is not text.

use crate::fs::context::Ctx;
use crate::fs::error::FsResult;
use crate::fs::known::inodes::Spot;
use crate::fs::known::metadata::fingerprint;
use crate::fs::known::open_files::{Cut, OpenFile, State};
use crate::fs::requests::content::commit::overwrite;
use crate::fs::requests::content::in_place::{At, InPlace};
use crate::fs::tree::filesystem::Fs;
use persist_core::store::{LargeKind, Value};
use std::sync::Arc;

/// Return how many of these bytes are complete characters, if the others are the beginning of one.
fn complete(bytes: &[u8]) -> Option<usize> {
    let e = std::str::from_utf8(bytes).err()?;
    e.error_len().is_none().then_some(e.valid_up_to())
}

impl Fs {
    /// Write into a file whose content is not built aside, after the bytes of a cut character if there are some.
    pub(crate) fn write_with_cut(
        &self,
        ctx: &Ctx,
        (handle, state): (&OpenFile, &mut State),
        (spot, owner): (&Spot, Option<u64>),
        at: At,
        bytes: &[u8],
    ) -> FsResult<InPlace> {
        let cut = state.cut.as_ref();
        if cut.is_none() && bytes.is_empty() {
            return Ok(InPlace::Done);
        }
        let (at, whole) = match (cut, at) {
            (None, at) => (at, bytes.into()),
            (Some(cut), At::End) if cut.at.is_none() => (At::End, [&cut.bytes, bytes].concat().into()),
            (Some(cut), At::Offset(offset)) if cut.end() == Some(offset) => (
                At::Offset(offset - cut.bytes.len() as u64),
                [&cut.bytes, bytes].concat().into(),
            ),
            _ => return Ok(InPlace::Aside),
        };
        let whole: std::borrow::Cow<'_, [u8]> = whole;
        if self.write_in_place(ctx, spot, at, &whole)? == InPlace::Done {
            self.stored_in_place(handle, state);
            if state.cut.take().is_some() {
                state.dirty = false;
                state.writers.clear();
                handle.note_written(None, None);
            }
            return Ok(InPlace::Done);
        }
        let Some(len) = complete(&whole) else {
            return Ok(InPlace::Aside);
        };
        let end = self.end_of_text(ctx, spot)?;
        let start = match at {
            At::End => end,
            At::Offset(offset) => Some(offset),
        };
        let (Some(start), Some(end)) = (start, end) else {
            return Ok(InPlace::Aside);
        };
        let (text, rest) = whole.split_at(len);
        let size = start + whole.len() as u64;
        if start > end || size < end {
            return Ok(InPlace::Aside);
        }
        if !text.is_empty() && self.write_in_place(ctx, spot, at, text)? == InPlace::Aside {
            return Ok(InPlace::Aside);
        }
        // What is stored now must not be written again: from here on nothing fails.
        self.stored_in_place(handle, state);
        state.cut = Some(Cut {
            at: match at {
                At::End => None,
                At::Offset(offset) => Some(offset + len as u64),
            },
            bytes: rest.to_vec(),
        });
        state.dirty = true;
        state.refused = false;
        state.writers.add(owner);
        handle.note_written(Some(ctx.tid), Some(size));
        Ok(InPlace::Done)
    }

    fn stored_in_place(&self, handle: &OpenFile, state: &mut State) {
        state.data = None;
        state.large = None;
        state.loaded_at = None;
        self.open_files.note_change(handle.ino);
    }

    /// The length of the file of a str; None if it is something else.
    fn end_of_text(&self, ctx: &Ctx, spot: &Spot) -> FsResult<Option<u64>> {
        self.read(ctx, |r| match self.value_at(r, spot)? {
            Some(value @ Value::Str { .. }) => self.file_size(r, &value).map(Some),
            Some(value @ Value::Large(large)) if matches!(large.kind, LargeKind::Str { .. }) => {
                self.file_size(r, &value).map(Some)
            }
            _ => Ok(None),
        })
    }

    /// Build the content of an open file aside if it has a cut character.
    pub(crate) fn build_cut(&self, ctx: &Ctx, handle: &OpenFile, state: &mut State) -> FsResult<()> {
        if state.cut.is_none() {
            return Ok(());
        }
        self.ensure_data(ctx, handle, state)?;
        let Some(cut) = state.cut.take() else {
            return Ok(());
        };
        let data = Arc::make_mut(state.data.get_or_insert_default());
        if cut.at.is_none() {
            state.base = Some((data.len(), fingerprint(data)));
        }
        let start = cut
            .at
            .map_or(data.len(), |at| usize::try_from(at).unwrap_or(usize::MAX));
        overwrite(data, start, start.saturating_add(cut.bytes.len()), &cut.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_character_that_the_end_cuts_is_cut() {
        for (bytes, len) in [
            (&b"ab\xe2\x82"[..], Some(2)),
            (b"\xf0\x90\x8d", Some(0)),
            (b"\xc3", Some(0)),
            (b"ab", None),
            (b"", None),
            (b"\xff", None),
            (b"\xe2\x82x", None),
            (b"\x82", None),
        ] {
            assert_eq!(complete(bytes), len, "{bytes:?}");
        }
    }
}
