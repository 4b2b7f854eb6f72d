//! `persist.Object`: its `methods`.

pub(crate) mod methods;
