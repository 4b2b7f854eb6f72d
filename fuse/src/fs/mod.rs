//! The filesystem over a store, without a kernel: every request as a method of `Fs` that gives a result or
//! an errno. The module `requests` of this package translates from and to FUSE.
//!
//! A folder imports only folders before it:
//!
//! - `error`, `context`: the error of a request, and what every request brings along.
//! - `text`: keys as names, scalars as bytes.
//! - `known`: what the mount knows besides the store: inode numbers, names of list items, entries in memory, times and
//!   modes, open files, locks.
//! - `tree`: `Fs` itself; finding, describing and changing entries.
//! - `requests`: what the kernel asks for.
//!
//! 1. Every mutex here is a leaf, but that of an open file (`open_files`): while it is held no other is
//!    taken, the store is not called and nothing blocks. They may be taken inside a section of the
//!    store. An open file's mutex is taken before a section, never inside one.
//! 2. Nothing in here panics on what the kernel or the store gives it.

pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod known;
pub(crate) mod requests;
pub(crate) mod text;
pub(crate) mod tree;
