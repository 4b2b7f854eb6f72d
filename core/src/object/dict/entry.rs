//! An entry of a dict body, copied out of its place, and words in byte slices.

use crate::object::word::Word;

/// One entry of a body, copied out of its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::object) struct DictEntry {
    /// Its sequence number.
    pub(in crate::object) seq: u64,
    /// Its key word.
    pub(in crate::object) key: Word,
    /// Its value word.
    pub(in crate::object) value: Word,
}

/// Return the u64 at an offset of a slice known to be long enough; 0 beyond it.
#[inline]
pub(in crate::object) fn word_in(b: &[u8], at: usize) -> u64 {
    match b.get(at..at + 8).and_then(|s| <[u8; 8]>::try_from(s).ok()) {
        Some(s) => u64::from_le_bytes(s),
        None => 0,
    }
}

/// Store a u64 into a slice known to be long enough.
#[inline]
pub(in crate::object) fn put(b: &mut [u8], at: usize, value: u64) {
    b[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
