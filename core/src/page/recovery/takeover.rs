//! Taking over the sidecar of an earlier session of the store. The process is alone with it: all other processes that
//! used it are dead or have closed the store.
//!
//! 1. A sealed sidecar is as its last process left it, and is used as it is.
//! 2. Nothing in an unsealed sidecar is trusted. As much as possible is read from the store file: the newest
//!    checkpoint, and the one before it. The sidecar must supply only the pages changed since (dirty lists), the change
//!    in progress (intent, undo log), and a few numbers. Each is checked against its allowed range, against the page
//!    table of the checkpoint, and against the others (`look`). An error leaves the sidecar unchanged.
//! 3. Then the live page table and the free map are rebuilt from the lists (`rebuild`), and slots, locks and counters
//!    are cleared. Pages that the checkpoint's file had are free only when the page table shows it
//!    (`checkpoint::free_map`). So the content of a torn sidecar cannot cause a page of the checkpoint to be
//!    overwritten.
//! 4. Both can be killed at any instruction and repeated (I6): `TAKING` records that the lists were validated.
//! 5. The redo log is not continued at once. It waits for the next flip, which begins a new chain after its content.

use crate::error::{Error, Result, refused};
use crate::ids::PAGE_SIZE;
use crate::page::format::meta::Meta;
use crate::page::pager::Pager;
use crate::page::pages::cow;
use crate::page::recovery::left_words::wrong;
use crate::page::shared::header::last_checkpoint::meta_sum_of;
use crate::page::shared::header::next_checkpoint::{BUILDING, FREEING, IDLE, SWITCHING, WRITING, WRITTEN};
use crate::page::shared::layout::{LIST_SIZE, MAX_PAGES, Region};
use crate::page::shared::paths::sidecar_path;
use crate::page::shared::regions::free_pages::{ABSENT, NODE_NEW, NODE_OLD};
use crate::page::shared::word::Word;
use crate::raw::failpoint::fail_point;
use std::collections::HashMap;
use std::path::Path;

/// 1: the state left by dead processes was validated and is being rebuilt.
const TAKING: Word = Word::at(96);

/// Bytes of an entry of a dirty list.
const ENTRY: u64 = 24;
/// Number of ids that are skipped, so that a counter that lost some of its bits issues no id twice.
const IDS: u64 = 1 << 20;
/// Number of page-table leaves examined while the store opens; checkpoints rebuild the rest of the free map.
const LEAVES: u32 = 16384;

/// The content of the lists.
struct Left {
    /// The list of the epoch whose checkpoint was being built, and the number of changed pages in it.
    ended: Option<(usize, u64)>,
    /// The list of the current epoch.
    now: usize,
    /// The live table's entries that differ from the checkpoint's.
    live: HashMap<u64, u64>,
    /// Physical pages in use that the checkpoint's table may not contain.
    used: Vec<u32>,
}

impl Pager {
    /// Take the sidecar over. Return true if it was not sealed.
    pub(in crate::page) fn inherit(&self, meta: &Meta, meta_sum: u64) -> Result<bool> {
        let sealed = self.shm().unseal();
        let ready = match sealed {
            true => {
                self.shm().forget_threads();
                Ok(())
            }
            false => self
                .look(meta, meta_sum)
                .and_then(|left| self.rebuild(meta, meta_sum, &left))
                .and_then(|()| self.check_undo()),
        };
        let done = ready.and_then(|()| self.recover(0));
        if let Err(e) = done {
            // Nothing was lost: it can be retried when the cause is gone.
            self.shm().forget_poison();
            return Err(match e {
                Error::Corrupt { what, at } => unusable(
                    self.path(),
                    &sidecar_path(self.path()),
                    &format!("is damaged ({what}, {at:#x})"),
                    meta.checkpoint,
                ),
                e => e,
            });
        }
        fail_point!("recover.inherit");
        self.shm().free_latch();
        Ok(!sealed)
    }

    /// Complete the takeover of an unsealed sidecar, with a slot of this process: find the free pages.
    pub(in crate::page) fn find_free_pages(&self) {
        if let Err(e) = self.rebuild_at_once(LEAVES) {
            log::warn!("{}: its free pages are not known yet: {e}", self.path().display());
        }
    }

    /// Check everything that is needed. It changes nothing that a second check would need.
    fn look(&self, meta: &Meta, meta_sum: u64) -> Result<Left> {
        let shm = self.shm();
        let (live, next) = (shm.live(), shm.next_checkpoint());
        let (base, epoch) = (meta.checkpoint, live.epoch());
        let (phase, ck_epoch) = (next.phase(), next.epoch());
        let switched = meta_sum_of(shm) != meta_sum || shm.last_checkpoint().number() != base;
        let phase_is_wrong = || wrong("the checkpoint's phase in the sidecar", phase);
        let building = match phase {
            IDLE | FREEING if !switched => false,
            // The meta page that was being written is the newest.
            WRITING | WRITTEN | SWITCHING if ck_epoch == base => false,
            BUILDING | WRITING | WRITTEN if !switched && ck_epoch == base + 1 => true,
            _ => return Err(phase_is_wrong()),
        };
        let ended = base + 1;
        if building && phase == BUILDING && epoch == ended {
            // A flip that was begun.
            shm.check_flipped_log(meta)?;
            self.finish_flip();
        }
        let epoch = live.epoch();
        if epoch != base + 1 + u64::from(building) {
            return Err(wrong("the epoch in the sidecar", epoch));
        }
        let logical = live.logical();
        if logical < meta.logical || logical > MAX_PAGES || logical * 8 > shm.allocated(Region::Table) {
            return Err(wrong("the number of pages in the sidecar", logical));
        }
        let next_id = live.next_id();
        if next_id < meta.next_id || next_id - meta.next_id > 1 << 40 {
            return Err(wrong("the next id in the sidecar", next_id));
        }
        let undo = shm.undo_len();
        // Only the latch's holder has changes to undo, and they are undone before the latch is free.
        let is_possible = undo <= shm.allocated(Region::Undo) && undo.is_multiple_of(8);
        if !shm.has_undo_mark() || !is_possible || undo != 0 && !shm.is_latch_taken() {
            return Err(wrong("the length of the undo log in the sidecar", undo));
        }
        for list in 0..3 {
            let len = shm.list_len(list);
            if len > LIST_SIZE as u64 / ENTRY || len * ENTRY > shm.allocated(Region::List(list)) {
                return Err(wrong("the length of a dirty list in the sidecar", len));
            }
        }
        if shm.get(TAKING) > 1 {
            return Err(wrong("a mark in the sidecar", shm.get(TAKING)));
        }
        shm.check_log(meta)?;
        let len = self
            .file()
            .using()?
            .metadata()
            .map_err(|e| Error::io("fstat", e))?
            .len();
        let pages = (len / PAGE_SIZE as u64).min(MAX_PAGES);
        let known = shm.space().file_pages();
        if known > pages {
            return Err(wrong("the pages of the file in the sidecar", known));
        }
        let now = (epoch % 3) as usize;
        let mut left = Left {
            ended: None,
            now,
            live: HashMap::new(),
            used: Vec::new(),
        };
        // From here on only the durable tree is read through words of the sidecar, and they come from the store.
        self.shm()
            .build_on(meta, meta_sum, &Meta::before(&*self.file().using()?, meta)?);
        shm.space().set_file_pages(pages);
        if building {
            let list = (ended % 3) as usize;
            let dirty = next.dirty();
            let ck_logical = next.logical();
            if dirty > shm.list_len(list) || ck_logical < meta.logical || ck_logical > logical {
                return Err(wrong("the checkpoint's numbers in the sidecar", dirty));
            }
            let nodes = (dirty..shm.list_len(list)).map(|i| shm.list_entry(list, i)[0]);
            if nodes.into_iter().any(|page| page != NODE_NEW && page != NODE_OLD) {
                return Err(wrong("the checkpoint's changed pages in the sidecar", dirty));
            }
            self.read_list(list, dirty, ended, ck_logical, &mut left)?;
            left.ended = Some((list, dirty));
        }
        let len = self.valid_list_len(now, epoch, logical)?;
        self.read_list(now, len, epoch, logical, &mut left)?;
        left.used.sort_unstable();
        if left.used.is_sorted_by(|a, b| a < b) {
            return Ok(left);
        }
        Err(wrong("a page that the dirty lists in the sidecar name twice", 0))
    }

    /// Read a dirty list. For each page, the old entry must match the preceding state, and the final entry must match
    /// the live table.
    fn read_list(&self, list: usize, len: u64, epoch: u64, logical: u64, left: &mut Left) -> Result<()> {
        let bad = |page| wrong("the dirty list in the sidecar (page)", page);
        let pages = self.shm().space().file_pages();
        for i in 0..len {
            let [page, new, before] = self.shm().list_entry(list, i);
            if page >= logical {
                return Err(bad(page));
            }
            let was = match left.live.get(&page) {
                Some(entry) => *entry,
                None => match self.look_up(page)? {
                    Some(entry) => entry.live(),
                    None => ABSENT,
                },
            };
            let was = if was & ABSENT == 0 { was } else { 0 };
            if before != was {
                return Err(bad(page));
            }
            if new == 0 {
                left.live.insert(page, ABSENT);
                continue;
            }
            let physical = new as u32;
            if new >> 32 != epoch || physical < 2 || u64::from(physical) >= pages {
                return Err(bad(page));
            }
            left.used.push(physical);
            left.live.insert(page, new);
        }
        Ok(())
    }

    /// Return how many entries of the current epoch's list count, according to the intent of a dead writer about its
    /// last entry.
    fn valid_list_len(&self, now: usize, epoch: u64, logical: u64) -> Result<u64> {
        let shm = self.shm();
        let [kind, page, old, new, list, len] = shm.intent();
        let have = shm.list_len(now);
        let bad = || wrong("the copy intent in the sidecar", kind);
        match kind {
            cow::NONE => Ok(have),
            // Intents for page-table pages and for pages that are being freed: the rebuild finds those pages again.
            cow::NODE..=cow::GIVE_NODE | cow::GIVE_DROPPED | cow::GIVE_KEPT if list < 3 => Ok(have),
            cow::DATA | cow::RELEASE => {
                let is_right = list == now as u64
                    && page < logical
                    && (have == len || have == len + 1)
                    && (new == 0 || new >> 32 == epoch);
                if !is_right {
                    return Err(bad());
                }
                if have == len {
                    return Ok(have);
                }
                let entry = shm.list_entry(now, len);
                let listed = if kind == cow::RELEASE { 0 } else { new };
                if entry[0] != page || entry[1] != listed || kind == cow::RELEASE && entry[2] != old {
                    return Err(bad());
                }
                // The page was copied and listed. It does not matter whether its table entry was replaced, since
                // nothing was changed in the page before that.
                Ok(have)
            }
            _ => Err(bad()),
        }
    }

    /// Rebuild the live table and the free map, and clear the rest. It can be repeated.
    fn rebuild(&self, meta: &Meta, meta_sum: u64, left: &Left) -> Result<()> {
        let shm = self.shm();
        let [kind, swung, ..] = shm.intent();
        let swings = |page: u64| matches!(kind, cow::DATA | cow::RELEASE) && swung == page;
        let (pages, logical) = (shm.space().file_pages(), shm.live().logical());
        if shm.get(TAKING) == 0 {
            for page in 0..logical {
                let entry = shm.entry(page);
                let is_right = match left.live.get(&page) {
                    Some(listed) => entry == *listed,
                    None => entry & ABSENT != 0 || entry >> 32 <= meta.checkpoint,
                };
                if !is_right && !swings(page) {
                    return Err(wrong("the live page table in the sidecar (page)", page));
                }
            }
            shm.set(TAKING, 1);
        }
        fail_point!("takeover.checked");
        shm.forget_intent();
        for list in 0..3 {
            match left.ended {
                Some((ended, dirty)) if ended == list => shm.set_list_len(list, dirty),
                _ if list == left.now => {}
                _ => shm.set_list_len(list, 0),
            }
        }
        let (live, next) = (shm.live(), shm.next_checkpoint());
        if left.ended.is_some() {
            self.forget_request();
            next.set_phase(BUILDING);
            next.set_next_id(live.next_id() + IDS);
        } else {
            next.set_phase(IDLE);
        }
        next.set_freed(0);
        self.request_keep(meta, !left.live.is_empty());
        shm.build_on(meta, meta_sum, &Meta::before(&*self.file().using()?, meta)?);
        shm.ensure(Region::FreeMap, (pages as usize).div_ceil(64) * 8)?;
        shm.zero(Region::Table, logical as usize * 8)?;
        shm.zero(Region::FreeMap, (pages as usize).div_ceil(64) * 8)?;
        fail_point!("takeover.zeroed");
        for (page, entry) in &left.live {
            shm.set_entry(*page, *entry);
        }
        for page in left.used.iter().map(|p| u64::from(*p)).chain([0, 1]) {
            shm.mark_used(page, true);
        }
        self.forget_dropped()?;
        shm.forget_views();
        shm.begin_rebuild(meta, pages);
        shm.last_checkpoint().set_unflushed(true);
        shm.log().stop(meta, &Meta::before(&*self.file().using()?, meta)?);
        live.set_next_id(live.next_id() + IDS);
        shm.forget_processes();
        fail_point!("takeover.made");
        shm.set(TAKING, 0);
        Ok(())
    }

    /// Forget the dropped snapshots, except one that a process still reads if none of its pages was freed yet. The
    /// rebuild of the free map finds the pages of the others.
    fn forget_dropped(&self) -> Result<()> {
        for d in self.shm().dropped() {
            let is_possible = d.checkpoint < self.shm().live().epoch()
                && d.cursor == 0
                && d.since < self.shm().live().epoch()
                && u64::from(d.tree.root.physical) < self.shm().space().file_pages();
            if !is_possible || !self.is_claimed(d.checkpoint)? {
                self.shm().forget_dropped(d.slot);
            }
        }
        Ok(())
    }

    /// Return whether every record of the undo log belongs to a page that was changed in this epoch.
    fn check_undo(&self) -> Result<()> {
        let (logical, epoch) = (self.shm().live().logical(), self.shm().live().epoch());
        let mut strange = None;
        self.shm().undo_ranges(|addr, len, _| {
            let page = addr.page().0;
            let fits =
                addr.offset() + len <= PAGE_SIZE && page < logical && self.shm().entry(page) >> 32 == epoch;
            if !fits {
                strange = Some(addr.0);
            }
        })?;
        match strange {
            Some(at) => Err(wrong("the undo log in the sidecar (address)", at)),
            None => Ok(()),
        }
    }
}

/// Return the error for a sidecar that cannot be used and is not proved stale.
pub(in crate::page) fn unusable(path: &Path, name: &Path, why: &str, checkpoint: u64) -> Error {
    refused(
        path,
        format!(
            "its sidecar {} {why}, and what was completed since the last checkpoint may be in it: nothing was \
             changed. Put the right file there, or remove it to open checkpoint {checkpoint}",
            name.display()
        ),
    )
}
