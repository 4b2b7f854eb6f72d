//! The mounted filesystems: the store (`mounted`), and views of its snapshots (`snapshots`).
//!
//! `live` is the filesystem of the store, which a remount can close and open. `replays` and `replaying`
//! answer the process that replays changes for inotify, `callers` knows which threads make requests.

pub(crate) mod callers;
pub(crate) mod live;
pub(crate) mod mounted;
mod replaying;
pub(crate) mod replays;
pub(crate) mod snapshots;
