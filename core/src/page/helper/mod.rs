//! The helper thread of a process: checkpoints within `max_age`, room for the next large change, and freeing while no
//! process changes the store.

pub(in crate::page) mod frees;
mod growth;
pub(in crate::page) mod room;
pub(in crate::page) mod thread;
