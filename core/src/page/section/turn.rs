//! Whose turn it is to take the latch: bounds how long a waiter is overtaken.
//!
//! Without it the thread that releases the latch takes it again before a sleeping waiter has woken up. With it
//! alone, each change under contention would cost a wake-up. So the latch stays open to any running thread until
//! a waiter has waited for `DUE`; from then on that waiter has the turn, and only it can take the latch.
//!
//! 1. The word is 0 or the owner word of the waiter that has the turn. It is claimed by compare-and-swap from 0.
//!    The latch's `try_take` refuses other threads while it is set, and clears it when its waiter succeeds.
//! 2. Waiters have tickets, in their thread slots, from one counter. The oldest ticket claims first.
//! 3. The turn is advice and decides nothing about liveness: a claim that its waiter does not use for `STALE` while
//!    the latch is free (the waiter is stopped or dead) is withdrawn by any other waiter. So is precedence.
//! 4. A waiter that gives up takes back its ticket and its claim (`Place`'s drop).

use crate::page::pager::Pager;
use crate::page::shared::shm::Shm;
use crate::page::shared::{at, layout};
use crate::page::sync::latch::Owner;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a waiter can be overtaken: about one wake-up's worth. So beside transactions that are longer it waits for
/// the one under way and for the next.
const DUE: Duration = Duration::from_micros(50);
/// How long a waiter that has just claimed the turn spins. A lone operation ends within it; the latch would lie idle
/// while its waiter wakes up.
const SPIN: Duration = Duration::from_micros(20);
/// How long a turn may go unused while the latch is free.
const STALE: Duration = Duration::from_millis(2);
/// The longest sleep of a waiter, so that a lost wake-up costs no more.
const NAP: Duration = Duration::from_millis(1);
/// The pause of a waiter that finds the latch free and reserved.
const PAUSE: Duration = Duration::from_micros(50);

impl Shm {
    /// The ticket of the thread that waits in a slot; 0: it does not wait.
    fn ticket(&self, slot: u32) -> &AtomicU64 {
        self.word(layout::THREADS + slot as usize * 64 + 24)
    }
}

/// A waiter's place.
pub(in crate::page) struct Place<'p> {
    pager: &'p Pager,
    slot: u32,
    mine: u64,
    begun: Instant,
    /// The turn of another waiter that was seen with the latch free, and since when; 0: no waiter's.
    seen: Option<(u64, Instant)>,
    /// The turn was claimed since the last sleep.
    claimed: bool,
}

impl Pager {
    /// Queues for the latch.
    pub(in crate::page) fn place(&self, slot: u32) -> Place<'_> {
        let ticket = self.shm.word(at::LATCH_TICKETS).fetch_add(1, Ordering::Relaxed) + 1;
        self.shm.ticket(slot).store(ticket, Ordering::SeqCst);
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
    /// Claims the turn if it is due, and withdraws one that goes unused.
    pub(in crate::page) fn advance(&mut self) {
        let turn = self.pager.shm.word(at::LATCH_TURN);
        let held = turn.load(Ordering::SeqCst);
        let waited = self.begun.elapsed();
        if held == self.mine || waited < DUE {
            return;
        }
        if self.pager.latch().owner().is_some() {
            self.seen = None;
            if held == 0 && !self.is_preceded() {
                self.claimed = turn
                    .compare_exchange(0, self.mine, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok();
            }
            return;
        }
        let now = Instant::now();
        match self.seen {
            Some((seen, since)) if seen == held => {
                if now - since >= STALE {
                    let _ = turn.compare_exchange(held, self.mine, Ordering::SeqCst, Ordering::Relaxed);
                    self.seen = None;
                }
            }
            _ => self.seen = Some((held, now)),
        }
    }

    /// How long to sleep at most; or a pause, if the latch is free and another waiter's.
    pub(in crate::page) fn sleep(&mut self, slice: Duration) {
        let latch = self.pager.latch();
        if std::mem::take(&mut self.claimed) && self.spin() {
            return;
        }
        if latch.owner().is_none() {
            std::thread::sleep(slice.min(PAUSE));
        } else {
            latch.sleep(slice.min(NAP));
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

    /// Whether a thread waits that came earlier. One that is stopped is overtaken after `STALE`.
    fn is_preceded(&self) -> bool {
        let shm = &self.pager.shm;
        let mine = shm.ticket(self.slot).load(Ordering::Relaxed);
        self.begun.elapsed() < DUE + STALE
            && (0..shm.get(at::SLOTS_HIGH) as u32).any(|slot| {
                let other = shm.ticket(slot).load(Ordering::SeqCst);
                other != 0 && other < mine && shm.slot_owner(slot).load(Ordering::Relaxed) != 0
            })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let shm = &self.pager.shm;
        shm.ticket(self.slot).store(0, Ordering::SeqCst);
        let _ = shm
            .word(at::LATCH_TURN)
            .compare_exchange(self.mine, 0, Ordering::SeqCst, Ordering::Relaxed);
    }
}
