//! Verifying pages: comparing both checkpoints on disk, the live table, the free map and the dirty lists with each
//! other. For the offline checker and tests.
//!
//! These conditions hold while no checkpoint is in progress:
//! 1. No two logical pages share a physical page, in the live table and in each checkpoint.
//! 2. Every page of the last two checkpoints has the checksum its parent holds (I1).
//! 3. A live page is the last checkpoint's own, or was first written in this epoch.
//! 4. Every page that 1 and 2 or a snapshot reaches is in use by the free map (I3). A page that is in use but not
//!    reached, and does not wait in a dirty list or a dropped snapshot to be freed, is lost (`PageReport::lost`).
//! 5. Every page of a snapshot has its checksum and is not younger than the snapshot. A page that is as old as the
//!    older neighbour belongs to that one, at the same place.

use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::page::access::Pages;
use crate::page::format::catalogue;
use crate::page::format::meta::Meta;
use crate::page::format::page_table::{Entry, FANOUT, MAX_HEIGHT, Tree, covers, key};
use crate::page::pager::Pager;
use crate::page::shared::regions::free_pages::{ABSENT, NODE_NEW, NODE_OLD};
use crate::page::sync::wait::Wait;
use std::collections::HashSet;
use std::os::unix::fs::FileExt;

const LIVE: u8 = 1;
const NEWEST: u8 = 2;
const PREVIOUS: u8 = 4;
const LISTED: u8 = 8;
const SNAPSHOT: u8 = 16;
const DROPPED: u8 = 32;
const KEPT: u8 = 64;
const REACHED: u8 = LIVE | NEWEST | PREVIOUS | SNAPSHOT;

/// The result of a verification.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct PageReport {
    /// Number of pages of the file.
    pub pages: u64,
    /// Number of pages that the live table, one of the last two checkpoints or a snapshot reaches.
    pub reached: u64,
    /// Number of pages that are neither reached nor free.
    pub lost: u64,
}

fn bad(what: &'static str, page: u64) -> Error {
    Error::Corrupt {
        what,
        at: page * PAGE_SIZE as u64,
    }
}

/// A tree walk: where its pages are recorded, and the error for a page found twice.
struct Walk<'a> {
    pager: &'a Pager,
    seen: &'a mut [u8],
    bit: u8,
    logical: u64,
}

impl Walk<'_> {
    fn note(&mut self, physical: u64) -> Result<()> {
        match self.seen.get_mut(physical as usize) {
            Some(s) if physical >= 2 && *s & self.bit == 0 => {
                *s |= self.bit;
                Ok(())
            }
            Some(_) => Err(bad("a page used twice (file offset)", physical)),
            None => Err(bad("a page beyond the file (offset)", physical)),
        }
    }

    /// Depth is bounded by `MAX_HEIGHT`.
    fn tree(
        &mut self,
        entry: Entry,
        level: u32,
        base: u64,
        leaf: &mut dyn FnMut(u64, Entry) -> Result<()>,
    ) -> Result<()> {
        if entry.physical == 0 || base >= self.logical {
            return Ok(());
        }
        self.note(u64::from(entry.physical))?;
        let page = *self.pager.verified(
            entry,
            "a page of a checkpoint does not match its checksum (file offset)",
        )?;
        if level == 0 {
            return leaf(base, entry);
        }
        for i in 0..FANOUT {
            let child = Entry::read(&page, i as usize);
            self.tree(child, level - 1, base + i * covers(level - 1).max(1), leaf)?;
        }
        Ok(())
    }
}

/// A snapshot's tree and that of its older neighbour.
struct Pair<'a> {
    pager: &'a Pager,
    /// Physical pages that the neighbour does not have.
    mine: HashSet<u32>,
    older: u64,
    youngest: u64,
}

impl Pair<'_> {
    fn trees(&mut self, mine: Tree, older: Tree) -> Result<()> {
        if older.height > mine.height {
            return Err(bad(
                "a snapshot whose page table is lower than an older one's (file offset)",
                u64::from(mine.root.physical),
            ));
        }
        self.subtree(mine.root, mine.height, Some(older).filter(|o| o.height > 0))
    }

    /// `other`: the neighbour's subtree at the same place, if its tree is as high. Depth is bounded by `MAX_HEIGHT`.
    fn subtree(&mut self, mine: Entry, level: u32, other: Option<Tree>) -> Result<()> {
        let beside = other.filter(|o| o.height == level).map(|o| o.root);
        if mine.physical == 0 || beside == Some(mine) {
            return Ok(());
        }
        let physical = u64::from(mine.physical);
        if u64::from(mine.birth) <= self.older || u64::from(mine.birth) > self.youngest {
            return Err(bad(
                "a page of a snapshot whose birth epoch is wrong (file offset)",
                physical,
            ));
        }
        if !self.mine.insert(mine.physical) {
            return Err(bad("a page used twice in a snapshot (file offset)", physical));
        }
        let what = "a page of a snapshot does not match its checksum (file offset)";
        let node = self.pager.verified(mine, what)?;
        let theirs = match beside {
            Some(entry) if level > 0 && entry.physical != 0 => Some(self.pager.verified(entry, what)?),
            _ => None,
        };
        for i in 0..if level == 0 { 0 } else { FANOUT as usize } {
            let below = match theirs {
                Some(node) => Some(Tree {
                    root: Entry::read(node, i),
                    height: level - 1,
                }),
                // The neighbour's tree is lower: its root covers the first places of this one.
                None => other.filter(|o| i == 0 && o.height < level),
            };
            self.subtree(Entry::read(node, i), level - 1, below)?;
        }
        Ok(())
    }
}

impl Pager {
    /// Verify the conditions above. Complete a checkpoint that was left incomplete. It reads every page of both
    /// checkpoints with all other users kept out: for small stores, and stores that no other process uses.
    pub fn check_pages(&self) -> Result<PageReport> {
        if let Some(frozen) = self.frozen() {
            return self.check_frozen(self.frozen_tree(frozen));
        }
        self.read_superblock_page_count()?;
        self.with_checkpoint(|pager| {
            pager.latched(|pager, slot| {
                let _gate = pager.keep_readers_out(slot)?;
                pager.check_pages_latched()
            })
        })
    }

    /// Check that the superblock's number of logical pages does not exceed the live table's.
    fn read_superblock_page_count(&self) -> Result<()> {
        let section = self.read(&mut Wait::default())?;
        let next = section.u64_at(crate::page::superblock::NEXT_PAGE)?;
        if next > self.shm().live().logical() {
            return Err(Error::Corrupt {
                what: "more logical pages than the live table has",
                at: next,
            });
        }
        Ok(())
    }

    fn check_pages_latched(&self) -> Result<PageReport> {
        let pages = self.shm().space().file_pages();
        let mut seen = vec![0u8; pages as usize];
        let logical = self.shm().live().logical();
        let (root, height) = self.root();
        let epoch = self.shm().live().epoch();
        let mut newest = Walk {
            pager: self,
            seen: &mut seen,
            bit: NEWEST,
            logical,
        };
        let mut durable = vec![0u64; logical as usize];
        newest.tree(root, height.min(MAX_HEIGHT), 0, &mut |page, entry| {
            durable[page as usize] = entry.live();
            Ok(())
        })?;
        self.check_previous(&mut seen)?;
        self.check_snapshots(&mut seen)?;
        let mut live = Walk {
            pager: self,
            seen: &mut seen,
            bit: LIVE,
            logical,
        };
        for (page, durable) in durable.iter().enumerate() {
            let entry = match self.shm().entry(page as u64) {
                0 => *durable,
                entry => entry,
            };
            if entry == 0 || entry & ABSENT != 0 {
                continue;
            }
            live.note(entry & 0xffff_ffff)?;
            if entry != *durable && entry >> 32 != epoch {
                return Err(bad(
                    "a live page that is neither the checkpoint's nor of this epoch (file offset)",
                    entry & 0xffff_ffff,
                ));
            }
        }
        for list in 0..3 {
            for i in 0..self.shm().list_len(list) {
                let [page, new, old] = self.shm().list_entry(list, i);
                if page >= logical && page != NODE_NEW && page != NODE_OLD {
                    return Err(Error::Corrupt {
                        what: "the dirty list in the sidecar (page)",
                        at: page,
                    });
                }
                let new = if page == NODE_OLD { 0 } else { new };
                for physical in [new, old].map(|e| e as u32 as usize) {
                    if physical >= pages as usize {
                        return Err(bad(
                            "a page beyond the file in a dirty list (offset)",
                            physical as u64,
                        ));
                    }
                    seen[physical] |= LISTED;
                }
            }
        }
        for page in self.shm().kept_pages() {
            match seen.get_mut(page as usize) {
                Some(seen) => *seen |= KEPT,
                None => {
                    return Err(bad(
                        "a page beyond the file that is kept for a view (offset)",
                        page,
                    ));
                }
            }
        }
        self.compare_free_map(&seen)
    }

    /// Verify the pages of a frozen opening.
    fn check_frozen(&self, tree: Tree) -> Result<PageReport> {
        self.slot()?;
        let mut seen = vec![0u8; self.shm().space().file_pages() as usize];
        let mut walk = Walk {
            pager: self,
            seen: &mut seen,
            bit: SNAPSHOT,
            logical: self.shm().live().logical(),
        };
        walk.tree(tree.root, tree.height.min(MAX_HEIGHT), 0, &mut |_, _| Ok(()))?;
        Ok(PageReport {
            pages: seen.len() as u64,
            reached: seen.iter().filter(|s| **s != 0).count() as u64,
            lost: 0,
        })
    }

    /// Verify the snapshots, each beside its older neighbour, and what is left of dropped ones.
    fn check_snapshots(&self, seen: &mut [u8]) -> Result<()> {
        let (new, old) = (self.catalogue_link(), self.old_catalogue_link());
        for (link, bit) in [(new, NEWEST), (old, PREVIOUS)] {
            for page in catalogue::pages(&*self.file().using()?, link) {
                if let Some(seen) = seen.get_mut(page as usize) {
                    *seen |= bit;
                }
            }
        }
        let mut older = (0, Tree::default());
        for s in catalogue::read(&*self.file().using()?, new)? {
            let mut pair = Pair {
                pager: self,
                mine: HashSet::new(),
                older: older.0,
                youngest: s.checkpoint,
            };
            pair.trees(s.tree, older.1)?;
            for page in &pair.mine {
                if let Some(seen) = seen.get_mut(*page as usize) {
                    *seen |= SNAPSHOT;
                }
            }
            older = (s.checkpoint, s.tree);
        }
        // Recovery must be able to fall back to what the checkpoint before the last lists.
        let listed = match catalogue::read(&*self.file().using()?, old) {
            Err(Error::Corrupt { .. }) => Vec::new(),
            read => read?,
        };
        for s in listed {
            self.mark_dropped(s.tree.root, s.tree.height, 0, 0, seen)?;
        }
        for d in self.shm().dropped() {
            self.mark_dropped(d.tree.root, d.tree.height.min(MAX_HEIGHT), 0, d.cursor, seen)?;
        }
        Ok(())
    }

    /// Record the pages that a dropped snapshot still holds. Depth is bounded by `MAX_HEIGHT`.
    fn mark_dropped(&self, entry: Entry, level: u32, base: u64, cursor: u64, seen: &mut [u8]) -> Result<()> {
        if entry.physical == 0 || key(base + FANOUT.pow(level) - 1, level) < cursor {
            return Ok(());
        }
        let node = self.verified(
            entry,
            "a page of a dropped snapshot does not match its checksum (file offset)",
        )?;
        if let Some(seen) = seen.get_mut(entry.physical as usize) {
            *seen |= DROPPED;
        }
        for i in 0..if level == 0 { 0 } else { FANOUT } {
            let span = FANOUT.pow(level - 1);
            let child = Entry::read(node, i as usize);
            self.mark_dropped(child, level - 1, base + i * span, cursor, seen)?;
        }
        Ok(())
    }

    /// Verify the checkpoint before the last, if its meta page is valid: it is kept complete.
    fn check_previous(&self, seen: &mut [u8]) -> Result<()> {
        let Some(number) = self.shm().last_checkpoint().number().checked_sub(1) else {
            return Ok(());
        };
        let mut page = [0u8; PAGE_SIZE];
        self.file()
            .using()?
            .read_exact_at(&mut page, (number % 2) * PAGE_SIZE as u64)
            .map_err(|e| Error::io("cannot read the meta page", e))?;
        match Meta::decode(&page) {
            Ok(meta) if meta.checkpoint == number && meta.height <= MAX_HEIGHT => {
                let root = Entry {
                    physical: meta.root,
                    birth: 0,
                    sum: meta.root_sum,
                };
                let mut walk = Walk {
                    pager: self,
                    seen,
                    bit: PREVIOUS,
                    logical: meta.logical,
                };
                walk.tree(root, meta.height, 0, &mut |_, _| Ok(()))
            }
            _ => Ok(()),
        }
    }

    fn compare_free_map(&self, seen: &[u8]) -> Result<PageReport> {
        // Below this page the free map is not complete yet.
        let known = self.shm().space().unknown_below().max(2);
        let mut report = PageReport {
            pages: seen.len() as u64,
            ..PageReport::default()
        };
        let mut free = 0;
        for (page, seen) in seen.iter().enumerate().map(|(p, s)| (p as u64, *s)) {
            report.reached += u64::from(seen & (REACHED) != 0);
            if page < known {
                continue;
            }
            match self.shm().is_used(page) {
                false if seen & (REACHED | DROPPED | KEPT) != 0 => {
                    return Err(bad(
                        "a page in use that the free map calls free (file offset)",
                        page,
                    ));
                }
                false => free += 1,
                true => report.lost += u64::from(seen == 0),
            }
        }
        if free != self.shm().space().free() {
            return Err(Error::Corrupt {
                what: "the count of free pages in the sidecar",
                at: self.shm().space().free(),
            });
        }
        Ok(report)
    }
}
