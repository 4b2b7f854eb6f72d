//! `persist.Object`: its `methods`, and the `versions` of classes.

pub(crate) mod methods;
mod versions;
