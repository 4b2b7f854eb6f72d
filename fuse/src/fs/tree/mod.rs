//! The filesystem, and its entries.
//!
//! - `filesystem`: `Fs`: the store, the state of the mount besides it, and sections. `durability`: waiting until
//!   completed changes survive a power failure.
//! - `find`: entries by name. `paths`: paths of containers. `items`: items of lists. `change`: changing entries.
//!   `values`: whole keys and values of the store. `links`: references and link values. `removed`: removed files that
//!   are still open. `shape`: what a directory is. `moved`: what the mount knows of an entry that has moved. `control`:
//!   the files that the filesystem itself provides.
//! - `metadata`: `attributes`: results of `stat`. `records`: what tools set: modes, owners, times, attributes.
//!   `owners`: modes and owners of new entries. `times`: times of change that no tool has set. `subdirectories`: the
//!   number of links of a directory.

pub(crate) mod change;
pub(crate) mod control;
pub(crate) mod durability;
pub(crate) mod filesystem;
pub(crate) mod find;
pub(crate) mod items;
pub(crate) mod links;
pub(crate) mod metadata;
pub(crate) mod moved;
pub(crate) mod paths;
pub(crate) mod removed;
pub(crate) mod shape;
pub(crate) mod values;
