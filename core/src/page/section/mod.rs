//! Sections, and transactions made of several sections. A section is the stay of one operation in the shared memory and
//! the only way to access bytes of the map. `write` states the invariants.
//!
//! Owns entering and leaving (`enter`, `take_latch`, `turn`, `raised_gate`), the readers' and the writers' view of
//! bytes (`read`, `write`, `trunks`, `pinned`), the writer that replaces one value in place (`in_place_store`), reading
//! the committed state beside a writer (`committed`), cached lookups (`lookup`), and transactions (`transaction`,
//! `open_blocks`).
//!
//! Lock order: latch, then gate.

pub(in crate::page) mod committed;
pub(in crate::page) mod enter;
pub(in crate::page) mod in_place_store;
pub(in crate::page) mod lookup;
pub(in crate::page) mod open_blocks;
pub(in crate::page) mod pinned;
pub(in crate::page) mod raised_gate;
pub(in crate::page) mod read;
pub(in crate::page) mod take_latch;
pub(in crate::page) mod transaction;
pub(in crate::page) mod trunks;
pub(in crate::page) mod turn;
pub(in crate::page) mod write;
