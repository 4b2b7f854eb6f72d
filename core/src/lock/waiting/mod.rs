//! Waiting for a lock, outside mutations: trying, sleeping, deadlocks over several stores, and what the lock manager
//! needs from the store for that.

pub(in crate::lock) mod contest;
pub(in crate::lock) mod cross_store;
pub mod env;
pub mod wait;
