//! Whole keys and values of the store.

use super::filesystem::Fs;
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::text::keys::OwnedKey;
use crate::fs::text::scalars::{self, Scalar, Ty};
use persist_core::store::{In, Large, LargeKind, Obj, Reader, Typed, Value, Writer};

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
            LargeKind::Typed { text } => OwnedKey::Typed(Box::new(Typed {
                name: r.large_name(large)?,
                payload: bytes,
                text,
            })),
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
    /// The type of a value; None for a container or a link.
    pub(crate) fn type_of(&self, r: &Reader<'_>, value: &Value) -> FsResult<Option<Ty>> {
        if let Value::Large(large) = value
            && let LargeKind::Typed { text } = large.kind
        {
            return Ok(Some(Ty::Typed((*r.large_name(large)?).into(), text)));
        }
        Ok(Ty::of(value))
    }

    /// The whole file of a scalar.
    pub(crate) fn whole(&self, r: &Reader<'_>, value: &Value) -> FsResult<Vec<u8>> {
        let exact = self.config.exact;
        let Value::Large(large) = value else {
            return Scalar::from_value(value)
                .map(|s| s.render(exact))
                .ok_or(FsError::Errno(libc::ESTALE));
        };
        let mut bytes = read_large(r, large)?;
        match large.kind {
            LargeKind::Bytes | LargeKind::Link => {}
            LargeKind::Typed { text: false } => {}
            LargeKind::Typed { text: true } => {
                if !exact {
                    bytes.push(b'\n');
                }
            }
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

    /// A scalar of the store, whole and owned.
    fn scalar(&self, w: &Writer<'_>, value: &Value) -> FsResult<Scalar<'static>> {
        if let Some(scalar) = Scalar::from_value(value) {
            return Ok(scalar.into_owned());
        }
        if let Value::Large(large) = value
            && let LargeKind::Typed { text } = large.kind
        {
            return Ok(Scalar::Typed(Box::new(Typed {
                name: w.large_name(large)?,
                payload: read_large(w, large)?,
                text,
            })));
        }
        let Some(ty) = Ty::of(value) else {
            return errno(libc::EINVAL);
        };
        let bytes = self.whole(w, value)?;
        let scalar = scalars::parse_as(&ty, &bytes, self.config.exact);
        scalar.map(Scalar::into_owned).ok_or(FsError::Errno(libc::EINVAL))
    }

    /// A value of the store, whole.
    pub(crate) fn owned(&self, w: &Writer<'_>, value: &Value) -> FsResult<Owned> {
        Ok(match value {
            Value::Obj(obj) => Owned::Obj(*obj),
            Value::Link(text) => Owned::Link(text.to_vec()),
            other => Owned::Scalar(self.scalar(w, other)?),
        })
    }
}
