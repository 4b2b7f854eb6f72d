//! Waiting until a completed change survives a power cut.
//!
//! 1. The change is complete before the wait begins, and stays, whatever becomes of the wait. An error here is never
//!    that of the change: it is `Error::DurabilityUnknown`, after which nothing is done again.
//! 2. What a wait that ended early was for is kept (`Unsettled`), for every thread of this process: the next wait
//!    covers it. A checkpoint does, too.
//! 3. The last commit's ticket covers those before it: the log is durable up to a place, a checkpoint holds all that
//!    was complete at its flip.

use crate::error::{Error, Result};
use crate::page::format::log_file::RING;
use crate::page::pager::Pager;
use crate::page::pager::redo::Ticket;
use crate::page::redo::leader::Lead;
use crate::page::redo::words::{CROWDED, OFF, ON};
use crate::page::shared::at;
use crate::page::sync::latch::Owner;
use crate::page::sync::wait::{Patience, Wait};
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Since the last durable checkpoint so much of the log makes the next one due.
const DUE: u64 = RING / 4;
/// A flush under way is waited for at least so long, however short the caller's patience for locks is.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

thread_local! {
    /// What this thread's last commit has to wait for, and in which opened store.
    static TICKET: Cell<(u64, Ticket)> = const { Cell::new((0, Ticket::Nothing)) };
}

impl Pager {
    /// Notes what this thread's next wait is for.
    pub(super) fn issue_ticket(&self, ticket: Ticket) {
        let (serial, left) = TICKET.replace((self.serial, ticket));
        if serial == self.serial {
            // Of a commit that was not waited for.
            self.redo.unsettled.note(left);
        }
    }

    /// What comes after a completed change while somebody wants durable commits: waits until it is durable
    /// if this process does, and makes room in the log. Outside sections and transactions.
    ///
    /// # Errors
    /// `Error::DurabilityUnknown`, and nothing else: the change is complete (1).
    #[cold]
    pub fn settle_change(&self, wait: &mut Wait<'_>) -> Result<()> {
        let settled = if self.redo.commit {
            self.await_durable(wait)
        } else {
            Ok(())
        };
        self.relieve_log();
        settled.map_err(|e| Error::DurabilityUnknown { source: Box::new(e) })
    }

    /// Asks for a checkpoint when the log is getting full, and makes it when it nearly is. The change is
    /// complete whatever becomes of this: errors meet whoever syncs.
    fn relieve_log(&self) {
        let used = |since| self.shm.get(at::LOG_END).saturating_sub(self.shm.get(since));
        if self.shm.get(at::LOG_MODE) != ON || used(at::LOG_NEW) < DUE {
            return;
        }
        if used(at::LOG_OLD) < CROWDED {
            self.demand_checkpoint();
            return;
        }
        // Another thread may have made it while this one waited.
        let _ = self.checkpoint_when(&mut Wait::default(), || used(at::LOG_NEW) >= DUE);
    }

    /// Waits until this thread's last change survives a power cut, and what earlier waits of this process did not see
    /// the end of.
    fn await_durable(&self, wait: &mut Wait<'_>) -> Result<()> {
        let bound = wait.timeout.unwrap_or(self.bound).max(LEAST_PATIENCE);
        let wait = &mut Wait {
            timeout: Some(bound),
            interrupted: wait
                .interrupted
                .as_mut()
                .map(|ask| &mut **ask as &mut dyn FnMut() -> bool),
        };
        let mine = match TICKET.replace((0, Ticket::Nothing)) {
            (serial, ticket) if serial == self.serial => ticket,
            _ => Ticket::Nothing,
        };
        self.await_ticket(mine, wait)
            .inspect_err(|_| self.redo.unsettled.note(mine))?;
        // What a commit with the log off left behind has no ticket.
        match self.shm.get(at::LOG_MODE) {
            // It was before the checkpoint that turned the log on.
            ON if self.shm.get(at::LOG_HOLD) == 0 => Ok(()),
            ON => self.with_checkpoint_within(wait, |_| Ok(())),
            OFF if self.start_log().is_ok() => Ok(()),
            _ => self.checkpoint_covering(self.shm.get(at::EPOCH), wait),
        }
    }

    /// Waits for this and for what earlier waits did not see the end of.
    fn await_ticket(&self, mine: Ticket, wait: &mut Wait<'_>) -> Result<()> {
        let (left_record, left_epoch) = self.redo.unsettled.ends();
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
        self.redo.unsettled.settled(left_record, left_epoch);
        Ok(())
    }

    /// A checkpoint that holds what was changed in this epoch, if there is none yet.
    fn checkpoint_covering(&self, epoch: u64, wait: &mut Wait<'_>) -> Result<()> {
        if self.shm.get(at::DURABLE) >= epoch {
            // Of a store that was closed meanwhile the words say nothing.
            return self.still_open();
        }
        self.checkpoint_when(wait, || self.shm.get(at::DURABLE) < epoch)
    }

    /// Makes everything before `end` durable, or waits for who is at it.
    fn flush_log(&self, end: u64, wait: &mut Wait<'_>) -> Result<()> {
        let slot = self.slot()?;
        let me = Owner::new(self.process.load(Ordering::Relaxed), slot).word();
        let group = self.shm.group();
        let mut started = None;
        while !group.is_durable(end) {
            self.still_open()?;
            if self.shm.get(at::POISON) != 0 {
                return Err(self.poisoned());
            }
            if self.shm.get(at::LOG_GENERATION) == 0 {
                // The log was given up.
                return self.checkpoint_covering(self.shm.get(at::EPOCH), wait);
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
            let mut patience = Patience::since(wait, self.bound, &mut started);
            let slice = patience.slice("the log to be flushed", || {
                self.describe_owner(Owner::in_word(group.leader()))
            })?;
            group.sleep(slice);
        }
        Ok(())
    }

    /// Whether the process that leads is gone. Its slots may be somebody else's by now.
    fn leader_is_dead(&self, leader: u64) -> bool {
        Owner::in_word(leader).is_none_or(|l| self.is_dead(l.process() as u16, l.generation()))
    }
}
