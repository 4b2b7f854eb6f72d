//! `persist.open` and `Store`.
//!
//! - `handle`: the class `Store`. `registry`: the open files of this process. `reopen`: what loads pickles of proxies.
//! - `transaction`: `Store.transaction()` and `Store.run()`. `snapshot`: the result of `Store.snapshots()`.

pub(crate) mod handle;
pub(crate) mod registry;
pub(crate) mod reopen;
pub(crate) mod snapshot;
pub(crate) mod transaction;
