//! Waiting until a completed change survives a power failure.
//!
//! 1. The change is complete before the wait begins, and remains so whatever the result of the wait. An error here
//!    never concerns the change: it is `Error::DurabilityUnknown`, after which nothing is retried.
//! 2. The target of a wait that ended early is kept (`MissedWaits`) for all threads of this process: the next wait
//!    covers it. A checkpoint covers it, too.
//! 3. The last commit's ticket covers those before it: the log is durable up to a place, and a checkpoint holds
//!    everything that was complete at its flip.

use crate::error::{Error, Result};
use crate::page::durable::leader::Lead;
use crate::page::format::log_file::RING;
use crate::page::pager::Pager;
use crate::page::pager::state::redo::Ticket;
use crate::page::redo::words::CROWDED;
use crate::page::shared::header::log_mode::{OFF, ON};
use crate::page::sync::latch::Owner;
use crate::page::sync::wait::{Wait, WaitLoop};
use std::time::Duration;

/// Length of log since the last durable checkpoint that makes the next one due.
const DUE: u64 = RING / 4;
/// Minimum wait for a flush in progress, however short the caller's bound for locks is.
const MIN_FLUSH_WAIT: Duration = Duration::from_millis(100);

impl Pager {
    /// Run after a completed change while any process requires durable commits: wait until the change is durable if
    /// this process requires it, and make room in the log. Called outside sections and transactions.
    ///
    /// # Errors
    /// `Error::DurabilityUnknown`, and no other error: the change is complete (1).
    #[cold]
    pub fn await_change(&self, wait: &mut Wait<'_>) -> Result<()> {
        let durable = if self.redo().commit {
            self.await_durable(wait)
        } else {
            Ok(())
        };
        self.checkpoint_if_log_full();
        durable.map_err(|e| Error::DurabilityUnknown { source: Box::new(e) })
    }

    /// Request a checkpoint when the log is getting full, and make one when it is nearly full. The change is complete
    /// whatever the result: the next sync reports errors.
    fn checkpoint_if_log_full(&self) {
        let log = self.shm().log();
        let used = |since: u64| log.end().saturating_sub(since);
        if self.shm().log_mode() != ON || used(log.needed_by_newest()) < DUE {
            return;
        }
        if used(log.needed()) < CROWDED {
            self.demand_checkpoint();
            return;
        }
        // Another thread may have made it while this one waited.
        let _ = self.checkpoint_when(&mut Wait::default(), || used(log.needed_by_newest()) >= DUE);
    }

    /// Wait until this thread's last change survives a power failure, together with the targets of earlier waits of
    /// this process that ended early.
    fn await_durable(&self, wait: &mut Wait<'_>) -> Result<()> {
        let bound = wait.timeout.unwrap_or(self.bound()).max(MIN_FLUSH_WAIT);
        let wait = &mut Wait {
            timeout: Some(bound),
            interrupted: wait
                .interrupted
                .as_mut()
                .map(|ask| &mut **ask as &mut dyn FnMut() -> bool),
        };
        let mine = self.take_ticket();
        self.await_ticket(mine, wait)
            .inspect_err(|_| self.redo().missed_waits.note(mine))?;
        // A commit made with the log off has no ticket.
        match self.shm().log_mode() {
            // It was made before the checkpoint that turned the log on.
            ON if !self.shm().log().is_on_hold() => Ok(()),
            ON => self.with_checkpoint_within(wait, |_| Ok(())),
            OFF if self.start_log().is_ok() => Ok(()),
            _ => self.checkpoint_covering(self.shm().live().epoch(), wait),
        }
    }

    /// Wait for this ticket and for the targets of earlier waits that ended early.
    fn await_ticket(&self, mine: Ticket, wait: &mut Wait<'_>) -> Result<()> {
        let (left_record, left_epoch) = self.redo().missed_waits.ends();
        let (end, epochs) = match mine {
            Ticket::Nothing => (left_record, left_epoch),
            Ticket::Record(end) => (left_record.max(end), left_epoch),
            Ticket::Epoch(epoch) => (left_record, left_epoch.max(epoch)),
        };
        if epochs != 0 {
            self.checkpoint_covering(epochs, wait)?;
        }
        if end != 0 {
            self.flush_log(end, wait)?;
        }
        self.redo().missed_waits.forget_durable(left_record, left_epoch);
        Ok(())
    }

    /// Make a checkpoint that holds the changes of this epoch, unless there is one already.
    fn checkpoint_covering(&self, epoch: u64, wait: &mut Wait<'_>) -> Result<()> {
        if self.shm().last_checkpoint().number() >= epoch {
            // The words of a store that was closed in between are not valid.
            return self.check_open();
        }
        self.checkpoint_when(wait, || self.shm().last_checkpoint().number() < epoch)
    }

    /// Make everything before `end` durable, or wait for the current leader to do it.
    fn flush_log(&self, end: u64, wait: &mut Wait<'_>) -> Result<()> {
        let slot = self.slot()?;
        let me = Owner::new(self.member_word(), slot).word();
        let group = self.shm().group();
        let mut started = None;
        while !group.is_durable(end) {
            self.check_open()?;
            if self.shm().is_poisoned() {
                return Err(self.poisoned());
            }
            if self.shm().log().generation() == 0 {
                // The log was abandoned.
                return self.checkpoint_covering(self.shm().live().epoch(), wait);
            }
            if group.is_held(end) {
                self.with_checkpoint_within(wait, |_| Ok(()))?;
                continue;
            }
            let leader = group.leader();
            let takes = if leader == 0 {
                group.try_lead(me)
            } else {
                self.leader_is_dead(leader) && group.take_over(leader, me)
            };
            if takes {
                let lead = Lead(&group);
                self.lead(&group)?;
                drop(lead);
                continue;
            }
            let mut wait_loop = WaitLoop::since(wait, self.bound(), &mut started);
            let slice = wait_loop.slice("the log to be flushed", || {
                self.describe_owner(Owner::in_word(group.leader()))
            })?;
            group.sleep(slice);
        }
        Ok(())
    }

    /// Return whether the leading process is dead. Its slots may belong to another process by now.
    fn leader_is_dead(&self, leader: u64) -> bool {
        Owner::in_word(leader).is_none_or(|l| self.is_dead(l.process() as u16, l.generation()))
    }
}
