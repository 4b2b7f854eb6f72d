//! Attributes: the `stat` result of each kind of entry.
//!
//! | attribute | value |
//! | --- | --- |
//! | size | of a file: the exact number of its bytes; of a directory: its number of entries |
//! | mtime | of a directory: the last change of its entries (`times`); of a file: the time that a tool set, as long as the content stays, otherwise the container's when this content was first seen |
//! | ctime | the time of the last change of what a tool set, or mtime if that is later |
//! | mode, owner | from the mount options, or set by a tool (`records`) |
//! | links | of a directory: 2 and one for each subdirectory, or 1 if it has many entries (`subdirectories`); otherwise 1 |

use crate::fs::context::time_of;
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::Spot;
use crate::fs::known::leases::Covered;
use crate::fs::known::metadata::fingerprint;
use crate::fs::text::record::Record;
use crate::fs::text::scalars::Scalar;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::metadata::records::Subject;
use persist_core::store::{LargeKind, Obj, Reader, Value};
use std::time::{SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::xxh3_64;

/// The kind of a node for the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NodeKind {
    Dir,
    File,
    Link,
}

/// The attributes of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attr {
    pub(crate) ino: u64,
    pub(crate) kind: NodeKind,
    pub(crate) size: u64,
    pub(crate) mtime: SystemTime,
    pub(crate) atime: SystemTime,
    pub(crate) ctime: SystemTime,
    pub(crate) mode: u16,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The leases that cover them, in the request that read them.
    pub(crate) covered: Covered,
}

/// A time to set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NewTime {
    Now,
    At(SystemTime),
}

impl NewTime {
    /// The time itself.
    pub(crate) fn value(self) -> SystemTime {
        match self {
            NewTime::Now => SystemTime::now(),
            NewTime::At(t) => t,
        }
    }
}

/// The changes of a `setattr`.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Changes {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) atime: Option<NewTime>,
    pub(crate) mtime: Option<NewTime>,
}

impl Changes {
    /// True for changes that become part of the record. The present time of access alone is not kept.
    pub(crate) fn are_recorded(&self) -> bool {
        let atime = self.atime.is_some_and(|time| !matches!(time, NewTime::Now));
        self.mode.is_some() || self.uid.is_some() || self.gid.is_some() || self.mtime.is_some() || atime
    }
}

impl Fs {
    fn plain(&self, kind: NodeKind, size: u64, mtime: SystemTime) -> Attr {
        let mode = match kind {
            NodeKind::Dir => 0o777 & !self.config.umask,
            NodeKind::File => 0o666 & !self.config.umask,
            NodeKind::Link => 0o777,
        };
        let (uid, gid) = (self.config.uid, self.config.gid);
        Attr {
            ino: 0,
            kind,
            size,
            mtime,
            atime: mtime,
            ctime: mtime,
            mode,
            links: 1,
            uid,
            gid,
            covered: Covered::default(),
        }
    }

    /// The attributes of a control file or directory.
    pub(crate) fn control_attr(&self, kind: NodeKind, size: u64) -> Attr {
        self.plain(kind, size, self.started)
    }

    /// Apply what tools set to the attributes. `print` is the fingerprint of a file's content.
    fn recorded(
        &self,
        r: &Reader<'_>,
        subject: Subject<'_>,
        mut attr: Attr,
        print: Option<u64>,
    ) -> FsResult<Attr> {
        let record = self.record(r, subject)?;
        let set = record.mtime.filter(|(_, of)| Some(*of) == print);
        if let Some((time, _)) = set {
            attr.mtime = time_of(time);
        } else if let (Subject::Entry(spot), Some(print)) = (subject, print) {
            attr.mtime = self.first_seen(r, spot, print, attr.mtime)?;
        }
        Ok(apply(attr, &record, set.is_some()))
    }

    /// The size of a scalar's file.
    pub(crate) fn file_size(&self, r: &Reader<'_>, value: &Value) -> FsResult<u64> {
        Ok(match value {
            Value::Str { bytes, no_newline } => {
                bytes.len() as u64 + u64::from(!no_newline && !self.config.exact)
            }
            Value::Bytes(b) => b.len() as u64,
            Value::Large(large) => match large.kind {
                LargeKind::Str { no_newline } => large.len + u64::from(!no_newline && !self.config.exact),
                LargeKind::Bytes | LargeKind::Link | LargeKind::Typed { text: false } => large.len,
                LargeKind::Typed { text: true } => large.len + u64::from(!self.config.exact),
                LargeKind::Int { negative } => {
                    // Hexadecimal: two digits a byte, but one for a first byte below 16.
                    let mut top = [0u8];
                    r.large_read(large, large.len.saturating_sub(1), &mut top)?;
                    let extra =
                        2 + u64::from(negative) + u64::from(!self.config.exact) - u64::from(top[0] < 16);
                    large.len * 2 + extra
                }
            },
            other => Scalar::from_value(other).map_or(0, |s| s.render(self.config.exact).len() as u64),
        })
    }

    /// The fingerprint of a scalar's file. For a large one, it is a hash of its id.
    pub(crate) fn print_of(&self, value: &Value) -> Option<u64> {
        match value {
            Value::Large(large) => Some(fingerprint(&large.id.to_le_bytes())),
            _ => Scalar::from_value(value).map(|s| fingerprint(&s.render(self.config.exact))),
        }
    }

    /// The attributes of a scalar.
    pub(crate) fn file_attr(&self, r: &Reader<'_>, spot: &Spot, value: &Value) -> FsResult<Attr> {
        let attr = self.plain(
            NodeKind::File,
            self.file_size(r, value)?,
            time_of(r.mtime(spot.parent)?),
        );
        self.recorded(r, Subject::Entry(spot), attr, self.print_of(value))
    }

    /// The length of a symlink's text, and its fingerprint.
    pub(crate) fn link_print(&self, r: &Reader<'_>, spot: &Spot, value: &Value) -> FsResult<(u64, u64)> {
        match value {
            Value::Link(text) => Ok((text.len() as u64, fingerprint(text))),
            Value::Obj(obj) => match self.link_text(r, spot.parent, *obj) {
                Ok(text) => Ok((text.len() as u64, fingerprint(&text))),
                // The target is too deep. The symlink is still listed.
                Err(FsError::Errno(libc::ELOOP)) => Ok((libc::PATH_MAX as u64, 0)),
                Err(e) => Err(e),
            },
            _ => errno(libc::ESTALE),
        }
    }

    /// The attributes of a symlink: of a reference, or of a link value.
    pub(crate) fn link_attr(&self, r: &Reader<'_>, spot: &Spot, value: &Value) -> FsResult<Attr> {
        let (size, print) = self.link_print(r, spot, value)?;
        let attr = self.plain(NodeKind::Link, size, time_of(r.mtime(spot.parent)?));
        Ok(Attr {
            mode: attr.mode,
            ..self.recorded(r, Subject::Entry(spot), attr, Some(print))?
        })
    }

    /// The attributes of a container.
    pub(crate) fn dir_attr(&self, r: &Reader<'_>, obj: Obj) -> FsResult<Attr> {
        let record = self.record(r, Subject::Dir(obj))?;
        let time = time_of(self.dir_time(r, obj, &record)?);
        let attr = Attr {
            links: self.links_of(r, obj, &record)?,
            ..self.plain(NodeKind::Dir, r.len(obj)?, time)
        };
        Ok(apply(attr, &record, false))
    }
}

impl Attr {
    /// Return a hash of what the kernel stores of them.
    pub(crate) fn print(&self) -> u32 {
        let mut bytes = [0; 64];
        let mut rest = &mut bytes[..];
        let mut add = |number: &[u8]| {
            if let Some((room, more)) = std::mem::take(&mut rest).split_at_mut_checked(number.len()) {
                room.copy_from_slice(number);
                rest = more;
            }
        };
        add(&self.size.to_le_bytes());
        for time in [self.mtime, self.atime, self.ctime] {
            // A time before 1970 is shown as 1970.
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            add(&since.as_secs().to_le_bytes());
            add(&since.subsec_nanos().to_le_bytes());
        }
        add(&self.mode.to_le_bytes());
        add(&self.links.to_le_bytes());
        add(&self.uid.to_le_bytes());
        add(&self.gid.to_le_bytes());
        xxh3_64(&bytes) as u32
    }

    /// Show the size and the time of a content that is not stored yet.
    pub(crate) fn show_written(&mut self, size: u64, at: SystemTime) {
        self.size = size;
        self.mtime = self.mtime.max(at);
        self.ctime = self.ctime.max(at);
    }
}

/// Apply what tools set to the attributes. `is_set`: a tool has set the time of change.
fn apply(attr: Attr, record: &Record, is_set: bool) -> Attr {
    Attr {
        mode: record.mode.unwrap_or(attr.mode),
        uid: record.uid.unwrap_or(attr.uid),
        gid: record.gid.unwrap_or(attr.gid),
        atime: record.atime.map_or(attr.mtime, time_of),
        ctime: match record.ctime.map(time_of) {
            // The time of change may be any.
            Some(time) if is_set => time,
            Some(time) => time.max(attr.mtime),
            None => attr.mtime,
        },
        ..attr
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_hash_depends_on_each_attribute() {
        let time = UNIX_EPOCH + Duration::new(5, 6);
        let one = Attr {
            ino: 1,
            kind: NodeKind::File,
            size: 2,
            mtime: time,
            atime: time,
            ctime: time,
            mode: 3,
            links: 4,
            uid: 5,
            gid: 6,
            covered: Covered::default(),
        };
        let later = time + Duration::from_nanos(1);
        let all = [
            one,
            Attr { size: 3, ..one },
            Attr { mtime: later, ..one },
            Attr { atime: later, ..one },
            Attr { ctime: later, ..one },
            Attr { mode: 4, ..one },
            Attr { links: 5, ..one },
            Attr { uid: 6, ..one },
            Attr { gid: 7, ..one },
        ];
        let prints: std::collections::HashSet<u32> = all.iter().map(Attr::print).collect();
        assert_eq!(prints.len(), all.len());
    }
}
