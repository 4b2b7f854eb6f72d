//! The process-local state of each protocol in one open store. The shared state is in the sidecar (`shared`).

pub(in crate::page) mod blocks;
pub(in crate::page) mod follow;
pub(in crate::page) mod frozen;
pub(in crate::page) mod helper;
pub(in crate::page) mod leases;
pub(in crate::page) mod membership;
pub(in crate::page) mod openness;
pub(in crate::page) mod redo;
pub(in crate::page) mod transaction;
pub(in crate::page) mod undo_index;
pub(in crate::page) mod watches;
