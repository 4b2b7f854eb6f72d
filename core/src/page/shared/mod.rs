//! The sidecar `FILE-shm`: the shared, volatile memory of all processes that have the store open, and the byte locks
//! that decide which of them are alive.
//!
//! Owns the layout, the mapping and its growth, signature and seal, the slots of processes and threads, pins, the undo
//! log, the free map, the dirty lists, and the set of containers that the open transaction changed.
//!
//! 1. This wing and the wings above it read and write words through `Shm`. Every word taken over from an earlier
//!    session is checked before use (`recovery::takeover`).
//! 2. Liveness is decided by kernel locks on bytes of the lock file (`lock_file`, `probe`), never by a pid.

pub(in crate::page) mod header;
pub(crate) mod layout;
pub(in crate::page) mod paths;
pub(in crate::page) mod regions;
pub(in crate::page) mod shm;
pub(in crate::page) mod users;
pub(in crate::page) mod word;
