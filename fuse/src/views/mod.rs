//! The mounted filesystems: the store (`mounted`), and views of its snapshots (`snapshots`).
//!
//! `live` is the filesystem of the store, which a remount can close and open.

mod live;
pub(crate) mod mounted;
pub(crate) mod snapshots;
