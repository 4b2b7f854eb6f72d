//! The state of the mount besides the store: tables, each under its own mutex. Only `locks` calls the store, for locks,
//! and `leases`, to lease.
//!
//! - `inodes`: the meaning of each inode number. `list_names`, `name_set`: names of list items.
//! - `by_number`: how tables by inode number and the like are hashed.
//! - `awaited`: which links wait for which entries. `metadata`: types and keys that entries will get.
//! - `moving`: operations under way that move entries.
//! - `directories`: times of directories, and numbers of subdirectories.
//! - `leases`: what the kernel keeps. `listed`: which directories it keeps whole. `forgetting`: telling it to forget.
//! - `locks`: locks that programs hold on files and wait for.
//! - `open_files`: open files. `draft`: long contents that are built aside.

pub(crate) mod awaited;
pub(crate) mod by_number;
pub(crate) mod directories;
pub(crate) mod draft;
pub(crate) mod forgetting;
pub(crate) mod inodes;
pub(crate) mod leases;
pub(crate) mod list_names;
pub(crate) mod listed;
pub(crate) mod locks;
pub(crate) mod metadata;
pub(crate) mod moving;
pub(crate) mod name_set;
pub(crate) mod open_files;
