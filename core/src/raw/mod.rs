//! The only mapping, pointer and system-call code of the engine. Everything above it is safe Rust.
//!
//! 1. A `Map` is a shared mapping longer than its file; the file grows under it by `fallocate`
//!    before any byte beyond its old end is used, so no store into it can meet a missing block. If the file
//!    is cut short by another program, or cannot be read, `fault` turns the signal into an error.
//! 2. Words that processes share outside sections are reached as atomics only.
//! 3. Plain bytes of a map are reached through `unsafe` methods whose contract is the section
//!    protocol of the page manager; only `page::section` and `page::checkpoint` call them.

pub(crate) mod beside;
pub(crate) mod boot;
pub(crate) mod failpoint;
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod futex;
pub(crate) mod held;
pub(crate) mod map;
#[cfg(any(test, feature = "testing"))]
pub mod observe;
pub(crate) mod owner;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod sync;
pub(crate) mod unnamed;
