//! Recovery: from a dead holder of the latch, from dead processes, from the state left by an earlier session, and from
//! a power failure.
//!
//! Owns the recovery of a dead holder of the latch (`latch_owner`), and of any dead process (`process_recovery`). After
//! the death of all processes, the next opening takes over their sidecar (`takeover`, `left_words`), or replays the
//! redo log if there is no usable sidecar (`replay`).
//!
//! 1. (I6) Every step can itself be killed at any instruction, and repeated.
//! 2. (I7) A process that acquires the byte lock of a dead process must recover that process before anything else.
//!
//! Byte locks of dead processes may be taken at any point and are never waited for.

pub(in crate::page) mod latch_owner;
pub(in crate::page) mod left_words;
pub(in crate::page) mod process_recovery;
pub(in crate::page) mod replay;
pub(in crate::page) mod takeover;
