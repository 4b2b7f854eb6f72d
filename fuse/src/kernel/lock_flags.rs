//! The flags of a lock request, which fuser 0.18 decodes and does not hand on. They tell flock from fcntl.
//!
//! The kernel's request is one record, which fuser reads into a buffer of its thread:
//!
//! | OFFSET | SIZE | CONTENT |
//! | --- | --- | --- |
//! | 0 | 8 | length of the record, opcode |
//! | 8 | 8 | number of the request |
//! | 16 | 8 | inode |
//! | 24 | 16 | user, group, thread, padding: here ends `fuser::Request` |
//! | 40 | 32 | open file, lock owner, first byte, last byte |
//! | 72 | 16 | type, process, flags, padding |
//!
//! Every field that is known otherwise is compared. If one differs, the layout is not this one, and the flags are
//! unknown.

use fuser::Request;

const HEADER: usize = 40;
const RECORD: usize = 88;
/// FUSE_GETLK, FUSE_SETLK, FUSE_SETLKW.
const OPCODES: std::ops::RangeInclusive<u32> = 31..=33;
/// FUSE_LK_FLOCK.
const FLOCK: u32 = 1;

/// The fields of a lock request as fuser hands them on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub(crate) ino: u64,
    pub(crate) fh: u64,
    pub(crate) owner: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) kind: i32,
    pub(crate) pid: u32,
}

const _: () = assert!(size_of::<Request>() == HEADER && align_of::<Request>() == 8);

/// Return whether a lock request is one of flock; None if that is unknown.
pub(crate) fn is_flock(request: &Request, fields: &Fields) -> Option<bool> {
    let address = std::ptr::from_ref(request).expose_provenance();
    // SAFETY: the words are inside `*request`, which is a plain record of integers of this size and alignment.
    let header: [u64; HEADER / 8] =
        unsafe { std::ptr::with_exposed_provenance::<[u64; HEADER / 8]>(address).read() };
    let head = Words(&header);
    let is_header = head.half(0) == RECORD as u32
        && OPCODES.contains(&head.half(1))
        && head.0[1] == request.unique().0
        && head.0[2] == fields.ino
        && (head.half(6), head.half(7), head.half(8)) == (request.uid(), request.gid(), request.pid());
    if !is_header {
        return None;
    }
    // SAFETY: `*request` is the beginning of a record of `RECORD` bytes, as its own length says. fuser parses a record
    // only if its buffer holds as many bytes as that length (`AnyRequest::try_from`), and does not touch the buffer
    // before this request's call returns. The buffer was handed to read(2), by which its provenance is exposed.
    let whole: [u64; RECORD / 8] =
        unsafe { std::ptr::with_exposed_provenance::<[u64; RECORD / 8]>(address).read() };
    flags(&whole, fields).map(|flags| flags & FLOCK != 0)
}

/// A record as words of 64 bits.
struct Words<'a>(&'a [u64]);

impl Words<'_> {
    /// The 32-bit field of that number.
    fn half(&self, n: usize) -> u32 {
        let bytes = self.0[n / 2].to_ne_bytes();
        let at = n % 2 * 4;
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }
}

/// Return the flags of a record; None if its other fields are not these.
fn flags(record: &[u64; RECORD / 8], fields: &Fields) -> Option<u32> {
    let words = Words(record);
    let agree = record[5..9] == [fields.fh, fields.owner, fields.start, fields.end]
        && words.half(18) == fields.kind as u32
        && words.half(19) == fields.pid;
    agree.then(|| words.half(20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_with_these_fields_has_flags() {
        let fields = Fields {
            ino: 3,
            fh: 4,
            owner: 5,
            start: 6,
            end: 7,
            kind: 1,
            pid: 9,
        };
        let pair = |low: u32, high: u32| {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&low.to_ne_bytes());
            bytes[4..].copy_from_slice(&high.to_ne_bytes());
            u64::from_ne_bytes(bytes)
        };
        let record = [0, 0, 3, 0, 0, 4, 5, 6, 7, pair(1, 9), pair(FLOCK, 0)];
        assert_eq!(flags(&record, &fields), Some(FLOCK));
        for at in 5..10 {
            let mut other = record;
            other[at] ^= 1 << 33;
            assert_eq!(flags(&other, &fields), None, "word {at}");
        }
    }
}
