//! Cached lookups: recording and reading where a section found entries. The cache and its invariants:
//! `pager::state::lookup_cache`.

use crate::page::pager::Pager;
use crate::page::section::read::ReadSection;

impl ReadSection<'_> {
    /// Return the number under which this section's lookups are cached; 0 if none may be used or recorded.
    #[inline(always)]
    pub(in crate::page) fn structure_here(&self) -> u64 {
        if self.restructured {
            0
        } else {
            self.pager().shm().live().structure()
        }
    }

    /// Return the cached lookup of something, if it is still valid.
    #[inline(always)]
    pub(in crate::page) fn remembered(&self, about: [u64; 3]) -> Option<[u64; 2]> {
        let row = self.pager().lookups_of(self.slot)?;
        row.find(about, self.structure_here())
    }

    /// Record a lookup.
    #[inline]
    pub(in crate::page) fn remember(&self, about: [u64; 3], found: [u64; 2]) {
        let structure = self.structure_here();
        if let Some(row) = self.pager().lookups_of(self.slot) {
            row.note(about, found, structure, || self.holds());
        }
    }
}

impl Pager {
    /// Return whether something seems to be cached. It is called outside sections, so the result may be out of date
    /// immediately.
    #[inline(always)]
    pub(crate) fn seems_cached(&self, about: [u64; 3]) -> bool {
        self.known_slot()
            .and_then(|slot| self.lookups_of(slot))
            .is_some_and(|row| row.has(about, self.structure_now()))
    }

    /// Return the number that a section would find now. It is called outside sections, so the result may be out of date
    /// immediately.
    #[inline(always)]
    pub(crate) fn structure_now(&self) -> u64 {
        self.shm().live().structure()
    }
}
