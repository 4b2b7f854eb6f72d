//! x
pub(crate) mod digest;
pub(crate) mod error;
pub(crate) mod lists;
pub(crate) mod names;
pub(crate) mod nodes;
pub(crate) mod number;
pub(crate) mod procs;
pub(crate) mod text;
