//! Periodic maintenance of the mounted filesystem, and its end.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::FsResult;
use crate::fs::known::inodes::Place;
use crate::fs::tree::attributes::Attr;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::Found;
use persist_core::store::ObjectId;

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

    /// Maintenance, every few seconds: finish symlinks whose target Python created, and drop unused list names.
    pub(crate) fn tidy(&self) {
        self.finish_links(
            &Ctx {
                tid: 0,
                may_wait: false,
            },
            None,
        );
        let held: Vec<ObjectId> = lock(&self.sides)
            .all()
            .filter(|s| s.serial.is_some())
            .map(|s| s.parent.id)
            .collect();
        let mut dropped = Vec::new();
        {
            let nodes = lock(&self.inodes);
            let with_items = nodes.lists_with_items();
            drop(nodes);
            lock(&self.lists).tidy(|id| held.contains(&id) || with_items.contains(&id), &mut dropped);
        }
        for list in dropped {
            lock(&self.metadata).forget_items(list);
        }
    }

    /// End the mount: store what open files hold, append waiting items to their lists, give back pins and locks, and
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
        self.finish_links(&ctx, None);
        self.finish_remaining(&ctx);
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
