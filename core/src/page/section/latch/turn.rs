//! The turn: which waiter may take the latch next. It bounds how long a waiter can be overtaken.
//!
//! Without turns, the thread that releases the latch takes it again before a sleeping waiter has woken up. With turns
//! alone, each change under contention would cost a wake-up. So any running thread may take the latch until a waiter
//! has waited for `DUE`. From then on that waiter has the turn, and only it can take the latch.
//!
//! 1. The word is 0 or the owner word of the waiter that has the turn. It is claimed by compare-and-swap from 0. The
//!    latch's `try_take` refuses other threads while it is set, and clears it when its waiter succeeds.
//! 2. Waiters have tickets, in their thread slots, from one counter. The oldest ticket claims first.
//! 3. The turn is advisory and decides nothing about liveness. If the latch is free and its waiter does not use the
//!    turn for `STALE` (it is stopped or dead), any other waiter withdraws the claim. The same holds for the precedence
//!    of a ticket.
//! 4. A waiter that gives up withdraws its ticket and its claim (`Place`'s drop).

use crate::page::pager::Pager;
use crate::page::sync::latch::Owner;
use std::time::{Duration, Instant};

/// How long a waiter can be overtaken: about the time of one wake-up. Beside transactions that are longer, it waits for
/// the current one and the next.
const DUE: Duration = Duration::from_micros(50);
/// How long a waiter that has just claimed the turn spins. A single operation ends within this time; otherwise the
/// latch would be idle while its waiter wakes up.
const SPIN: Duration = Duration::from_micros(20);
/// How long a turn may go unused while the latch is free.
const STALE: Duration = Duration::from_millis(2);
/// The longest sleep of a waiter, which bounds the cost of a lost wake-up.
const MAX_SLEEP: Duration = Duration::from_millis(1);
/// The pause of a waiter that finds the latch free and reserved.
const PAUSE: Duration = Duration::from_micros(50);

/// A waiter's place in the queue.
pub(in crate::page) struct Place<'p> {
    pager: &'p Pager,
    slot: u32,
    mine: u64,
    begun: Instant,
    /// The turn of another waiter (0: no waiter has it) that was seen while the latch was free, and since when.
    seen: Option<(u64, Instant)>,
    /// The turn was claimed since the last sleep.
    claimed: bool,
}

impl Pager {
    /// Queue for the latch.
    pub(in crate::page) fn place(&self, slot: u32) -> Place<'_> {
        let ticket = self.shm().new_ticket();
        self.shm().set_ticket(slot, ticket);
        Place {
            pager: self,
            slot,
            mine: Owner::new(self.latch().process, slot).word(),
            begun: Instant::now(),
            seen: None,
            claimed: false,
        }
    }
}

impl Place<'_> {
    /// Claim the turn if it is due, and withdraw a turn that is not used.
    pub(in crate::page) fn advance(&mut self) {
        let latch = self.pager.latch();
        let held = latch.turn();
        let waited = self.begun.elapsed();
        if held == self.mine || waited < DUE {
            return;
        }
        if latch.owner().is_some() {
            self.seen = None;
            if held == 0 && !self.is_preceded() {
                self.claimed = latch.replace_turn(0, self.mine);
            }
            return;
        }
        let now = Instant::now();
        match self.seen {
            Some((seen, since)) if seen == held => {
                if now - since >= STALE {
                    latch.replace_turn(held, self.mine);
                    self.seen = None;
                }
            }
            _ => self.seen = Some((held, now)),
        }
    }

    /// Sleep for at most `slice`, or pause if the latch is free but reserved for another waiter.
    pub(in crate::page) fn sleep(&mut self, slice: Duration) {
        let latch = self.pager.latch();
        if std::mem::take(&mut self.claimed) && self.spin() {
            return;
        }
        if latch.owner().is_none() {
            std::thread::sleep(slice.min(PAUSE));
        } else {
            latch.sleep(slice.min(MAX_SLEEP));
        }
    }

    /// Spin until the latch is free, for `SPIN` at most. Return whether it is.
    fn spin(&self) -> bool {
        let (latch, begun) = (self.pager.latch(), Instant::now());
        while begun.elapsed() < SPIN {
            for _ in 0..20 {
                if latch.owner().is_none() {
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        false
    }

    /// Return whether a thread that came earlier is waiting. A stopped thread is overtaken after `STALE`.
    fn is_preceded(&self) -> bool {
        let shm = self.pager.shm();
        let mine = shm.ticket(self.slot);
        self.begun.elapsed() < DUE + STALE
            && (0..shm.thread_slots()).any(|slot| {
                let other = shm.ticket(slot);
                other != 0 && other < mine && shm.is_slot_taken(slot)
            })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let shm = self.pager.shm();
        shm.set_ticket(self.slot, 0);
        self.pager.latch().replace_turn(self.mine, 0);
    }
}
