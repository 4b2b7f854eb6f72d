//! `persist.Dict`: its `methods`, how `entries` are found and set, its `views` and their iterator (`iter`).

pub(crate) mod entries;
pub(crate) mod iter;
pub(crate) mod methods;
pub(crate) mod views;
