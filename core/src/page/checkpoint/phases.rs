//! Checkpoints: making a state of the whole store durable, without stopping writers.
//!
//! | PHASE | STATE | IF ITS OWNER DIES |
//! | --- | --- | --- |
//! | `IDLE` | no checkpoint in progress | |
//! | `BUILDING` | the epoch was ended (`flip`), its tree is being written and flushed | the tree is discarded and built again from the same list |
//! | `WRITING` | the meta page's image is in the sidecar; it is being written | written again, the same bytes |
//! | `WRITTEN` | it is being flushed | flushed again |
//! | `SWITCHING` | durable; the sidecar's words about the last checkpoint are being replaced | replaced by recovery, before any process reads them |
//! | `FREEING` | durable; pages that neither meta page reaches are being freed | continues from where it stopped |
//!
//! 1. The flip happens under the latch and outside transactions, so the ended epoch contains no incomplete change. From
//!    then on its pages are frozen: writers copy them.
//! 2. The meta page is written only after a successful flush of everything it reaches (I4), and the pages of the
//!    checkpoint before the previous one are freed only after the new meta page is durable. So both meta pages describe
//!    complete states at any time (I1). `owner` states which process runs the phases, and what a stopped one may do
//!    when it continues; `helper` states when checkpoints are made.
//! 3. A flush that reports an error is final: the store is poisoned for writing.
//! 4. A page is freed only if no snapshot holds it, whether kept, or dropped and not yet freed (`dropped`), and no view
//!    of a moment (`kept`). The catalogue of snapshots changes only with a checkpoint (`snapshot`).

use crate::error::{Error, Result, refused};
use crate::ids::{PAGE_SIZE, PhysicalPage};
use crate::page::checkpoint::snapshot::Request;
use crate::page::format::meta::{FOR_SNAPSHOTS, LAST_CHECKPOINT, Meta, Origin, VERSION};
use crate::page::format::page_table::{Change, Entry, Tree, key};
use crate::page::pager::Pager;
use crate::page::shared::header::next_checkpoint::{BUILDING, FREEING, IDLE, SWITCHING, WRITING, WRITTEN};
use crate::page::shared::layout;
use crate::page::shared::regions::free_pages::{LIST_MAX, NODE_NEW, NODE_OLD};
use crate::page::sync::wait::Wait;
use crate::raw::failpoint::fail_point;
use crate::raw::files::file;
use xxhash_rust::xxh3::xxh3_64;

/// Number of pages freed in one write section. Small in tests, so that they reach the steps in between.
pub(crate) const BATCH: u64 = if cfg!(feature = "testing") { 16 } else { 4096 };

/// Number of changed pages from which on they are written out before the flush, and number of pages in a piece (8 MiB).
const WRITE_OUT: u64 = 1024;
const PIECE: u64 = 2048;

impl Pager {
    /// Make a checkpoint even if nothing has changed, so that pages of older ones become free.
    pub fn checkpoint_always(&self) -> Result<()> {
        self.dirty_epoch()?;
        self.checkpoint(&mut Wait::default())
    }

    /// Mark the epoch as changed even if nothing has changed in it.
    pub(crate) fn dirty_epoch(&self) -> Result<()> {
        self.latched(|pager, slot| {
            let _gate = pager.keep_readers_out(slot)?;
            // Touching the superblock is enough.
            pager.touch_superblock()
        })
    }

    /// Make everything completed so far durable. Called outside sections and transactions.
    pub fn checkpoint(&self, wait: &mut Wait<'_>) -> Result<()> {
        self.checkpoint_when(wait, || true)
    }

    /// As `checkpoint`, if it is still `due` when the checkpoints in progress have ended.
    pub(crate) fn checkpoint_when(&self, wait: &mut Wait<'_>, due: impl FnOnce() -> bool) -> Result<()> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        if self.depth() > 0 {
            return Err(Error::invalid("sync inside a transaction: commit it first"));
        }
        let slot = self.slot()?;
        self.whole()?;
        // These dead processes might never be found otherwise, and their pins keep memory.
        self.recover_dead_processes(None)?;
        if self.shm().ended_threads() != 0 {
            self.latched(|pager, _| pager.release_ended_threads())?;
        }
        let mut due = Some(due);
        loop {
            self.take_checkpoint(slot, false, wait)?;
            fail_point!("checkpoint.taken");
            let done = self.run_checkpoint(|| due.take().is_none_or(|due| due()));
            let lost = !self.shm().owns_checkpoint(slot);
            self.shm().leave_checkpoint(slot);
            if lost {
                self.check_open()?;
            }
            // Another process took it over while this one was stopped, so its changes may not be durable yet.
            if !lost || done.is_ok() || self.is_closed() {
                return done;
            }
        }
    }

    /// Run `f` while no checkpoint is in progress, and none begins before it ends.
    pub(crate) fn with_checkpoint<R>(&self, f: impl FnOnce(&Pager) -> Result<R>) -> Result<R> {
        self.with_checkpoint_within(&mut Wait::default(), f)
    }

    /// As `with_checkpoint`, with a bounded wait.
    pub(crate) fn with_checkpoint_within<R>(
        &self,
        wait: &mut Wait<'_>,
        f: impl FnOnce(&Pager) -> Result<R>,
    ) -> Result<R> {
        let slot = self.slot()?;
        self.take_checkpoint(slot, true, wait)?;
        let done = self.resume_for_dead_owner().and_then(|()| f(self));
        if !self.shm().owns_checkpoint(slot) {
            self.check_open()?;
        }
        self.shm().leave_checkpoint(slot);
        done
    }

    /// End the epoch, if anything changed in it, and make it durable. Called by the checkpoint's owner.
    pub(crate) fn flip_and_finish(&self) -> Result<()> {
        if self.flip(&Request::Nothing)? {
            self.resume_checkpoint()?;
        }
        Ok(())
    }

    fn run_checkpoint(&self, due: impl FnOnce() -> bool) -> Result<()> {
        // First complete the checkpoint of a dead owner. Then make a new one, if anything has changed since.
        self.resume_for_dead_owner()?;
        if due() && self.flip(&Request::Nothing)? {
            return self.resume_checkpoint();
        }
        if self.shm().last_checkpoint().is_unflushed() && self.must_flush() {
            // Nothing has changed since a checkpoint that was not flushed.
            self.flush_or_poison()?;
            self.step(|pager, _| {
                pager.shm().last_checkpoint().set_unflushed(false);
                Ok(())
            })?;
        }
        self.free_kept(&self.holders())?;
        self.free_some_dropped().map(|_| ())
    }

    /// Complete the checkpoint of a dead owner. Its change to the catalogue is dropped, unless the meta page that
    /// contains it may already be written.
    fn resume_for_dead_owner(&self) -> Result<()> {
        if self.shm().next_checkpoint().phase() == BUILDING {
            self.step(|pager, _| {
                pager.forget_request();
                Ok(())
            })?;
        }
        self.resume_checkpoint()
    }

    pub(crate) fn resume_checkpoint(&self) -> Result<()> {
        loop {
            match self.shm().next_checkpoint().phase() {
                IDLE => return Ok(()),
                _ if self.shm().is_poisoned() => return Err(self.poisoned()),
                BUILDING => self.build()?,
                WRITING => self.write_meta()?,
                WRITTEN => self.flush_meta()?,
                SWITCHING => self.gated_step(|pager| {
                    pager.finish_switch();
                    Ok(())
                })?,
                FREEING => self.free_old()?,
                other => {
                    return Err(Error::Corrupt {
                        what: "the checkpoint's phase in the sidecar",
                        at: other,
                    });
                }
            }
        }
    }

    /// End the epoch. Return false if nothing has changed in it.
    pub(crate) fn flip(&self, request: &Request<'_>) -> Result<bool> {
        self.step(|pager, _| {
            if pager.shm().is_poisoned() {
                return Err(pager.poisoned());
            }
            if !pager.shm().is_intact() {
                return Err(pager.replaced());
            }
            let epoch = pager.shm().live().epoch();
            let list = epoch as usize % 3;
            if pager.shm().list_len(list) == 0 {
                return Ok(false);
            }
            let last = match request {
                Request::Nothing => LAST_CHECKPOINT - FOR_SNAPSHOTS,
                _ => LAST_CHECKPOINT,
            };
            if epoch > last {
                return Err(refused(
                    pager.path(),
                    "it has had two thousand million checkpoints, and there are no more numbers for them; make a \
                     backup and restore that: its numbers start again at 1",
                ));
            }
            let (live, next) = (pager.shm().live(), pager.shm().next_checkpoint());
            next.flip(epoch, live.logical(), live.next_id(), pager.shm().list_len(list));
            pager.note_request(request)?;
            pager.shm().flip_log();
            next.set_phase(BUILDING);
            fail_point!("checkpoint.flip");
            pager.shm().finish_log_flip();
            live.set_epoch(epoch + 1);
            Ok(true)
        })
    }

    /// Complete a flip whose owner died in it. Called under the latch, in recovery.
    pub(crate) fn finish_flip(&self) {
        let epoch = self.shm().live().epoch();
        if self.shm().next_checkpoint().phase() == BUILDING && self.shm().next_checkpoint().epoch() == epoch {
            self.shm().finish_log_flip();
            self.shm().live().set_epoch(epoch + 1);
        }
    }

    fn build(&self) -> Result<()> {
        let epoch = self.shm().next_checkpoint().epoch();
        let list = epoch as usize % 3;
        let logical = self.shm().next_checkpoint().logical();
        self.step(|pager, _| {
            pager.finish_flip();
            pager.forget_nodes(epoch as u32);
            Ok(())
        })?;
        let dirty = self.shm().next_checkpoint().dirty();
        let mut changes: Vec<Change> = Vec::with_capacity(dirty as usize);
        for i in 0..dirty {
            if i % 1024 == 0 {
                self.shm().count_checkpoint_step();
            }
            let [page, new, _] = self.shm().list_entry(list, i);
            if page >= logical {
                return Err(Error::Corrupt {
                    what: "the dirty list in the sidecar (page)",
                    at: page,
                });
            }
            let physical = PhysicalPage(new as u32);
            if physical.0 == 0 {
                changes.push((page, Entry::default()));
                continue;
            }
            // SAFETY: the page belongs to an ended epoch (I1): writers copy it, and no thread writes it.
            let sum = xxh3_64(unsafe { self.map().page(physical) }?);
            changes.push((
                page,
                Entry {
                    physical: physical.0,
                    birth: (new >> 32) as u32,
                    sum,
                },
            ));
        }
        fail_point!("checkpoint.summed");
        // A stable sort: a page that was released and then used again occurs twice, and the later entry counts.
        changes.sort_by_key(|c| c.0);
        let (root, height) = self.write_tree(epoch as u32, &changes, logical)?;
        let tree = Tree { root, height };
        let catalogue = self.build_catalogue(epoch, tree, logical)?;
        if self.must_flush() {
            self.write_out(epoch)?;
            self.flush_or_poison()?;
        }
        fail_point!("checkpoint.flushed");
        let meta = Meta {
            uuid: self.shm().uuid(),
            checkpoint: epoch,
            root: root.physical,
            height,
            root_sum: root.sum,
            file_pages: self.shm().space().file_pages(),
            logical,
            next_id: self.shm().next_checkpoint().next_id(),
            seed: self.seed(),
            catalogue,
            log: self.shm().flipped_log(),
            origin: Origin::default(),
        };
        let page = meta.encode();
        self.step(|pager, _| {
            let next = pager.shm().next_checkpoint();
            next.set_image(&page);
            next.set_built(tree.words(), catalogue.words());
            pager.whole()?;
            pager.shm().last_checkpoint().note_as_old();
            fail_point!("checkpoint.built");
            // From here on the checkpoint can only be completed.
            next.set_phase(WRITING);
            Ok(())
        })
    }

    /// Write the meta page. No process takes over from its writer (`owner`, invariant 3).
    fn write_meta(&self) -> Result<()> {
        fail_point!("checkpoint.writing");
        let (epoch, page) = self.step(|pager, _| {
            let next = pager.shm().next_checkpoint();
            let (epoch, page) = (next.epoch(), next.image());
            pager.whole()?;
            if pager.shm().next_checkpoint().phase() != WRITING
                || !Meta::decode(&page).is_ok_and(|m| m.checkpoint == epoch)
            {
                return Err(Error::Corrupt {
                    what: "the image of the meta page in the sidecar (checkpoint)",
                    at: epoch,
                });
            }
            Ok((epoch, page))
        })?;
        file::write_meta(self.file(), &page, (epoch % 2) * PAGE_SIZE as u64).map_err(|e| {
            if e.raw_os_error() == Some(libc::EIO) {
                return self.poison("cannot write the meta page", e);
            }
            // Nothing was lost, and the write can be retried.
            match file::no_space("the store file", e) {
                Error::Io { source, .. } => Error::io("cannot write the meta page of the store", source),
                full => full,
            }
        })?;
        fail_point!("checkpoint.written");
        self.step(|pager, _| {
            pager.shm().last_checkpoint().set_unflushed(true);
            pager.shm().next_checkpoint().set_phase(WRITTEN);
            Ok(())
        })
    }

    /// Flush the meta page and make its checkpoint the last one.
    fn flush_meta(&self) -> Result<()> {
        let flushed = self.must_flush();
        if flushed {
            self.flush_or_poison()?;
        }
        fail_point!("checkpoint.meta");
        self.gated_step(|pager| {
            if flushed {
                pager.shm().last_checkpoint().set_unflushed(false);
            }
            pager.shm().next_checkpoint().set_phase(SWITCHING);
            pager.finish_switch();
            Ok(())
        })
    }

    /// Make the checkpoint that has just become durable the one that the page table is read from. Called under the
    /// latch with the gate raised, because readers take root and checksum as a pair; also in recovery.
    pub(crate) fn finish_switch(&self) {
        if self.shm().next_checkpoint().phase() != SWITCHING {
            return;
        }
        let (last, next) = (self.shm().last_checkpoint(), self.shm().next_checkpoint());
        last.switch_root(next.root());
        last.set_meta_sum(next.image_sum());
        self.switch_catalogue();
        last.set_number(next.epoch());
        self.shm().switch_log();
        next.set_phase(FREEING);
    }

    /// Free the pages that only the checkpoint before the previous one reached: those replaced in the epoch before the
    /// one that has just become durable.
    fn free_old(&self) -> Result<()> {
        let epoch = self.shm().next_checkpoint().epoch();
        let old = (epoch as usize + 2) % 3;
        let holders = self.holders();
        loop {
            let more = self.gated_step(|pager| {
                let len = pager.shm().list_len(old);
                let from = pager.shm().next_checkpoint().freed();
                let to = len.min(from + BATCH);
                let mut views = pager.shm().views();
                for i in from..to {
                    let [page, new, before] = pager.shm().list_entry(old, i);
                    let place = if page == NODE_OLD { new } else { key(page, 0) };
                    let none = page == NODE_NEW || before as u32 == 0;
                    let is_data = !none && page != NODE_OLD;
                    let viewed = is_data && pager.keep_for_views(&mut views, [page, before], epoch - 1, i);
                    if !none && !viewed && !holders.hold(before >> 32, epoch - 1, place) {
                        pager.give_back_old(i, PhysicalPage(before as u32), old);
                        continue;
                    }
                    // A rebuild of the free map does not walk snapshots that were taken since it began. It learns
                    // their pages here, when they are replaced (`free_map`, 3).
                    let below = pager.shm().space().unknown_below();
                    if !none && u64::from(before as u32) < below {
                        pager.shm().mark_used(u64::from(before as u32), true);
                    }
                    pager.shm().next_checkpoint().set_freed(i + 1);
                }
                if to == len {
                    pager.shm().set_list_len(old, 0);
                    pager.shm().next_checkpoint().set_freed(0);
                }
                Ok(to < len)
            })?;
            if !more {
                break;
            }
        }
        fail_point!("checkpoint.freed");
        self.free_kept(&holders)?;
        self.rebuild_some()?;
        self.free_some_dropped()?;
        self.step(|pager, _| {
            pager.shm().next_checkpoint().set_phase(IDLE);
            Ok(())
        })
    }

    /// Write the pages of an epoch out piece by piece, so that the following flush is short and waiters see steps. The
    /// flush also writes what writers change in the meantime. The kernel completes many writes at once in an interrupt
    /// of a writer's processor, which then stands still for 30 ms: so the pages of the next epoch are written out too.
    fn write_out(&self, epoch: u64) -> Result<()> {
        for list in [epoch, epoch + 1].map(|epoch| epoch as usize % 3) {
            let len = self.shm().list_len(list).min(LIST_MAX as u64);
            if len < WRITE_OUT {
                break;
            }
            // Writers may push at the same time. Whatever is read, the flush follows.
            let pieces = self
                .shm()
                .space()
                .file_pages()
                .min(layout::MAX_PAGES)
                .div_ceil(PIECE);
            let mut changed = vec![false; pieces as usize];
            for i in 0..len {
                let [page, new, _] = self.shm().list_entry(list, i);
                let piece = (new & u64::from(u32::MAX)) / PIECE;
                if page != NODE_OLD && new as u32 != 0 && piece < pieces {
                    changed[piece as usize] = true;
                }
                if i % 1024 == 0 {
                    self.shm().count_checkpoint_step();
                }
            }
            for piece in (0..pieces).filter(|piece| changed[*piece as usize]) {
                let at = piece * PIECE * PAGE_SIZE as u64;
                file::write_out(self.file(), at, PIECE * PAGE_SIZE as u64)
                    .map_err(|e| self.poison("cannot flush the store file", e))?;
                self.shm().count_checkpoint_step();
            }
        }
        Ok(())
    }

    fn flush_or_poison(&self) -> Result<()> {
        file::flush(self.file()).map_err(|e| self.poison("cannot flush the store file", e))
    }
}

/// The lists distinguish pages of the tree from data pages by numbers that no logical page has.
const _: () = assert!(NODE_OLD > layout::MAX_PAGES && NODE_NEW > layout::MAX_PAGES && VERSION == 5);
