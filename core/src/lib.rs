//! persist: an object graph in one memory-mapped file, changed in place by many processes.
//!
//! The layers, each of which knows only those before it:
//! `raw` -> `page` -> `heap` -> `object`, `lock` -> `store` -> `check` -> `backup`. Public are [`store`],
//! [`check`] to verify and mend a store, [`backup`] to copy one, and [`error`].
//!
//! The layers below `store` are public for this project's own tests and measurements only (features `testing` and
//! `bench`): what keeps memory and operations whole there are rules that the compiler does not know.

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

// Without the features some items of these are used by nothing, and `pub` means the crate.
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
