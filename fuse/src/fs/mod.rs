//! The filesystem over a store, without a kernel: every request is a method of `Fs` that returns a result or an errno.
//! The module `protocol` of this package translates from and to FUSE.
//!
//! A folder imports only folders before it:
//!
//! - `error`, `context`: the error of a request, and its context.
//! - `text`: keys as names, scalars as bytes.
//! - `known`: the state of the mount besides the store: inode numbers, names of list items, entries in memory, times
//!   and modes, open files, locks.
//! - `tree`: `Fs` itself; finding, describing and changing entries.
//! - `requests`: the requests of the kernel.
//!
//! 1. Every mutex here is a leaf, except that of an open file (`open_files`): while it is held no other is taken, the
//!    store is not called and the thread does not block. Such a mutex may be taken inside a section of the store. An
//!    open file's mutex is taken before a section, never inside one.
//! 2. This code does not panic, whatever the kernel or the store returns.

pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod known;
pub(crate) mod requests;
pub(crate) mod text;
pub(crate) mod tree;
