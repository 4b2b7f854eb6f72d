//! The bound on loss: a thread makes the checkpoints, so that a change is durable within `max_age` and no writer makes
//! a checkpoint in its own call.
//!
//! | STATE OF A HELPER | LEFT WHEN |
//! | --- | --- |
//! | asleep: every change is durable | the first change of an epoch calls all helpers (`HELP_CALL`) |
//! | waiting, in the lead | the epoch is old enough, its list is long, or a writer requests a checkpoint |
//! | waiting, standing by | as above and some time later, or at once if the leader has died |
//! | making a checkpoint | it is done |
//!
//! 1. Each process that changes a store has one helper thread for it, started by its first change (a forked child has
//!    its own). One helper leads: `HELPER` names its process as the latch's word does. The word only saves work. The
//!    ownership of the checkpoint makes two helpers at once harmless (`checkpoint`).
//! 2. A leader that makes no step for `MAX_WAIT` beyond the due time is stopped or dead: a helper that stands by takes
//!    the lead. No clock is shared: each helper measures with its own clock how long a word has not changed.
//! 3. The thread holds one count of the pager from its start to its end. `close` ends it and waits for that. In a
//!    forked child the thread does not exist, and the fork releases its count (`fork`).
//! 4. Its waits for the latch end with `Error::Interrupted` when the store is being closed. The next owner of the
//!    checkpoint continues its unfinished work.
//! 5. Where the thread cannot be started (a limit of processes or memory), each change tries again, and makes the
//!    checkpoint itself unless another process has a helper: the bound holds, slowly.
//! 6. A failed checkpoint is retried after increasing pauses. A poisoned store is left alone.

use crate::error::{Error, Result};
use crate::page::checkpoint::owner::MAX_WAIT;
use crate::page::helper::frees::Idle;
use crate::page::pager::Pager;
use crate::page::pager::helper::Shared;
use crate::page::shared::shm::Shm;
use crate::page::shared::users::slots::{self, P};
use crate::page::shared::word::Word;
use crate::page::sync::latch::Owner;
use crate::page::sync::wait::Wait;
use crate::raw::{futex, process};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of the thread's stack.
const STACK: usize = 512 << 10;
/// Number of changed pages after which a checkpoint is due, whatever their age: as many as the store has, between these
/// limits. In a smaller store all pages may be changed, and then no change copies a page any more. A lower limit makes
/// checkpoints follow each other without the pause of `delay` where changes are spread over a store of 1 GB. Small in
/// tests, as the lists are.
const DIRTY_LIMIT: std::ops::RangeInclusive<u64> = if cfg!(feature = "testing") {
    32768..=32768
} else {
    65536..=1_048_576
};
/// Number of changed pages at which writers yield to the helper, for a millisecond each.
const CROWDED: u64 = if cfg!(feature = "testing") {
    34_000
} else {
    2 << 20
};
/// Number of changed pages at which a writer makes the checkpoint itself: the list is nearly full (`free_pages`).
const FULL: u64 = if cfg!(feature = "testing") {
    36_000
} else {
    3 << 20
};
const _: () = assert!(*DIRTY_LIMIT.end() < CROWDED && CROWDED < FULL);
/// An unlimited sleep on a futex, which needs a bound.
const LONG: Duration = Duration::from_secs(3600);
/// The longest interval between checks for entries that wait to be freed, while changes are not durable.
const LOOK: Duration = Duration::from_secs(1);
/// The longest pause after failed checkpoints.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

thread_local! {
    static HELPING: Cell<bool> = const { Cell::new(false) };
}

/// Return a bound on loss in the form of `Requirements`.
pub(crate) fn in_ms(age: Duration) -> u32 {
    age.as_millis().clamp(1, u128::from(u32::MAX)) as u32
}

/// Releases the thread's count of the pager, however the thread ends.
struct Count {
    pager: Option<Arc<Pager>>,
    shared: Arc<Shared>,
}

impl Drop for Count {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counted = false;
        drop(self.pager.take());
    }
}

/// When the first change of an epoch was made, by epoch mod 3 (nanoseconds since 1970, for statistics only).
const DIRTY_AT: Word = Word::at(2560); // 3 words
/// The process whose helper makes the checkpoints, as in the latch's word; 0: none. In a cache line of its own.
const HELPER: Word = Word::at(2624);
/// Helpers sleep on this word. It changes with the first change of an epoch and with a request for a checkpoint.
const HELP_CALL: Word = Word::at(2688);
/// A checkpoint is due now: the dirty list is long, or a writer reached its end.
const HELP_NOW: Word = Word::at(2696);

impl Shm {
    /// Forget which helper leads: all of them are dead.
    pub(in crate::page) fn forget_leading_helper(&self) {
        self.set(HELPER, 0);
    }

    /// Forget a request for a checkpoint.
    pub(in crate::page) fn forget_call(&self) {
        self.set(HELP_NOW, 0);
    }
}

/// What a helper has observed of the epoch that it waits for.
struct Notice {
    epoch: u64,
    at: Instant,
    beat: u64,
}

impl Pager {
    /// Record that an epoch has its first change. Called under the latch, when the change is visible.
    pub(crate) fn note_first_change(&self, list: usize) {
        self.shm.set(DIRTY_AT.nth(list), process::coarse_now());
        self.call_helpers();
    }

    /// Wake all helpers.
    pub(crate) fn call_helpers(&self) {
        let call = self.shm.word32(HELP_CALL);
        call.fetch_add(1, Ordering::SeqCst);
        futex::wake(call, i32::MAX);
    }

    /// Request a checkpoint now, without making it.
    #[cold]
    pub(crate) fn demand_checkpoint(&self) {
        if self.shm.word(HELP_NOW).swap(1, Ordering::SeqCst) == 0 {
            self.call_helpers();
        }
        self.start_helper(true);
    }

    /// Return whether a change requires checkpoint work (two loads): so much has changed that a checkpoint is due, or
    /// this process has not checked yet whether it needs a helper.
    #[must_use]
    #[inline]
    pub fn wants_help(&self) -> bool {
        self.helper.is_absent() || self.dirty_pages() > *DIRTY_LIMIT.start()
    }

    /// Do the work that `wants_help` found, without a checkpoint in this call. Called outside sections and
    /// transactions.
    #[cold]
    pub fn request_help(&self) {
        let (dirty, store) = (self.dirty_pages(), self.shm.live().logical());
        let due = dirty > store.clamp(*DIRTY_LIMIT.start(), *DIRTY_LIMIT.end());
        if due {
            self.demand_checkpoint();
        } else if self.helper.is_absent() {
            self.start_helper(false);
        }
        self.stand_in_for_helper(due);
        if dirty > FULL {
            // The change is complete whatever the result: the next sync reports errors.
            let _ = self.checkpoint(&mut Wait::default());
        } else if dirty > CROWDED {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Return how long ago the oldest change was made that is in no durable checkpoint, or None if every change is
    /// durable. It uses the machine's clock, so setting the clock changes the result.
    #[must_use]
    pub fn undurable_age(&self) -> Option<Duration> {
        let list = self.undurable_epoch()? as usize % 3;
        let at = self.shm.get(DIRTY_AT.nth(list));
        Some(Duration::from_nanos(process::coarse_now().saturating_sub(at)))
    }

    /// Return the oldest epoch that has changes and is not durable.
    fn undurable_epoch(&self) -> Option<u64> {
        let (phase, under_way) = (
            self.shm.next_checkpoint().phase(),
            self.shm.next_checkpoint().epoch(),
        );
        if phase != 0 && self.shm.last_checkpoint().number() < under_way {
            return Some(under_way);
        }
        let epoch = self.shm.live().epoch();
        (self.shm.list_len(epoch as usize % 3) != 0).then_some(epoch)
    }

    /// Return the shortest `max_age` that a present process asked for.
    fn max_age(&self) -> Option<Duration> {
        match self.shm.shortest_max_age() {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }

    /// Start this process's helper if it has none and one is `needed`, or if a present process requires the bound.
    #[cold]
    pub(crate) fn start_helper(&self, needed: bool) {
        if self.read_only || self.frozen.is_some() {
            return;
        }
        let helper = &self.helper;
        let mut state = helper.state();
        if helper.shared.ending.load(Ordering::SeqCst) || self.openness.is_closed() {
            return;
        }
        helper.seen_to.store(process::forks(), Ordering::Relaxed);
        if state.thread.is_some() || !(needed || self.max_age().is_some()) {
            return;
        }
        let Some(pager) = self.me.upgrade() else {
            return;
        };
        let shared = helper.shared.clone();
        state.counted = true;
        let started = process::spawn_unsignalled("persist-helper", STACK, move || {
            let count = Count {
                pager: Some(pager),
                shared,
            };
            HELPING.set(true);
            if let Some(pager) = &count.pager {
                pager.help(&count.shared.ending);
            }
        });
        match started {
            Ok(thread) => {
                state.thread = Some(thread);
                state.refused = false;
                self.note_helps(true);
            }
            Err(e) => {
                state.counted = false;
                // The next change tries again.
                helper.seen_to.store(0, Ordering::Relaxed);
                if !std::mem::replace(&mut state.refused, true) {
                    log::warn!(
                        "{}: cannot start the thread that makes checkpoints: {e}; until it can, each change makes one \
                         itself",
                        self.path.display()
                    );
                }
            }
        }
    }

    /// Make the checkpoint that a helper would make, if none could be started: if it is `due`, or if no other process
    /// has a helper. The change is complete whatever the result: the next sync reports errors.
    fn stand_in_for_helper(&self, due: bool) {
        if self.helper.is_absent() && self.helper.state().refused && (due || self.leaves_undurable()) {
            let _ = self.checkpoint(&mut Wait::default());
        }
    }

    /// Start a helper at the end of opening, if one is due. Usually the first change starts it, with two exceptions: a
    /// dead session left changes that are not durable, or this process requires a shorter bound than the processes
    /// already present, which may have no helper. `wanted`: the bound before this process arrived.
    pub(in crate::page) fn start_helper_if_due(&self, wanted: u64) {
        let want = self.shm.shortest_max_age();
        if want != 0 && (self.undurable_epoch().is_some() || wanted != want && self.page_stat().processes > 1)
        {
            self.start_helper(false);
            self.stand_in_for_helper(false);
        }
    }

    /// Require a bound on loss that is no longer than this, from now on.
    pub fn shorten_max_age(&self, age: Duration) -> Result<()> {
        let wanted = self.shm.shortest_max_age();
        let mut reg = self.registration()?;
        self.still_open()?;
        let ms = in_ms(age);
        let now = reg.requirements.max_age;
        if self.read_only || reg.requirements.durability == 0 || now != 0 && now <= ms {
            return Ok(());
        }
        reg.requirements.max_age = ms;
        let traits = self.shm.process_word(reg.process as usize, P::Traits);
        let others = traits.load(Ordering::SeqCst) & (slots::FORKED | slots::HELPS);
        traits.store(others | u64::from(ms) << slots::MAX_AGE_SHIFT, Ordering::SeqCst);
        slots::find_strictest(&self.shm);
        drop(reg);
        // A sleeping helper checks again, and the next change checks whether this process needs one.
        self.helper.seen_to.store(0, Ordering::Relaxed);
        self.start_helper_if_due(wanted);
        self.call_helpers();
        Ok(())
    }

    /// End this process's helper and wait for its end. Until `resume_helper` none is started.
    pub(in crate::page) fn stop_helper(&self) {
        self.helper.shared.ending.store(true, Ordering::SeqCst);
        if self.helper.is_absent() {
            return;
        }
        let thread = self.helper.state().thread.take();
        if let Some(thread) = thread {
            self.call_helpers();
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
            self.note_helps(false);
        }
    }

    /// Allow helpers again: the store stays open.
    pub(in crate::page) fn resume_helper(&self) {
        self.helper.shared.ending.store(false, Ordering::SeqCst);
        self.helper.seen_to.store(0, Ordering::Relaxed);
        if self.undurable_epoch().is_some() {
            self.start_helper(false);
            self.stand_in_for_helper(false);
        }
    }

    fn note_helps(&self, helps: bool) {
        let word = self.shm.process_word(self.process(), P::Traits);
        if helps {
            word.fetch_or(slots::HELPS, Ordering::SeqCst);
        } else {
            word.fetch_and(!slots::HELPS, Ordering::SeqCst);
        }
    }

    /// Return whether this process's close must make the changes durable, because no other process would within the
    /// bound.
    pub(in crate::page) fn leaves_undurable(&self) -> bool {
        let me = self.process();
        let helps = |p: usize| {
            let traits = self.shm.process_word(p, P::Traits).load(Ordering::SeqCst);
            p != me && traits & slots::HELPS != 0 && !self.process_is_dead(p)
        };
        self.max_age().is_some()
            && self.undurable_epoch().is_some()
            && !(0..self.shm.process_slots()).any(helps)
    }

    /// Return whether the calling thread is a helper that must end: its waits end then.
    pub(crate) fn helper_ends(&self) -> bool {
        HELPING.get() && self.helper.shared.ending.load(Ordering::SeqCst)
    }

    /// Run the helper thread.
    fn help(&self, ending: &AtomicBool) {
        let mut notice: Option<Notice> = None;
        let mut lasted = Duration::ZERO;
        let mut failures = 0;
        let mut quiet = Idle::new();
        while !ending.load(Ordering::SeqCst) {
            let call = self.shm.word32(HELP_CALL);
            let seen = call.load(Ordering::SeqCst);
            if self.make_room_if_asked() {
                continue;
            }
            let again = self.free_when_idle(ending, &mut quiet);
            let now = Instant::now();
            let demanded = self.shm.get(HELP_NOW) != 0;
            let (Some(epoch), true) = (
                self.undurable_epoch(),
                (demanded || self.max_age().is_some()) && self.shm.poison() == 0,
            ) else {
                notice = None;
                if !ending.load(Ordering::SeqCst) {
                    futex::wait(call, seen, again.unwrap_or(LONG));
                }
                continue;
            };
            let beat = self.checkpoint_steps();
            let noticed = match &mut notice {
                Some(n) if n.epoch == epoch => n,
                other => other.insert(Notice { epoch, at: now, beat }),
            };
            let mut due = match failures {
                0 if demanded => Duration::ZERO,
                0 => self.delay(lasted),
                n => (Duration::from_millis(50) * 2u32.pow(u32::min(n, 8))).min(LONGEST_PAUSE),
            };
            let leads = self.is_leader();
            if !leads {
                due += MAX_WAIT;
            }
            let waited = now.saturating_duration_since(noticed.at);
            if waited < due {
                futex::wait(call, seen, (due - waited).min(again.unwrap_or(LOOK)));
                continue;
            }
            if !leads {
                if noticed.beat != beat {
                    // The leader is running.
                    (noticed.beat, noticed.at) = (beat, now);
                    continue;
                }
                self.become_leader();
            }
            self.shm.set(HELP_NOW, 0);
            let begun = Instant::now();
            match self.checkpoint(&mut Wait::default()) {
                Ok(()) => {
                    failures = 0;
                    lasted = begun.elapsed();
                    notice = None;
                    if self.may_grow_ahead() {
                        self.grow_ahead();
                    }
                }
                Err(Error::Closed | Error::Interrupted) => {}
                Err(e) => {
                    if failures == 0 {
                        log::warn!("{}: a checkpoint failed: {e}", self.path.display());
                    }
                    failures += 1;
                    if let Some(n) = &mut notice {
                        n.at = Instant::now();
                    }
                }
            }
        }
        self.refuse_room();
        let mine = self.helper_word();
        let lead = self.shm.word(HELPER);
        if lead
            .compare_exchange(mine, 0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            self.call_helpers();
        }
        self.quit_slot();
    }

    /// Return how long an epoch is left to grow, if checkpoints take as long as the last one. While one is made the
    /// next epoch grows, so the oldest change waits for two of them. For at least three quarters of the time no
    /// checkpoint is made: if the disk cannot keep up, more changes of the same pages share a copy.
    fn delay(&self, lasted: Duration) -> Duration {
        let age = self.max_age().unwrap_or_default();
        (age * 3 / 4).saturating_sub(2 * lasted).max(3 * lasted)
    }

    fn helper_word(&self) -> u64 {
        Owner::new(self.membership.word(), 0).word()
    }

    /// Return whether this process's helper leads. It takes the lead if no living process has it.
    pub(in crate::page) fn is_leader(&self) -> bool {
        let word = self.shm.word(HELPER);
        let (seen, mine) = (word.load(Ordering::SeqCst), self.helper_word());
        let free = match Owner::in_word(seen) {
            None => true,
            Some(_) if seen == mine => return true,
            Some(other) => self.is_dead(other.process() as u16, other.generation()),
        };
        free && word
            .compare_exchange(seen, mine, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    fn become_leader(&self) {
        self.shm.set(HELPER, self.helper_word());
    }

    /// Wait for the latch for a step of the checkpoint. A helper's wait ends when the store is being closed.
    pub(crate) fn latch_for_step(&self, slot: u32) -> Result<bool> {
        let mut ends = || self.helper_ends();
        let mut wait = Wait {
            timeout: None,
            interrupted: if HELPING.get() { Some(&mut ends) } else { None },
        };
        self.take_latch(slot, &mut wait)
    }
}
