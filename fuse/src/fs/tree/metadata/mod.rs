//! What `stat` shows of an entry: its kind, size, mode, owner, times and number of links.

pub(crate) mod attributes;
pub(crate) mod owners;
pub(crate) mod records;
pub(crate) mod subdirectories;
pub(crate) mod times;
