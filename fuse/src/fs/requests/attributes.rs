//! Requests on attributes: `getattr`, `setattr`, `statfs`.

use crate::fs::context::Ctx;
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::{Place, Slot, Spot};
use crate::fs::known::leases::Held;
use crate::fs::tree::durability;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::attributes::Changes;
use crate::fs::tree::metadata::attributes::NodeKind;
use crate::fs::tree::metadata::records::Subject;
use crate::fs::tree::metadata::records::nanoseconds;
use crate::kernel::sys;
use persist_core::store::door::LeaseBucket;
use persist_core::store::{Value, Writer};
use std::time::SystemTime;

impl Fs {
    /// Figures for `statfs`: the number of 4 KiB blocks in total, and of free ones.
    pub(crate) fn statfs(&self) -> FsResult<(u64, u64)> {
        let stat = self.store.stat()?;
        let free = sys::free_blocks(self.store.path()).unwrap_or(0);
        Ok((stat.file_pages + free, stat.free_pages + free))
    }

    /// Request: attributes. A thread with unstored writes sees the file as written.
    pub(crate) fn getattr(&self, ctx: &Ctx, ino: u64, fh: Option<u64>, held: &mut Held) -> FsResult<Attr> {
        let mut attr = self.attributes(ctx, ino, fh, held)?;
        self.note_sent(ctx, &mut attr);
        Ok(attr)
    }

    /// The same, for a request whose answer has no attributes.
    pub(crate) fn attributes(&self, ctx: &Ctx, ino: u64, fh: Option<u64>, held: &mut Held) -> FsResult<Attr> {
        let place = self.place(ino)?;
        let mut attr = match &place {
            Place::Dir(obj) => self.read(ctx, |r| {
                let attributes = held.take(r, self.store.lease_bucket(*obj, None));
                let mut attr = self.dir_attr(r, *obj)?;
                attr.covered.attributes = attributes;
                Ok(attr)
            })?,
            Place::File(spot) => self.read(ctx, |r| {
                let attributes = held.take(r, self.bucket_at(spot));
                match self.value_at(r, spot)? {
                    Some(Value::Obj(_) | Value::Link(_)) | None => errno(libc::ESTALE),
                    Some(value) => {
                        let mut attr = self.file_attr(r, spot, &value)?;
                        attr.covered.attributes = attributes;
                        Ok(attr)
                    }
                }
            })?,
            Place::Link(spot) => self.read(ctx, |r| match self.value_at(r, spot)? {
                Some(value) => self.link_attr(r, spot, &value),
                None => errno(libc::ESTALE),
            })?,
            Place::Lock(_) => self.control_attr(NodeKind::File, 0),
            Place::Control(c) => self.control_node(*c)?,
            Place::Deleted => Attr {
                links: 0,
                ..self.control_attr(NodeKind::File, 0)
            },
        };
        if let Place::File(spot) = &place
            && self.is_removed(ino, spot)
        {
            attr.links = 0;
        }
        attr.ino = ino;
        if attr.kind == NodeKind::File
            && let Some((size, at)) = self.open_files.written_size(ino, fh, ctx.tid)
        {
            attr.show_written(size, at);
        }
        self.uncover_written(&mut attr);
        Ok(attr)
    }

    /// The bucket of a file.
    fn bucket_at(&self, spot: &Spot) -> LeaseBucket {
        match &spot.slot {
            Slot::Key(key) => self.store.lease_bucket(spot.parent, Some(&key.as_key())),
            Slot::Item(_) => self.store.lease_bucket(spot.parent, None),
        }
    }

    /// Request: change attributes. The kernel may keep those that the answer brings.
    pub(crate) fn setattr(
        &self,
        ctx: &Ctx,
        ino: u64,
        fh: Option<u64>,
        changes: &Changes,
        held: &mut Held,
    ) -> FsResult<Attr> {
        let place = self.place(ino)?;
        if let Some(size) = changes.size {
            self.resize(ctx, ino, &place, fh, size)?;
        }
        if matches!(place, Place::File(_)) && changes.mtime.is_some() {
            // The time belongs to what was written.
            match self.commit_inode(ctx, ino) {
                // Content that does not fit its type is reported at the close of the file.
                Ok(()) | Err(FsError::Errno(libc::EINVAL)) => {}
                Err(e) => return Err(e),
            }
        }
        let Some(subject) = Subject::of(&place).filter(|_| changes.are_recorded()) else {
            return self.changed_attributes(ctx, ino, fh, held);
        };
        self.leases.answering(ino, || {
            self.write(ctx, |w, _| self.record_changes(w, subject, changes))?;
            self.changed_attributes(ctx, ino, fh, held)
        })
    }

    /// The answer to a change of attributes. The kernel stores it without a look at what it has learned since the
    /// request, so a change by another process or thread that comes before the kernel stores it must not be possible.
    fn changed_attributes(&self, ctx: &Ctx, ino: u64, fh: Option<u64>, held: &mut Held) -> FsResult<Attr> {
        if let Some(e) = durability::unknown() {
            return errno(e);
        }
        let mut attr = self.attributes(ctx, ino, fh, held)?;
        let is_single = self.note_sent(ctx, &mut attr);
        if !is_single || !self.store.is_only_process() {
            attr.covered.attributes = None;
        }
        Ok(attr)
    }

    /// Record what a tool sets.
    fn record_changes(&self, w: &mut Writer<'_>, subject: Subject<'_>, changes: &Changes) -> FsResult<()> {
        let print = match subject {
            Subject::Dir(obj) => {
                if let Some(time) = changes.mtime {
                    w.set_mtime(obj, nanoseconds(time.value()))?;
                }
                None
            }
            Subject::Entry(spot) => match self.value_at(w, spot)? {
                Some(value @ (Value::Obj(_) | Value::Link(_))) => Some(self.link_print(w, spot, &value)?.1),
                Some(value) => self.print_of(&value),
                None => return errno(libc::ESTALE),
            },
        };
        self.change_record(w, subject, |record| {
            record.mode = changes.mode.map(|m| (m & 0o7777) as u16).or(record.mode);
            record.uid = changes.uid.or(record.uid);
            record.gid = changes.gid.or(record.gid);
            record.atime = changes.atime.map(|t| nanoseconds(t.value())).or(record.atime);
            match (subject, changes.mtime) {
                (Subject::Entry(_), Some(time)) => {
                    record.mtime = print
                        .map(|print| (nanoseconds(time.value()), print))
                        .or(record.mtime);
                }
                (Subject::Dir(_), Some(_)) => {
                    // The time may be one that the container had in another state.
                    let last = record.set.map_or(0, |last| last.saturating_add(1));
                    record.set = Some(nanoseconds(SystemTime::now()).max(last));
                    record.mtime = None;
                }
                (_, None) => {}
            }
            Ok(())
        })
    }
}
