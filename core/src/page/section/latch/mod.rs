//! The way in for a change: taking the latch, in turn with other waiters, and raising the gate against readers. The
//! protocols are in `sync`; these files decide what a thread does while it waits for them.

mod latched;
pub(in crate::page) mod raised_gate;
pub(in crate::page) mod take_latch;
pub(in crate::page) mod turn;
