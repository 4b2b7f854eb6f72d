//! Recovery: from a dead holder of the latch, from dead processes, from what an earlier session left, and from damage.
//!
//! 1. (I6) Every step can itself be killed at any instruction, and done again.
//! 2. (I7) Whoever acquires the byte lock of a dead process must recover the process before anything else.
//!
//! Byte locks of dead processes are taken at any point and never waited for.

pub(in crate::page) mod damage;
pub(in crate::page) mod latch_owner;
pub(in crate::page) mod left_words;
pub(in crate::page) mod process_recovery;
pub(in crate::page) mod takeover;
