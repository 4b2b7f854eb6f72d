//! The lookup cache: where a thread found entries, so that it need not search again.
//!
//! 1. `STRUCTURE` in the sidecar changes, inside the write section, with every change of the store except the
//!    replacement of a value in place (`PagesMut::set_value`) and times. Undoing is such a change, too, and it comes
//!    before the commit of the operation that contains it.
//! 2. A cached lookup is valid only in a section that finds the number under which it was recorded, and which has
//!    itself changed only values so far. Then everything still lies in the same place.
//! 3. A row of the table belongs to one thread slot, and only its thread uses it. So the words of a cached lookup
//!    belong together; they are atomics only because the compiler cannot know that.
//! 4. The table is allocated only when a thread searches repeatedly, so a short script does not pay for it. It grows
//!    when lookups evict each other, and is disabled for a while if that did not help: lookups that do not stay in the
//!    processor's cache are slower than searching.
//!
//! A cached lookup, one cache line:
//!
//! | WORD | FIELD |
//! | --- | --- |
//! | 0..2 | its key |
//! | 3 | `STRUCTURE` when it was recorded; 0: unused |
//! | 4..5 | the result |

use crate::page::shared::layout;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Cached lookups of one thread: 256 KiB of them, and 1 MiB if they evict each other. (Few in tests, so that they do.)
const NOTES: [usize; 2] = if TESTED { [64, 256] } else { [4096, 16384] };
/// Events before a thread gets each table: searches for the first, evictions for the second.
const LEARN_AFTER: [u32; 2] = if TESTED { [1, 200] } else { [64, 4096] };
/// Factor by which the number of searches before the tables are tried again grows with each failure of the large one.
const LONGER: u32 = 16;
const TESTED: bool = cfg!(any(test, feature = "testing"));

#[derive(Debug, Default)]
#[repr(align(64))]
pub(in crate::page) struct Note([AtomicU64; 8]);

#[derive(Debug, Default)]
pub(in crate::page) struct Row {
    /// 0: no table yet; 1, 2: the small, the large one; 3: disabled.
    level: AtomicU32,
    /// Searches without a table; with one, evictions of lookups that were still valid.
    misses: AtomicU32,
    /// Number of cached lookups that were used in the same time.
    hits: AtomicU32,
    /// How often the large table did not help.
    failures: AtomicU32,
    notes: [OnceLock<Box<[Note]>>; 2],
}

/// The tables of a process, by thread slot.
#[derive(Debug)]
pub(crate) struct LookupCache(Box<[Row]>);

impl Default for LookupCache {
    fn default() -> LookupCache {
        LookupCache((0..layout::THREAD_SLOTS).map(|_| Row::default()).collect())
    }
}

#[inline(always)]
pub(in crate::page) fn place(about: [u64; 3], notes: usize) -> usize {
    // The end of a key usually distinguishes it from its neighbours.
    let mixed = (about[2] ^ about[1].rotate_left(32) ^ about[0]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & (notes - 1)
}

#[inline(always)]
pub(in crate::page) fn is_of(note: &[AtomicU64; 8], about: [u64; 3], structure: u64) -> bool {
    note[3].load(Ordering::Relaxed) == structure
        && note[0].load(Ordering::Relaxed) == about[0]
        && note[1].load(Ordering::Relaxed) == about[1]
        && note[2].load(Ordering::Relaxed) == about[2]
}

impl LookupCache {
    /// Return the row of the thread that has this slot.
    #[inline(always)]
    pub(in crate::page) fn row(&self, slot: u32) -> Option<&Row> {
        self.0.get(slot as usize)
    }
}

impl Row {
    /// Return the result cached under this key and number.
    #[inline(always)]
    pub(in crate::page) fn find(&self, about: [u64; 3], structure: u64) -> Option<[u64; 2]> {
        let notes = self.table()?;
        let place = place(about, notes.len());
        let mut note = &notes.get(place)?.0;
        if !is_of(note, about, structure) {
            note = &notes.get(place ^ 1)?.0;
            if !is_of(note, about, structure) {
                return None;
            }
        }
        // Only this thread changes the count.
        let hits = self.hits.load(Ordering::Relaxed);
        self.hits.store(hits.wrapping_add(1), Ordering::Relaxed);
        (structure != 0).then(|| [note[4].load(Ordering::Relaxed), note[5].load(Ordering::Relaxed)])
    }

    /// Return whether something seems to be cached under this key, without counting it as used.
    #[inline(always)]
    pub(in crate::page) fn has(&self, about: [u64; 3], structure: u64) -> bool {
        let Some(notes) = self.table() else {
            return false;
        };
        let place = place(about, notes.len());
        let is_at = |place: usize| {
            notes
                .get(place)
                .is_some_and(|Note(note)| is_of(note, about, structure))
        };
        is_at(place) || is_at(place ^ 1)
    }

    /// Cache a result, if `counts`: the section that found it still holds.
    #[inline]
    pub(in crate::page) fn note(
        &self,
        about: [u64; 3],
        found: [u64; 2],
        structure: u64,
        counts: impl FnOnce() -> bool,
    ) {
        let Some(notes) = self.table() else {
            return self.miss();
        };
        // The number was loaded before this check, so the result belongs to it.
        if structure == 0 || !counts() {
            return;
        }
        let holds = |place: usize| {
            notes
                .get(place)
                .is_some_and(|Note(note)| note[3].load(Ordering::Relaxed) == structure)
        };
        let mut place = place(about, notes.len());
        if holds(place) {
            // Two keys with the same place can both stay; only a third evicts one.
            place ^= 1;
            if holds(place) {
                self.miss();
            }
        }
        if let Some(Note(note)) = notes.get(place) {
            let words = [about[0], about[1], about[2], structure, found[0], found[1]];
            for (word, value) in note.iter().zip(words) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }

    #[inline(always)]
    fn table(&self) -> Option<&[Note]> {
        let level = self.level.load(Ordering::Relaxed) as usize;
        self.notes.get(level.wrapping_sub(1))?.get().map(|notes| &**notes)
    }

    /// Count a case in which a table, or a larger one, would have helped.
    #[inline]
    fn miss(&self) {
        let misses = self.misses.load(Ordering::Relaxed) + 1;
        self.misses.store(misses, Ordering::Relaxed);
        let level = self.level.load(Ordering::Relaxed);
        let tolerated = match level {
            0 => LEARN_AFTER[0],
            1 => LEARN_AFTER[1],
            2 => NOTES[1] as u32,
            _ => LEARN_AFTER[1].saturating_mul(LONGER.saturating_pow(self.failures.load(Ordering::Relaxed))),
        };
        if misses >= tolerated {
            self.change(level, misses);
        }
    }

    #[cold]
    fn change(&self, level: u32, misses: u32) {
        let helps = self.hits.load(Ordering::Relaxed) / 2 > misses;
        self.misses.store(0, Ordering::Relaxed);
        self.hits.store(0, Ordering::Relaxed);
        let next = match level {
            2 if helps => 2,
            2 => {
                let failures = self.failures.load(Ordering::Relaxed) + 1;
                self.failures.store(failures.min(4), Ordering::Relaxed);
                3
            }
            3 => 1,
            _ => {
                let which = level as usize;
                self.notes[which].get_or_init(|| (0..NOTES[which]).map(|_| Note::default()).collect());
                level + 1
            }
        };
        self.level.store(next, Ordering::Relaxed);
    }
}
