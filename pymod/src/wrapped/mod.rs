//! `persist._Wrapped`: its `methods`, and the functions that the Python classes of containers call.

pub(crate) mod methods;
