//! Rebuilding the free map of a new sidecar, in bounded steps, from the page tables of the checkpoint at which the
//! rebuild began and of all earlier snapshots (`REBUILD_FROM`).
//!
//! 1. Until the rebuild is done no page below `REBUILD_BELOW` is allocated. A page that a walk reaches is recorded as
//!    in use.
//! 2. The trees are walked in the order of their checkpoints, the newest checkpoint's last. A subtree that is not
//!    younger than a completely recorded snapshot belongs to that one too and is not walked again. So the work is
//!    bounded by the number of pages in use.
//! 3. Snapshots taken during the rebuild need no walk: their pages are recorded with the newest checkpoint, or when a
//!    later one replaces them (`checkpoint`). Snapshots dropped during the rebuild are walked as if they were not
//!    dropped; their pages are freed only afterwards (`dropped`).
//! 4. A snapshot whose page table is damaged keeps all pages that can still be found.

use crate::error::{Error, Result};
use crate::page::format::catalogue;
use crate::page::format::meta::{Link, Meta};
use crate::page::format::page_table::{Entry, FANOUT, MAX_HEIGHT, Tree};
use crate::page::pager::Pager;
use crate::page::shared::regions::free_pages::NODE_OLD;
use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use crate::page::sync::wait::Wait;
use crate::raw::failpoint::fail_point;
use std::collections::HashSet;

/// Number of page-table pages examined by one checkpoint.
const NODES: u32 = if cfg!(feature = "testing") { 1 } else { 16384 };
/// The newest checkpoint's tree.
const NEWEST: u64 = u64::MAX;

/// The state of recording one tree.
struct Noting {
    /// Its checkpoint, or `NEWEST`.
    number: u64,
    /// Subtrees with a birth up to this number are recorded already, as is everything before `at`.
    done: u64,
    at: u64,
    /// Number of leaves that may still be examined.
    leaves: u32,
    below: u64,
    /// Pages to be recorded as in use.
    batch: Vec<u32>,
}

/// Logical page where the rebuild continues.
const REBUILD_AT: Word = Word::at(224);
/// The checkpoint it began at, the last snapshot recorded completely, and the tree that `REBUILD_AT` lies in.
const REBUILD_FROM: Word = Word::at(1096);
const REBUILD_DONE: Word = Word::at(1104);
const REBUILD_TREE: Word = Word::at(1112);

impl Shm {
    /// Begin the rebuild: of the first `pages` pages it is not known which are free. A new store needs no rebuild: all
    /// of its pages except the metas are free.
    pub(in crate::page) fn begin_rebuild(&self, meta: &Meta, pages: u64) {
        self.set(REBUILD_FROM, meta.checkpoint);
        for word in [REBUILD_AT, REBUILD_DONE, REBUILD_TREE] {
            self.set(word, 0);
        }
        let space = self.space();
        space.set_unknown_below(if meta.logical == 0 { 0 } else { pages });
        space.set_cursor(2);
    }
}

impl Pager {
    /// Rebuild the free map at once. Called when no other page is free and the disk has no more room.
    pub fn rebuild_free_map(&self) -> Result<()> {
        self.with_checkpoint(|pager| pager.rebuild_now(u32::MAX))
    }

    /// As `rebuild_free_map`, if the trees have at most `leaves` leaves; otherwise later checkpoints rebuild it. A
    /// checkpoint that dead processes began is left as it is.
    pub(crate) fn rebuild_at_once(&self, leaves: u32) -> Result<()> {
        let slot = self.slot()?;
        self.take_checkpoint(slot, true, &mut Wait::default())?;
        let done = self.rebuild_now(leaves);
        self.shm().leave_checkpoint(slot);
        done
    }

    fn rebuild_now(&self, leaves: u32) -> Result<()> {
        let below = self.shm().space().unknown_below();
        if below == 0 || !self.note_trees(leaves)? {
            return Ok(());
        }
        // The lists of this sidecar do not cover the checkpoint before the newest. Pages that only that checkpoint
        // holds are free two checkpoints from now, like those of a dropped snapshot. If it cannot be read it is not a
        // state to fall back to, and nothing is kept.
        let newest = self.shm().last_checkpoint().number();
        let other = Meta::read(&*self.file().using()?, (newest + 1) % 2)?;
        if let Some(meta) = other.filter(|m| m.checkpoint + 1 == newest) {
            let (root, _) = self.root();
            // After a compaction both checkpoints share one tree, whose root may be attributed to either.
            if (root.physical, root.sum) != (meta.root, meta.root_sum) {
                self.note_old_tree(meta.checkpoint, meta.tree(), below)?;
            }
            self.note_old_catalogue(meta.catalogue, newest, below)?;
            let snapshots = match catalogue::read(&*self.file().using()?, meta.catalogue) {
                Err(Error::Corrupt { .. }) => Vec::new(),
                read => read?,
            };
            for s in snapshots {
                self.note_old_tree(s.checkpoint, s.tree, below)?;
            }
        }
        self.end_rebuild(below)
    }

    /// Keep the pages of the catalogue of the checkpoint before the newest until the next checkpoint is durable.
    fn note_old_catalogue(&self, old: Link, newest: u64, below: u64) -> Result<()> {
        if old == self.catalogue_link() {
            return Ok(());
        }
        let pages = catalogue::pages(&*self.file().using()?, old);
        self.note(&pages, below)?;
        let list = (newest % 3) as usize;
        self.step(|pager, _| {
            // A process that died here may have recorded some.
            let noted: HashSet<u64> = (0..pager.shm().list_len(list))
                .map(|i| pager.shm().list_entry(list, i)[2])
                .collect();
            for page in pages {
                let replaced = u64::from(page) | newest << 32;
                if !noted.contains(&replaced) {
                    pager.shm().list_push(list, [NODE_OLD, 0, replaced])?;
                }
            }
            Ok(())
        })
    }

    /// Record all pages of a tree, which may be freed later if no snapshot keeps it.
    fn note_old_tree(&self, number: u64, tree: Tree, below: u64) -> Result<()> {
        let mut noting = Noting {
            number,
            done: 0,
            at: 0,
            leaves: u32::MAX,
            below,
            batch: Vec::new(),
        };
        self.note_tree(&mut noting, tree)?;
        if self.shm().get(REBUILD_FROM) != self.shm().last_checkpoint().number() {
            return Ok(());
        }
        // A snapshot that only the catalogue before the newest lists is dropped.
        let listed = match catalogue::read(&*self.file().using()?, self.catalogue_link()) {
            Ok(all) => all.iter().any(|s| s.checkpoint == number),
            Err(_) => true,
        };
        if listed {
            return Ok(());
        }
        self.step(|pager, _| {
            pager.add_dropped(number, tree, pager.shm().last_checkpoint().number());
            Ok(())
        })
    }

    /// Continue the rebuild of the free map: record the pages that the newest checkpoint and the snapshots reach. The
    /// dirty lists record pages that are replaced during the rebuild, and pages allocated during it lie elsewhere.
    pub(crate) fn rebuild_some(&self) -> Result<()> {
        let below = self.shm().space().unknown_below();
        if below != 0 && self.note_trees(NODES)? {
            self.end_rebuild(below)?;
        }
        Ok(())
    }

    /// Record trees, at most `leaves` leaves. Return whether all are recorded. Called by the checkpointer.
    fn note_trees(&self, mut leaves: u32) -> Result<bool> {
        let below = self.shm().space().unknown_below();
        // If the snapshots are not known, the pages they hold are not known either: nothing is free.
        let Some(holders) = self.holders_known() else {
            return Ok(false);
        };
        loop {
            let done = self.shm().get(REBUILD_DONE);
            let from = self.shm().get(REBUILD_FROM);
            let (number, tree) = match holders.next_tree(done).filter(|t| t.0 <= from) {
                Some(found) => found,
                None => {
                    let (root, height) = self.root();
                    (NEWEST, Tree { root, height })
                }
            };
            self.step(|pager, _| {
                if pager.shm().get(REBUILD_TREE) != number {
                    pager.shm().set(REBUILD_AT, 0);
                    pager.shm().set(REBUILD_TREE, number);
                }
                Ok(())
            })?;
            let mut noting = Noting {
                number,
                done,
                at: self.shm().get(REBUILD_AT),
                leaves,
                below,
                batch: Vec::new(),
            };
            let whole = self.note_tree(&mut noting, tree)?;
            leaves = noting.leaves;
            self.step(|pager, _| {
                pager.shm().set(REBUILD_AT, noting.at);
                Ok(())
            })?;
            fail_point!("rebuild.step");
            if !whole {
                return Ok(false);
            }
            if number == NEWEST {
                let link = self.catalogue_link();
                self.note(&catalogue::pages(&*self.file().using()?, link), below)?;
                return Ok(true);
            }
            self.step(|pager, _| {
                pager.shm().set(REBUILD_DONE, number);
                Ok(())
            })?;
        }
    }

    /// End the rebuild: everything the checkpoints reach is recorded. Pages in the lists are in use, and all other
    /// pages are free.
    fn end_rebuild(&self, below: u64) -> Result<()> {
        self.gated_step(|pager| {
            for list in 0..3 {
                for i in 0..pager.shm().list_len(list) {
                    let [page, new, old] = pager.shm().list_entry(list, i);
                    let new = if page == NODE_OLD { 0 } else { new as u32 };
                    for page in [new, old as u32] {
                        if page != 0 && u64::from(page) < below {
                            pager.shm().mark_used(u64::from(page), true);
                        }
                    }
                }
            }
            for page in pager.shm().kept_pages() {
                if page < below {
                    pager.shm().mark_used(page, true);
                }
            }
            pager.shm().space().set_unknown_below(0);
            pager.recount_free();
            Ok(())
        })
    }

    fn note(&self, pages: &[u32], below: u64) -> Result<()> {
        self.step(|pager, _| {
            for page in pages.iter().map(|p| u64::from(*p)) {
                if page != 0 && page < below {
                    pager.shm().mark_used(page, true);
                }
            }
            Ok(())
        })
    }

    /// Record a tree. Return false if it must continue at another time, at `at`.
    fn note_tree(&self, noting: &mut Noting, tree: Tree) -> Result<bool> {
        let whole = self.note_subtree(noting, tree.root, tree.height.min(MAX_HEIGHT), 0)?;
        self.note(&std::mem::take(&mut noting.batch), noting.below)?;
        Ok(whole)
    }

    /// Depth is bounded by `MAX_HEIGHT`.
    fn note_subtree(&self, noting: &mut Noting, entry: Entry, level: u32, base: u64) -> Result<bool> {
        let end = base + FANOUT.pow(level);
        if end <= noting.at || entry.physical == 0 || u64::from(entry.birth) <= noting.done {
            return Ok(true);
        }
        if level == 1 {
            if noting.leaves == 0 {
                noting.at = base;
                return Ok(false);
            }
            noting.leaves -= 1;
        }
        noting.batch.push(entry.physical);
        if noting.batch.len() >= 1024 {
            self.note(&std::mem::take(&mut noting.batch), noting.below)?;
        }
        if level == 0 {
            return Ok(true);
        }
        let what = "a page of the page table does not match its checksum (file offset)";
        let node = match self.verified(entry, what) {
            Ok(node) => node,
            Err(Error::Corrupt { .. }) if noting.number != NEWEST => return Ok(true),
            Err(e) => return Err(e),
        };
        let span = FANOUT.pow(level - 1);
        for i in 0..FANOUT {
            if !self.note_subtree(noting, Entry::read(node, i as usize), level - 1, base + i * span)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
