//! The requests of the kernel, one method of `Fs` for each.
//!
//! - `content`: what a file contains. `entries`: names. `attributes`, `xattrs`: metadata of entries.
//! - `locks`: flock and fcntl. `lock_moves`: holding the names that locked files are about to get.
//! - `lifecycle`: maintenance, remounts, and the end of the mount.

pub(crate) mod attributes;
pub(crate) mod content;
pub(crate) mod entries;
pub(crate) mod lifecycle;
mod lock_moves;
pub(crate) mod locks;
pub(crate) mod xattrs;
