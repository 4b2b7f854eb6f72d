//! The helper thread of a process: checkpoints within `max_age`, and freeing while no process changes the store.

pub(in crate::page) mod frees;
pub(in crate::page) mod thread;
