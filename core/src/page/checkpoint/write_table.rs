//! Writing the durable page table of a checkpoint: the old tree with the epoch's changes, in new pages.
//! `format::page_table` states the format and its invariants.

use crate::error::{Error, Result};
use crate::ids::{PAGE_SIZE, PhysicalPage};
use crate::page::format::page_table::{Change, Entry, FANOUT, MAX_HEIGHT, covers, key};
use crate::page::pager::Pager;
use crate::page::shared::regions::free_pages::{NODE_NEW, NODE_OLD};
use crate::raw::failpoint::fail_point;
use xxhash_rust::xxh3::xxh3_64;

impl Pager {
    /// Write the tree of the ended epoch: the old tree with these changes, in new pages. Called by the checkpointer,
    /// outside sections. `height` covers every changed page.
    pub(crate) fn write_tree(&self, epoch: u32, changes: &[Change], logical: u64) -> Result<(Entry, u32)> {
        let (mut root, mut height) = self.root();
        if height > MAX_HEIGHT {
            return Err(Error::Corrupt {
                what: "the page table is too high (levels)",
                at: u64::from(height),
            });
        }
        while covers(height) < logical {
            if height > 0 && root.physical != 0 {
                let mut page = [0u8; PAGE_SIZE];
                root.write(&mut page, 0);
                root = self.write_node(epoch, &page)?;
            }
            height += 1;
        }
        if changes.is_empty() {
            return Ok((root, height));
        }
        let root = self.write_subtree(epoch, root, height, 0, changes)?;
        Ok((root, height))
    }

    /// Depth is bounded by `MAX_HEIGHT`.
    fn write_subtree(
        &self,
        epoch: u32,
        old: Entry,
        level: u32,
        base: u64,
        changes: &[Change],
    ) -> Result<Entry> {
        let mut page = [0u8; PAGE_SIZE];
        if old.physical != 0 {
            page.copy_from_slice(self.verified(
                old,
                "a page of the page table does not match its checksum (file offset)",
            )?);
        }
        let span = FANOUT.pow(level - 1);
        let mut rest = changes;
        while let Some((first, _)) = rest.first() {
            let i = (first - base) / span;
            let end = base + (i + 1) * span;
            let (here, later) = rest.split_at(rest.partition_point(|(p, _)| *p < end));
            let entry = if level == 1 {
                here[here.len() - 1].1
            } else {
                self.write_subtree(
                    epoch,
                    Entry::read(&page, i as usize),
                    level - 1,
                    base + i * span,
                    here,
                )?
            };
            entry.write(&mut page, i as usize);
            rest = later;
        }
        let replaced = (old.physical != 0).then(|| (key(base + FANOUT.pow(level) - 1, level), old.live()));
        self.put_node(epoch, &page, replaced)
    }

    /// Write a page of the tree (or of the snapshot catalogue) to a new physical page.
    pub(crate) fn write_node(&self, epoch: u32, page: &[u8; PAGE_SIZE]) -> Result<Entry> {
        self.put_node(epoch, page, None)
    }

    /// As `write_node`, and record the page that it replaces: its place in the tree, and its entry.
    fn put_node(&self, epoch: u32, page: &[u8; PAGE_SIZE], replaced: Option<(u64, u64)>) -> Result<Entry> {
        let list = epoch as usize % 3;
        let physical = self.step(|pager, _| {
            if let Some((place, old)) = replaced {
                pager.shm().list_push(list, [NODE_OLD, place, old])?;
            }
            let physical = pager.alloc_reserved()?;
            pager.intend_node(physical, list)?;
            fail_point!("checkpoint.node");
            // SAFETY: the page was just allocated and nothing reaches it until the meta page is written. It is filled
            // inside the step, because outside it another owner may have freed the page.
            unsafe { pager.map().page_mut(physical) }?.copy_from_slice(page);
            Ok(physical)
        })?;
        Ok(Entry {
            physical: physical.0,
            birth: epoch,
            sum: xxh3_64(page),
        })
    }

    /// Free the pages of a dead checkpointer's unfinished tree. Called under the latch.
    pub(crate) fn forget_nodes(&self, epoch: u32) {
        let list = epoch as usize % 3;
        let keep = self.shm().next_checkpoint().dirty();
        let mut len = self.shm().list_len(list);
        while len > keep {
            let [lp, new, _] = self.shm().list_entry(list, len - 1);
            len -= 1;
            self.give_back_node(
                len,
                PhysicalPage(if lp == NODE_NEW { new as u32 } else { 0 }),
                list,
            );
        }
    }
}
