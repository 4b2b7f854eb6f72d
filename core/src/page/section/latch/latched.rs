//! Short steps under the latch, outside sections.

use crate::error::Result;
use crate::page::pager::Pager;
use crate::page::sync::wait::Wait;
use crate::raw::failpoint::fail_point;
use std::time::Duration;

impl Pager {
    /// Run a short internal step under the latch, outside sections. `f` gets this thread's slot.
    pub(crate) fn latched<R>(&self, f: impl FnOnce(&Pager, u32) -> Result<R>) -> Result<R> {
        let slot = self.slot()?;
        self.whole()?;
        let took = self.take_latch(slot, &mut Wait::default())?;
        let done = self.unless_damaged(f(self, slot));
        if took {
            self.latch().release();
        }
        done
    }

    /// Take the latch, if it becomes free within a time and this thread does not have it yet.
    pub(crate) fn hold_latch(&self, at_most: Duration) -> Option<Latched<'_>> {
        let slot = self.slot().ok()?;
        let took = self.take_latch(slot, &mut Wait::at_most(at_most));
        // Constructed only if the latch was taken here, because dropping it releases the latch.
        matches!(took, Ok(true)).then(|| Latched(self))
    }

    /// Run `f` under the latch (the lock manager's mutations). In a transaction of this thread the latch is already
    /// held.
    pub fn with_latch<R>(&self, wait: &mut Wait<'_>, f: impl FnOnce() -> Result<R>) -> Result<R> {
        let slot = self.slot()?;
        let (took, turn) = loop {
            if !self.latch().is_held_by(slot) && self.take_latch(slot, wait)? {
                break (true, None);
            }
            if let Some(turn) = self.turn(slot) {
                break (false, Some(turn));
            }
        };
        let done = self.unless_damaged(f());
        fail_point!("lock.done");
        if took {
            self.latch().release();
        }
        drop(turn);
        done
    }

    /// Run `f` under the latch with this thread's slot, if the latch is free and the thread may act at once. None:
    /// nothing was done, and `with_latch` decides. `f` does not fail.
    #[inline]
    pub(crate) fn with_free_latch<R>(&self, f: impl FnOnce(u32) -> R) -> Option<R> {
        let slot = self.known_slot()?;
        if self.shm().is_reading(slot) {
            return None;
        }
        let latch = self.latch();
        if !latch.try_take(slot) {
            return None;
        }
        // As in `take_latch`. Threads that ended are released first, by the slow path.
        if self.is_closed() || self.shm().ended_threads() != 0 || self.whole().is_err() {
            latch.release_late(slot);
            return None;
        }
        let done = f(slot);
        fail_point!("lock.done");
        // If the sidecar was lost by now, `with_latch` reports it.
        let is_whole = self.whole().is_ok();
        latch.release();
        is_whole.then_some(done)
    }
}

/// The latch, held as long as this lives.
#[derive(Debug)]
pub(crate) struct Latched<'p>(&'p Pager);

impl Drop for Latched<'_> {
    fn drop(&mut self) {
        self.0.latch().release();
    }
}
