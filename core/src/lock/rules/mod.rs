//! What happens inside one mutation of the table: which locks exclude each other, granting and releasing, the queue of
//! a container, and the graph of what waits for what.

pub(in crate::lock) mod conflict;
pub(in crate::lock) mod grant;
pub(in crate::lock) mod graph;
pub(in crate::lock) mod queue;
