//! `persist.open` and `Store`.
//!
//! - `handle`: the class `Store`. `registry`: the files that are open in this process.
//! - `transaction`: `Store.transaction()` and `Store.run()`. `snapshot`: what `Store.snapshots()` returns.

pub(crate) mod handle;
pub(crate) mod registry;
pub(crate) mod snapshot;
pub(crate) mod transaction;
