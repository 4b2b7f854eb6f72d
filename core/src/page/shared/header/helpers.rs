//! The words of the helpers, the threads that make checkpoints: what wakes them, and which one leads. `helper::thread`
//! has the rules.

use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use crate::raw::{futex, process};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// When the first change of an epoch was made, by epoch mod 3 (nanoseconds since 1970, for statistics only).
const DIRTY_AT: Word = Word::at(2560); // 3 words
/// The process whose helper makes the checkpoints, as in the latch's word; 0: none. In a cache line of its own.
const HELPER: Word = Word::at(2624);
/// Helpers sleep on this word. It changes with the first change of an epoch and with a request for a checkpoint.
const HELP_CALL: Word = Word::at(2688);
/// A checkpoint is due now: the dirty list is long, or a writer reached its end.
const HELP_NOW: Word = Word::at(2696);

impl Shm {
    /// Record that an epoch has its first change. Called under the latch, when the change is visible.
    pub(in crate::page) fn note_first_change(&self, list: usize) {
        self.set(DIRTY_AT.nth(list), process::coarse_now());
        self.call_helpers();
    }

    /// Return when the first change of an epoch was made.
    pub(in crate::page) fn first_change_at(&self, list: usize) -> u64 {
        self.get(DIRTY_AT.nth(list))
    }

    /// Wake all helpers.
    pub(in crate::page) fn call_helpers(&self) {
        let call = self.word32(HELP_CALL);
        call.fetch_add(1, Ordering::SeqCst);
        futex::wake(call, i32::MAX);
    }

    /// Return the number that changes with each call.
    pub(in crate::page) fn helper_calls(&self) -> u32 {
        self.word32(HELP_CALL).load(Ordering::SeqCst)
    }

    /// Sleep until the helpers are called, if they were not since there were `seen` calls, for `at_most`.
    pub(in crate::page) fn await_helper_call(&self, seen: u32, at_most: Duration) {
        futex::wait(self.word32(HELP_CALL), seen, at_most);
    }

    /// Request a checkpoint now.
    pub(in crate::page) fn request_checkpoint(&self) {
        if self.word(HELP_NOW).swap(1, Ordering::SeqCst) == 0 {
            self.call_helpers();
        }
    }

    /// Return whether a checkpoint was requested.
    pub(in crate::page) fn is_checkpoint_requested(&self) -> bool {
        self.get(HELP_NOW) != 0
    }

    /// Forget a request for a checkpoint.
    pub(in crate::page) fn forget_call(&self) {
        self.set(HELP_NOW, 0);
    }

    /// Return the process whose helper leads, as in the latch's word; 0: none.
    pub(in crate::page) fn leading_helper(&self) -> u64 {
        self.word(HELPER).load(Ordering::SeqCst)
    }

    /// Make another helper the leading one. Return false if `old` does not lead any more.
    pub(in crate::page) fn replace_leading_helper(&self, old: u64, new: u64) -> bool {
        self.word(HELPER)
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Take the lead from a helper that is stopped.
    pub(in crate::page) fn set_leading_helper(&self, helper: u64) {
        self.set(HELPER, helper);
    }

    /// Forget which helper leads: all of them are dead.
    pub(in crate::page) fn forget_leading_helper(&self) {
        self.set(HELPER, 0);
    }
}
