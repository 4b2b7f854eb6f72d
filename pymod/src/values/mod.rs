//! Reading values from the store.
//!
//! - `fast`: the fast path of one small value. `fetch`: the slow path. `batch`: many values of one section.
//! - `taken`: values that are removed as they are read, in blocks of transactions (`blocks`) if need be.
//! - `large`: values that are read in pieces. `contents`: the whole content of a container.
//! - `view`: memoryviews of values. `show`: the bounded text of a container.

pub(crate) mod batch;
pub(crate) mod blocks;
pub(crate) mod contents;
pub(crate) mod fast;
pub(crate) mod fetch;
pub(crate) mod large;
pub(crate) mod show;
pub(crate) mod taken;
mod view;
