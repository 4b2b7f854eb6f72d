//! Cached lookups (`page::lookups`) of sections and threads.

use crate::page::lookups::{LookupKey, Lookups};
use crate::page::pager::Pager;
use crate::page::section::read::ReadSection;

impl ReadSection<'_> {
    /// Return the cached lookups that are valid in this section: none if it has changed more than values.
    #[inline(always)]
    pub(in crate::page) fn lookups_here(&self) -> Lookups<'_> {
        let structure = if self.restructured {
            0
        } else {
            self.pager().shm().live().structure()
        };
        self.pager().lookups_of(self.slot, structure)
    }
}

impl Pager {
    /// Return whether something seems to be cached. It is called outside sections, so the result may be out of date
    /// immediately.
    #[inline(always)]
    pub(crate) fn seems_cached(&self, key: LookupKey) -> bool {
        match self.known_slot() {
            Some(slot) => self.lookups_of(slot, self.structure_now()).has(key),
            None => false,
        }
    }

    /// Return the number that a section would find now. It is called outside sections, so the result may be out of date
    /// immediately.
    #[inline(always)]
    pub(crate) fn structure_now(&self) -> u64 {
        self.shm().live().structure()
    }
}
