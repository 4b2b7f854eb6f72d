//! Modes and owners of new entries, which are recorded in the change that makes the entry.
//!
//! 1. An entry belongs to the user and group that made it. What the user of the mount's process makes has the owner of
//!    the mount options (`uid`, `gid`), which is not recorded.
//! 2. An entry in a directory with the setgid bit has the group of the directory. A directory also has the bit.

use crate::fs::context::Ctx;
use crate::fs::error::FsResult;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::metadata::records::Subject;
use persist_core::store::{Obj, Writer};

/// A new entry. The kernel has applied the umask to the mode.
#[derive(Clone, Copy, Debug)]
pub(crate) enum New {
    File(u32),
    Dir(u32),
    Link,
}

impl Fs {
    /// Record mode and owner of an entry that this section made in a directory.
    pub(crate) fn record_new(
        &self,
        ctx: &Ctx,
        w: &mut Writer<'_>,
        dir: Obj,
        subject: Subject<'_>,
        new: New,
    ) -> FsResult<()> {
        let parent = self.record(w, Subject::Dir(dir))?;
        let hands_on = parent
            .mode
            .is_some_and(|mode| u32::from(mode) & libc::S_ISGID != 0);
        let (mut uid, mut gid) = (self.config.uid, self.config.gid);
        if let Some(user) = ctx.user {
            if user.0 != self.mounter.0 {
                (uid, gid) = user;
            } else if user.1 != self.mounter.1 {
                gid = user.1;
            }
        }
        if hands_on {
            gid = parent.gid.unwrap_or(self.config.gid);
        }
        let (mode, default) = match new {
            New::File(mode) => (mode, 0o666),
            New::Dir(mode) if hands_on => (mode | libc::S_ISGID, 0o777),
            New::Dir(mode) => (mode, 0o777),
            New::Link => (0o777, 0o777),
        };
        let mode = (mode & 0o7777) as u16;
        let is_default = matches!(new, New::Link) || mode == default & !self.config.umask;
        let mode = (!is_default).then_some(mode);
        let uid = (uid != self.config.uid).then_some(uid);
        let gid = (gid != self.config.gid).then_some(gid);
        if mode.is_none() && uid.is_none() && gid.is_none() {
            return Ok(());
        }
        self.change_record(w, subject, |record| {
            (record.mode, record.uid, record.gid) = (mode, uid, gid);
            Ok(())
        })
    }
}
