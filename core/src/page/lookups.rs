//! Cached lookups: where a thread found entries, so that it need not search again. A section hands out what is valid in
//! it (`Pages::lookups`); upper layers use nothing else of the cache.
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

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Entries of a thread's tables: 256 KiB of them, and 1 MiB if they evict each other. (Few in tests, so that they do.)
const ENTRIES: [usize; 2] = if TESTED { [64, 256] } else { [4096, 16384] };
/// Events before a thread gets each table: searches for the first, evictions for the second.
const LEARN_AFTER: [u32; 2] = if TESTED { [1, 200] } else { [64, 4096] };
/// Factor by which the number of searches before the tables are tried again grows with each failure of the large one.
const LONGER: u32 = 16;
const TESTED: bool = cfg!(any(test, feature = "testing"));

/// What is looked up, in three words that the caller chooses.
pub type LookupKey = [u64; 3];
/// Where it was found, in two words that the caller chooses.
pub type Found = [u64; 2];

/// The cached lookups that are valid in a section, and where it records more.
#[derive(Clone, Copy, Debug)]
pub struct Lookups<'a> {
    row: Option<&'a Row>,
    /// The number of the section (2); 0 if none may be used or recorded.
    structure: u64,
}

/// A cached lookup.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Entry([AtomicU64; 8]);

/// The tables of one thread.
#[derive(Debug, Default)]
struct Row {
    /// 0: no table yet; 1, 2: the small, the large one; 3: disabled.
    level: AtomicU32,
    /// Searches without a table; with one, evictions of lookups that were still valid.
    misses: AtomicU32,
    /// Number of cached lookups that were used in the same time.
    hits: AtomicU32,
    /// How often the large table did not help.
    failures: AtomicU32,
    tables: [OnceLock<Box<[Entry]>>; 2],
}

/// The tables of a process, by thread slot.
#[derive(Debug)]
pub(crate) struct LookupCache(Box<[Row]>);

/// Return the place of a key in a table of that size.
#[inline(always)]
fn place(key: LookupKey, entries: usize) -> usize {
    // The end of a key usually distinguishes it from its neighbours.
    let mixed = (key[2] ^ key[1].rotate_left(32) ^ key[0]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & (entries - 1)
}

#[inline(always)]
fn is_of(entry: &[AtomicU64; 8], key: LookupKey, structure: u64) -> bool {
    entry[3].load(Ordering::Relaxed) == structure
        && entry[0].load(Ordering::Relaxed) == key[0]
        && entry[1].load(Ordering::Relaxed) == key[1]
        && entry[2].load(Ordering::Relaxed) == key[2]
}

impl LookupCache {
    /// Begin without tables. `slots`: the number of thread slots.
    pub(in crate::page) fn new(slots: usize) -> LookupCache {
        LookupCache((0..slots).map(|_| Row::default()).collect())
    }

    /// Return the lookups of the thread that has this slot, for a section with this number.
    #[inline(always)]
    pub(in crate::page) fn of(&self, slot: u32, structure: u64) -> Lookups<'_> {
        Lookups {
            row: self.0.get(slot as usize),
            structure,
        }
    }
}

impl Lookups<'_> {
    /// No lookups: nothing is cached.
    pub const NONE: Lookups<'static> = Lookups {
        row: None,
        structure: 0,
    };

    /// Return a number that changes with every change of the store, inside sections, except the replacement of a value;
    /// 0 if no number is available.
    #[inline(always)]
    #[must_use]
    pub fn structure(self) -> u64 {
        self.structure
    }

    /// Return the cached lookup of something, if only values have changed in the store since.
    #[inline(always)]
    #[must_use]
    pub fn find(self, key: LookupKey) -> Option<Found> {
        self.row?.find(key, self.structure)
    }

    /// Return whether something seems to be cached, without counting it as used.
    #[inline(always)]
    pub(in crate::page) fn has(self, key: LookupKey) -> bool {
        match self.row {
            Some(row) => row.has(key, self.structure),
            None => false,
        }
    }

    /// Cache where an entry was found, if the section that found it `holds`.
    #[inline]
    pub fn insert(self, key: LookupKey, found: Found, holds: impl FnOnce() -> bool) {
        if let Some(row) = self.row {
            row.insert(key, found, self.structure, holds);
        }
    }
}

impl Row {
    /// Return the result cached under this key and number.
    #[inline(always)]
    fn find(&self, key: LookupKey, structure: u64) -> Option<Found> {
        let entries = self.table()?;
        let place = place(key, entries.len());
        let mut entry = &entries.get(place)?.0;
        if !is_of(entry, key, structure) {
            entry = &entries.get(place ^ 1)?.0;
            if !is_of(entry, key, structure) {
                return None;
            }
        }
        // Only this thread changes the count.
        let hits = self.hits.load(Ordering::Relaxed);
        self.hits.store(hits.wrapping_add(1), Ordering::Relaxed);
        (structure != 0).then(|| [entry[4].load(Ordering::Relaxed), entry[5].load(Ordering::Relaxed)])
    }

    /// Return whether something seems to be cached under this key, without counting it as used.
    #[inline(always)]
    fn has(&self, key: LookupKey, structure: u64) -> bool {
        let Some(entries) = self.table() else {
            return false;
        };
        let place = place(key, entries.len());
        let is_at = |place: usize| {
            entries
                .get(place)
                .is_some_and(|Entry(entry)| is_of(entry, key, structure))
        };
        is_at(place) || is_at(place ^ 1)
    }

    /// Cache a result, if `counts`: the section that found it still holds.
    #[inline]
    fn insert(&self, key: LookupKey, found: Found, structure: u64, counts: impl FnOnce() -> bool) {
        let Some(entries) = self.table() else {
            return self.miss();
        };
        // The number was loaded before this check, so the result belongs to it.
        if structure == 0 || !counts() {
            return;
        }
        let holds = |place: usize| {
            entries
                .get(place)
                .is_some_and(|Entry(entry)| entry[3].load(Ordering::Relaxed) == structure)
        };
        let mut place = place(key, entries.len());
        if holds(place) {
            // Two keys with the same place can both stay; only a third evicts one.
            place ^= 1;
            if holds(place) {
                self.miss();
            }
        }
        if let Some(Entry(entry)) = entries.get(place) {
            let words = [key[0], key[1], key[2], structure, found[0], found[1]];
            for (word, value) in entry.iter().zip(words) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }

    #[inline(always)]
    fn table(&self) -> Option<&[Entry]> {
        let level = self.level.load(Ordering::Relaxed) as usize;
        self.tables
            .get(level.wrapping_sub(1))?
            .get()
            .map(|table| &**table)
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
            2 => ENTRIES[1] as u32,
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
                self.tables[which].get_or_init(|| (0..ENTRIES[which]).map(|_| Entry::default()).collect());
                level + 1
            }
        };
        self.level.store(next, Ordering::Relaxed);
    }
}
