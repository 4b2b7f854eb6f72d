//! persist: an object graph in one memory-mapped file, which many processes change in place.
//!
//! The layers, each of which depends only on those before it: `raw` -> `page` -> `heap` -> `object`, `lock`
//! -> `store` -> `check` -> `backup`. The public modules are [`store`], [`check`] to verify and repair a
//! store, [`backup`] to copy one, and [`error`].
//!
//! The layers below `store` are public only for this project's own tests and benchmarks (features `testing`
//! and `bench`). Their memory safety and atomicity depend on rules that the compiler does not check.

pub mod backup;
pub mod check;
pub mod error;
pub mod store;

#[cfg(any(feature = "testing", feature = "bench"))]
pub mod heap;
#[cfg(any(feature = "testing", feature = "bench"))]
pub mod ids;
#[cfg(any(feature = "testing", feature = "bench"))]
pub mod lock;
#[cfg(any(feature = "testing", feature = "bench"))]
pub mod object;
#[cfg(any(feature = "testing", feature = "bench"))]
pub mod page;
#[cfg(any(feature = "testing", feature = "bench"))]
pub mod raw;

// Without the features, some items of these modules are unused, and `pub` means `pub(crate)`.
#[cfg(not(any(feature = "testing", feature = "bench")))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod heap;
#[cfg(not(any(feature = "testing", feature = "bench")))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod ids;
#[cfg(not(any(feature = "testing", feature = "bench")))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod lock;
#[cfg(not(any(feature = "testing", feature = "bench")))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod object;
#[cfg(not(any(feature = "testing", feature = "bench")))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod page;
#[cfg(not(any(feature = "testing", feature = "bench")))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod raw;

pub use error::{Error, Result};
