//! Checkpoints: making a state of the whole store durable without stopping writers; snapshots, which are checkpoints
//! kept by name; and operations that read or copy whole checkpoints.
//!
//! Owns the phases of a checkpoint (`phases`) and its owner (`owner`), writing the page table (`write_table`),
//! snapshots and the freeing of pages that only a dropped one held (`snapshot`, `dropped`), pages kept for views of a
//! moment (`kept`), the checkpoint before an inherited session (`before_recovery`), rebuilding the free map
//! (`free_map`), turning the redo log on and off (`log_modes`), compaction (`compact`), and walking and verifying whole
//! checkpoints (`reading`).
//!
//! 1. (I1) No page that either meta page, a snapshot or a view of a moment reaches is written.
//! 2. (I4) Meta pages are written only by `pwrite`, after a successful flush of everything they reach.
//!
//! Lock order: the checkpoint's owner word, then the latch, then the gate.

pub(crate) mod before_recovery;
pub mod compact;
pub(in crate::page) mod dropped;
pub(in crate::page) mod free_map;
pub(in crate::page) mod kept;
mod log_modes;
pub(in crate::page) mod owner;
pub(in crate::page) mod phases;
pub mod reading;
pub(in crate::page) mod snapshot;
pub(in crate::page) mod write_table;
