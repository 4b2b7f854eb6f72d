//! Keys as names, and scalars as the bytes of files.
//!
//! - `keys`: keys of dicts and objects. `names`: conversion between keys and names. `list_entries`: names in lists.
//! - `record`: the metadata that the store keeps of a file. `scalars`: values as the bytes of a file. `numbers`, `hex`:
//!   numbers and bytes as text. `scan`: whether pieces are a text.

pub(crate) mod hex;
pub(crate) mod keys;
pub(crate) mod list_entries;
pub(crate) mod names;
pub(crate) mod numbers;
mod other_keys;
pub(crate) mod record;
pub(crate) mod scalars;
pub(crate) mod scan;
pub(crate) mod typed;
mod wtf8;
