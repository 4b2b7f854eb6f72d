//! Writing in place: a write to a str or bytes is stored when it is made, and seen through both doors.
//!
//! 1. A file is changed in place unless its content is built aside: after O_TRUNC, in a new file, and while the text
//!    that was written is not a value yet (a number that is being written, a character cut within the file; one that
//!    is cut at its end: `cut`).
//!    What is built aside is stored at close, fsync or the end of the mount (`commit`).
//! 2. Each write is one operation of the store. It meets locks and transactions as a change of Python's does.
//! 3. The newline that ends the file of a str is not part of the value: the file's last byte decides whether the value
//!    has one (`Shape`).
//! 4. Of a large value, an operation touches only the pages it changes. A gap before the written bytes, and a cut, are
//!    made in steps of at most `STEP` bytes: a file whose daemon is killed during this has a length in between.

use crate::fs::context::{Ctx, MAX_FILE, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::Spot;
use crate::fs::known::metadata::Mark;
use crate::fs::tree::filesystem::Fs;
use persist_core::Error;
use persist_core::store::door::Edit;
use persist_core::store::{LargeKind, Reader, Value, Writer};

/// The most bytes by which one operation lengthens or shortens a value.
pub(crate) const STEP: u64 = 16 << 20;

/// Where a write begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// At this offset of the file.
    Offset(u64),
    /// At its end.
    End,
}

/// The result of an attempt to change a file in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InPlace {
    Done,
    /// The content must be built aside.
    Aside,
}

/// The form of the file of a str or bytes: the value, and perhaps a newline that the value does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    /// The length of the value.
    value: u64,
    /// The file ends with a newline that is not in the value.
    newline: bool,
    /// A newline at the end of the file is not part of the value.
    folds: bool,
}

/// A change of a value: `Edit` with bytes of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Change {
    offset: u64,
    bytes: Vec<u8>,
    len: u64,
    no_newline: Option<bool>,
}

impl Change {
    /// True if the value is the same after the change. A large one has another id afterwards, and is another content.
    fn keeps(&self, value: &Value) -> bool {
        let (content, no_newline) = match value {
            Value::Bytes(content) => (content, None),
            Value::Str { bytes, no_newline } => (bytes, Some(*no_newline)),
            _ => return false,
        };
        let at = usize::try_from(self.offset).unwrap_or(usize::MAX);
        self.len == content.len() as u64
            && self.no_newline.is_none_or(|flag| no_newline == Some(flag))
            && content
                .get(at..)
                .is_some_and(|rest| rest.starts_with(&self.bytes))
    }
}

impl Shape {
    /// The shape of a file; None if it is not changed in place.
    fn of(value: &Value, exact: bool) -> Option<Shape> {
        let (len, no_newline) = match value {
            Value::Bytes(b) => (b.len() as u64, None),
            Value::Str { bytes, no_newline } => (bytes.len() as u64, Some(*no_newline)),
            Value::Large(large) => match large.kind {
                LargeKind::Bytes => (large.len, None),
                LargeKind::Str { no_newline } => (large.len, Some(no_newline)),
                LargeKind::Int { .. } | LargeKind::Link | LargeKind::Typed { .. } => return None,
            },
            _ => return None,
        };
        let folds = no_newline.is_some() && !exact;
        Some(Shape {
            value: len,
            newline: folds && no_newline == Some(false),
            folds,
        })
    }

    /// The length of the file.
    fn file(&self) -> u64 {
        self.value + u64::from(self.newline)
    }

    /// The change that writes `bytes` at `at`, which is at most the length of the file.
    fn write(&self, at: u64, bytes: &[u8]) -> Change {
        let end = at + bytes.len() as u64;
        let mut bytes = bytes.to_vec();
        let mut offset = at;
        if at > self.value {
            // The newline at the old end becomes part of the value.
            bytes.insert(0, b'\n');
            offset = self.value;
        }
        let reaches_end = end >= self.file();
        let newline = self.folds
            && if reaches_end {
                bytes.last() == Some(&b'\n')
            } else {
                self.newline
            };
        if newline && reaches_end {
            bytes.pop();
        }
        let len = end.max(self.file()) - u64::from(newline);
        Change {
            offset,
            bytes,
            len,
            no_newline: self.folds.then_some(!newline),
        }
    }

    /// The change that makes the file this long. `last` is the value's byte before the new end, if it is cut there.
    fn resize(&self, size: u64, last: Option<u8>) -> Change {
        if size > self.file() {
            let bytes = if self.newline { b"\n".to_vec() } else { Vec::new() };
            return Change {
                offset: self.value,
                bytes,
                len: size,
                no_newline: self.folds.then_some(true),
            };
        }
        let newline = self.folds
            && (if size > self.value {
                self.newline
            } else {
                last == Some(b'\n')
            });
        Change {
            offset: 0,
            bytes: Vec::new(),
            len: size - u64::from(newline),
            no_newline: self.folds.then_some(!newline),
        }
    }
}

/// Return the byte of a value at an offset.
fn byte_at(r: &Reader<'_>, value: &Value, at: u64) -> FsResult<Option<u8>> {
    Ok(match value {
        Value::Bytes(b) | Value::Str { bytes: b, .. } => {
            usize::try_from(at).ok().and_then(|at| b.get(at)).copied()
        }
        Value::Large(large) => {
            let mut one = [0];
            (r.large_read(large, at, &mut one)? == 1).then_some(one[0])
        }
        _ => None,
    })
}

impl Fs {
    /// Write into the value of an entry.
    pub(crate) fn write_in_place(&self, ctx: &Ctx, spot: &Spot, at: At, bytes: &[u8]) -> FsResult<InPlace> {
        if self.gets_a_type(spot) {
            return Ok(InPlace::Aside);
        }
        self.passed(bytes.len());
        if let At::Offset(offset) = at
            && self.lengthen(ctx, spot, offset)? == InPlace::Aside
        {
            return Ok(InPlace::Aside);
        }
        self.changed_in_place(ctx, spot, |_, _, shape| {
            let at = match at {
                At::Offset(offset) => offset,
                At::End => shape.file(),
            };
            let end = at.checked_add(bytes.len() as u64);
            if end.is_none_or(|end| end > MAX_FILE) {
                return errno(libc::EFBIG);
            }
            // A program has cut the file since.
            if at > shape.file() + STEP {
                return errno(libc::EAGAIN);
            }
            if at <= shape.file() {
                return Ok(Some(shape.write(at, bytes)));
            }
            let mut gap = vec![0; usize::try_from(at - shape.file()).unwrap_or(usize::MAX)];
            gap.extend_from_slice(bytes);
            Ok(Some(shape.write(shape.file(), &gap)))
        })
    }

    /// Make the file of an entry this long.
    pub(crate) fn resize_in_place(&self, ctx: &Ctx, spot: &Spot, size: u64) -> FsResult<InPlace> {
        if self.gets_a_type(spot) || self.lengthen(ctx, spot, size)? == InPlace::Aside {
            return Ok(InPlace::Aside);
        }
        let mut more = true;
        while more {
            let done = self.changed_in_place(ctx, spot, |r, value, shape| {
                // A file that is cut to nothing is replaced as a whole.
                let now = match size {
                    0 => 0,
                    _ => size.max(shape.file().saturating_sub(STEP)),
                };
                more = now != size;
                if now == shape.file() {
                    return Ok(None);
                }
                let last = match now.checked_sub(1).filter(|at| *at < shape.value) {
                    Some(at) => byte_at(r, value, at)?,
                    None => None,
                };
                Ok(Some(shape.resize(now, last)))
            })?;
            if done == InPlace::Aside {
                return Ok(InPlace::Aside);
            }
        }
        Ok(InPlace::Done)
    }

    /// Lengthen a file until it is at most `STEP` bytes shorter than `size`.
    fn lengthen(&self, ctx: &Ctx, spot: &Spot, size: u64) -> FsResult<InPlace> {
        if size > MAX_FILE {
            return errno(libc::EFBIG);
        }
        let mut more = true;
        while more {
            let done = self.changed_in_place(ctx, spot, |_, _, shape| {
                more = size > shape.file() + STEP;
                Ok(more.then(|| shape.resize(shape.file() + STEP, None)))
            })?;
            if done == InPlace::Aside {
                return Ok(InPlace::Aside);
            }
        }
        Ok(InPlace::Done)
    }

    /// True if the file becomes another type at its next write.
    fn gets_a_type(&self, spot: &Spot) -> bool {
        let mark = Mark::Entry(spot.parent.id, spot.slot.clone());
        lock(&self.metadata)
            .get(&mark)
            .is_some_and(|memo| memo.want.is_some())
    }

    /// Run one change of a value in place. `change` returns None if there is nothing to do.
    fn changed_in_place(
        &self,
        ctx: &Ctx,
        spot: &Spot,
        mut change: impl FnMut(&Writer<'_>, &Value, Shape) -> FsResult<Option<Change>>,
    ) -> FsResult<InPlace> {
        let done = self.write(ctx, |w, _| {
            let Some(value) = self.value_at(w, spot)? else {
                return errno(libc::ESTALE);
            };
            let Some(shape) = Shape::of(&value, self.config.exact) else {
                return Ok(InPlace::Aside);
            };
            if let Some(change) = change(w, &value, shape)? {
                let step = self.step(w, spot)?;
                let edit = Edit {
                    offset: change.offset,
                    bytes: &change.bytes,
                    len: Some(change.len),
                    no_newline: change.no_newline,
                };
                self.changing_content(w, spot.parent, |w| Ok(w.edit(spot.parent, &step, &edit)?))?;
                if change.keeps(&value) {
                    self.note_written_at(w, spot, &value)?;
                }
            }
            Ok(InPlace::Done)
        });
        match done {
            // The content is not text as it is now.
            Err(FsError::Store(Error::Invalid { .. })) => Ok(InPlace::Aside),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file and the value after a change.
    fn applied(value: &[u8], shape: Shape, change: &Change) -> (Vec<u8>, Vec<u8>) {
        let mut new = value.to_vec();
        let end = change.offset as usize + change.bytes.len();
        new.resize(new.len().max(end), 0);
        new[change.offset as usize..end].copy_from_slice(&change.bytes);
        new.resize(change.len as usize, 0);
        let mut file = new.clone();
        if shape.folds && change.no_newline == Some(false) {
            file.push(b'\n');
        }
        let small = |bytes: &[u8], no_newline| match shape.folds {
            true => Value::Str {
                bytes: bytes.into(),
                no_newline,
            },
            false => Value::Bytes(bytes.into()),
        };
        let old = small(value, !shape.newline);
        let is_same = old == small(&new, change.no_newline.unwrap_or(!shape.newline));
        assert_eq!(change.keeps(&old), is_same, "{value:?} {shape:?} {change:?}");
        (file, new)
    }

    fn shapes(text: &str) -> Vec<(Vec<u8>, Vec<u8>, Shape)> {
        let bytes = text.as_bytes().to_vec();
        let shape = |newline, folds| Shape {
            value: bytes.len() as u64,
            newline,
            folds,
        };
        let mut all = vec![
            (bytes.clone(), bytes.clone(), shape(false, false)),
            ([&bytes[..], b"\n"].concat(), bytes.clone(), shape(true, true)),
        ];
        if !text.ends_with('\n') {
            all.push((bytes.clone(), bytes.clone(), shape(false, true)));
        }
        all
    }

    /// Each change of a file equals that of a plain file, and a newline at its end is not part of a str.
    #[test]
    fn changes_equal_those_of_a_plain_file() {
        for text in ["", "a", "ab\n", "a\nb", "abc", "\n", "a\n\nb\n\n"] {
            for (file, value, shape) in shapes(text) {
                assert_eq!(shape.file(), file.len() as u64);
                for at in 0..=file.len() {
                    for bytes in ["x", "\n", "x\n", "xyz", "\nx", "xyzxyzxyz\n"] {
                        let mut wanted = file.clone();
                        let end = at + bytes.len();
                        wanted.resize(wanted.len().max(end), 0);
                        wanted[at..end].copy_from_slice(bytes.as_bytes());
                        let change = shape.write(at as u64, bytes.as_bytes());
                        let (found, new) = applied(&value, shape, &change);
                        assert_eq!(found, wanted, "{text:?} {shape:?} {at} {bytes:?}");
                        assert!(!shape.folds || change.no_newline == Some(!wanted.ends_with(b"\n")));
                        assert!(shape.folds || new == wanted);
                    }
                }
                for size in 0..file.len() + 4 {
                    let mut wanted = file.clone();
                    wanted.resize(size, 0);
                    let last = size.checked_sub(1).and_then(|at| value.get(at)).copied();
                    let change = shape.resize(size as u64, last);
                    let (found, _) = applied(&value, shape, &change);
                    assert_eq!(found, wanted, "{text:?} {shape:?} {size}");
                }
            }
        }
    }
}
