//! Periodic maintenance of the mounted filesystem, and its end.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult};
use crate::fs::known::inodes::Place;
use crate::fs::tree::attributes::Attr;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::Found;
use persist_core::Error;

impl Fs {
    /// The root, for a lookup under any name.
    pub(crate) fn enter_root(&self, ctx: &Ctx) -> FsResult<Attr> {
        let attr = self.read(ctx, |r| self.dir_attr(r, self.root))?;
        Ok(self.enter(Found {
            place: Place::Dir(self.root),
            attr,
            pinned: None,
        }))
    }

    /// Maintenance, every few seconds: let waiting items join their lists.
    pub(crate) fn tidy(&self) {
        // The end of another mount of the store has ended the log.
        self.keep_log(false);
        let waiting = lock(&self.lists).waiting();
        for list in waiting {
            // Python may have appended the items that they waited for.
            self.join(
                &Ctx {
                    tid: 0,
                    may_wait: false,
                },
                list,
            );
        }
    }

    /// Log which items other doors insert into lists and remove (`list_names`), if this mount may change the store.
    /// Without the log, names are dealt again after every change of a list's content.
    pub(crate) fn keep_log(&self, may_wait: bool) {
        let ctx = Ctx { tid: 0, may_wait };
        if !matches!(self.read(&ctx, |r| Ok(r.logs_splices()?)), Ok(false)) {
            return;
        }
        match self.write(&ctx, |w, _| Ok(w.log_splices(true)?)) {
            Ok(()) | Err(FsError::Blocked | FsError::Store(Error::ReadOnly)) => {}
            Err(e) => log::debug!("beginning the log of list items: errno {}", e.errno()),
        }
    }

    /// End the log, which costs each change of a list a little. Another mount of the store begins it again.
    fn stop_log(&self, ctx: &Ctx) {
        match self.write(ctx, |w, _| Ok(w.log_splices(false)?)) {
            Ok(()) | Err(FsError::Store(Error::ReadOnly)) => {}
            Err(e) => log::warn!("ending the log of list items: errno {}", e.errno()),
        }
    }

    /// End the mount: store what open files hold, give back pins and locks, and
    /// close the store.
    pub(crate) fn shutdown(&self) {
        let ctx = Ctx {
            tid: 0,
            may_wait: true,
        };
        for handle in self.open_files.drain() {
            if let Err(e) = self.commit_handle(&ctx, &handle) {
                log::error!("a file still open was not stored: errno {}", e.errno());
            }
        }
        self.store_times(&ctx);
        self.stop_log(&ctx);
        self.locks.release_all(&self.store);
        let pins = lock(&self.inodes).drain();
        for obj in pins {
            self.store.unpin(obj);
        }
        if let Err(e) = self.store.close() {
            log::error!("closing the store: {e}");
        }
    }
}
