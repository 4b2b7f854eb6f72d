//! The durable page table: a radix tree of copy-on-write pages, 256 entries each.
//!
//! An entry, 16 bytes; in inner pages it describes the child page, in leaves a data page:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 4 | physical page (0: nothing) |
//! | 4 | 4 | birth epoch: the epoch in which that physical page was first written |
//! | 8 | 8 | xxh3 of the page |
//!
//! 1. A page of the tree is written once, by the checkpointer, before anything reaches it.
//! 2. Every page read from the tree is checked against the checksum its parent (or the meta page)
//!    holds, and every number in it against the file's size, before it is used.

use super::Pager;
use super::phys::{ABSENT, NODE_NEW, NODE_OLD};
use super::shm::at;
use crate::error::{Error, Result};
use crate::ids::{ObjectId, PAGE_SIZE, PhysNo};
use crate::raw::failpoint::fail_point;
use xxhash_rust::xxh3::xxh3_64;

/// Entries in a page of the tree.
pub(crate) const FANOUT: u64 = 256;
/// Most levels: 256^4 pages are 16 TiB.
pub(crate) const MAX_HEIGHT: u32 = 4;

/// A page and its checksum, as an entry names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) phys: u32,
    pub(crate) birth: u32,
    pub(crate) sum: u64,
}

impl Entry {
    pub(crate) fn read(page: &[u8; PAGE_SIZE], i: usize) -> Entry {
        let b = &page[i * 16..i * 16 + 16];
        let word = |at: usize| {
            let mut w = [0; 8];
            w.copy_from_slice(&b[at..at + 8]);
            u64::from_le_bytes(w)
        };
        Entry {
            phys: word(0) as u32,
            birth: (word(0) >> 32) as u32,
            sum: word(8),
        }
    }

    pub(crate) fn write(self, page: &mut [u8; PAGE_SIZE], i: usize) {
        page[i * 16..i * 16 + 8].copy_from_slice(&self.live().to_le_bytes());
        page[i * 16 + 8..i * 16 + 16].copy_from_slice(&self.sum.to_le_bytes());
    }

    /// Whether it is this page's entry.
    pub(crate) fn fits(self, page: &[u8; PAGE_SIZE]) -> bool {
        xxh3_64(page) == self.sum
    }

    /// The live table's form.
    pub(crate) fn live(self) -> u64 {
        u64::from(self.phys) | u64::from(self.birth) << 32
    }
}

/// A page table: its root, and its levels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) root: Entry,
    pub(crate) height: u32,
}

/// Where a page stands in the order in which a walk leaves a tree: after all that lies below it. `last`
/// is the last logical page it covers, `level` 0 for a data page.
pub(crate) fn key(last: u64, level: u32) -> u64 {
    last << 3 | u64::from(level)
}

/// Logical pages that a tree of this height covers.
pub(crate) fn covers(height: u32) -> u64 {
    if height == 0 {
        0
    } else {
        FANOUT.pow(height.min(MAX_HEIGHT))
    }
}

/// What a checkpoint changes: logical page and new entry, sorted by page.
pub(crate) type Change = (u64, Entry);

impl Pager {
    /// A page of the durable tree, or a data page of the last checkpoint, verified.
    pub(crate) fn verified(&self, entry: Entry, what: &'static str) -> Result<&[u8; PAGE_SIZE]> {
        let at = u64::from(entry.phys) * PAGE_SIZE as u64;
        if entry.phys < 2 || u64::from(entry.phys) >= self.shm.get(at::FILE_PAGES) {
            return Err(Error::Corrupt {
                what: "a page number beyond the file (offset)",
                at,
            });
        }
        // SAFETY: pages of a checkpoint are never written while it can be reached (I1), and the
        // caller is in a section or runs the checkpoint, so it stays reachable meanwhile.
        let page = unsafe { self.map.page(PhysNo(entry.phys)) }?;
        if entry.fits(page) {
            return Ok(page);
        }
        let Some(follow) = self.following() else {
            return Err(Error::Corrupt { what, at });
        };
        self.keep_copy(follow, entry, what)?;
        // SAFETY: as above: the copy is complete, and it is not made again while it fits.
        unsafe { self.map.page(PhysNo(entry.phys)) }
    }

    /// The durable root and the height of its tree. Every checkpoint writes the root anew.
    pub(crate) fn root(&self) -> (Entry, u32) {
        let word = self.shm.get(at::ROOT);
        (
            Entry {
                phys: word as u32,
                birth: self.shm.get(at::DURABLE) as u32,
                sum: self.shm.get(at::ROOT_SUM),
            },
            (word >> 32) as u32,
        )
    }

    /// What the durable tree says of a logical page.
    pub(crate) fn look_up(&self, page: u64) -> Result<Option<Entry>> {
        let (mut entry, mut height) = self.root();
        if height > MAX_HEIGHT {
            return Err(Error::Corrupt {
                what: "the page table is too high (levels)",
                at: u64::from(height),
            });
        }
        if page >= covers(height) {
            return Ok(None);
        }
        while height > 0 && entry.phys != 0 {
            height -= 1;
            let node = self.verified(
                entry,
                "a page of the page table does not match its checksum (file offset)",
            )?;
            entry = Entry::read(node, (page >> (8 * height) & 0xff) as usize);
        }
        // A later birth would pass for a page of the current epoch, which may be written.
        if u64::from(entry.birth) > self.shm.get(at::DURABLE) {
            return Err(Error::Corrupt {
                what: "a page that is younger than its checkpoint (file offset)",
                at: u64::from(entry.phys) * PAGE_SIZE as u64,
            });
        }
        Ok((entry.phys != 0).then_some(entry))
    }

    /// Fills the live table's entry of a page from the durable tree. Inside a section; `holds` says whether what it
    /// has loaded so far belongs together.
    ///
    /// The question is asked before the entry is stored, and what was right then stays right: an entry of 0 belongs
    /// to a page that was not changed since the sidecar was made, so that every checkpoint since has it in one place.
    #[cold]
    pub(crate) fn fill(&self, page: u64, holds: impl FnOnce() -> bool) -> Result<u64> {
        use std::sync::atomic::Ordering;
        let word = match self.look_up(page)? {
            Some(e) => {
                self.verified(e, "a page does not match its checksum (file offset)")?;
                e.live()
            }
            None => ABSENT,
        };
        if !holds() {
            return Err(Error::Busy(ObjectId(0)));
        }
        let slot = self.shm.entry(page);
        // Another reader may have filled it, or a writer changed it since: then theirs stands.
        match slot.compare_exchange(0, word, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(word),
            Err(theirs) => Ok(theirs),
        }
    }

    /// Writes the tree of the ended epoch: the old tree with these changes, in new pages.
    /// Runs as the checkpointer, outside sections. `height` covers every changed page.
    pub(crate) fn write_tree(&self, epoch: u32, changes: &[Change], logical: u64) -> Result<(Entry, u32)> {
        let (mut root, mut height) = self.root();
        if height > MAX_HEIGHT {
            return Err(Error::Corrupt {
                what: "the page table is too high (levels)",
                at: u64::from(height),
            });
        }
        while covers(height) < logical {
            if height > 0 && root.phys != 0 {
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
        if old.phys != 0 {
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
        let replaced = (old.phys != 0).then(|| (key(base + FANOUT.pow(level) - 1, level), old.live()));
        self.put_node(epoch, &page, replaced)
    }

    /// Writes a page of the tree (or of the snapshot catalogue) to a new physical page.
    pub(crate) fn write_node(&self, epoch: u32, page: &[u8; PAGE_SIZE]) -> Result<Entry> {
        self.put_node(epoch, page, None)
    }

    /// As `write_node`, and notes the page that it replaces: its place in the tree, and its entry.
    fn put_node(&self, epoch: u32, page: &[u8; PAGE_SIZE], replaced: Option<(u64, u64)>) -> Result<Entry> {
        let list = epoch as usize % 3;
        let phys = self.step(|pager, _| {
            if let Some((place, old)) = replaced {
                pager.shm.list_push(list, [NODE_OLD, place, old])?;
            }
            let phys = pager.alloc_reserved()?;
            pager.intend_node(phys, list)?;
            fail_point!("checkpoint.node");
            // SAFETY: the page was just allocated and nothing reaches it until the meta page is written. Filled here:
            // outside the step another owner may have given it back.
            unsafe { pager.map.page_mut(phys) }?.copy_from_slice(page);
            Ok(phys)
        })?;
        Ok(Entry {
            phys: phys.0,
            birth: epoch,
            sum: xxh3_64(page),
        })
    }

    /// Gives back the pages of an unfinished tree of a dead checkpointer. Under the latch.
    pub(crate) fn forget_nodes(&self, epoch: u32) {
        let list = epoch as usize % 3;
        let keep = self.shm.get(at::CK_DIRTY);
        let mut len = self.shm.list_len(list);
        while len > keep {
            let [lp, new, _] = self.shm.list_entry(list, len - 1);
            len -= 1;
            self.give_back_node(len, PhysNo(if lp == NODE_NEW { new as u32 } else { 0 }), list);
        }
    }
}
