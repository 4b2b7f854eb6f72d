//! Values too large to be copied in one piece.
//!
//! 1. The content of an array is copied out of the store once: while a Python object holds it, each further read of
//!    the same value is over the same memory (`engine::contents`). Values up to `COPY_MAX` are copied at each read,
//!    which costs less.

use persist_core::store::door::{COPY_MAX, Small};
use persist_core::store::{Error, Large, LargeKind, Reader, Result, Typed, Value};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::engine::contents::Content;
use crate::engine::shared::Shared;
use crate::python::{ffi, scalars, typed};

/// The name of the type of arrays.
pub(super) const ARRAY: &str = "numpy.ndarray";
/// The name of the type of bytearrays.
pub(super) const BYTEARRAY: &str = "bytearray";

/// What was read of a value.
pub(crate) enum Whole {
    /// A value.
    Value(Value),
    /// A content that is shared by all objects that are read of it.
    Content(Content),
}

impl Whole {
    /// The Python object. Not for `Obj` and `Large`.
    pub(crate) fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Whole::Value(value) => scalars::to_python(py, value),
            Whole::Content(Content { name, bytes }) if name.is_empty() => {
                Ok(PyBytes::new(py, bytes).into_any())
            }
            Whole::Content(Content { name, bytes }) => {
                typed::decode_content(py, name, ffi::memoryview(py, bytes)?.into_any())
            }
        }
    }
}

/// The whole large value, inside a section.
pub(crate) fn read_whole(r: &Reader<'_>, value: Value) -> Result<Value> {
    let Value::Large(large) = value else {
        return Ok(value);
    };
    let mut bytes = Vec::new();
    while read_piece(r, &large, &mut bytes)? {}
    Ok(whole(&large, name_of(r, &large)?, bytes))
}

/// The name of the type of a typed value; empty for other kinds.
fn name_of(r: &Reader<'_>, large: &Large) -> Result<Box<str>> {
    match large.kind {
        LargeKind::Typed { .. } => r.large_name(large),
        _ => Ok("".into()),
    }
}

/// Read the next piece of a large value; false at its end.
fn read_piece(r: &Reader<'_>, large: &Large, bytes: &mut Vec<u8>) -> Result<bool> {
    let have = bytes.len();
    let want = (large.len.saturating_sub(have as u64)).min(COPY_MAX as u64) as usize;
    bytes.resize(have + want, 0);
    let got = if want == 0 {
        0
    } else {
        r.large_read(large, have as u64, &mut bytes[have..])?
    };
    bytes.truncate(have + got);
    Ok(got != 0)
}

fn whole(large: &Large, name: Box<str>, bytes: Vec<u8>) -> Value {
    if let LargeKind::Typed { text } = large.kind {
        return Value::Typed(Box::new(Typed {
            name,
            payload: bytes,
            text,
        }));
    }
    let bytes = Small::from_vec(bytes);
    match large.kind {
        LargeKind::Str { no_newline } => Value::Str { bytes, no_newline },
        LargeKind::Bytes | LargeKind::Typed { .. } => Value::Bytes(bytes),
        LargeKind::Link => Value::Link(bytes),
        LargeKind::Int { negative } => Value::BigInt {
            negative,
            magnitude: bytes,
        },
    }
}

impl Shared {
    /// Read a large value. None if it was replaced in between.
    pub(crate) fn read_large(&self, py: Python<'_>, large: &Large) -> PyResult<Option<Whole>> {
        self.read_shared(py, large, |name| name == ARRAY)
    }

    /// As `read_large`, for a view: bytes and bytearrays are shared too.
    pub(super) fn read_viewed(&self, py: Python<'_>, large: &Large) -> PyResult<Option<Whole>> {
        self.read_shared(py, large, |name| matches!(name, "" | BYTEARRAY | ARRAY))
    }

    fn read_shared(
        &self,
        py: Python<'_>,
        large: &Large,
        shares: impl Fn(&str) -> bool,
    ) -> PyResult<Option<Whole>> {
        let may = matches!(large.kind, LargeKind::Bytes | LargeKind::Typed { text: false });
        if may && let Some(content) = self.core.contents.get(large) {
            return Ok(Some(Whole::Content(content)));
        }
        let Some((name, bytes)) = self.read_pieces(py, large)? else {
            return Ok(None);
        };
        Ok(Some(if may && shares(&name) {
            Whole::Content(self.core.contents.keep(large, &name, bytes))
        } else {
            Whole::Value(whole(large, name, bytes))
        }))
    }

    /// Read a large value in pieces, each in its own section. None if it was replaced in between.
    fn read_pieces(&self, py: Python<'_>, large: &Large) -> PyResult<Option<(Box<str>, Vec<u8>)>> {
        let mut bytes: Vec<u8> = Vec::new();
        // No more than that is held afterwards. Without the room it grows, or fails, as it is filled.
        let _ = bytes.try_reserve_exact(usize::try_from(large.len).unwrap_or(0));
        let mut name: Box<str> = "".into();
        loop {
            let have = bytes.len();
            let piece = self.read(py, |r| {
                // The bytes from a section that was not valid are removed.
                bytes.truncate(have);
                let read = name_of(r, large).and_then(|found| {
                    name = found;
                    read_piece(r, large, &mut bytes)
                });
                match read {
                    Err(Error::Gone(_)) => Ok(None),
                    more => more.map(Some),
                }
            })?;
            match piece {
                None => return Ok(None),
                Some(true) => {}
                Some(false) => return Ok(Some((name, bytes))),
            }
        }
    }
}
