//! Whole keys and values of the store.

use super::filesystem::Fs;
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::text::keys::OwnedKey;
use crate::fs::text::scalars::Scalar;
use persist_core::store::{In, Large, LargeKind, Obj, Reader, Value, Writer};

/// The longest key that is read to compute its name.
const MAX_KEY: u64 = 16 << 20;

/// The whole key that the engine returned.
pub(crate) fn owned_key(r: &Reader<'_>, key: &Value) -> FsResult<OwnedKey> {
    if let Value::Large(large) = key {
        if large.len > MAX_KEY {
            return errno(libc::ENAMETOOLONG);
        }
        let bytes = read_large(r, large)?;
        return Ok(match large.kind {
            LargeKind::Str { .. } => OwnedKey::Str(bytes),
            LargeKind::Bytes => OwnedKey::Bytes(bytes),
            LargeKind::Link => return errno(libc::EIO),
            LargeKind::Int { negative } => OwnedKey::BigInt {
                negative,
                magnitude: bytes,
            },
        });
    }
    OwnedKey::from_value(key).ok_or(FsError::Errno(libc::EIO))
}

/// A large value, whole. Memory grows with the bytes that were read: the length is not trusted.
pub(crate) fn read_large(r: &Reader<'_>, large: &Large) -> FsResult<Vec<u8>> {
    let mut out = Vec::with_capacity(large.len.min(1 << 20) as usize);
    let mut piece = vec![0u8; 256 << 10];
    while (out.len() as u64) < large.len {
        let got = r.large_read(large, out.len() as u64, &mut piece)?;
        if got == 0 {
            break;
        }
        out.extend_from_slice(&piece[..got]);
    }
    Ok(out)
}

/// A value of any kind, on its way to another entry.
pub(crate) enum Owned {
    Obj(Obj),
    Link(Vec<u8>),
    Scalar(Scalar<'static>),
}

impl Owned {
    /// The engine's form of the value.
    pub(crate) fn as_in(&self) -> In<'_> {
        match self {
            Owned::Obj(obj) => In::Obj(*obj),
            Owned::Link(text) => In::Link(text),
            Owned::Scalar(scalar) => scalar.as_in(),
        }
    }
}

impl Fs {
    /// A value of the store, whole.
    pub(crate) fn owned(&self, w: &Writer<'_>, value: &Value) -> FsResult<Owned> {
        Ok(match value {
            Value::Obj(obj) => Owned::Obj(*obj),
            Value::Link(text) => Owned::Link(text.to_vec()),
            other => Owned::Scalar(self.scalar(w, other)?),
        })
    }
}
