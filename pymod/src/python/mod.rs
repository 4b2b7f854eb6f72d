//! The interface to the interpreter. It handles values, not stores.
//!
//! - `ffi`: the parts of the C API for which PyO3 has no safe interface; the only unsafe code of the module.
//! - `error`: the exceptions, and their mapping from the engine's errors.
//! - `scalars`: str, int, float, bool, None and bytes, in and out. `links`: the class `Link`.
//!   `typed`: values of other types. `texts`: strs.
//! - `refused`: the errors for what cannot be stored. `notes`: notes of exceptions of a program's code.
//! - `logs`: what the engine logs, as records of `logging`.
//! - `indices`: indices and slices of a list.
//! - `arguments`: arguments that several methods take.

pub(crate) mod arguments;
pub(crate) mod error;
#[allow(unsafe_code)]
pub(crate) mod ffi;
pub(crate) mod indices;
mod links;
pub(crate) mod logs;
pub(crate) mod notes;
pub(crate) mod refused;
pub(crate) mod scalars;
mod texts;
pub(crate) mod typed;
