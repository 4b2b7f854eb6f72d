//! Values too large to be copied in one piece.

use persist_core::store::door::{COPY_MAX, Small};
use persist_core::store::{Error, Large, LargeKind, Reader, Result, Typed, Value};
use pyo3::prelude::*;

use crate::engine::shared::Shared;

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
    /// Read a large value in pieces, each in its own section. None if it was replaced in between.
    pub(crate) fn read_large(&self, py: Python<'_>, large: &Large) -> PyResult<Option<Value>> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut name = "".into();
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
                Some(false) => return Ok(Some(whole(large, name, bytes))),
            }
        }
    }
}
