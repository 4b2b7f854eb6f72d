//! The users of a store: the slots of processes and threads in the sidecar, what a process pins, and the byte locks
//! that decide which processes are alive.

pub(in crate::page) mod lock_file;
pub(in crate::page) mod pins;
pub(in crate::page) mod probe;
pub(in crate::page) mod slots;
pub(in crate::page) mod threads;
