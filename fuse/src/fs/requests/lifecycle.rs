//! Periodic maintenance of the mounted filesystem, remounts, and its end.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::draft::Draft;
use crate::fs::known::inodes::Place;
use crate::fs::known::open_files::OpenFile;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::Found;
use crate::fs::tree::metadata::attributes::Attr;
use persist_core::Error;
use persist_core::store::{Options, Store, Wait};
use std::collections::HashMap;
use std::sync::Arc;

/// Objects that are pinned in one section.
const PINS: usize = 512;

impl Fs {
    /// The root, for a lookup under any name.
    pub(crate) fn enter_root(&self, ctx: &Ctx) -> FsResult<Attr> {
        let attr = self.read(ctx, |r| self.dir_attr(r, self.root))?;
        Ok(self.enter(
            ctx,
            Found {
                place: Place::Dir(self.root),
                attr,
                pinned: None,
            },
        ))
    }

    /// Maintenance, every few seconds: let waiting items join their lists.
    pub(crate) fn tidy(&self) {
        // The end of another mount of the store has ended the log.
        self.keep_log(false);
        let waiting = lock(&self.lists).waiting();
        for list in waiting {
            // Python may have appended the items that they waited for.
            self.join(&Ctx::own(false), list);
        }
    }

    /// Whether items wait for others that Python may append to their lists.
    pub(crate) fn awaits_items(&self) -> bool {
        !lock(&self.lists).waiting().is_empty()
    }

    /// Log which items other doors insert into lists and remove (`list_names`), if this mount may change the store.
    /// Without the log, names are renumbered after every change of a list's content.
    pub(crate) fn keep_log(&self, may_wait: bool) {
        let ctx = Ctx::own(may_wait);
        if !matches!(self.read(&ctx, |r| Ok(r.logs_splices()?)), Ok(false)) {
            return;
        }
        match self.write(&ctx, |w, _| Ok(w.log_splices(true)?)) {
            Ok(()) | Err(FsError::Blocked | FsError::Store(Error::ReadOnly)) => {}
            Err(e) => log::debug!(
                "beginning the log of list items: {}",
                e.message(self.store.path())
            ),
        }
    }

    /// End the log, which costs each change of a list a little. Another mount of the store begins it again.
    fn stop_log(&self, ctx: &Ctx) {
        match self.write(ctx, |w, _| Ok(w.log_splices(false)?)) {
            Ok(()) | Err(FsError::Store(Error::ReadOnly)) => {}
            Err(e) => log::warn!("ending the log of list items: {}", e.message(self.store.path())),
        }
    }

    /// Close the store and open it as `options` say, with the same names, inodes and open files. The two openings
    /// overlap, so that what is pinned stays. An error leaves the first opening in use.
    pub(crate) fn reopen(&mut self, options: &Options) -> FsResult<()> {
        let ctx = Ctx::own(true);
        // The thread that maintains the store rests in this opening.
        self.store.stir();
        if !self.locks.is_idle() {
            // They belong to the opening that would end.
            return errno(libc::EBUSY);
        }
        if options.read_only {
            // The kernel admits no writer any more. What the last ones wrote may not be stored yet.
            self.store_open_files(&ctx, &self.open_files.all());
            self.store_times(&ctx);
            self.stop_log(&ctx);
        }
        self.sync()?;
        let done = self.open_again(options);
        self.keep_log(true);
        done
    }

    fn open_again(&mut self, options: &Options) -> FsResult<()> {
        let next = Store::open(self.store.path(), options)
            .inspect_err(|e| log::error!("opening the store again: {}", e.in_store(self.store.path())))?;
        // A snapshot, or a store without permission to write, has no other opening.
        let taken = match next.is_frozen() && !options.read_only {
            true => errno(libc::EROFS),
            false => self.take_over(&next),
        };
        if let Err(e) = taken {
            let _ = next.close();
            return Err(e);
        }
        self.with_drafts(|draft| draft.move_to(&next));
        self.leases = self.leases.again(&next);
        let last = std::mem::replace(&mut self.store, next);
        if let Err(e) = last.close() {
            log::error!("closing the store: {}", e.in_store(last.path()));
        }
        Ok(())
    }

    /// Pin in the next opening of the store what is pinned in this one.
    fn take_over(&self, next: &Store) -> FsResult<()> {
        let mut pins = lock(&self.inodes).pinned();
        let mut drafts = HashMap::new();
        self.with_drafts(|draft| {
            drafts.insert(draft.dict.id, draft.dict);
        });
        pins.extend(drafts.into_values());
        for some in pins.chunks(PINS) {
            let mut wait = Wait::default();
            next.read(&mut wait, |r| {
                some.iter().try_for_each(|obj| match r.pin(*obj) {
                    Err(Error::Gone(_)) => Ok(()),
                    done => done,
                })
            })?;
        }
        Ok(())
    }

    /// Call `f` with each draft, for each open file that shares it.
    fn with_drafts(&self, mut f: impl FnMut(&mut Draft)) {
        for handle in self.open_files.all() {
            // A request that may wait gets the state in any case.
            if let Ok(mut state) = handle.state(&Ctx::own(true))
                && let Some(draft) = &mut state.draft
            {
                f(draft);
            }
        }
    }

    /// Store what open files hold, and log what cannot be stored.
    fn store_open_files(&self, ctx: &Ctx, handles: &[Arc<OpenFile>]) {
        for handle in handles {
            if let Err(e) = self.commit_handle(ctx, handle) {
                self.log_unstored(handle.ino, &e);
            }
        }
    }

    /// End the mount: store what open files hold, give back pins and locks, and
    /// close the store.
    pub(crate) fn shutdown(&self) {
        let ctx = Ctx::own(true);
        self.store_open_files(&ctx, &self.open_files.drain());
        self.store_times(&ctx);
        self.stop_log(&ctx);
        self.locks.release_all(&self.store);
        let pins = lock(&self.inodes).drain();
        for obj in pins {
            self.store.unpin(obj);
        }
        if let Err(e) = self.store.close() {
            log::error!("closing the store: {}", e.in_store(self.store.path()));
        }
    }
}
