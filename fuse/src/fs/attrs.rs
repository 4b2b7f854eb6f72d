//! Attributes: what `stat` shows of each kind of entry, `setattr` and `statfs`.
//!
//! | attribute | is |
//! | --- | --- |
//! | size | of a file: exactly its bytes; of a directory: its number of entries |
//! | mtime | of a directory: the container's; of a file: what a tool set, as long as the content stays; else the container's when this content was first seen; in a list always the list's |
//! | mode, owner | from the mount options, or what a tool set (kept until the umount) |
//! | links | 1; for a directory too, which tells `find` nothing about subdirectories |

use super::error::{FsError, FsResult, errno};
use super::memory::Mark;
use super::nodes::{Place, Slot, Spot};
use super::sides::{Content, Side};
use super::text::Scalar;
use super::{Ctx, Fs, lock, time_of};
use persist_core::store::{LargeKind, Obj, Reader, Value};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a node is to the kernel.
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
    fn value(self) -> SystemTime {
        match self {
            NewTime::Now => SystemTime::now(),
            NewTime::At(t) => t,
        }
    }
}

/// What `setattr` is to change.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Changes {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) atime: Option<NewTime>,
    pub(crate) mtime: Option<NewTime>,
}

/// Stands for a content, to tell whether it is still the same. (Fast, and no defence against somebody
/// who makes two contents alike: they would share a time of change.)
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |state: u64, word: u64| {
        let wide = u128::from(state ^ word).wrapping_mul(u128::from(K));
        (wide as u64) ^ (wide >> 64) as u64
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let state = words.iter().fold(K ^ bytes.len() as u64, |s, w| {
        mix(s, u64::from_le_bytes(*w)) ^ s.rotate_left(23)
    });
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(state, u64::from_le_bytes(last)) ^ state
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

    /// The attributes of a made-up file or directory.
    pub(crate) fn control_attr(&self, kind: NodeKind, size: u64) -> Attr {
        self.plain(kind, size, self.started)
    }

    /// Puts what is remembered into the attributes; `print` stands for the content of a file.
    fn remembered(&self, mark: Mark, mut attr: Attr, print: Option<u64>) -> Attr {
        let mut memory = lock(&self.memory);
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
        // All items of a list are as old as the list: names alone tell them apart.
        if let (Some(print), false) = (print, matches!(mark, Mark::Entry(_, Slot::Item(_)))) {
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
                LargeKind::Bytes => large.len,
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

    /// The fingerprint of a scalar's file. A large one is known by its id.
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
        let print = self.print_of(value).map(|p| p ^ self.salt(spot));
        Ok(self.remembered(mark, attr, print))
    }

    /// What an entry's place adds to its fingerprint: an item of a list is another file when its index
    /// changes, since to `rsync` and its like the name is the file.
    pub(crate) fn salt(&self, spot: &Spot) -> u64 {
        match spot.slot {
            Slot::Key(_) => 0,
            Slot::Item(serial) => {
                let index = lock(&self.lists).at(spot.parent.id, serial).index;
                fingerprint(&index.to_le_bytes())
            }
        }
    }

    /// The attributes of a reference.
    pub(crate) fn link_attr(&self, r: &Reader<'_>, parent: Obj, size: u64) -> FsResult<Attr> {
        Ok(self.plain(NodeKind::Link, size, time_of(r.mtime(parent)?)))
    }

    /// The attributes of a container.
    pub(crate) fn dir_attr(&self, r: &Reader<'_>, obj: Obj) -> FsResult<Attr> {
        let attr = self.plain(NodeKind::Dir, r.len(obj)?, time_of(r.mtime(obj)?));
        Ok(self.remembered(Mark::Dir(obj.id), attr, None))
    }

    /// The attributes of a side file or symlink.
    pub(crate) fn side_attr(&self, id: u64, side: &Side) -> Attr {
        let (kind, size, print) = match &side.content {
            Content::File(scalar) => {
                let bytes = scalar.render(self.config.exact);
                (NodeKind::File, bytes.len() as u64, Some(fingerprint(&bytes)))
            }
            Content::Dir(_) => (NodeKind::Dir, 0, None),
            Content::Link { target, .. } => (NodeKind::Link, target.len() as u64, None),
        };
        let attr = self.plain(kind, size, self.started);
        self.remembered(Mark::Side(id), attr, print)
    }

    /// Request: attributes. Whoever has written and not yet closed sees the file as written.
    pub(crate) fn getattr(&self, ctx: &Ctx, ino: u64, fh: Option<u64>) -> FsResult<Attr> {
        let place = self.place(ino)?;
        let mut attr = match &place {
            Place::Dir(obj) => self.read(ctx, |r| self.dir_attr(r, *obj))?,
            Place::File(spot) => self.read(ctx, |r| match self.value_at(r, spot)? {
                Some(Value::Obj(_)) | None => errno(libc::ESTALE),
                Some(value) => self.file_attr(r, spot, &value),
            })?,
            Place::Link(spot) => self.read(ctx, |r| match self.value_at(r, spot)? {
                Some(Value::Obj(obj)) => {
                    let size = self.link_size(r, spot.parent, obj)?;
                    self.link_attr(r, spot.parent, size)
                }
                _ => errno(libc::ESTALE),
            })?,
            Place::Side(id) => {
                let side = lock(&self.sides)
                    .get(*id)
                    .cloned()
                    .ok_or(FsError::Errno(libc::ESTALE))?;
                self.side_attr(*id, &side)
            }
            Place::Lock(_) => self.control_attr(NodeKind::File, 0),
            Place::Control(c) => self.control_node(*c)?,
            Place::Deleted => Attr {
                links: 0,
                ..self.control_attr(NodeKind::File, 0)
            },
        };
        attr.ino = ino;
        if attr.kind == NodeKind::File
            && let Some(size) = self.handles.written_size(ino, fh, ctx.tid)
        {
            attr.size = size;
        }
        Ok(attr)
    }

    /// Request: change attributes.
    pub(crate) fn setattr(&self, ctx: &Ctx, ino: u64, fh: Option<u64>, changes: &Changes) -> FsResult<Attr> {
        let place = self.place(ino)?;
        if let Some(size) = changes.size {
            self.resize(ctx, ino, &place, fh, size)?;
        }
        if let (Place::Dir(obj), Some(time)) = (&place, changes.mtime) {
            let ns = time
                .value()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_nanos());
            let ns = u64::try_from(ns).unwrap_or(u64::MAX);
            self.write(ctx, |w, _| Ok(w.set_mtime(*obj, ns)?))?;
        }
        if let Some(mark) = Mark::of(&place) {
            let print = match changes.mtime {
                Some(_) => self.current_print(ctx, ino, &place)?,
                None => None,
            };
            let mut memory = lock(&self.memory);
            let asked = [
                changes.mode.is_some(),
                changes.uid.is_some(),
                changes.gid.is_some(),
                print.is_some(),
            ];
            if asked.contains(&true)
                || (changes.atime.is_some() && !matches!(changes.atime, Some(NewTime::Now)))
            {
                let memo = memory.at(mark);
                memo.mode = changes.mode.map(|m| (m & 0o7777) as u16).or(memo.mode);
                memo.uid = changes.uid.or(memo.uid);
                memo.gid = changes.gid.or(memo.gid);
                memo.atime = changes.atime.map(NewTime::value).or(memo.atime);
                if let (Some(print), Some(time)) = (print, changes.mtime) {
                    memo.mtime = Some((time.value(), print));
                }
            }
        }
        self.getattr(ctx, ino, fh)
    }

    /// The fingerprint of what a file holds now; what was written and not yet stored is stored first.
    fn current_print(&self, ctx: &Ctx, ino: u64, place: &Place) -> FsResult<Option<u64>> {
        if let Place::File(_) | Place::Side(_) = place {
            match self.commit_inode(ctx, ino) {
                // Content that does not fit its type is reported to whoever closes the file.
                Ok(()) | Err(FsError::Errno(libc::EINVAL)) => {}
                Err(e) => return Err(e),
            }
        }
        match place {
            Place::File(spot) => self.read(ctx, |r| {
                let print = self.value_at(r, spot)?.and_then(|v| self.print_of(&v));
                Ok(print.map(|p| p ^ self.salt(spot)))
            }),
            Place::Side(id) => {
                let content = lock(&self.sides).get(*id).map(|s| s.content.clone());
                Ok(match content {
                    Some(Content::File(scalar)) => Some(fingerprint(&scalar.render(self.config.exact))),
                    _ => None,
                })
            }
            _ => Ok(None),
        }
    }
}
