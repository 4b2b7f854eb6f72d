//! The only mapping, pointer and system-call code of the engine. All code above it is safe Rust.
//!
//! 1. A `Map` is a shared mapping longer than its file. `fallocate` grows the file before any byte beyond its
//!    old end is used, so no store can touch a missing block. If another program truncates the file, or the
//!    file cannot be read, `fault` turns the signal into an error.
//! 2. Words that processes share outside sections are accessed as atomics only.
//! 3. Plain bytes of a map are accessed through `unsafe` methods whose contract is the section protocol of
//!    the page manager; only `page::section` and `page::checkpoint` call them.

pub(crate) mod boot;
pub(crate) mod failpoint;
pub(crate) mod fault;
pub(crate) mod files;
pub(crate) mod futex;
pub(crate) mod map;
#[cfg(any(test, feature = "testing"))]
pub mod observe;
pub(crate) mod process;
pub(crate) mod sync;
