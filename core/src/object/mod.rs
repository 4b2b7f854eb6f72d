//! The object manager: values, scalars, dicts, lists, objects; identity and lifetime.
//!
//! - `word`: the 8-byte value word.
//! - `value`: the values that callers store and receive (`In`, `Value`), keys (`Key`), and their conversion
//!   to words and back; `blob`: large str/bytes/int as trees of pages.
//! - `scalar`: conversion of values without identity to words and segments, and back.
//! - `literal`: the text of a tuple or frozenset.
//! - `key`: hash, equality and stored form of dict keys. `canonical`: the form by which equal keys of different types
//!   are compared.
//! - `header`: the header that all containers share. `builtin`: the class names of Python's other containers (deque,
//!   OrderedDict and the like).
//! - `dict`, `class` (attributes of objects), `list`: the bodies of containers. They move words, and do not
//!   handle reference counts. `entries`: functions for both dicts and objects.
//! - `splices`: the log of items inserted into lists and removed.
//! - `notice`: what the change feed reports of a change.
//! - `graph`: reference counts, homes, back references, pins, orphans, the cycle collector.
//! - `salvage`, `pieces`: the readable parts of damaged bodies.
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
