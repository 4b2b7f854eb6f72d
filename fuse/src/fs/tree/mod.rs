//! The filesystem, and its entries.
//!
//! - `filesystem`: `Fs`: the store, what is known besides it, and sections. `durability`: changes that are done, and
//!   whether they survive a power cut.
//! - `find`: entries by name. `paths`: where containers are shown. `attributes`: what `stat` shows. `change`: changing
//!   entries. `values`: keys and values of the store, whole.

pub(crate) mod attributes;
pub(crate) mod change;
pub(crate) mod durability;
pub(crate) mod filesystem;
pub(crate) mod find;
pub(crate) mod paths;
pub(crate) mod values;
