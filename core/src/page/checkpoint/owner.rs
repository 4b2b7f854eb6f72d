//! The owner of the checkpoint, and what happens when the owner dies or is stopped.
//!
//! 1. The word goes from 0 to an owner by compare-and-swap, from a dead owner to 0 by its recovery
//!    (`recovery::process_recovery`), and from a living owner that makes no step for long (it is stopped: SIGSTOP, a
//!    debugger, a frozen cgroup) to another under the latch (`take_over`).
//! 2. A stopped owner continues at some later time. So each step of a checkpoint that changes a word which others read
//!    is made under the latch, after a check of the word (`step`). An owner that has lost the word changes nothing any
//!    more. Its actions outside steps are harmless at any time: it reads and flushes.
//! 3. Writing the meta page is the exception. So in `WRITING` the checkpoint is never taken over from a living owner.
//!    The phase begins with a step, contains one `pwrite`, and ends with a step.
//! 4. An owner that keeps the checkpoint (`Maker::keeps`) relies on the absence of other checkpoints
//!    (`with_checkpoint`). It is never taken over.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::pager::helper_thread::is_helper;
use crate::page::shared::header::checkpoint_owner::Maker;
use crate::page::shared::header::next_checkpoint::WRITING;
use crate::page::sync::wait::{Wait, WaitLoop};
use std::time::{Duration, Instant};

/// How long a leader may make no step while a checkpoint is due.
pub(crate) const MAX_WAIT: Duration =
    Duration::from_millis(if cfg!(feature = "testing") { 300 } else { 2000 });

/// A waiter's view of a running owner: its word and its last step, and since when they are unchanged.
struct Seen {
    owner: Maker,
    beat: u64,
    since: Instant,
}

impl Pager {
    /// Take ownership of the checkpoint. `keeps`: see invariant 4.
    pub(crate) fn take_checkpoint(&self, slot: u32, keeps: bool, wait: &mut Wait<'_>) -> Result<()> {
        self.has_its_files()?;
        let mine = Maker::new(slot, keeps);
        let mut wait_loop = WaitLoop::new(wait, self.bound());
        let mut seen: Option<Seen> = None;
        loop {
            let owner = match self.shm().try_own_checkpoint(mine) {
                Ok(()) => break,
                Err(owner) => owner,
            };
            let slot_there = owner.slot().unwrap_or(u32::MAX);
            let slice = wait_loop.slice("a checkpoint to end", || self.describe_slot(slot_there))?;
            // Only the recovery of a dead owner clears the word, because afterwards the slot may belong to another
            // thread. The checkpoint in progress is then continued.
            if owner.slot().is_some() && self.check_owner_alive(slot_there, None)? {
                continue;
            }
            let beat = self.shm().checkpoint_steps();
            match &seen {
                Some(s) if (s.owner, s.beat) == (owner, beat) => {
                    if s.since.elapsed() >= MAX_WAIT && self.take_over(owner, beat, mine, slot)? {
                        break;
                    }
                }
                _ => {
                    seen = Some(Seen {
                        owner,
                        beat,
                        since: Instant::now(),
                    });
                }
            }
            std::thread::sleep(slice.min(Duration::from_micros(500)));
        }
        if self.is_closed() {
            self.shm().leave_checkpoint(slot);
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Take the checkpoint from a living owner that has made no step since `beat`. Return false if that is not allowed.
    #[cold]
    fn take_over(&self, owner: Maker, beat: u64, mine: Maker, slot: u32) -> Result<bool> {
        if owner.keeps() || self.shm().next_checkpoint().phase() == WRITING {
            return Ok(false);
        }
        // An owner that is stopped inside a step holds the latch. Its own wait is bounded, and this call does not wait.
        match self.take_latch(slot, &mut Wait::never()) {
            Ok(true) => {}
            Ok(false) | Err(Error::WouldBlock { .. }) => return Ok(false),
            Err(e) => return Err(e),
        }
        let may = self.shm().next_checkpoint().phase() != WRITING && self.shm().checkpoint_steps() == beat;
        let taken = may && self.shm().replace_checkpoint_owner(owner, mine);
        self.latch().release();
        if taken {
            let lost = owner.slot().map_or_else(String::new, |s| self.describe_slot(s));
            log::warn!(
                "{}: {lost} has stopped in a checkpoint: it is finished here",
                self.path().display()
            );
        }
        Ok(taken)
    }

    /// Run a step of the checkpoint: as `latched`, if this thread still owns the checkpoint.
    pub(crate) fn step<R>(&self, f: impl FnOnce(&Pager, u32) -> Result<R>) -> Result<R> {
        let slot = self.slot()?;
        self.whole()?;
        let took = self.latch_for_step(slot)?;
        let done = if self.shm().owns_checkpoint(slot) {
            self.shm().count_checkpoint_step();
            self.unless_damaged(f(self, slot))
        } else {
            Err(lost())
        };
        if took {
            self.latch().release();
        }
        done
    }

    /// Run a step with the gate raised.
    pub(crate) fn gated_step<R>(&self, f: impl FnOnce(&Pager) -> Result<R>) -> Result<R> {
        self.step(|pager, slot| {
            let _gate = pager.keep_readers_out(slot)?;
            f(pager)
        })
    }

    /// Wait for the latch for a step of the checkpoint. A helper's wait ends when the store is being closed.
    pub(crate) fn latch_for_step(&self, slot: u32) -> Result<bool> {
        let mut ends = || self.helper_ends();
        let mut wait = Wait {
            timeout: None,
            interrupted: if is_helper() { Some(&mut ends) } else { None },
        };
        self.take_latch(slot, &mut wait)
    }
}

fn lost() -> Error {
    Error::WouldBlock {
        what: "a checkpoint that another process finishes, since this one was stopped",
    }
}
