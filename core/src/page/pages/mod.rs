//! Physical pages of the live state: allocation, translation through the durable table, and copy on first write.
//!
//! 1. (I1) No page that a checkpoint, a snapshot or a frozen view reaches is written (`cow`).
//! 2. (I3) A page is reused only inside a write section.
//!
//! All of it runs under the latch; filling the live table runs inside a section.

pub(in crate::page) mod alloc;
pub(in crate::page) mod cow;
pub(in crate::page) mod dropped_slots;
pub(in crate::page) mod live_table;
