//! What a thread remembers of where it found things, so that it need not search again.
//!
//! 1. `STRUCTURE` in the sidecar changes, inside the write section, with every change of the store but
//!    the replacing of a value in its place (`PagesMut::set_value`) and times: undoing is such a change,
//!    too, and it comes before the commit of what it stands for.
//! 2. A note counts only in a section that finds the number it was made under, and which has itself
//!    changed nothing but values so far: then everything still lies where it lay.
//! 3. A row of the table belongs to one thread slot, and only its thread uses it. So the words of a note
//!    belong together; they are atomics only because the compiler cannot know that.
//! 4. The table is made only when a thread comes back: a short script pays nothing for it. It becomes larger when
//!    notes drive each other out, and is put away for a while if that did not help: what does not stay in the
//!    processor's cache is slower than searching.
//!
//! A note, one cache line:
//!
//! | WORD | FIELD |
//! | --- | --- |
//! | 0..2 | what it is about |
//! | 3 | `STRUCTURE` when it was made; 0: no note |
//! | 4..5 | what was found |

use crate::page::shared::layout;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Notes of one thread: 256 KiB of them, and 1 MiB if they drive each other out. (Few in tests, so that they do.)
const NOTES: [usize; 2] = if TESTED { [64, 256] } else { [4096, 16384] };
/// What a thread goes through before it gets each table: searches, notes driven out.
const PATIENCE: [u32; 2] = if TESTED { [1, 200] } else { [64, 4096] };
/// Searches that go by when the large table did not help, until it is all tried again; each time so many times
/// more.
const LONGER: u32 = 16;
const TESTED: bool = cfg!(any(test, feature = "testing"));

#[derive(Debug, Default)]
#[repr(align(64))]
pub(in crate::page) struct Note([AtomicU64; 8]);

#[derive(Debug, Default)]
pub(in crate::page) struct Row {
    /// 0: no table yet; 1, 2: the small, the large one; 3: put away.
    level: AtomicU32,
    /// Searches without a table; then notes that drove out others which held still.
    misses: AtomicU32,
    /// Notes that were of use meanwhile.
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
    // The end of a key tells it from its neighbours as a rule.
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
    /// The notes of the thread that has this slot.
    #[inline(always)]
    pub(in crate::page) fn row(&self, slot: u32) -> Option<&Row> {
        self.0.get(slot as usize)
    }
}

impl Row {
    /// What was noted about something under this number.
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
        // Only this thread counts here.
        let hits = self.hits.load(Ordering::Relaxed);
        self.hits.store(hits.wrapping_add(1), Ordering::Relaxed);
        (structure != 0).then(|| [note[4].load(Ordering::Relaxed), note[5].load(Ordering::Relaxed)])
    }

    /// Whether something seems to be noted about it, without counting as a use.
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

    /// Notes what was found, if `counts`: the section that found it still holds.
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
        // The number was loaded before the question: what was found belongs to it.
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
            // Of two that share a place one has to go only if there is a third.
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

    /// A table, or a larger one, would have helped.
    #[inline]
    fn miss(&self) {
        let misses = self.misses.load(Ordering::Relaxed) + 1;
        self.misses.store(misses, Ordering::Relaxed);
        let level = self.level.load(Ordering::Relaxed);
        let patience = match level {
            0 => PATIENCE[0],
            1 => PATIENCE[1],
            2 => NOTES[1] as u32,
            _ => PATIENCE[1].saturating_mul(LONGER.saturating_pow(self.failures.load(Ordering::Relaxed))),
        };
        if misses >= patience {
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
