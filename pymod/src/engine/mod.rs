//! One store as seen by this process, without proxies.
//!
//! - `core`: an open file. `shared`: an opening of it: sections, and waiting without the interpreter.
//! - `identity`: the Python object that represents each container. `class_names`: the names of its classes.
//! - `contents`: contents of large values that Python objects hold.
//! - `placed`: where a value is whose decoder raises.
//! - `bells`: what wakes an event loop when something has changed.
//! - `tasks`: the running task of each thread, for the owners of transactions and locks.

pub(crate) mod bells;
pub(crate) mod class_names;
pub(crate) mod contents;
pub(crate) mod core;
pub(crate) mod identity;
mod placed;
pub(crate) mod shared;
pub(crate) mod tasks;
