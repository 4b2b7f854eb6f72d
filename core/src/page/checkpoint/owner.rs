//! The owner of the checkpoint, and what happens when the owner dies or is stopped.
//!
//! `CK_OWNER`: 0, or thread slot + 1, and `KEEPS` if the owner uses it for more than one checkpoint.
//!
//! 1. The word goes from 0 to an owner by compare-and-swap, from a dead owner to 0 by its recovery
//!    (`recovery::process_recovery`), and from a living owner that makes no step for long (it is stopped: SIGSTOP, a
//!    debugger, a frozen cgroup) to another under the latch (`take_over`).
//! 2. A stopped owner continues at some later time. So each step of a checkpoint that changes a word which others read
//!    is made under the latch, after a check of the word (`step`). An owner that has lost the word changes nothing any
//!    more. Its actions outside steps are harmless at any time: it reads and flushes.
//! 3. Writing the meta page is the exception. So in `WRITING` the checkpoint is never taken over from a living owner.
//!    The phase begins with a step, contains one `pwrite`, and ends with a step.
//! 4. `KEEPS`: the owner relies on the absence of other checkpoints (`with_checkpoint`). It is never taken over.

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::shared::header::next_checkpoint::WRITING;
use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use crate::page::sync::wait::{Wait, WaitLoop};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a leader may make no step while a checkpoint is due.
pub(crate) const MAX_WAIT: Duration =
    Duration::from_millis(if cfg!(feature = "testing") { 300 } else { 2000 });

/// 0, or the owner.
const CK_OWNER: Word = Word::at(640);
/// Number of steps that owners of the checkpoint have made. An owner that makes none for long counts as stopped.
const CK_HEARTBEAT: Word = Word::at(2752);

const KEEPS: u64 = 1 << 32;

/// Return the thread slot of an owner, or None if there is none.
pub(crate) fn owner_slot(word: u64) -> Option<u32> {
    (word as u32).checked_sub(1)
}

/// Return the value of the word while this slot owns the checkpoint.
fn owned_by(slot: u32, keeps: bool) -> u64 {
    (u64::from(slot) + 1) | if keeps { KEEPS } else { 0 }
}

/// A waiter's view of a running owner: its word and its last step, and since when they are unchanged.
struct Seen {
    owner: u64,
    beat: u64,
    since: Instant,
}

impl Shm {
    /// Return the thread slot that owns the checkpoint.
    pub(in crate::page) fn checkpoint_owner(&self) -> Option<u32> {
        owner_slot(self.word(CK_OWNER).load(Ordering::SeqCst))
    }

    /// Clear the owner: all possible owners are dead.
    pub(in crate::page) fn forget_checkpoint_owner(&self) {
        self.set(CK_OWNER, 0);
    }
}

impl Pager {
    /// Return the number of steps that owners of the checkpoint have made.
    pub(in crate::page) fn checkpoint_steps(&self) -> u64 {
        self.shm.get(CK_HEARTBEAT)
    }

    /// Take ownership of the checkpoint. `keeps`: see invariant 4.
    pub(crate) fn take_checkpoint(&self, slot: u32, keeps: bool, wait: &mut Wait<'_>) -> Result<()> {
        self.has_its_files()?;
        let word = self.shm.word(CK_OWNER);
        let mine = owned_by(slot, keeps);
        let mut wait_loop = WaitLoop::new(wait, self.bound);
        let mut seen: Option<Seen> = None;
        loop {
            let owner = match word.compare_exchange(0, mine, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break,
                Err(owner) => owner,
            };
            let slot_there = owner_slot(owner).unwrap_or(u32::MAX);
            let slice = wait_loop.slice("a checkpoint to end", || self.describe_slot(slot_there))?;
            // Only the recovery of a dead owner clears the word, because afterwards the slot may belong to another
            // thread. The checkpoint in progress is then continued.
            if owner_slot(owner).is_some() && self.check_owner_alive(slot_there, None)? {
                continue;
            }
            let beat = self.checkpoint_steps();
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
        if self.openness.is_closed() {
            self.leave_checkpoint(slot);
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Take the checkpoint from a living owner that has made no step since `beat`. Return false if that is not allowed.
    #[cold]
    fn take_over(&self, owner: u64, beat: u64, mine: u64, slot: u32) -> Result<bool> {
        if owner & KEEPS != 0 || self.shm.next_checkpoint().phase() == WRITING {
            return Ok(false);
        }
        // An owner that is stopped inside a step holds the latch. Its own wait is bounded, and this call does not wait.
        match self.take_latch(slot, &mut Wait::never()) {
            Ok(true) => {}
            Ok(false) | Err(Error::WouldBlock { .. }) => return Ok(false),
            Err(e) => return Err(e),
        }
        let word = self.shm.word(CK_OWNER);
        let may = self.shm.next_checkpoint().phase() != WRITING && self.shm.get(CK_HEARTBEAT) == beat;
        let taken = may
            && word
                .compare_exchange(owner, mine, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        self.latch().release();
        if taken {
            let lost = owner_slot(owner).map_or_else(String::new, |s| self.describe_slot(s));
            log::warn!(
                "{}: {lost} has stopped in a checkpoint: it is finished here",
                self.path.display()
            );
        }
        Ok(taken)
    }

    /// Release ownership of the checkpoint, if this slot has it.
    pub(crate) fn leave_checkpoint(&self, slot: u32) {
        let word = self.shm.word(CK_OWNER);
        for keeps in [false, true] {
            let mine = owned_by(slot, keeps);
            let _ = word.compare_exchange(mine, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Return whether this slot owns the checkpoint.
    pub(crate) fn owns_checkpoint(&self, slot: u32) -> bool {
        self.shm.checkpoint_owner() == Some(slot)
    }

    /// Record that the owner has made a step.
    pub(crate) fn heartbeat(&self) {
        self.shm.word(CK_HEARTBEAT).fetch_add(1, Ordering::Relaxed);
    }

    /// Run a step of the checkpoint: as `latched`, if this thread still owns the checkpoint.
    pub(crate) fn step<R>(&self, f: impl FnOnce(&Pager, u32) -> Result<R>) -> Result<R> {
        let slot = self.slot()?;
        self.whole()?;
        let took = self.latch_for_step(slot)?;
        let done = if self.owns_checkpoint(slot) {
            self.heartbeat();
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
}

fn lost() -> Error {
    Error::WouldBlock {
        what: "a checkpoint that another process finishes, since this one was stopped",
    }
}
