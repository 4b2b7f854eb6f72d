//! The object manager: values, scalars, dicts, lists, objects; identity and lifetime.
//!
//! - `word`: the 8-byte value word.
//! - `value`: values as callers give and get them (`In`, `Value`), keys (`Key`), and their
//!   conversion to words and back; `blob`: large str/bytes/int as trees of pages.
//! - `key`: hash, equality and stored form of dict keys.
//! - `header`: the container header all containers share.
//! - `dict`, `class` (attributes of objects), `list`: the bodies of containers. They move words;
//!   they know nothing of reference counts. `entries`: dicts and objects alike.
//! - `graph`: reference counts, homes, back references, pins, orphans, the cycle collector.
//! - `salvage`: what can still be got out of damaged bodies.
//! - `path`: where a container or entry is, as Python writes it, for messages.
//! - `ops`: what the store exposes: the above put together.

pub mod blob;
pub mod class;
pub mod dict;
pub mod entries;
pub mod graph;
pub mod header;
pub mod key;
pub mod list;
pub mod ops;
pub mod path;
mod pieces;
pub mod salvage;
pub mod scalar;
pub mod value;
pub mod word;
