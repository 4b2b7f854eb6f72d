//! Cached lookups: reading and making notes of where a section found things. The cache and its invariants:
//! `pager::lookup_cache`.

use crate::page::pager::Pager;
use crate::page::section::read::ReadSection;
use crate::page::shared::at;
use std::sync::atomic::Ordering;

impl ReadSection<'_> {
    /// The number that notes of this section are made under; 0 where none may be used or made.
    #[inline(always)]
    pub(in crate::page) fn structure_here(&self) -> u64 {
        if self.restructured {
            0
        } else {
            self.pager().shm.word(at::STRUCTURE).load(Ordering::Relaxed)
        }
    }

    /// What was noted about something, if it still holds.
    #[inline(always)]
    pub(in crate::page) fn remembered(&self, about: [u64; 3]) -> Option<[u64; 2]> {
        let row = self.pager().lookups.row(self.slot)?;
        row.find(about, self.structure_here())
    }

    /// Notes what was found about something.
    #[inline]
    pub(in crate::page) fn remember(&self, about: [u64; 3], found: [u64; 2]) {
        let structure = self.structure_here();
        if let Some(row) = self.pager().lookups.row(self.slot) {
            row.note(about, found, structure, || self.holds());
        }
    }
}

impl Pager {
    /// Whether something seems to be noted about it: told outside sections, so it may be wrong a moment later.
    #[inline(always)]
    pub(crate) fn seems_noted(&self, about: [u64; 3]) -> bool {
        let structure = || self.shm.word(at::STRUCTURE).load(Ordering::Relaxed);
        self.known_slot()
            .and_then(|slot| self.lookups.row(slot))
            .is_some_and(|row| row.has(about, structure()))
    }

    /// The number that a section would find now: told outside sections, so it may be another a moment later.
    #[inline(always)]
    pub(crate) fn structure_now(&self) -> u64 {
        self.shm.word(at::STRUCTURE).load(Ordering::Relaxed)
    }

    /// Things may lie elsewhere from now on. Inside a write section, or in recovery.
    #[inline]
    pub(crate) fn restructured(&self) {
        let word = self.shm.word(at::STRUCTURE);
        word.store(
            word.load(Ordering::Relaxed).wrapping_add(1).max(1),
            Ordering::Release,
        );
    }
}
