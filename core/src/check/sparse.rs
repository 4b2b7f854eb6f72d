//! Notes about addresses, in memory that grows with the number of noted pages, wherever they lie: a hostile
//! file may spread its pages over the whole address space.

use crate::ids::Addr;
use crate::object::header;
use std::collections::HashMap;

/// Words of a bitmap with one bit for each 16-byte unit of a page, at which segments can begin.
const WORDS: usize = 4;
/// Container headers that a page can hold.
const PLACES: usize = crate::ids::PAGE_SIZE / header::SIZE - 1;

/// A set of segments.
#[derive(Default)]
pub(super) struct Marks {
    pages: HashMap<u64, [u64; WORDS]>,
}

impl Marks {
    /// Add a segment. Return true if it is new.
    pub(super) fn add(&mut self, at: Addr) -> bool {
        let unit = at.offset() / 16;
        let word = &mut self.pages.entry(at.page().0).or_default()[unit / 64];
        let bit = 1 << (unit % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Remove a segment.
    pub(super) fn remove(&mut self, at: Addr) {
        let unit = at.offset() / 16;
        if let Some(words) = self.pages.get_mut(&at.page().0) {
            words[unit / 64] &= !(1 << (unit % 64));
        }
    }

    /// Return whether the set contains a segment.
    pub(super) fn has(&self, at: Addr) -> bool {
        let unit = at.offset() / 16;
        let words = self.pages.get(&at.page().0);
        words.is_some_and(|words| words[unit / 64] >> (unit % 64) & 1 != 0)
    }
}

/// A note about each container.
pub(super) struct PerContainer<T> {
    pages: HashMap<u64, Box<[T; PLACES]>>,
}

impl<T: Copy + Default> PerContainer<T> {
    pub(super) fn new() -> PerContainer<T> {
        PerContainer {
            pages: HashMap::new(),
        }
    }

    /// Return whether a container's header can begin at an address.
    pub(super) fn fits(at: Addr) -> bool {
        at.offset() >= header::SIZE && at.offset().is_multiple_of(header::SIZE)
    }

    /// Return the note about a container. The address must fit.
    pub(super) fn at(&mut self, at: Addr) -> &mut T {
        let places = self
            .pages
            .entry(at.page().0)
            .or_insert_with(|| Box::new([T::default(); PLACES]));
        &mut places[(at.offset() / header::SIZE).saturating_sub(1)]
    }

    /// Return the note about a container, if its page has any note.
    pub(super) fn get(&self, at: Addr) -> Option<&T> {
        self.pages
            .get(&at.page().0)
            .map(|places| &places[(at.offset() / header::SIZE).saturating_sub(1)])
    }

    /// Return the pages with notes, in order.
    pub(super) fn pages(&self) -> Vec<u64> {
        let mut pages: Vec<u64> = self.pages.keys().copied().collect();
        pages.sort_unstable();
        pages
    }

    /// Return the addresses at which containers of a page can begin.
    pub(super) fn places(page: u64) -> impl Iterator<Item = Addr> {
        let base = crate::ids::PageNo(page).addr();
        (1..=PLACES).map(move |i| base + (i * header::SIZE) as u64)
    }
}

/// The most containers that wait in memory; the others are found again by their notes.
const WAITING: usize = 1 << 16;

/// Containers to be examined, in bounded memory.
#[derive(Default)]
pub(super) struct Queue {
    list: Vec<Addr>,
    more: bool,
}

impl Queue {
    pub(super) fn push(&mut self, h: Addr) {
        if self.list.len() < WAITING {
            self.list.push(h);
        } else {
            self.more = true;
        }
    }

    /// Return one of them, the last first. The same may be returned twice.
    pub(super) fn pop(&mut self) -> Option<Addr> {
        self.list.pop()
    }

    /// If none is left in memory, find the others, which are marked in their notes. Return false if there are
    /// none.
    pub(super) fn refill<T: Copy + Default>(
        &mut self,
        notes: &PerContainer<T>,
        waits: fn(&T) -> bool,
    ) -> bool {
        if !std::mem::take(&mut self.more) {
            return false;
        }
        for page in notes.pages() {
            for h in PerContainer::<T>::places(page) {
                if notes.get(h).is_some_and(waits) {
                    self.push(h);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_distinguished() {
        let mut marks = Marks::default();
        for at in [0u64, 16, 4080, 4096, 1 << 47] {
            assert!(
                !marks.has(Addr(at)) && marks.add(Addr(at)) && !marks.add(Addr(at)) && marks.has(Addr(at))
            );
        }
        marks.remove(Addr(16));
        assert!(!marks.has(Addr(16)) && marks.has(Addr(0)) && marks.has(Addr(4080)));
    }

    #[test]
    fn places_of_containers() {
        let mut notes = PerContainer::<u64>::new();
        let places: Vec<Addr> = PerContainer::<u64>::places(3).collect();
        assert_eq!(
            (places.len(), places[0], places[62]),
            (63, Addr(3 * 4096 + 64), Addr(4 * 4096 - 64))
        );
        for (i, &at) in places.iter().enumerate() {
            assert!(PerContainer::<u64>::fits(at));
            *notes.at(at) = i as u64 + 1;
        }
        assert!(
            places
                .iter()
                .enumerate()
                .all(|(i, &at)| notes.get(at) == Some(&(i as u64 + 1)))
        );
        assert!(!PerContainer::<u64>::fits(Addr(4096)) && !PerContainer::<u64>::fits(Addr(4096 + 80)));
        assert_eq!((notes.pages(), notes.get(Addr(64))), (vec![3], None));
    }
}
