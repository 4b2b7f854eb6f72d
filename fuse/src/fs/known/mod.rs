//! What the mount knows besides the store: tables, each under a mutex of its own. None of them calls the store, but
//! `locks`, which unlocks.
//!
//! - `inodes`: what each inode number stands for. `list_names`: names of list items.
//! - `sides`: entries in memory that the store does not have yet. `metadata`: times, modes and types that tools set.
//! - `open_files`: open files. `locks`: locks that programs hold on files.

pub(crate) mod inodes;
pub(crate) mod list_names;
pub(crate) mod locks;
pub(crate) mod metadata;
pub(crate) mod open_files;
pub(crate) mod sides;
