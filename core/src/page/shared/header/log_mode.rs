//! Whether changes go to the redo log. `redo` states what the modes mean; only the latch's holder changes the mode.

use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;

/// It lies next to the word that every commit stores to.
const LOG_MODE: Word = Word::at(584);

pub(in crate::page) const OFF: u64 = 0;
pub(in crate::page) const PENDING: u64 = 1;
pub(in crate::page) const ON: u64 = 2;

impl Shm {
    /// Return the mode; `OFF` is 0.
    #[inline(always)]
    pub(in crate::page) fn log_mode(&self) -> u64 {
        self.get(LOG_MODE)
    }

    pub(in crate::page) fn set_log_mode(&self, mode: u64) {
        self.set(LOG_MODE, mode);
    }
}
