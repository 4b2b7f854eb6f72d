//! The application's locks.
//!
//! - `take`: taking and releasing, for the methods of the proxies. `held`: the result of `lock()` (`persist.Lock`).
//! - `levels`: the levels that this thread holds. `request`: `lock_async`.

pub(crate) mod held;
pub(crate) mod levels;
pub(crate) mod request;
pub(crate) mod take;
