//! Change a part of a str or bytes in place.
//!
//! Invariants:
//! 1. A value longer than a single segment is changed piece by piece (`blob::edit`): the cost depends on the
//!    change and not on the value. A shorter one is stored as a whole.
//! 2. A str stays text. The content around the change is checked, so the rest need not be read: it was text
//!    before, and characters have at most 4 bytes.
//! 3. One call stores and frees a bounded amount (`EDIT_MAX`); a caller with more makes several.

use crate::error::{Error, Result};
use crate::ids::{Addr, Obj};
use crate::object::blob::{self, edit as pieces};
use crate::object::list;
use crate::object::ops::announce;
use crate::object::ops::change::set;
use crate::object::ops::change::set_item;
use crate::object::ops::entry::Spot;
use crate::object::ops::entry::alive;
use crate::object::ops::entry::changing;
use crate::object::ops::entry::out_of_range;
use crate::object::ops::entry::touch;
use crate::object::ops::read::word_at;
use crate::object::scalar::{self, SHORT_MAX};
use crate::object::value::{EDIT_MAX, Edit, In, LargeKind, Step, Value};
use crate::object::word::{Tag, Word};
use crate::page::access::{Pages, PagesMut};

/// See `Writer::edit`.
pub fn edit<W: PagesMut>(w: &mut W, obj: Obj, step: &Step, change: &Edit<'_>) -> Result<u64> {
    let spot = Spot::of(alive(w, obj)?, step, w.hash_seed())?;
    changing(w, obj, spot.lock_key())?;
    let Some(word) = word_at(w, obj.addr, &spot)? else {
        return Err(match spot {
            Spot::Key(..) => Error::NoKey,
            Spot::Index(i) => out_of_range(i, list::len(w, obj.addr)?),
        });
    };
    let too_much = || Error::invalid("too much for one change of a part of a value: change it in steps");
    let end = change.offset.checked_add(change.bytes.len() as u64);
    let Some(end) = end.filter(|_| change.bytes.len() as u64 <= EDIT_MAX) else {
        return Err(too_much());
    };
    if let Some(root) = root_of(w, word)? {
        let large = blob::large(w, root)?;
        let len = change.len.unwrap_or(large.len.max(end));
        if len.saturating_sub(large.len) > EDIT_MAX || large.len.saturating_sub(len) > EDIT_MAX {
            return Err(too_much());
        }
        let kind = match large.kind {
            LargeKind::Int { .. } | LargeKind::Link | LargeKind::Typed { .. } => return Err(NO_PARTS),
            LargeKind::Bytes => LargeKind::Bytes,
            LargeKind::Str { no_newline } => LargeKind::Str {
                no_newline: change.no_newline.unwrap_or(no_newline),
            },
        };
        if len > SHORT_MAX as u64 {
            touch(w, obj)?;
            in_place(w, root, change, len)?;
            pieces::set_kind(w, root, kind)?;
            announce::replaced(w, obj, &spot);
            return Ok(len);
        }
        let old = pieces::part(w, &large, 0, len)?;
        let new = changed(old, change, len)?;
        return store(w, obj, &spot, kind, &new);
    }
    let (old, kind) = match scalar::decode(w, word)? {
        Value::Str { bytes, no_newline } => {
            let no_newline = change.no_newline.unwrap_or(no_newline);
            (bytes.to_vec(), LargeKind::Str { no_newline })
        }
        Value::Bytes(bytes) => (bytes.to_vec(), LargeKind::Bytes),
        _ => return Err(NO_PARTS),
    };
    let len = change.len.unwrap_or((old.len() as u64).max(end));
    if len > old.len() as u64 + EDIT_MAX {
        return Err(too_much());
    }
    let new = changed(old, change, len)?;
    store(w, obj, &spot, kind, &new)
}

const NO_PARTS: Error = Error::WrongKind {
    what: "only a str or bytes can be changed in part",
};

/// Return the root of a word's blob; None if its value is none.
fn root_of<P: Pages>(p: &P, word: Word) -> Result<Option<Addr>> {
    if word.is_float() || word.tag() != Tag::Scalar {
        return Ok(None);
    }
    let addr = word.addr();
    Ok(blob::is_root(p.u8_at(addr)?).then_some(addr))
}

/// Apply the change to a short content.
fn changed(mut content: Vec<u8>, change: &Edit<'_>, len: u64) -> Result<Vec<u8>> {
    let room = |e| Error::invalid(format!("a value for which there is no memory ({e})"));
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let at = usize::try_from(change.offset).unwrap_or(usize::MAX).min(len);
    let bytes = &change.bytes[..change.bytes.len().min(len - at)];
    let most = len.max(at + bytes.len());
    content
        .try_reserve(most.saturating_sub(content.len()))
        .map_err(room)?;
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
    content.resize(len, 0);
    Ok(content)
}

fn store<W: PagesMut>(w: &mut W, obj: Obj, spot: &Spot<'_>, kind: LargeKind, content: &[u8]) -> Result<u64> {
    let value = match kind {
        LargeKind::Str { no_newline } => In::Str {
            bytes: content,
            no_newline,
        },
        _ => In::Bytes(content),
    };
    match spot {
        Spot::Key(key, _) => set(w, obj, key, &value)?,
        Spot::Index(i) => set_item(w, obj, *i, &value)?,
    }
    Ok(content.len() as u64)
}

/// Change a blob, whose length becomes `len`.
fn in_place<W: PagesMut>(w: &mut W, root: Addr, change: &Edit<'_>, len: u64) -> Result<()> {
    let mut large = blob::large(w, root)?;
    let text = matches!(large.kind, LargeKind::Str { .. });
    let cut = len < large.len;
    if cut {
        pieces::truncate(w, root, len)?;
        large.len = len;
    }
    let at = change.offset.min(len);
    let bytes = &change.bytes[..(change.bytes.len() as u64).min(len - at) as usize];
    zeros(w, root, at.saturating_sub(large.len))?;
    let inside = large.len.saturating_sub(at).min(bytes.len() as u64) as usize;
    pieces::overwrite(w, root, if inside == 0 { 0 } else { at }, &bytes[..inside])?;
    pieces::append(w, root, &bytes[inside..])?;
    let end = at + bytes.len() as u64;
    zeros(w, root, len.saturating_sub(end.max(large.len)))?;
    if text {
        check_around(w, root, at.min(large.len), end)?;
        if cut {
            check_around(w, root, len, len)?;
        }
    }
    Ok(())
}

/// Append zeros.
fn zeros<W: PagesMut>(w: &mut W, root: Addr, mut n: u64) -> Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while n > 0 {
        let now = n.min(ZEROS.len() as u64);
        pieces::append(w, root, &ZEROS[..now as usize])?;
        n -= now;
    }
    Ok(())
}

/// Check that the content is text around `[start, end)`, outside of which it was text before.
fn check_around<P: Pages>(p: &P, root: Addr, start: u64, end: u64) -> Result<()> {
    let large = blob::large(p, root)?;
    let is_inner = |byte: u8| byte & 0xC0 == 0x80;
    let before = pieces::part(p, &large, start.saturating_sub(4), start.min(4))?;
    // From the beginning of the last character before the start.
    let back = before
        .iter()
        .rev()
        .position(|b| !is_inner(*b))
        .map_or(0, |n| n + 1);
    let after = pieces::part(p, &large, end, 3)?;
    let ahead = after.iter().position(|b| !is_inner(*b)).unwrap_or(after.len());
    let from = start - back as u64;
    let part = pieces::part(p, &large, from, end + ahead as u64 - from)?;
    if !scalar::is_text(&part) || (back == 0 && start > 0) {
        return Err(Error::invalid(scalar::NOT_TEXT));
    }
    Ok(())
}
