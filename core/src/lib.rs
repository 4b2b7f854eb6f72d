//! persist: an object graph in one memory-mapped file, changed in place by many processes.
//!
//! The layers, each of which knows only those before it:
//! `raw` -> `page` -> `heap` -> `object`, `lock` -> `store` -> `check` -> `backup`. Users need only [`store`],
//! [`check`] to verify and mend a store, and [`backup`] to copy one.

pub mod backup;
pub mod check;
pub mod error;
pub mod heap;
pub mod ids;
pub mod lock;
pub mod object;
pub mod page;
pub mod raw;
pub mod store;

pub use error::{Error, Result};
