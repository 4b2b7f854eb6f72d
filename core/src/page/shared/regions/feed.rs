//! The shared memory of the change feed: the ring of records (`sync::ring`), and which containers are watched.
//!
//! 1. Containers are watched by buckets of their ids, 1024. A process has a set of buckets, one bit each, in the
//!    place of its process slot; `ALL` is the union of the sets. `WATCHED` is 0 if the union is empty, so that a change
//!    reads one word where nothing is watched.
//! 2. The latch's holder alone changes sets, union, `WATCHED` and the ring. The union has the bits of every set at any
//!    moment. A process that dies while it changes them leaves bits too many at most; the process that recovers empties
//!    its set and computes the union again.
//!
//! | OFFSET IN THE REGION | SIZE | CONTENT |
//! | --- | --- | --- |
//! | 0 | 16 KiB | the sets of the process slots: 128 of 16 words |
//! | 0x4000 | 128 | the union |
//! | 0x20000 | 256 KiB | the ring |

use crate::ids::ObjectId;
use crate::page::shared::layout::{FEED, PROCESS_SLOTS};
use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use crate::page::sync::ring::Ring;
use crate::page::sync::waiters::Waiters;
use std::sync::atomic::{AtomicU64, Ordering};

/// 1 if any container is watched; in the cache line that every change writes (`live`).
const WATCHED: Word = Word::at(264);
/// The words of the ring.
const RING_HEAD: Word = Word::at(2816);
const RING_STAGED: Word = Word::at(2824);
const RING_RESERVED: Word = Word::at(2832);
/// Changes with every publication: what readers sleep on; and the number of sleepers.
const RING_TURN: Word = Word::at(2880);
const RING_WAITERS: Word = Word::at(2888);

/// Number of buckets.
pub(crate) const BUCKETS: usize = 1024;
const SET_WORDS: usize = BUCKETS / 64;
const ALL: usize = FEED + 0x4000;
const RING: usize = FEED + 0x20000;
/// Small in tests, so that readers are overtaken and changes do not fit.
const RING_WORDS: usize = if cfg!(feature = "testing") { 512 } else { 32 << 10 };
const _: () =
    assert!(BUCKETS == 1024 && RING_WORDS.is_power_of_two() && PROCESS_SLOTS * SET_WORDS * 8 == ALL - FEED);

/// Return the bucket of a container.
#[inline(always)]
pub(crate) fn bucket(id: ObjectId) -> usize {
    (id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize
}

impl Shm {
    /// Return whether any process watches the container, or one that shares its bucket.
    #[inline(always)]
    pub(crate) fn is_watched(&self, id: ObjectId) -> bool {
        self.word(WATCHED).load(Ordering::Relaxed) != 0 && self.is_bucket_watched(bucket(id))
    }

    #[inline(never)]
    fn is_bucket_watched(&self, bucket: usize) -> bool {
        self.words(ALL, SET_WORDS)[bucket / 64].load(Ordering::Relaxed) & 1 << (bucket % 64) != 0
    }

    fn watched_by(&self, process: usize) -> &[AtomicU64] {
        self.words(FEED + process * SET_WORDS * 8, SET_WORDS)
    }

    /// Set a bucket in the set of a process. The caller holds the latch.
    pub(crate) fn watch(&self, process: usize, bucket: usize) {
        let (word, bit) = (&self.watched_by(process)[bucket / 64], 1 << (bucket % 64));
        let all = &self.words(ALL, SET_WORDS)[bucket / 64];
        all.store(all.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
        self.set(WATCHED, 1);
        word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
    }

    /// Clear buckets in the set of a process. The caller holds the latch.
    pub(crate) fn watch_no_more(&self, process: usize, buckets: impl IntoIterator<Item = usize>) {
        for bucket in buckets {
            let (word, bit) = (&self.watched_by(process)[bucket / 64], 1 << (bucket % 64));
            word.store(word.load(Ordering::Relaxed) & !bit, Ordering::Relaxed);
        }
        self.unite_watched();
    }

    /// Empty the set of a process slot. The caller holds the latch. It can be repeated.
    pub(crate) fn watches_nothing(&self, process: usize) {
        let mut had_any = false;
        for word in self.watched_by(process) {
            had_any |= word.load(Ordering::Relaxed) != 0;
            word.store(0, Ordering::Relaxed);
        }
        if had_any || self.word(WATCHED).load(Ordering::Relaxed) != 0 {
            self.unite_watched();
        }
    }

    fn unite_watched(&self) {
        let mut any = 0;
        for (i, all) in self.words(ALL, SET_WORDS).iter().enumerate() {
            let sets = (0..PROCESS_SLOTS).map(|p| self.watched_by(p)[i].load(Ordering::Relaxed));
            let bits = sets.fold(0, |bits, set| bits | set);
            all.store(bits, Ordering::Relaxed);
            any |= bits;
        }
        self.set(WATCHED, u64::from(any != 0));
    }

    /// Forget all watchers and records: every process is dead. Where none watched, the sets are empty and are not
    /// touched, since every opening comes here.
    pub(in crate::page) fn forget_feed(&self) {
        if self.word(WATCHED).load(Ordering::Relaxed) != 0 {
            let sets = self.words(FEED, PROCESS_SLOTS * SET_WORDS);
            for word in sets.iter().chain(self.words(ALL, SET_WORDS)) {
                word.store(0, Ordering::Relaxed);
            }
            self.set(WATCHED, 0);
        }
        for word in [RING_HEAD, RING_STAGED, RING_RESERVED, RING_WAITERS] {
            self.set(word, 0);
        }
    }

    pub(crate) fn ring(&self) -> Ring<'_> {
        Ring {
            head: self.word(RING_HEAD),
            staged: self.word(RING_STAGED),
            reserved: self.word(RING_RESERVED),
            words: self.words(RING, RING_WORDS),
        }
    }

    /// Return the sleepers of the feed.
    pub(crate) fn ring_sleepers(&self) -> Waiters<'_> {
        Waiters {
            count: self.word32(RING_WAITERS),
            futex: self.word32(RING_TURN),
        }
    }
}
