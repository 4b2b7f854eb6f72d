//! The ring of the change feed: what a reader gets is whole, and a sleeping reader is woken.

use crate::model::{Without, holds_only_with, name};
use crate::raw::sync::{AtomicU32, AtomicU64, FutexWord, Ordering};
use crate::ring::{Found, Ring};
use crate::waiters::Waiters;
use loom::thread;
use std::sync::Arc;
use std::time::Duration;

/// Words of the ring: two records fit.
const WORDS: usize = 4;

struct Feed {
    head: AtomicU64,
    staged: AtomicU64,
    reserved: AtomicU64,
    words: Vec<AtomicU64>,
    turn: AtomicU64,
    futex: FutexWord,
    waiters: AtomicU32,
}

impl Feed {
    fn new() -> Arc<Feed> {
        let turn = AtomicU64::new(0);
        Arc::new(Feed {
            head: AtomicU64::new(0),
            staged: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
            futex: FutexWord(turn.clone()),
            turn,
            waiters: AtomicU32::new(0),
        })
    }

    fn ring(&self) -> Ring<'_> {
        Ring {
            head: &self.head,
            staged: &self.staged,
            reserved: &self.reserved,
            words: &self.words,
        }
    }

    fn sleepers(&self) -> Waiters<'_> {
        Waiters {
            count: &self.waiters,
            futex: &self.futex,
        }
    }

    /// page/section/notices.rs: stage, commit, publish, and wake after the latch was released.
    fn change(&self, n: u64) {
        self.ring().stage(&record(n));
        self.ring().publish();
        self.turn.fetch_add(1, Ordering::SeqCst);
        self.sleepers().wake(i32::MAX);
    }
}

/// A record of two words that belong together.
fn record(n: u64) -> [u64; 2] {
    [2 | n << 16, n]
}

/// The numbers of the records in `words`. Panics at one that is torn.
fn numbers(words: &[u64]) -> Vec<u64> {
    let each = words.chunks(2).map(|pair| {
        assert_eq!(pair, record(pair[1]), "a torn record");
        pair[1]
    });
    each.collect()
}

/// A writer overtakes the reader, and undoes a change in between.
#[test]
fn a_reader_gets_whole_records_of_committed_changes() {
    holds_only_with(
        name!("a_reader_gets_whole_records_of_committed_changes"),
        &[Without::Fences],
        3,
        || {
            let feed = Feed::new();
            let writer = {
                let feed = feed.clone();
                thread::spawn(move || {
                    feed.change(1);
                    feed.ring().stage(&record(9));
                    feed.ring().discard();
                    feed.change(2);
                    feed.change(3);
                })
            };
            let (mut at, mut last) = (0, 0);
            for _ in 0..3 {
                thread::yield_now();
                let mut words = Vec::new();
                match feed.ring().read(at, &mut words) {
                    Found::Lost(end) => {
                        assert!(words.is_empty() && end >= at);
                        at = end;
                        last = last.max(end / 2);
                    }
                    Found::To(end) => {
                        for n in numbers(&words) {
                            assert_eq!(n, last + 1, "a change that is missing or was undone");
                            last = n;
                        }
                        at = end;
                    }
                }
            }
            writer.join().unwrap();
        },
    );
}

#[test]
fn a_reader_that_sleeps_is_woken() {
    holds_only_with(
        name!("a_reader_that_sleeps_is_woken"),
        &[Without::Fences, Without::Comparison],
        3,
        || {
            let feed = Feed::new();
            let writer = {
                let feed = feed.clone();
                thread::spawn(move || feed.change(1))
            };
            while feed.ring().end() == 0 {
                feed.sleepers()
                    .sleep_unless(Duration::ZERO, || feed.ring().end() != 0);
            }
            writer.join().unwrap();
        },
    );
}
