//! The requests of the kernel, one method of `Fs` for each.
//!
//! - `open`, `read`, `write`, `close`: files. `load`: the content of a file. `commit`: storing written data.
//!   `drafts`: long contents that are built aside.
//! - `directories`, `links`, `rename`: entries. `attributes`, `xattrs`: metadata of entries.
//! - `locks`: flock and fcntl. `lock_moves`: locks of files that get another name. `control`: the files that the
//!   filesystem itself provides.
//! - `watched`: not a request, but what the replay of changes for inotify asks (`crate::watch`).
//! - `lifecycle`: maintenance, remounts, and the end of the mount. `unstored`: reports of writes that failed at close.

pub(crate) mod attributes;
pub(crate) mod close;
pub(crate) mod commit;
pub(crate) mod control;
pub(crate) mod directories;
mod drafts;
mod in_place;
pub(crate) mod lifecycle;
pub(crate) mod links;
pub(crate) mod load;
mod lock_moves;
pub(crate) mod locks;
pub(crate) mod open;
pub(crate) mod read;
pub(crate) mod rename;
mod unstored;
pub(crate) mod watched;
pub(crate) mod write;
pub(crate) mod xattrs;
