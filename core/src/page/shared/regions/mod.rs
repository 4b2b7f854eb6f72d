//! The regions of the sidecar: the undo log, the live page table, the free map and the dirty lists, the containers that
//! the open transaction changed, the change feed, the leases, the names of tasks, and the room of the lock manager.

pub(in crate::page) mod dirty_set;
pub(in crate::page) mod feed;
pub(in crate::page) mod free_pages;
pub(in crate::page) mod leases;
pub(in crate::page) mod live_entries;
pub(in crate::page) mod locks;
pub(in crate::page) mod task_names;
pub(in crate::page) mod undo;
pub(in crate::page) mod views;
