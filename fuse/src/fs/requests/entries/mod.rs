//! Requests about names: directories, links, moves.
//!
//! - `watched`: not a request, but what the replay of changes for inotify asks (`crate::watch`).

pub(crate) mod directories;
pub(crate) mod links;
pub(crate) mod listing;
pub(crate) mod rename;
pub(crate) mod watched;
