//! The requests of the kernel, one method of `Fs` for each.
//!
//! - `content`: what a file contains. `entries`: names. `attributes`, `xattrs`: metadata of entries.
//! - `locks`: flock and fcntl. `lock_moves`: locks of files that get another name. `control`: the files that the
//!   filesystem itself provides.
//! - `lifecycle`: maintenance, remounts, and the end of the mount.

pub(crate) mod attributes;
pub(crate) mod content;
pub(crate) mod control;
pub(crate) mod entries;
pub(crate) mod lifecycle;
mod lock_moves;
pub(crate) mod locks;
pub(crate) mod xattrs;
