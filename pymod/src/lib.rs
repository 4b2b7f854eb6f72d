//! `persist._persist`: the Python door to a store.
//!
//! Built on `persist_core::store` alone. Lock order: nothing here holds a mutex of its own while it
//! calls the store or Python (see `cache`).
//!
//! - `ffi`: the raw edges of the C API; the only unsafe code.
//! - `error`: exceptions. `convert`: scalars. `copyin`, `copyout`: graphs.
//! - `cache`: identity. `shared`: sections and waiting. `glance`: the short way. `batch`: values on their way out.
//! - `dict`, `views`, `list`, `items`, `slice`, `object`, `classes`: the proxies.
//! - `store`, `registry`, `snapshot`, `transaction`, `lock`, `lock_async`: open stores, snapshots, transactions, locks.
//! - `tasks`: which task of its thread is running, for the owners of transactions and locks.

#![deny(unsafe_code)]

mod batch;
mod cache;
mod classes;
mod convert;
mod copyin;
mod copyout;
mod dict;
mod error;
#[allow(unsafe_code)]
mod ffi;
mod glance;
mod held;
mod items;
mod list;
mod lock;
mod lock_async;
mod object;
mod registry;
mod shared;
mod slice;
mod snapshot;
mod store;
mod tasks;
mod transaction;
mod views;

use pyo3::prelude::*;

/// The extension module; import `persist` instead.
#[pymodule(gil_used = false)]
fn _persist(m: &Bound<'_, PyModule>) -> PyResult<()> {
    ffi::main_interpreter_only()?;
    error::register(m)?;
    m.add_class::<store::Handle>()?;
    m.add_class::<transaction::Transaction>()?;
    m.add_class::<snapshot::Snapshot>()?;
    m.add_class::<dict::Dict>()?;
    m.add_class::<list::List>()?;
    m.add_class::<object::Object>()?;
    m.add_class::<held::Held>()?;
    m.add_class::<lock_async::LockRequest>()?;
    m.add_class::<views::KeysView>()?;
    m.add_class::<views::ValuesView>()?;
    m.add_class::<views::ItemsView>()?;
    m.add_function(wrap_pyfunction!(store::open, m)?)?;
    m.add_function(wrap_pyfunction!(store::_close_all, m)?)?;
    m.add_function(wrap_pyfunction!(copyout::copy_out, m)?)?;
    m.add_function(wrap_pyfunction!(classes::class_name, m)?)?;
    m.add_function(wrap_pyfunction!(classes::allow_import, m)?)?;
    m.add("__version__", env!("CARGO_PKG_VERSION"))
}
