//! `persist.List`: its `methods`, the work behind them on several `items`, and its iterator (`iter`).

pub(crate) mod items;
pub(crate) mod iter;
pub(crate) mod methods;
