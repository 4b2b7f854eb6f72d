//! Attributes: the `stat` result of each kind of entry.
//!
//! | attribute | value |
//! | --- | --- |
//! | size | of a file: the exact number of its bytes; of a directory: its number of entries |
//! | mtime | of a directory: the container's; of a file: the time that a tool set, as long as the content stays, otherwise the container's when this content was first seen |
//! | mode, owner | from the mount options, or set by a tool (kept until the unmount) |
//! | links | 1; for a directory too, so that `find` does not assume a number of subdirectories |

use super::filesystem::Fs;
use crate::fs::context::{lock, time_of};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::Spot;
use crate::fs::known::metadata::{Mark, fingerprint};
use crate::fs::text::scalars::Scalar;
use persist_core::store::{LargeKind, Obj, Reader, Value};
use std::time::SystemTime;

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
    pub(crate) mode: u16,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
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
            mode,
            links: 1,
            uid,
            gid,
        }
    }

    /// The attributes of a control file or directory.
    pub(crate) fn control_attr(&self, kind: NodeKind, size: u64) -> Attr {
        self.plain(kind, size, self.started)
    }

    /// Apply the remembered metadata to the attributes; `print` is the fingerprint of a file's content.
    fn remembered(&self, mark: Mark, mut attr: Attr, print: Option<u64>) -> Attr {
        let mut memory = lock(&self.metadata);
        if let Some(memo) = memory.get(&mark) {
            attr.mode = memo.mode.unwrap_or(attr.mode);
            attr.uid = memo.uid.unwrap_or(attr.uid);
            attr.gid = memo.gid.unwrap_or(attr.gid);
            let atime = memo.atime;
            let set = memo
                .mtime
                .filter(|(_, of)| Some(*of) == print)
                .map(|(time, _)| time);
            if let Some(time) = set {
                attr.mtime = time;
                attr.atime = atime.unwrap_or(time);
                return attr;
            }
            attr.atime = atime.unwrap_or(attr.mtime);
        }
        if let Some(print) = print {
            attr.mtime = memory.changed(mark, print, attr.mtime);
        }
        attr
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
                LargeKind::Bytes | LargeKind::Link => large.len,
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
        let mark = Mark::Entry(spot.parent.id, spot.slot.clone());
        let print = self.print_of(value);
        Ok(self.remembered(mark, attr, print))
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
        let mark = Mark::Entry(spot.parent.id, spot.slot.clone());
        Ok(Attr {
            mode: attr.mode,
            ..self.remembered(mark, attr, Some(print))
        })
    }

    /// The attributes of a container.
    pub(crate) fn dir_attr(&self, r: &Reader<'_>, obj: Obj) -> FsResult<Attr> {
        let attr = self.plain(NodeKind::Dir, r.len(obj)?, time_of(r.mtime(obj)?));
        Ok(self.remembered(Mark::Dir(obj.id), attr, None))
    }
}
