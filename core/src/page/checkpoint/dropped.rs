//! Pages held by snapshots, and freeing the pages that only a dropped snapshot held.
//!
//! A page of a tree (of the page table, or a data page) that was first written in epoch `b` and replaced in epoch `e`
//! is in the trees of checkpoints b to e - 1 and in no other. So a snapshot of checkpoint s holds it if b <= s < e. A
//! checkpoint tests this for every page that is old enough to be freed (`checkpoint`). Pages that are held are found
//! again when their snapshot is dropped:
//!
//! 1. A dropped snapshot has a slot (`pages::dropped_slots`) from the first checkpoint whose catalogue does not list
//!    it. Its pages are freed once both meta pages belong to this checkpoint or a later one (`since`), no process has
//!    it open (`snapshot`), and the free map is complete.
//! 2. Its tree is walked beside that of its nearest younger neighbour: a snapshot, or the checkpoint before the last.
//!    Pages in both trees belong to the younger neighbour, and pages no younger than the nearest older neighbour are
//!    held by that one; such subtrees are skipped. Every other page was replaced at or before the younger neighbour,
//!    has passed through the dirty lists, and is freed.
//! 3. The walk follows the order of `page_table::key`, one snapshot at a time, some pages at each checkpoint. The
//!    cursor is the first place not yet examined: before it the snapshot holds nothing any more, from there on it holds
//!    what it held. Page and cursor change together (`cow::give_back_dropped`), so a walk that is killed continues from
//!    its cursor.
//! 4. Pages under a damaged page of a dropped tree are not freed here; the next rebuild of the free map frees them.

use crate::error::{Error, Result};
use crate::ids::{PAGE_SIZE, PhysicalPage};
use crate::page::checkpoint::phases::BATCH;
use crate::page::format::catalogue::{self, Snapshot};
use crate::page::format::meta::Link;
use crate::page::format::page_table::{Entry, FANOUT, MAX_HEIGHT, Tree, key};
use crate::page::pager::Pager;
use crate::page::pages::dropped_slots::Dropped;
use crate::page::shared::layout::DROPPED_SLOTS;
use crate::raw::failpoint::fail_point;

/// Number of page-table leaves examined in one step.
const LEAVES: u32 = if cfg!(feature = "testing") { 1 } else { 16384 };

/// The checkpoints that hold old pages.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    /// Snapshots by checkpoint, from the catalogues of both meta pages.
    snapshots: Vec<(u64, Tree)>,
    dropped: Vec<Dropped>,
    /// A catalogue cannot be read, so any page may be held.
    unknown: bool,
}

impl Holders {
    /// Return whether a page that was at `place` from epoch `birth` until epoch `replaced` is held.
    pub(crate) fn hold(&self, birth: u64, replaced: u64, place: u64) -> bool {
        let first = self.snapshots.partition_point(|s| s.0 < birth);
        self.unknown
            || self.snapshots.get(first).is_some_and(|s| s.0 < replaced)
            || self
                .dropped
                .iter()
                .any(|d| d.checkpoint >= birth && d.checkpoint < replaced && place >= d.cursor)
    }

    /// Return the first tree of a checkpoint after this one.
    pub(crate) fn next_tree(&self, after: u64) -> Option<(u64, Tree)> {
        self.all().filter(|t| t.0 > after).min_by_key(|t| t.0)
    }

    fn all(&self) -> impl Iterator<Item = (u64, Tree)> + '_ {
        let dropped = self.dropped.iter().map(|d| (d.checkpoint, d.tree));
        self.snapshots.iter().copied().chain(dropped)
    }
}

impl Pager {
    /// Return the catalogue of the last durable checkpoint.
    pub(crate) fn catalogue_link(&self) -> Link {
        let [place, sum] = self.shm().last_checkpoint().catalogue();
        Link::new(place, sum)
    }

    /// Return the catalogue of the checkpoint before the last durable one.
    pub(crate) fn old_catalogue_link(&self) -> Link {
        let [place, sum] = self.shm().last_checkpoint().old_catalogue();
        Link::new(place, sum)
    }

    /// Return the page table of the checkpoint before the last durable one.
    fn old_tree(&self) -> Tree {
        let last = self.shm().last_checkpoint();
        let [word, sum] = last.old_root();
        Tree {
            root: Entry {
                physical: word as u32,
                birth: (last.number() - 1) as u32,
                sum,
            },
            height: (word >> 32) as u32,
        }
    }

    /// Return the checkpoints that hold old pages. Called with no checkpoint in progress, or while one frees
    /// (`FREEING`).
    pub(crate) fn holders(&self) -> Holders {
        let dropped = self.shm().dropped();
        let (new, old) = (self.catalogue_link(), self.old_catalogue_link());
        let mut all: Vec<Snapshot> = Vec::new();
        let mut unknown = false;
        let read = |link| catalogue::read(&*self.file().using()?, link);
        match read(new) {
            Ok(some) => all = some,
            Err(_) => unknown = true,
        }
        if old != new {
            match read(old) {
                Ok(some) => all.extend(some),
                // A damaged checkpoint is not a state to fall back to.
                Err(Error::Corrupt { .. }) => {}
                Err(_) => unknown = true,
            }
        }
        let mut snapshots: Vec<(u64, Tree)> = all
            .into_iter()
            .map(|s| (s.checkpoint, s.tree))
            .filter(|s| !dropped.iter().any(|d| d.checkpoint == s.0))
            .collect();
        snapshots.sort_by_key(|s| s.0);
        snapshots.dedup_by_key(|s| s.0);
        Holders {
            snapshots,
            dropped,
            unknown,
        }
    }

    /// As `holders`, but return None if they cannot be determined.
    pub(crate) fn holders_known(&self) -> Option<Holders> {
        Some(self.holders()).filter(|h| !h.unknown)
    }

    /// Record a dropped snapshot, if there is room and it is not recorded yet. Called under the latch; it can be
    /// repeated.
    pub(crate) fn add_dropped(&self, checkpoint: u64, tree: Tree, since: u64) {
        let all = self.shm().dropped();
        if all.iter().any(|d| d.checkpoint == checkpoint) {
            return;
        }
        let free = (0..DROPPED_SLOTS).find(|slot| !all.iter().any(|d| d.slot == *slot));
        if let Some(slot) = free {
            self.shm().set_dropped(slot, checkpoint, tree, since);
        }
    }

    /// Free some of the pages that only dropped snapshots held. Return false if there is nothing more to do now. Called
    /// by the checkpointer after the lists of old pages are done.
    pub(crate) fn free_some_dropped(&self) -> Result<bool> {
        let durable = self.shm().last_checkpoint().number();
        let all = self.shm().dropped();
        // A view may reach pages that a snapshot holds. They are freed when it has ended.
        let is_viewed = !self.shm().views().is_empty() || !self.shm().kept_range().is_empty();
        if all.is_empty() || self.shm().space().unknown_below() != 0 || is_viewed {
            return Ok(false);
        }
        let Some(holders) = self.holders_known() else {
            return Ok(false);
        };
        // One snapshot at a time, beginning with one whose walk has already begun.
        let mut ready: Vec<Dropped> = all.into_iter().filter(|d| d.since < durable).collect();
        ready.sort_by_key(|d| d.cursor == 0);
        for dropped in ready {
            if !self.is_claimed(dropped.checkpoint)? {
                self.free_tree(&dropped, &holders, durable)?;
                return Ok(true);
            }
            if dropped.cursor != 0 {
                // A process claims this snapshot and will find that it is gone. Until then no other walk may begin: it
                // would skip pages that it shares with this snapshot as this one's. This walk is past those before its
                // cursor, so they would never be freed.
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn free_tree(&self, dropped: &Dropped, holders: &Holders, durable: u64) -> Result<()> {
        let older = holders
            .all()
            .map(|t| t.0)
            .filter(|c| *c < dropped.checkpoint)
            .max()
            .unwrap_or(0);
        let (_, beside) = holders
            .next_tree(dropped.checkpoint)
            .into_iter()
            .chain([(durable - 1, self.old_tree())])
            .min_by_key(|t| t.0)
            .unwrap_or_default();
        let mut walk = Walk {
            pager: self,
            slot: dropped.slot,
            cursor: dropped.cursor,
            older,
            batch: Vec::new(),
            leaves: LEAVES,
            paused: 0,
        };
        let height = dropped.tree.height.min(MAX_HEIGHT);
        // The younger tree is at least as high.
        let (mut other, mut other_height) = (beside.root, beside.height.min(MAX_HEIGHT));
        let mut readable = other_height >= height;
        while readable && other_height > height {
            other_height -= 1;
            match walk.node(other)? {
                Some(Some(node)) => other = Entry::read(node, 0),
                Some(None) => other = Entry::default(),
                None => readable = false,
            }
        }
        let done = !readable || walk.subtree(dropped.tree.root, other, height, 0)?;
        walk.apply()?;
        fail_point!("snapshot.separate");
        self.step(|pager, _| {
            if done {
                pager.shm().forget_dropped(dropped.slot);
            } else {
                pager.shm().set_dropped_cursor(dropped.slot, walk.paused);
            }
            Ok(())
        })
    }
}

struct Walk<'p> {
    pager: &'p Pager,
    slot: usize,
    cursor: u64,
    /// The nearest older neighbour's checkpoint.
    older: u64,
    /// Pages to be freed: their places and their numbers.
    batch: Vec<(u64, u32)>,
    leaves: u32,
    /// Where to continue.
    paused: u64,
}

impl<'p> Walk<'p> {
    /// Return a page of a page table: None if it is damaged, Some(None) if there is none.
    fn node(&self, entry: Entry) -> Result<Option<Option<&'p [u8; PAGE_SIZE]>>> {
        if entry.physical == 0 {
            return Ok(Some(None));
        }
        match self.pager.verified(entry, "a page of the page table") {
            Ok(node) => Ok(Some(Some(node))),
            Err(Error::Corrupt { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Free the pages that are in `mine` and not in `other`. Return false if the walk must continue at another time.
    /// Depth is bounded by `MAX_HEIGHT`.
    fn subtree(&mut self, mine: Entry, other: Entry, level: u32, base: u64) -> Result<bool> {
        let place = key(base + FANOUT.pow(level) - 1, level);
        if place < self.cursor || mine.physical == 0 || mine == other || u64::from(mine.birth) <= self.older {
            return Ok(true);
        }
        if level == 1 {
            if self.leaves == 0 {
                self.paused = key(base, 0);
                return Ok(false);
            }
            self.leaves -= 1;
        }
        if level > 0 {
            let (Some(Some(node)), Some(beside)) = (self.node(mine)?, self.node(other)?) else {
                return Ok(true);
            };
            let span = FANOUT.pow(level - 1);
            for i in 0..FANOUT {
                let child = Entry::read(node, i as usize);
                let other = beside.map_or_else(Entry::default, |b| Entry::read(b, i as usize));
                if !self.subtree(child, other, level - 1, base + i * span)? {
                    return Ok(false);
                }
            }
        }
        self.batch.push((place, mine.physical));
        if self.batch.len() as u64 >= BATCH {
            self.apply()?;
        }
        Ok(true)
    }

    fn apply(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let (slot, batch) = (self.slot, std::mem::take(&mut self.batch));
        self.pager.gated_step(|pager| {
            for (place, physical) in &batch {
                pager.give_back_dropped(slot, place + 1, PhysicalPage(*physical));
            }
            Ok(())
        })
    }
}
