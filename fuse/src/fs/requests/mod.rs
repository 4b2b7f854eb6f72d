//! What the kernel asks for, one method of `Fs` a request.
//!
//! - `open`, `read`, `write`, `close`: files. `load`: what a file holds. `commit`: storing what was written.
//! - `directories`, `links`, `rename`: entries. `attributes`, `xattrs`: about entries.
//! - `locks`: flock and fcntl. `control`: the files that the filesystem makes up.
//! - `lifecycle`: housekeeping, and the end of the mount.

pub(crate) mod attributes;
pub(crate) mod close;
pub(crate) mod commit;
pub(crate) mod control;
pub(crate) mod directories;
pub(crate) mod lifecycle;
pub(crate) mod links;
pub(crate) mod load;
pub(crate) mod locks;
pub(crate) mod open;
pub(crate) mod read;
pub(crate) mod rename;
pub(crate) mod write;
pub(crate) mod xattrs;
