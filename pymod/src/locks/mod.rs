//! The application's locks.
//!
//! - `take`: taking and releasing, for the methods of the proxies. `held`: what `lock()` returns (`persist.Lock`).
//! - `levels`: what this thread holds. `request`: `lock_async`.

pub(crate) mod held;
pub(crate) mod levels;
pub(crate) mod request;
pub(crate) mod take;
