//! Whole keys and values of the store.

use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::text::keys::OwnedKey;
use persist_core::store::{Large, LargeKind, Reader, Value};

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
