//! What a thread remembers of where it found things, so that it need not search again.
//!
//! 1. `STRUCTURE` in the sidecar changes, inside the write section, with every change of the store but
//!    the replacing of a value in its place (`PagesMut::set_value`) and times: undoing is such a change,
//!    too, and it comes before the commit of what it stands for.
//! 2. A note counts only in a section that finds the number it was made under, and which has itself
//!    changed nothing but values so far: then everything still lies where it lay.
//! 3. A row of the table belongs to one thread slot, and only its thread uses it. So the words of a note
//!    belong together; they are atomics only because the compiler cannot know that.
//! 4. The table is made only when a thread comes back: a short script pays nothing for it.
//!
//! A note, one cache line:
//!
//! | WORD | FIELD |
//! | --- | --- |
//! | 0..2 | what it is about |
//! | 3 | `STRUCTURE` when it was made; 0: no note |
//! | 4..5 | what was found |

use super::shm::{self, at};
use super::{Pager, ReadSection};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Notes of one thread: 256 KiB of them, and 4 MiB if they drive each other out all the time. (Few in tests,
/// so that they do.)
const NOTES: [usize; 2] = if TESTED { [64, 256] } else { [4096, 65536] };
/// What a thread goes through before it gets each table: searches, notes driven out.
const PATIENCE: [u32; 2] = if TESTED { [1, 200] } else { [64, 4096] };
const TESTED: bool = cfg!(any(test, feature = "testing"));

#[derive(Debug, Default)]
#[repr(align(64))]
struct Note([AtomicU64; 8]);

#[derive(Debug, Default)]
struct Row {
    /// Searches without a table; then notes that drove out others which held still.
    searches: AtomicU32,
    notes: [OnceLock<Box<[Note]>>; 2],
}

/// The tables of a process, by thread slot.
#[derive(Debug)]
pub(crate) struct Memo(Box<[Row]>);

impl Default for Memo {
    fn default() -> Memo {
        Memo((0..shm::THREAD_SLOTS).map(|_| Row::default()).collect())
    }
}

#[inline(always)]
fn place(about: [u64; 3], notes: usize) -> usize {
    // The end of a key tells it from its neighbours as a rule.
    let mixed = (about[2] ^ about[1].rotate_left(32) ^ about[0]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & (notes - 1)
}

#[inline(always)]
fn is_of(note: &[AtomicU64; 8], about: [u64; 3], structure: u64) -> bool {
    note[3].load(Ordering::Relaxed) == structure
        && note[0].load(Ordering::Relaxed) == about[0]
        && note[1].load(Ordering::Relaxed) == about[1]
        && note[2].load(Ordering::Relaxed) == about[2]
}

impl ReadSection<'_> {
    /// The number that notes of this section are made under; 0 where none may be used or made.
    #[inline(always)]
    fn structure(&self) -> u64 {
        if self.restructured {
            0
        } else {
            self.pager().shm.word(at::STRUCTURE).load(Ordering::Relaxed)
        }
    }

    /// What was noted about something, if it still holds.
    #[inline(always)]
    pub(super) fn remembered(&self, about: [u64; 3]) -> Option<[u64; 2]> {
        let notes = self.pager().memo.0.get(self.slot as usize)?.table()?;
        let structure = self.structure();
        let place = place(about, notes.len());
        let mut note = &notes.get(place)?.0;
        if !is_of(note, about, structure) {
            note = &notes.get(place ^ 1)?.0;
            if !is_of(note, about, structure) {
                return None;
            }
        }
        (structure != 0).then(|| [note[4].load(Ordering::Relaxed), note[5].load(Ordering::Relaxed)])
    }

    /// Notes what was found about something.
    #[inline]
    pub(super) fn remember(&self, about: [u64; 3], found: [u64; 2]) {
        let structure = self.structure();
        let Some(row) = self.pager().memo.0.get(self.slot as usize) else {
            return;
        };
        let Some(notes) = row.table() else {
            return row.want(0);
        };
        if structure == 0 {
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
            if holds(place) && notes.len() == NOTES[0] {
                row.want(1);
            }
        }
        if let Some(Note(note)) = notes.get(place) {
            let words = [about[0], about[1], about[2], structure, found[0], found[1]];
            for (word, value) in note.iter().zip(words) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }
}

impl Row {
    #[inline(always)]
    fn table(&self) -> Option<&[Note]> {
        let [few, many] = &self.notes;
        many.get().or_else(|| few.get()).map(|notes| &**notes)
    }

    /// A table, or the larger one, would have helped: it is made when that has happened often enough.
    #[cold]
    fn want(&self, which: usize) {
        if self.searches.fetch_add(1, Ordering::Relaxed) >= PATIENCE[which] {
            self.searches.store(0, Ordering::Relaxed);
            self.notes[which].get_or_init(|| (0..NOTES[which]).map(|_| Note::default()).collect());
        }
    }
}

impl Pager {
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
