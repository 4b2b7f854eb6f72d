//! Answers to the process that replays changes for inotify: the requests of the mount that differ for it (`replays`).

use super::mounted::Mounted;
use super::replays::{Act, Expected, REPLAY_FH};
use crate::fs::context::Ctx;
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::leases::Held;
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::attributes::NodeKind;

impl Mounted {
    fn placeholder_attr(&self, ino: u64, kind: NodeKind) -> Attr {
        Attr {
            ino,
            ..self.live().now().control_attr(kind, 0)
        }
    }

    /// A lookup by the process that replays.
    pub(super) fn lookup_to_replay(&self, ctx: &Ctx, dir: u64, name: &[u8]) -> FsResult<Attr> {
        let Some(expected) = self.replays.of_name(dir, name) else {
            return self.plain_lookup(ctx, dir, name);
        };
        let attr = match expected.act {
            Act::Create(_) if !expected.done => return errno(libc::ENOENT),
            Act::Remove(..) if expected.done => return errno(libc::ENOENT),
            Act::Create(kind) => self.present_attr(ctx, &expected, kind)?,
            Act::Remove(kind, ino) => {
                let kept = ino.and_then(|ino| self.live().now().attr_of_removed(ino));
                kept.unwrap_or_else(|| self.placeholder_attr(expected.placeholder, kind))
            }
            Act::Vanish(ino) => match self.live().now().attr_of_removed(ino) {
                Some(attr) => Attr { links: 0, ..attr },
                None => return errno(libc::ENOENT),
            },
            Act::Modify(_) | Act::Metadata => self.plain_lookup(ctx, dir, name)?,
            Act::Hello => self.placeholder_attr(expected.placeholder, NodeKind::File),
        };
        self.replays.show(attr.ino);
        self.live().now().note_unknown(attr.ino);
        Ok(attr)
    }

    /// A lookup of which the kernel keeps nothing.
    fn plain_lookup(&self, ctx: &Ctx, dir: u64, name: &[u8]) -> FsResult<Attr> {
        let found = self.at(ctx, dir)?.lookup(ctx, dir, name, &mut Held::none())?;
        found.map_err(|_| FsError::Errno(libc::ENOENT))
    }

    /// The entry that was made, if it still exists and is of this kind.
    fn present_attr(&self, ctx: &Ctx, expected: &Expected, kind: NodeKind) -> FsResult<Attr> {
        match self.plain_lookup(ctx, expected.dir, &expected.name) {
            Ok(attr) if attr.kind == kind => return Ok(attr),
            Ok(other) => {
                self.live().now().note_unknown(other.ino);
                self.forget(other.ino, 1);
            }
            Err(e) if e.runs_again() => return Err(e),
            Err(_) => {}
        }
        Ok(self.placeholder_attr(expected.placeholder, kind))
    }

    /// `create`, `mkdir` or `symlink` by the process that replays.
    pub(super) fn create_to_replay(
        &self,
        ctx: &Ctx,
        dir: u64,
        name: &[u8],
        kind: NodeKind,
    ) -> FsResult<Attr> {
        let Some(expected) = self.replays.of_name(dir, name) else {
            return errno(libc::EPERM);
        };
        let attr = self.present_attr(ctx, &expected, kind)?;
        let done = self.replays.finish(dir, name, |act| act == Act::Create(kind));
        match done {
            Ok(()) => self.replays.show(attr.ino),
            Err(_) => {
                self.live().now().note_unknown(attr.ino);
                self.forget(attr.ino, 1);
            }
        }
        done.map(|()| attr)
    }

    /// `unlink` or `rmdir` by the process that replays.
    pub(super) fn remove_to_replay(&self, dir: u64, name: &[u8], of_dir: bool) -> FsResult<()> {
        let fits = |act| matches!(act, Act::Remove(kind, _) if (kind == NodeKind::Dir) == of_dir);
        self.replays.finish(dir, name, fits)
    }

    /// `open` by the process that replays.
    pub(super) fn open_to_replay(&self, ino: u64) -> FsResult<u64> {
        match self.replays.present() {
            Some(e) if matches!(e.act, Act::Modify(_)) && e.shown == Some(ino) => Ok(REPLAY_FH),
            _ => errno(libc::EPERM),
        }
    }

    /// `setattr` by the process that replays.
    pub(super) fn setattr_to_replay(&self, ctx: &Ctx, ino: u64) -> FsResult<Attr> {
        match self.replays.present() {
            Some(e) if e.shown == Some(ino) => self.getattr_to_replay(ctx, ino),
            _ => errno(libc::EPERM),
        }
    }

    /// `getattr` by the process that replays.
    pub(super) fn getattr_to_replay(&self, ctx: &Ctx, ino: u64) -> FsResult<Attr> {
        match self.replays.present() {
            Some(e) if e.placeholder == ino => {
                let kind = match e.act {
                    Act::Create(kind) | Act::Remove(kind, _) => kind,
                    _ => NodeKind::File,
                };
                Ok(self.placeholder_attr(ino, kind))
            }
            Some(e) if e.act == Act::Vanish(ino) => {
                let fs = self.at(ctx, ino)?;
                let attr = fs.attributes(ctx, ino, None, &mut Held::none())?;
                fs.note_unknown(ino);
                Ok(Attr { links: 0, ..attr })
            }
            _ => self.at(ctx, ino)?.getattr(ctx, ino, None, &mut Held::none()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::context::Config;
    use crate::fs::known::inodes::ROOT;
    use crate::fs::tree::filesystem::Fs;
    use crate::fs::tree::metadata::attributes::Changes;
    use crate::kernel::access::Access;
    use persist_core::store::{Options, Store};
    use std::time::Duration;

    const PID: u32 = 77;

    fn mounted(dir: &std::path::Path) -> FsResult<Mounted> {
        let options = Options {
            create: true,
            ..Options::default()
        };
        let config = Config {
            exact: false,
            infer: false,
            lockwait: Duration::ZERO,
            uid: 0,
            gid: 0,
            umask: 0o022,
            mountpoint: dir.to_owned(),
        };
        let fs = Fs::new(Store::open(dir.join("s"), &options)?, config);
        let access = Access {
            read_only: false,
            sync: false,
        };
        let mounted = Mounted::new(fs, access, Box::new(|_| errno(libc::EIO)));
        mounted.replays().come_from(PID);
        Ok(mounted)
    }

    fn by(tid: u32) -> Ctx {
        Ctx {
            tid,
            ..Ctx::own(true)
        }
    }

    fn refused<T>(done: FsResult<T>) -> bool {
        done.is_err_and(|e| e.errno() == libc::EPERM)
    }

    /// Nothing that the process does changes the store, whether it is expected or not.
    #[test]
    fn the_process_that_replays_changes_nothing() -> FsResult<()> {
        let dir = tempfile::tempdir().map_err(|_| FsError::Errno(libc::EIO))?;
        let m = mounted(dir.path())?;
        let (command, replayer) = (by(1), by(PID));
        let (_, fh, _) = m.create(&command, ROOT, b"file", 0o644, libc::O_WRONLY)?;
        let file = m
            .lookup(&command, ROOT, b"file")?
            .0
            .map_err(|_| FsError::Errno(libc::ENOENT))?;
        m.release(&command, file.ino, fh)?;
        m.mkdir(&command, ROOT, b"dir", 0o755)?;
        let before = m.live().now().store().change_count();
        let all = |m: &Mounted| {
            let cut = Changes {
                size: Some(0),
                ..Changes::default()
            };
            [
                refused(m.create(&replayer, ROOT, b"new", 0o644, libc::O_WRONLY)),
                refused(m.mkdir(&replayer, ROOT, b"new", 0o755)),
                refused(m.symlink(&replayer, ROOT, b"new", b"x")),
                refused(m.unlink(&replayer, ROOT, b"file")),
                refused(m.rmdir(&replayer, ROOT, b"dir")),
                refused(m.rename(&replayer, (ROOT, b"file"), (ROOT, b"new"), 0)),
                refused(m.open(&replayer, file.ino, libc::O_WRONLY)),
                refused(m.setattr(&replayer, file.ino, None, &cut)),
                refused(m.to_change(&replayer, ROOT)),
            ]
        };
        assert_eq!(all(&m), [true; 9]);
        // What is expected of one entry is not done to another, nor twice, nor in another way.
        for act in [
            Act::Create(NodeKind::File),
            Act::Remove(NodeKind::File, None),
            Act::Modify(None),
            Act::Hello,
        ] {
            m.replays().expect(ROOT, b"other", act);
            assert_eq!(all(&m), [true; 9], "{act:?}");
        }
        m.replays()
            .expect(ROOT, b"file", Act::Remove(NodeKind::File, Some(file.ino)));
        let shown = m
            .lookup(&replayer, ROOT, b"file")?
            .0
            .map_err(|_| FsError::Errno(libc::ENOENT))?;
        assert_eq!(shown.ino, file.ino);
        assert!(refused(m.rmdir(&replayer, ROOT, b"file")));
        m.unlink(&replayer, ROOT, b"file")?;
        assert!(refused(m.unlink(&replayer, ROOT, b"file")));
        m.replays().expect(ROOT, b"file", Act::Create(NodeKind::File));
        assert!(
            m.lookup(&replayer, ROOT, b"file")
                .is_err_and(|e| e.errno() == libc::ENOENT)
        );
        let (made, fh, _) = m.create(&replayer, ROOT, b"file", 0o644, libc::O_WRONLY)?;
        assert_eq!((made.ino, fh), (file.ino, REPLAY_FH));
        m.replays().expect(ROOT, b"gone", Act::Create(NodeKind::Dir));
        let made = m.mkdir(&replayer, ROOT, b"gone", 0o755)?;
        assert_eq!(
            (made.kind, m.getattr(&replayer, made.ino, None)?.0.ino),
            (NodeKind::Dir, made.ino)
        );
        m.replays().end();
        assert_eq!(all(&m), [true; 9]);
        assert_eq!(m.live().now().store().change_count(), before);
        assert!(m.lookup(&command, ROOT, b"gone")?.0.is_err());
        // Another process is not affected.
        m.unlink(&command, ROOT, b"file")?;
        m.shutdown();
        Ok(())
    }
}
