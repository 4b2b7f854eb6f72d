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
use crate::page::sync::latch::Owner;
use crate::page::sync::wait::Wait;
use crate::raw::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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

/// Return a bound on loss in the form of `Requirements`.
pub(crate) fn in_ms(age: Duration) -> u32 {
    age.as_millis().clamp(1, u128::from(u32::MAX)) as u32
}

/// What a helper has observed of the epoch that it waits for.
struct Notice {
    epoch: u64,
    at: Instant,
    beat: u64,
}

impl Pager {
    /// Return whether a change requires checkpoint work (two loads): so much has changed that a checkpoint is due, or
    /// this process has not checked yet whether it needs a helper.
    #[must_use]
    #[inline]
    pub fn wants_help(&self) -> bool {
        self.helper().is_absent() || self.dirty_pages() > *DIRTY_LIMIT.start()
    }

    /// Do the work that `wants_help` found, without a checkpoint in this call. Called outside sections and
    /// transactions.
    #[cold]
    pub fn request_help(&self) {
        let (dirty, store) = (self.dirty_pages(), self.shm().live().logical());
        let due = dirty > store.clamp(*DIRTY_LIMIT.start(), *DIRTY_LIMIT.end());
        if due {
            self.demand_checkpoint();
        } else if self.helper().is_absent() {
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
        let at = self.shm().first_change_at(list);
        Some(Duration::from_nanos(process::coarse_now().saturating_sub(at)))
    }

    /// Make the checkpoint that a helper would make, if none could be started: if it is `due`, or if no other process
    /// has a helper. The change is complete whatever the result: the next sync reports errors.
    pub(in crate::page) fn stand_in_for_helper(&self, due: bool) {
        if self.helper().is_absent() && self.helper().state().refused && (due || self.leaves_undurable()) {
            let _ = self.checkpoint(&mut Wait::default());
        }
    }

    /// Start a helper at the end of opening, if one is due. Usually the first change starts it, with two exceptions: a
    /// dead session left changes that are not durable, or this process requires a shorter bound than the processes
    /// already present, which may have no helper. `wanted`: the bound before this process arrived.
    pub(in crate::page) fn start_helper_if_due(&self, wanted: u64) {
        let want = self.shm().shortest_max_age();
        if want != 0 && (self.undurable_epoch().is_some() || wanted != want && self.page_stat().processes > 1)
        {
            self.start_helper(false);
            self.stand_in_for_helper(false);
        }
    }

    /// Return the number that changes with the first change of an epoch, and with each other call of the helpers.
    #[must_use]
    pub fn stirs(&self) -> u32 {
        self.shm().helper_calls()
    }

    /// Sleep until that number is no longer `seen`, for `at_most`.
    pub fn await_stir(&self, seen: u32, at_most: Duration) {
        self.shm().await_helper_call(seen, at_most);
    }

    /// Change that number.
    pub fn stir(&self) {
        self.shm().call_helpers();
    }

    /// Require a bound on loss that is no longer than this, from now on.
    pub fn shorten_max_age(&self, age: Duration) -> Result<()> {
        let wanted = self.shm().shortest_max_age();
        let mut reg = self.registration()?;
        self.check_open()?;
        let ms = in_ms(age);
        let now = reg.requirements.max_age;
        if self.is_read_only() || reg.requirements.durability == 0 || now != 0 && now <= ms {
            return Ok(());
        }
        reg.requirements.max_age = ms;
        self.shm().set_max_age(reg.process as usize, ms);
        drop(reg);
        // A sleeping helper checks again, and the next change checks whether this process needs one.
        self.helper().check_again();
        self.start_helper_if_due(wanted);
        self.shm().call_helpers();
        Ok(())
    }

    /// Return whether this process's close must make the changes durable, because no other process would within the
    /// bound.
    pub(in crate::page) fn leaves_undurable(&self) -> bool {
        let me = self.process();
        let helps = |p: usize| p != me && self.shm().has_helper(p) && !self.process_is_dead(p);
        self.max_age().is_some()
            && self.undurable_epoch().is_some()
            && !(0..self.shm().process_slots()).any(helps)
    }

    /// Run the helper thread.
    pub(in crate::page) fn help(&self, ending: &AtomicBool) {
        let mut notice: Option<Notice> = None;
        let mut lasted = Duration::ZERO;
        let mut failures = 0;
        let mut quiet = Idle::new();
        while !ending.load(Ordering::SeqCst) {
            let seen = self.shm().helper_calls();
            if self.make_room_if_asked() {
                continue;
            }
            let again = self.free_when_idle(ending, &mut quiet);
            let now = Instant::now();
            let demanded = self.shm().is_checkpoint_requested();
            let (Some(epoch), true) = (
                self.undurable_epoch(),
                (demanded || self.max_age().is_some()) && self.shm().poison() == 0,
            ) else {
                notice = None;
                if !ending.load(Ordering::SeqCst) {
                    self.shm().await_helper_call(seen, again.unwrap_or(LONG));
                }
                continue;
            };
            let beat = self.shm().checkpoint_steps();
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
                self.shm()
                    .await_helper_call(seen, (due - waited).min(again.unwrap_or(LOOK)));
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
            self.shm().forget_call();
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
                        log::warn!("{}: a checkpoint failed: {e}", self.path().display());
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
        if self.shm().replace_leading_helper(mine, 0) {
            self.shm().call_helpers();
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
        Owner::new(self.member_word(), 0).word()
    }

    /// Return whether this process's helper leads. It takes the lead if no living process has it.
    pub(in crate::page) fn is_leader(&self) -> bool {
        let (seen, mine) = (self.shm().leading_helper(), self.helper_word());
        let free = match Owner::in_word(seen) {
            None => true,
            Some(_) if seen == mine => return true,
            Some(other) => self.is_dead(other.process() as u16, other.generation()),
        };
        free && self.shm().replace_leading_helper(seen, mine)
    }

    fn become_leader(&self) {
        self.shm().set_leading_helper(self.helper_word());
    }
}
