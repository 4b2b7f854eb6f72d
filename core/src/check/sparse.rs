//! Notes about addresses, in memory that grows with the pages that are noted, wherever they lie: a hostile
//! file may spread its pages over the whole address space.

use crate::ids::Addr;
use crate::object::header;
use std::collections::HashMap;

/// 16-byte units of a page, as bits: segments begin at one.
const WORDS: usize = 4;
/// Container headers that a page can hold.
const PLACES: usize = crate::ids::PAGE_SIZE / header::SIZE - 1;

/// A set of segments.
#[derive(Default)]
pub(super) struct Marks {
    pages: HashMap<u64, [u64; WORDS]>,
}

impl Marks {
    /// Adds a segment; true if it was not there.
    pub(super) fn add(&mut self, at: Addr) -> bool {
        let unit = at.offset() / 16;
        let word = &mut self.pages.entry(at.page().0).or_default()[unit / 64];
        let bit = 1 << (unit % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Takes a segment out.
    pub(super) fn remove(&mut self, at: Addr) {
        let unit = at.offset() / 16;
        if let Some(words) = self.pages.get_mut(&at.page().0) {
            words[unit / 64] &= !(1 << (unit % 64));
        }
    }

    /// Whether a segment is there.
    pub(super) fn has(&self, at: Addr) -> bool {
        let unit = at.offset() / 16;
        let words = self.pages.get(&at.page().0);
        words.is_some_and(|words| words[unit / 64] >> (unit % 64) & 1 != 0)
    }
}

/// Something about each container.
pub(super) struct PerContainer<T> {
    pages: HashMap<u64, Box<[T; PLACES]>>,
}

impl<T: Copy + Default> PerContainer<T> {
    pub(super) fn new() -> PerContainer<T> {
        PerContainer {
            pages: HashMap::new(),
        }
    }

    /// Whether a container's header can begin at an address at all.
    pub(super) fn fits(at: Addr) -> bool {
        at.offset() >= header::SIZE && at.offset().is_multiple_of(header::SIZE)
    }

    /// What is noted about a container. The address fits.
    pub(super) fn at(&mut self, at: Addr) -> &mut T {
        let places = self
            .pages
            .entry(at.page().0)
            .or_insert_with(|| Box::new([T::default(); PLACES]));
        &mut places[(at.offset() / header::SIZE).saturating_sub(1)]
    }

    /// What is noted about a container, if anything on its page is.
    pub(super) fn get(&self, at: Addr) -> Option<&T> {
        self.pages
            .get(&at.page().0)
            .map(|places| &places[(at.offset() / header::SIZE).saturating_sub(1)])
    }

    /// The pages about which something is noted, in order.
    pub(super) fn pages(&self) -> Vec<u64> {
        let mut pages: Vec<u64> = self.pages.keys().copied().collect();
        pages.sort_unstable();
        pages
    }

    /// The addresses at which containers of a page can begin.
    pub(super) fn places(page: u64) -> impl Iterator<Item = Addr> {
        let base = crate::ids::PageNo(page).addr();
        (1..=PLACES).map(move |i| base + (i * header::SIZE) as u64)
    }
}

/// Containers that wait in memory; more are found again by their notes.
const WAITING: usize = 1 << 16;

/// Containers to be looked at, in bounded memory.
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

    /// One of them, the last first. The same may come twice.
    pub(super) fn pop(&mut self) -> Option<Addr> {
        self.list.pop()
    }

    /// With none left in memory: finds the others, which are those whose notes say so. False if there are none.
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
    fn marks_are_told_apart() {
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
