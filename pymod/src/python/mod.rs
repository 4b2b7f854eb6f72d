//! The edge to the interpreter. Knows values, not stores.
//!
//! - `ffi`: the parts of the C API that PyO3 has no safe door to; the only unsafe code of the module.
//! - `error`: the exceptions, and which of them stands for which error of the engine.
//! - `scalars`: str, int, float, bool, None and bytes, in and out. `indices`: indices and slices of a list.
//! - `arguments`: arguments that several methods take.

pub(crate) mod arguments;
pub(crate) mod error;
#[allow(unsafe_code)]
pub(crate) mod ffi;
pub(crate) mod indices;
pub(crate) mod scalars;
