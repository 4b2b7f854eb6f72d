//! Changes as they are reported: `Watch` and `Change`, and waiting for a change of a container (`waiting`).

pub(crate) mod change;
pub(crate) mod waiting;
pub(crate) mod watching;
