//! FUSE's side: `adapter` takes requests apart (`listing`: those that list directories), `dispatch` runs them,
//! `translate` turns arguments and results of the one into those of the other.

pub(crate) mod adapter;
pub(crate) mod dispatch;
pub(crate) mod listing;
pub(crate) mod translate;
