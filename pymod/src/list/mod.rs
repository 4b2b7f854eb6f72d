//! `persist.List`: its `methods`, their implementation on several `items`, and its iterator (`iter`).

pub(crate) mod items;
pub(crate) mod iter;
pub(crate) mod methods;
