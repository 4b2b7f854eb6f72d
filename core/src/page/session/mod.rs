//! Sessions: opening and closing a store, the identity of store and sidecar, forks, and read-only openings.
//!
//! Owns making and judging a sidecar (`sidecar`, `header`, `naming`), opening (`open`, `settings`, `create`,
//! `assemble`), closing (`close`), forked children (`fork`), snapshots opened for reading (`frozen`), and views that
//! follow the newest checkpoint (`follow`).
//!
//! Nothing else is locked under a mutex of this process (registration, pins, blocks).

pub(in crate::page) mod assemble;
pub(in crate::page) mod close;
pub(in crate::page) mod create;
pub(in crate::page) mod follow;
pub(in crate::page) mod fork;
pub(in crate::page) mod frozen;
pub(in crate::page) mod header;
pub(in crate::page) mod naming;
pub(in crate::page) mod open;
pub(in crate::page) mod settings;
pub(in crate::page) mod sidecar;
