//! Sections, and transactions made of several sections. A section is one operation's access to the shared memory, and
//! the only way to access bytes of the map. `write` states the invariants.
//!
//! Owns entering and leaving (`enter`, `latch`), the readers' and the writers' view of bytes (`read`, `write`,
//! `trunks`, `pinned`), the writer that replaces one value in place (`in_place_store`), reading the committed state
//! beside a writer (`committed`), views of a moment (`moment`, `views`), leases (`leases`, `touched`), cached lookups
//! (`lookup`), the change feed (`notices`), and transactions of several sections (`transactions`).
//!
//! Lock order: latch, then gate.

pub(in crate::page) mod committed;
pub(in crate::page) mod enter;
pub(in crate::page) mod in_place_store;
pub(in crate::page) mod latch;
pub(in crate::page) mod leases;
pub(in crate::page) mod lookup;
pub(in crate::page) mod moment;
pub(in crate::page) mod notices;
pub(in crate::page) mod pinned;
pub(in crate::page) mod read;
pub(in crate::page) mod touched;
pub(in crate::page) mod transactions;
pub(in crate::page) mod trunks;
pub(in crate::page) mod views;
pub(in crate::page) mod write;
