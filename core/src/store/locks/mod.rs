//! The store's side of the lock manager: requests that wait and requests that do not, how owners and locks are named in
//! messages, the list of locks, and what changes and recovery ask the lock table.

pub(super) mod handles;
pub(super) mod hooks;
mod list;
mod names;
pub(super) mod pending;
mod quick;
mod requests;
