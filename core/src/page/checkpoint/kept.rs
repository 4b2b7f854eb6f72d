//! Pages kept for views of a moment (`section::moment`), and freeing them when the views have ended.
//!
//! 1. A checkpoint frees the pages that an older one has replaced (`phases`). One that a view may reach is kept
//!    instead, with its place in the dirty list: the list is emptied, and the view still needs to know the page.
//!    Whether a snapshot holds the page too is asked again when no view needs it.
//! 2. A view ends when its holder ends it, closes the store or dies, in any process. A stopped holder is waited for by
//!    no process. Its pages take space, which is bounded: when the ring is full, or the disk, all views are ended, and
//!    their readers get an error (`Error::ViewEnded`).
//! 3. Pages of dropped snapshots are freed only while no view is alive and nothing is kept (`dropped`), because a page
//!    may be held by both.
//! 4. The steps can be killed and repeated: what was kept by a step that was killed is not kept again
//!    (`Shm::is_kept_last`), and a page is freed by an intent (`cow::give_back_kept`).

use crate::error::Result;
use crate::ids::PhysicalPage;
use crate::page::checkpoint::dropped::Holders;
use crate::page::checkpoint::phases::BATCH;
use crate::page::format::page_table::key;
use crate::page::pager::Pager;
use crate::page::shared::regions::views::{Kept, Views};
use crate::raw::failpoint::fail_point;

impl Pager {
    /// Keep an old page, `[logical page, old entry]`, if any view may reach it. Return false if none does, also because
    /// there is no room to keep it: then all views have ended. Called by the checkpointer under the latch.
    pub(in crate::page) fn keep_for_views(
        &self,
        views: &mut Views,
        page: [u64; 2],
        epoch: u64,
        i: u64,
    ) -> bool {
        let [page, old] = page;
        if self.shm().is_kept_last(epoch, i) {
            return true;
        }
        if !views.hold(old, epoch, i) {
            return false;
        }
        match self.shm().keep(Kept { page, old, epoch, i }) {
            Ok(()) => {
                fail_point!("view.kept");
                true
            }
            Err(e) => {
                log::warn!("{}: the views of a moment are ended: {e}", self.path().display());
                self.shm().expel_views();
                *views = Views::default();
                false
            }
        }
    }

    /// Free the kept pages that no view needs any more, in steps. Called by the checkpointer.
    pub(crate) fn free_kept(&self, holders: &Holders) -> Result<()> {
        let Some(ended) = self.shm().kept_is_due() else {
            return Ok(());
        };
        let range = self.shm().kept_range();
        let mut next = range.start;
        while next < range.end {
            let from = next;
            next = range.end.min(from + BATCH);
            self.gated_step(|pager| {
                let views = pager.shm().views();
                for number in from..next {
                    let Some(kept) = pager.shm().kept(number) else {
                        continue;
                    };
                    if views.hold(kept.old, kept.epoch, kept.i) {
                        continue;
                    }
                    if holders.hold(kept.old >> 32, kept.epoch, key(kept.page, 0)) {
                        // It is freed with the snapshot.
                        pager.shm().forget_kept(number);
                    } else {
                        pager.give_back_kept(number, PhysicalPage(kept.old as u32));
                    }
                }
                Ok(())
            })?;
        }
        self.step(|pager, _| {
            pager.shm().cut_kept();
            pager.shm().note_kept_seen(ended);
            Ok(())
        })
    }
}
