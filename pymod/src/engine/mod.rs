//! One store as this process sees it, without proxies.
//!
//! - `core`: an open file. `shared`: an opening of it: sections, and waiting without the interpreter.
//! - `identity`: which Python object stands for which container. `class_names`: the names of its classes.
//! - `tasks`: which task of its thread is running, for the owners of transactions and locks.

pub(crate) mod class_names;
pub(crate) mod core;
pub(crate) mod identity;
pub(crate) mod shared;
pub(crate) mod tasks;
