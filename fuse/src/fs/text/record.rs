//! The record of metadata that the store keeps for a file or directory (`Reader::metadata`): what tools set.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 1 | version: 1 |
//! | 1 | 1 | which fields follow, in this order (`MODE`, `UID`, `GID`, `MTIME`, `ATIME`, `CTIME`, `SET`) |
//! | 2 | 2 | `MODE`: permission bits |
//! | | 4 | `UID`: owner |
//! | | 4 | `GID`: group |
//! | | 16 | `MTIME`: time of change (nanoseconds since 1970), and the fingerprint of the content that it belongs to; of a directory, of the state of its container |
//! | | 8 | `ATIME`: time of access |
//! | | 8 | `CTIME`: time of the last change of this record |
//! | | 8 | `SET`: of a directory whose time of change a tool has set: when, later each time |
//! | | to the end | extended attributes: length of the name (2), of the value (4), name, value |
//!
//! A record of another version, or one that breaks the format, is an error (EIO): it is not read as "nothing was set".

use crate::fs::error::{FsError, FsResult, errno};
use std::collections::BTreeMap;

const VERSION: u8 = 1;
const MODE: u8 = 1;
const UID: u8 = 2;
const GID: u8 = 4;
const MTIME: u8 = 8;
const ATIME: u8 = 16;
const CTIME: u8 = 32;
const SET: u8 = 64;
/// The longest value of an attribute, as in the kernel.
pub(crate) const VALUE_MAX: usize = 64 << 10;
/// The longest name of an attribute, as in the kernel.
const NAME_MAX: usize = 255;
/// The maximal length of all attributes together.
const ATTRIBUTES_MAX: usize = 1 << 20;

/// What tools set for one file or directory.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    /// Permission bits.
    pub(crate) mode: Option<u16>,
    /// Owner.
    pub(crate) uid: Option<u32>,
    /// Group.
    pub(crate) gid: Option<u32>,
    /// Time of change in nanoseconds since 1970, and the fingerprint of the content that it belongs to.
    pub(crate) mtime: Option<(u64, u64)>,
    /// Time of access in nanoseconds since 1970.
    pub(crate) atime: Option<u64>,
    /// Time of the last change of this record, in nanoseconds since 1970.
    pub(crate) ctime: Option<u64>,
    /// When a tool has last set the time of change of the directory, in nanoseconds since 1970; later each time.
    pub(crate) set: Option<u64>,
    /// Extended attributes.
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Record {
    /// True if nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Record::default()
    }

    /// Set an extended attribute. `ERANGE`, `E2BIG` and `ENOSPC` tell that it is too long, or all of them.
    pub(crate) fn set_attribute(&mut self, name: &[u8], value: &[u8]) -> FsResult<()> {
        if name.len() > NAME_MAX {
            return errno(libc::ERANGE);
        }
        if value.len() > VALUE_MAX {
            return errno(libc::E2BIG);
        }
        self.attributes.insert(name.to_vec(), value.to_vec());
        let all: usize = self.attributes.iter().map(|(n, v)| n.len() + v.len()).sum();
        if all > ATTRIBUTES_MAX {
            return errno(libc::ENOSPC);
        }
        Ok(())
    }

    /// The bytes of the record.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION, 0];
        if let Some(mode) = self.mode {
            out[1] |= MODE;
            out.extend(mode.to_le_bytes());
        }
        for (flag, id) in [(UID, self.uid), (GID, self.gid)] {
            if let Some(id) = id {
                out[1] |= flag;
                out.extend(id.to_le_bytes());
            }
        }
        if let Some((time, print)) = self.mtime {
            out[1] |= MTIME;
            out.extend(time.to_le_bytes());
            out.extend(print.to_le_bytes());
        }
        for (flag, time) in [(ATIME, self.atime), (CTIME, self.ctime), (SET, self.set)] {
            if let Some(time) = time {
                out[1] |= flag;
                out.extend(time.to_le_bytes());
            }
        }
        for (name, value) in &self.attributes {
            // Both are bounded by `set_attribute`.
            out.extend((name.len() as u16).to_le_bytes());
            out.extend((value.len() as u32).to_le_bytes());
            out.extend(name);
            out.extend(value);
        }
        out
    }

    /// The record of these bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> FsResult<Record> {
        Record::parse(bytes).ok_or(FsError::Errno(libc::EIO))
    }

    fn parse(bytes: &[u8]) -> Option<Record> {
        let mut rest = bytes;
        let [version, fields] = *take::<2>(&mut rest)?;
        if version != VERSION || fields & !(MODE | UID | GID | MTIME | ATIME | CTIME | SET) != 0 {
            return None;
        }
        let mut record = Record::default();
        if fields & MODE != 0 {
            record.mode = Some(u16::from_le_bytes(*take(&mut rest)?));
        }
        if fields & UID != 0 {
            record.uid = Some(u32::from_le_bytes(*take(&mut rest)?));
        }
        if fields & GID != 0 {
            record.gid = Some(u32::from_le_bytes(*take(&mut rest)?));
        }
        if fields & MTIME != 0 {
            let time = u64::from_le_bytes(*take(&mut rest)?);
            record.mtime = Some((time, u64::from_le_bytes(*take(&mut rest)?)));
        }
        if fields & ATIME != 0 {
            record.atime = Some(u64::from_le_bytes(*take(&mut rest)?));
        }
        if fields & CTIME != 0 {
            record.ctime = Some(u64::from_le_bytes(*take(&mut rest)?));
        }
        if fields & SET != 0 {
            record.set = Some(u64::from_le_bytes(*take(&mut rest)?));
        }
        while !rest.is_empty() {
            let name = usize::from(u16::from_le_bytes(*take(&mut rest)?));
            let value = u32::from_le_bytes(*take(&mut rest)?) as usize;
            let (name, more) = rest.split_at_checked(name)?;
            let (value, more) = more.split_at_checked(value)?;
            record.attributes.insert(name.to_vec(), value.to_vec());
            rest = more;
        }
        Some(record)
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn too_long_attributes_are_refused() {
        let mut record = Record::default();
        assert!(record.set_attribute(&[b'n'; 256], b"").is_err());
        assert!(record.set_attribute(b"n", &[0; VALUE_MAX + 1]).is_err());
        for n in 0..15u8 {
            record.set_attribute(&[n], &[0; VALUE_MAX]).unwrap();
        }
        let last = record.set_attribute(b"z", &[0; VALUE_MAX]);
        assert_eq!(last.unwrap_err().errno(), libc::ENOSPC);
    }

    proptest! {
        #[test]
        fn a_record_reads_as_it_was_written(
            mode: Option<u16>, uid: Option<u32>, gid: Option<u32>, mtime: Option<(u64, u64)>, atime: Option<u64>,
            ctime: Option<u64>, set: Option<u64>, attributes: BTreeMap<Vec<u8>, Vec<u8>>,
        ) {
            let record = Record { mode, uid, gid, mtime, atime, ctime, set, attributes };
            let bytes = record.to_bytes();
            prop_assert_eq!(Record::from_bytes(&bytes).unwrap(), record.clone());
            // A record that was cut is an error, or one with fewer attributes.
            for end in 0..bytes.len() {
                if let Ok(cut) = Record::from_bytes(&bytes[..end]) {
                    prop_assert!(cut.attributes.len() < record.attributes.len());
                }
            }
        }

        #[test]
        fn hostile_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = Record::from_bytes(&bytes);
            let _ = Record::from_bytes(&[&[VERSION, 127], &bytes[..]].concat());
        }
    }
}
