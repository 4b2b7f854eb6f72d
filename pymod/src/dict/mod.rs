//! `persist.Dict`: its `methods`, reading and setting `entries`, its `views` and their iterator (`iter`).

pub(crate) mod entries;
pub(crate) mod iter;
pub(crate) mod methods;
pub(crate) mod views;
