//! The object manager: values, scalars, dicts, lists, objects; identity and lifetime.
//!
//! - `word`: the 8-byte value word.
//! - `value`: the values that callers store and receive (`In`, `Value`), keys (`Key`), and their conversion
//!   to words and back; `blob`: large str/bytes/int as trees of pages.
//! - `literal`: the text of a tuple.
//! - `key`: hash, equality and stored form of dict keys.
//! - `header`: the header that all containers share. `builtin`: the classes that the doors know by themselves.
//! - `dict`, `class` (attributes of objects), `list`: the bodies of containers. They move words, and do not
//!   handle reference counts. `entries`: functions for both dicts and objects.
//! - `splices`: the log of items inserted into lists and removed.
//! - `notice`: what the change feed reports of a change.
//! - `graph`: reference counts, homes, back references, pins, orphans, the cycle collector.
//! - `salvage`: the readable parts of damaged bodies.
//! - `path`: the path of a container or entry, as Python writes it, for messages.
//! - `ops`: the operations that the store exposes, built from the modules above.

pub mod blob;
pub mod builtin;
pub mod canonical;
pub mod class;
pub mod dict;
pub mod entries;
pub mod graph;
pub mod header;
pub mod key;
pub mod list;
pub mod literal;
pub mod notice;
pub mod ops;
pub mod path;
mod pieces;
pub mod salvage;
pub mod scalar;
pub mod splices;
pub mod value;
pub mod word;
