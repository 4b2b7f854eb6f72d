//! The mounted filesystems: the store (`mounted`), and views of its snapshots (`snapshots`).

pub(crate) mod mounted;
pub(crate) mod snapshots;
