//! The words of the lock table, as storage: the region of the sidecar that `Table` and its operations (`op`)
//! use. Every store to the table goes through this module.

use crate::error::{Error, Result};
use crate::lock::memory::layout::{COUNTERS, SIGNALS, WORDS};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The words, the wait signals and the counters of buckets, borrowed from the map.
#[derive(Debug)]
pub struct Words<'a> {
    pub(in crate::lock) words: &'a [AtomicU64],
    pub(in crate::lock) signals: &'a [AtomicU32],
    pub(in crate::lock) counts: &'a [AtomicU32],
    /// Stores left before the test kills this process (`u64::MAX`: never).
    #[cfg(test)]
    pub(in crate::lock) fuse: AtomicU64,
    /// True if every lock has records, as the model of thin locks in the tests.
    #[cfg(test)]
    pub(in crate::lock) without_thin: std::sync::atomic::AtomicBool,
}

#[cold]
pub(in crate::lock) fn corrupt(what: &'static str, word: usize) -> Error {
    Error::Corrupt {
        what,
        at: word as u64,
    }
}

impl<'a> Words<'a> {
    /// Return zeroed words, or words that another process uses too.
    pub(in crate::lock) fn new(
        words: &'a [AtomicU64],
        signals: &'a [AtomicU32],
        counts: &'a [AtomicU32],
    ) -> Result<Words<'a>> {
        match (words.get(..WORDS), signals.get(..SIGNALS), counts.get(..COUNTERS)) {
            (Some(words), Some(signals), Some(counts)) => Ok(Words {
                words,
                signals,
                counts,
                #[cfg(test)]
                fuse: AtomicU64::new(u64::MAX),
                #[cfg(test)]
                without_thin: std::sync::atomic::AtomicBool::new(false),
            }),
            _ => Err(Error::invalid("the region of the lock table is too small")),
        }
    }

    /// Store a word. This is the only place where a word of the table is stored.
    #[inline]
    pub(in crate::lock) fn store(&self, word: usize, value: u64) -> Result<()> {
        self.count_down()?;
        match self.words.get(word) {
            Some(cell) => {
                cell.store(value, Ordering::Release);
                Ok(())
            }
            None => Err(corrupt(
                "a bad index in the lock table (close the store everywhere), word",
                word,
            )),
        }
    }

    pub(in crate::lock) fn store_count(&self, counter: usize, value: u32) -> Result<()> {
        self.count_down()?;
        match self.counts.get(counter) {
            Some(cell) => {
                cell.store(value, Ordering::Release);
                Ok(())
            }
            None => Err(corrupt(
                "a bad counter of the lock table (close the store everywhere), number",
                counter,
            )),
        }
    }

    pub(in crate::lock) fn load_word(&self, word: usize) -> u64 {
        self.words
            .get(word)
            .map_or(0, |cell| cell.load(Ordering::Acquire))
    }

    /// Return whether locks may be thin.
    #[inline]
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "the test build can say no"))]
    pub(in crate::lock) fn has_thin(&self) -> bool {
        #[cfg(test)]
        return !self.without_thin.load(Ordering::Relaxed);
        #[cfg(not(test))]
        true
    }

    /// Count down to the store at which a test kills this process.
    #[cfg(test)]
    #[inline]
    pub(in crate::lock) fn count_down(&self) -> Result<()> {
        match self.fuse.load(Ordering::Relaxed) {
            u64::MAX => Ok(()),
            0 => Err(Error::Closed),
            left => {
                self.fuse.store(left - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    #[cfg(not(test))]
    #[inline]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the test build can fail here"
    )]
    pub(in crate::lock) fn count_down(&self) -> Result<()> {
        Ok(())
    }
}
