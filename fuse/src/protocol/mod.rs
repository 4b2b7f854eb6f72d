//! FUSE's interface: `adapter` decodes requests (`listing`: those that list directories, `locking`: those of locks),
//! `dispatch` runs them, `translate` converts arguments and results.

pub(crate) mod adapter;
pub(crate) mod dispatch;
pub(crate) mod listing;
pub(crate) mod locking;
pub(crate) mod translate;
