//! Requests on attributes: `getattr`, `setattr`.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::Place;
use crate::fs::known::metadata::Mark;
use crate::fs::tree::attributes::{Attr, Changes, NewTime, NodeKind};
use crate::fs::tree::filesystem::Fs;
use persist_core::store::Value;
use std::time::UNIX_EPOCH;

impl Fs {
    /// Request: attributes. A thread with unstored writes sees the file as written.
    pub(crate) fn getattr(&self, ctx: &Ctx, ino: u64, fh: Option<u64>) -> FsResult<Attr> {
        let place = self.place(ino)?;
        let mut attr = match &place {
            Place::Dir(obj) => self.read(ctx, |r| self.dir_attr(r, *obj))?,
            Place::File(spot) => self.read(ctx, |r| match self.value_at(r, spot)? {
                Some(Value::Obj(_) | Value::Link(_)) | None => errno(libc::ESTALE),
                Some(value) => self.file_attr(r, spot, &value),
            })?,
            Place::Link(spot) => self.read(ctx, |r| match self.value_at(r, spot)? {
                Some(value) => self.link_attr(r, spot, &value),
                None => errno(libc::ESTALE),
            })?,
            Place::Lock(_) => self.control_attr(NodeKind::File, 0),
            Place::Control(c) => self.control_node(*c)?,
            Place::Deleted => {
                let open = self.open_files.of_inode(ino);
                let kept = open.iter().find_map(|handle| handle.kept());
                Attr {
                    links: 0,
                    ..self.control_attr(NodeKind::File, kept.map_or(0, |content| content.len() as u64))
                }
            }
        };
        attr.ino = ino;
        if attr.kind == NodeKind::File
            && let Some(size) = self.open_files.written_size(ino, fh, ctx.tid)
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
            let mut memory = lock(&self.metadata);
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

    /// The fingerprint of the current content. Unstored writes are stored first.
    fn current_print(&self, ctx: &Ctx, ino: u64, place: &Place) -> FsResult<Option<u64>> {
        let spot = match place {
            Place::File(spot) => spot,
            Place::Link(spot) => {
                return self.read(ctx, |r| match self.value_at(r, spot)? {
                    Some(value) => self.link_print(r, spot, &value).map(|(_, print)| Some(print)),
                    None => errno(libc::ESTALE),
                });
            }
            _ => return Ok(None),
        };
        match self.commit_inode(ctx, ino) {
            // Content that does not fit its type is reported at the close of the file.
            Ok(()) | Err(FsError::Errno(libc::EINVAL)) => {}
            Err(e) => return Err(e),
        }
        self.read(ctx, |r| {
            Ok(self.value_at(r, spot)?.and_then(|v| self.print_of(&v)))
        })
    }
}
