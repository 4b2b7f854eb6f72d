//! `persist.Object`: its `methods`, the `versions` of classes, and a root that is one (`typed`).

pub(crate) mod methods;
pub(crate) mod typed;
mod versions;
