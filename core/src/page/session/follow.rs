//! Following: reading the newest checkpoint of a store that this process may only read, beside writers.
//!
//! 1. The process locks nothing and registers nowhere. It can delay no writer, and no writer waits for it. So writers
//!    may reuse the pages of the checkpoint that it reads, two checkpoints later.
//! 2. Every page is first copied to memory of this process and compared with its checksum, from the root on. So a
//!    section sees one complete checkpoint, which does not change while the section lives. If a page does not match, it
//!    is damaged if its checkpoint's meta page is still there; otherwise the view is stale (`Error::Stale`), and the
//!    store's loop enters again.
//! 3. Entering a section (`follow`) first moves to the newest checkpoint, if there is a newer one, or if the copies
//!    have grown too large. This happens with the gate raised, so that no thread is inside. No reader is revoked,
//!    because it could write the copy of a page of the old checkpoint over one of the new. `DURABLE` is 0 during the
//!    move: a process that dies in it leaves a view that the next one renews.
//! 4. Forked children share the view and its memory with their parent, as they share a sidecar.

use crate::error::{Error, Result, refused};
use crate::ids::PAGE_SIZE;
use crate::page::format::newest::newest_meta;
use crate::page::format::page_table::Tree;
use crate::page::pager::Pager;
use crate::page::pager::copies::COPIES_OF;
use crate::page::pager::state::follow::Follow;
use crate::page::shared::layout;
use crate::page::shared::shm::Shm;
use crate::page::sync::wait::Wait;
use crate::raw::files::held;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// How often the file's name is checked, in nanoseconds.
const NAME: u64 = 100_000_000;
/// How long a meta page may be found torn, as it briefly is while it is written.
const TORN: Duration = Duration::from_secs(2);

impl Shm {
    /// Set the words of a read-only view to one checkpoint, with its numbers of logical pages and of the next id. The
    /// caller then sets the checkpoint's number.
    pub(super) fn show_checkpoint(&self, checkpoint: u64, tree: Tree, pages: u64, numbers: (u64, u64)) {
        self.last_checkpoint().set_root(tree.words());
        self.space().set_file_pages(pages);
        // Nothing is ever freed here, so the free map is not used.
        self.space().set_unknown_below(pages);
        self.live().set_logical(numbers.0);
        self.live().set_next_id(numbers.1);
        self.live().set_epoch(checkpoint + 1);
    }
}

impl Pager {
    /// Before a section: move to the newest checkpoint. Do nothing if this opening does not follow, or if its thread is
    /// in a section.
    pub(in crate::page) fn follow(&self, slot: u32) -> Result<()> {
        let Some(follow) = self.following() else {
            return Ok(());
        };
        if self.shm().is_reading(slot) {
            return Ok(());
        }
        if follow.name_is_due(NAME) {
            let found = self.store_file()?.metadata();
            if found.map_err(|e| Error::io("fstat", e))?.nlink() == 0 {
                return Err(refused(
                    self.path(),
                    "the file was removed, or another has taken its place; open that one",
                ));
            }
        }
        let current = || self.shm().last_checkpoint().number() == follow.newest() && !follow.is_full();
        if current() {
            return Ok(());
        }
        let took = self.take_latch(slot, &mut Wait::at_most(self.bound()))?;
        let done = if current() {
            Ok(())
        } else {
            self.follow_next(follow, slot)
        };
        if took {
            self.latch().release();
        }
        done
    }

    fn follow_next(&self, follow: &Follow, slot: u32) -> Result<()> {
        let _gate = self.keep_readers_out(slot)?;
        self.show_newest(follow)
    }

    /// Discard all copies, and show the newest checkpoint. No thread is in a section.
    fn show_newest(&self, follow: &Follow) -> Result<()> {
        let mut copied = follow.copied();
        let store = self.store_file()?;
        let memory = held::ours(follow.memory(), COPIES_OF)?;
        let deadline = Instant::now() + TORN.min(self.bound());
        let (meta, len) = loop {
            match newest_meta(&store, self.path()) {
                Ok((meta, _)) => {
                    let len = store.metadata().map_err(|e| Error::io("fstat", e))?.len();
                    break (meta, len);
                }
                Err(e @ Error::NotAStore { .. }) if Instant::now() >= deadline => return Err(e),
                Err(Error::NotAStore { .. }) => std::thread::sleep(Duration::from_millis(1)),
                Err(e) => return Err(e),
            }
        };
        let cannot = |e| Error::io(COPIES_OF, e);
        let pages = (len / PAGE_SIZE as u64).min(layout::MAX_PAGES);
        self.shm().last_checkpoint().set_number(0);
        memory.set_len(0).map_err(cannot)?;
        memory.set_len(pages * PAGE_SIZE as u64).map_err(cannot)?;
        self.map().reach(pages as usize * PAGE_SIZE)?;
        self.shm().clear_table(meta.logical)?;
        *copied = 0;
        follow.set_full(false);
        let numbers = (meta.logical, meta.next_id);
        self.shm()
            .show_checkpoint(meta.checkpoint, meta.tree(), pages, numbers);
        self.shm().live().restructured();
        self.shm().live().invalidate_caches();
        self.shm().last_checkpoint().set_number(meta.checkpoint);
        Ok(())
    }
}
