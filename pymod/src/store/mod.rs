//! `persist.open` and `Store`.
//!
//! - `handle`: the class `Store`. `registry`: the open files of this process.
//! - `transaction`: `Store.transaction()` and `Store.run()`. `snapshot`: the result of `Store.snapshots()`.

pub(crate) mod handle;
pub(crate) mod registry;
pub(crate) mod snapshot;
pub(crate) mod transaction;
