//! Views of a moment, in the sidecar: their slots, which pages were copied since the newest view, and the pages kept
//! for views. `section::moment` takes and reads views, `checkpoint::kept` keeps and frees their pages.
//!
//! 1. A view is a position in the dirty lists: an epoch and a number of entries. Entries from there on name what has
//!    changed since, each with the physical page before. Every view has a number of its own, never used again.
//! 2. `NEWEST_VIEW` is the number of the newest view, or a higher one; 0 if no view is alive. While it is not 0, a
//!    writer copies each page once more after it was taken, also one that was written in this epoch (`pages::cow`). So
//!    a physical page that a view reaches is not written.
//! 3. A view is taken by a reader with its mark in the gate. So the next write section sees `NEWEST_VIEW`. A reader
//!    that was revoked gives the view up.
//! 4. A slot's owner is the process. Only it, or the recovery from its death, frees the slot. A view can also be ended
//!    by a process that needs the space: its number in the slot is 0 from then on. Pages are freed after that, so a
//!    reader that still finds the number has read pages that were not reused.
//! 5. Which pages were copied is a cache: what it has forgotten is copied again, which is harmless.
//! 6. The pages that the dirty lists no longer name are kept in a ring until no view reaches them. The latch's holder
//!    changes the ring. An entry is complete before it is counted, and is not overwritten before `KEPT_FROM` has passed
//!    it. So readers need no lock.
//!
//! | WORD OF A SLOT | CONTENT |
//! | --- | --- |
//! | 0 | owner: process + 1, generation << 32; 0: the slot is free |
//! | 1 | number; 0: not taken yet, or ended |
//! | 2, 3 | epoch, entries of its dirty list |
//!
//! A kept page, 24 bytes: logical page; the old entry (0: given back); the number of the entry in its dirty list, epoch
//! << 32.

use crate::error::Result;
use crate::page::shared::layout::{COPIED, COPIED_SLOTS, KEPT, KEPT_SIZE, Region, VIEW_SLOTS, VIEWS};
use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use std::sync::atomic::{AtomicU64, Ordering, fence};

const NEWEST_VIEW: Word = Word::at(3136);
/// Number of views ever taken.
const VIEW_COUNT: Word = Word::at(3200);
/// Number of views that have ended; and what it was when the kept pages were last gone through.
const VIEWS_ENDED: Word = Word::at(3208);
const KEPT_SEEN: Word = Word::at(3216);
/// The first entry of the ring that may count, and the end: numbers that only grow.
const KEPT_FROM: Word = Word::at(3224);
const KEPT_END: Word = Word::at(3232);

const ENTRY: usize = 24;
/// Number of entries of the ring.
pub(in crate::page) const KEPT_MAX: u64 = (KEPT_SIZE / ENTRY) as u64;

/// The position of a view in the dirty lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::page) struct Moment {
    pub(in crate::page) epoch: u64,
    pub(in crate::page) entries: u64,
}

impl Moment {
    /// Return whether an entry of a dirty list came after the moment.
    pub(in crate::page) fn is_before(&self, epoch: u64, i: u64) -> bool {
        epoch > self.epoch || epoch == self.epoch && i >= self.entries
    }

    /// Return whether the view may reach a page that was first written in epoch `birth`, and replaced by this entry.
    fn reaches(&self, birth: u64, epoch: u64, i: u64) -> bool {
        birth <= self.epoch && self.is_before(epoch, i)
    }
}

/// The living views.
#[derive(Debug, Default)]
pub(in crate::page) struct Views(Vec<Moment>);

impl Views {
    /// Return whether no view is alive.
    pub(in crate::page) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Return whether any view may reach an old page that entry `i` of the list of `epoch` has replaced.
    pub(in crate::page) fn hold(&self, old: u64, epoch: u64, i: u64) -> bool {
        self.0.iter().any(|moment| moment.reaches(old >> 32, epoch, i))
    }
}

/// A page kept for views.
#[derive(Clone, Copy, Debug)]
pub(in crate::page) struct Kept {
    pub(in crate::page) page: u64,
    pub(in crate::page) old: u64,
    pub(in crate::page) epoch: u64,
    pub(in crate::page) i: u64,
}

/// Return the word that names a process as owner of a slot.
pub(in crate::page) fn owner_word(process: u16, generation: u32) -> u64 {
    (u64::from(process) + 1) | (u64::from(generation) << 32)
}

impl Shm {
    fn view_words(&self, slot: usize) -> &[AtomicU64] {
        self.words(VIEWS + slot * 64, 4)
    }

    /// Return the number of the newest view; 0: no view is alive.
    #[inline(always)]
    pub(in crate::page) fn newest_view(&self) -> u64 {
        self.word(NEWEST_VIEW).load(Ordering::Acquire)
    }

    /// Take a free slot.
    pub(in crate::page) fn claim_view(&self, owner: u64) -> Option<usize> {
        (0..VIEW_SLOTS).find(|slot| {
            let free = &self.view_words(*slot)[0];
            free.compare_exchange(0, owner, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        })
    }

    /// Begin a view in a slot of this process. Return its number. Called inside a read section.
    pub(in crate::page) fn begin_view(&self, slot: usize, moment: Moment) -> u64 {
        let number = self.word(VIEW_COUNT).fetch_add(1, Ordering::SeqCst) + 1;
        let words = self.view_words(slot);
        words[2].store(moment.epoch, Ordering::Relaxed);
        words[3].store(moment.entries, Ordering::Relaxed);
        words[1].store(number, Ordering::SeqCst);
        self.word(NEWEST_VIEW).fetch_max(number, Ordering::SeqCst);
        number
    }

    /// Return whether a view is alive. What was read before is that view's if it still is.
    #[inline]
    pub(in crate::page) fn is_view(&self, slot: usize, number: u64) -> bool {
        fence(Ordering::Acquire);
        self.view_words(slot)[1].load(Ordering::SeqCst) == number
    }

    /// End a view, if the slot is still this owner's, and free the slot.
    pub(in crate::page) fn end_view(&self, slot: usize, owner: u64) {
        let words = self.view_words(slot);
        if words[0].load(Ordering::SeqCst) == owner {
            words[1].store(0, Ordering::SeqCst);
            self.count_ended();
            words[0].store(0, Ordering::SeqCst);
            self.reset_newest();
        }
    }

    /// End the views of a process, which is dead or leaves the store.
    pub(in crate::page) fn end_views_of(&self, owner: u64) {
        for slot in 0..VIEW_SLOTS {
            self.end_view(slot, owner);
        }
    }

    /// End all views: their pages are needed. The slots stay their owners'.
    pub(in crate::page) fn expel_views(&self) {
        for slot in 0..VIEW_SLOTS {
            self.view_words(slot)[1].store(0, Ordering::SeqCst);
        }
        self.count_ended();
        self.reset_newest();
    }

    fn count_ended(&self) {
        self.word(VIEWS_ENDED).fetch_add(1, Ordering::SeqCst);
    }

    /// Let writers write in place again if no view is alive. A view that begins at the same time has its number in its
    /// slot before it raises `NEWEST_VIEW`: either it is seen here, or the number is not what it was, or it is raised
    /// again.
    fn reset_newest(&self) {
        let newest = self.word(NEWEST_VIEW);
        let found = newest.load(Ordering::SeqCst);
        if found != 0 && self.views().is_empty() {
            let _ = newest.compare_exchange(found, 0, Ordering::SeqCst, Ordering::Relaxed);
        }
    }

    /// Return the living views.
    pub(in crate::page) fn views(&self) -> Views {
        let alive = (0..VIEW_SLOTS).filter_map(|slot| {
            let words = self.view_words(slot);
            (words[1].load(Ordering::SeqCst) != 0).then(|| Moment {
                epoch: words[2].load(Ordering::Relaxed),
                entries: words[3].load(Ordering::Relaxed),
            })
        });
        Views(alive.collect())
    }

    /// Forget all views and what is kept for them: every process that used the sidecar is dead.
    pub(in crate::page) fn forget_views(&self) {
        for slot in 0..VIEW_SLOTS {
            for word in self.view_words(slot) {
                word.store(0, Ordering::Relaxed);
            }
        }
        for word in self.words(COPIED, COPIED_SLOTS * 2) {
            word.store(0, Ordering::Relaxed);
        }
        for word in [
            NEWEST_VIEW,
            VIEW_COUNT,
            VIEWS_ENDED,
            KEPT_SEEN,
            KEPT_END,
            KEPT_FROM,
        ] {
            self.set(word, 0);
        }
    }

    fn copied_words(&self, page: u64) -> &[AtomicU64] {
        let hash = page.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        self.words(COPIED + hash as usize % COPIED_SLOTS * 16, 2)
    }

    /// Return whether a page that was written in this epoch may be written in place for all views: its physical page is
    /// younger than the newest of them. Called by the latch's holder.
    #[inline]
    pub(in crate::page) fn is_younger_than_views(&self, page: u64) -> bool {
        let newest = self.newest_view();
        newest == 0 || self.is_copied(page, newest)
    }

    #[cold]
    fn is_copied(&self, page: u64, newest: u64) -> bool {
        let words = self.copied_words(page);
        words[0].load(Ordering::Relaxed) == page && words[1].load(Ordering::Relaxed) == newest
    }

    /// Record that a page was copied, while a view is alive. Called by the latch's holder.
    pub(in crate::page) fn note_copied(&self, page: u64) {
        let newest = self.newest_view();
        if newest != 0 {
            let words = self.copied_words(page);
            words[1].store(0, Ordering::Release);
            words[0].store(page, Ordering::Release);
            words[1].store(newest, Ordering::Release);
        }
    }

    fn kept_words(&self, number: u64) -> [&AtomicU64; 3] {
        let at = (number % KEPT_MAX) as usize * ENTRY;
        [at, at + 8, at + 16].map(|at| self.cell::<KEPT>(at))
    }

    /// Return the range of the kept pages' numbers.
    pub(in crate::page) fn kept_range(&self) -> std::ops::Range<u64> {
        let end = self.get(KEPT_END);
        let from = self.get(KEPT_FROM);
        end.saturating_sub(KEPT_MAX).max(from)..end
    }

    /// Return a kept page, or None if it was given back.
    pub(in crate::page) fn kept(&self, number: u64) -> Option<Kept> {
        let [page, old, place] = self.kept_words(number).map(|w| w.load(Ordering::Acquire));
        fence(Ordering::Acquire);
        (old != 0 && self.get(KEPT_FROM) <= number).then_some(Kept {
            page,
            old,
            epoch: place >> 32,
            i: place & u64::from(u32::MAX),
        })
    }

    /// Return the physical pages that are kept.
    pub(in crate::page) fn kept_pages(&self) -> Vec<u64> {
        let kept = self.kept_range().filter_map(|number| self.kept(number));
        kept.map(|kept| kept.old & u64::from(u32::MAX)).collect()
    }

    /// Return whether the page that an entry of a dirty list has replaced was kept by the last step, which was killed.
    pub(in crate::page) fn is_kept_last(&self, epoch: u64, i: u64) -> bool {
        let end = self.get(KEPT_END);
        end > self.get(KEPT_FROM) && self.kept_words(end - 1)[2].load(Ordering::Relaxed) == (epoch << 32 | i)
    }

    /// Keep a page. Called under the latch.
    pub(in crate::page) fn keep(&self, kept: Kept) -> Result<()> {
        let (from, end) = (self.get(KEPT_FROM), self.get(KEPT_END));
        let place = kept.epoch << 32 | kept.i;
        if end - from.min(end) >= KEPT_MAX {
            return Err(crate::error::Error::TooMany {
                what: "pages kept for views of a moment",
                limit: KEPT_MAX as usize,
            });
        }
        self.ensure(Region::Kept, ((end + 1).min(KEPT_MAX)) as usize * ENTRY)?;
        for (word, value) in self.kept_words(end).into_iter().zip([kept.page, kept.old, place]) {
            word.store(value, Ordering::Release);
        }
        self.set(KEPT_END, end + 1);
        Ok(())
    }

    /// Record that a kept page was given back.
    pub(in crate::page) fn forget_kept(&self, number: u64) {
        self.kept_words(number)[1].store(0, Ordering::Release);
    }

    /// Let the ring begin at the first page that is still kept.
    pub(in crate::page) fn cut_kept(&self) {
        let range = self.kept_range();
        let first = range.clone().find(|number| self.kept(*number).is_some());
        self.set(KEPT_FROM, first.unwrap_or(range.end));
    }

    /// Return how many views have ended if kept pages may be free since the last `note_kept_seen`.
    pub(in crate::page) fn kept_is_due(&self) -> Option<u64> {
        let ended = self.get(VIEWS_ENDED);
        (ended != self.get(KEPT_SEEN) && !self.kept_range().is_empty()).then_some(ended)
    }

    /// Record that all kept pages were gone through after so many views had ended.
    pub(in crate::page) fn note_kept_seen(&self, ended: u64) {
        self.set(KEPT_SEEN, ended);
    }
}
