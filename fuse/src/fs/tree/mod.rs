//! The filesystem, and its entries.
//!
//! - `filesystem`: `Fs`: the store, the state of the mount besides it, and sections. `durability`: waiting until
//!   completed changes survive a power failure.
//! - `find`: entries by name. `paths`: paths of containers. `attributes`: results of `stat`. `items`: items of lists.
//!   `change`: changing entries. `values`: whole keys and values of the store. `links`: references and link values.
//!   `records`: what tools set: modes, owners, times, attributes. `owners`: modes and owners of new entries.
//!   `times`: times of change that no tool has set. `subdirectories`: the number of links of a directory.

pub(crate) mod attributes;
pub(crate) mod change;
pub(crate) mod durability;
pub(crate) mod filesystem;
pub(crate) mod find;
pub(crate) mod items;
pub(crate) mod links;
pub(crate) mod owners;
pub(crate) mod paths;
pub(crate) mod records;
pub(crate) mod removed;
pub(crate) mod subdirectories;
pub(crate) mod times;
pub(crate) mod values;
