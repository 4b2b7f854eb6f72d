//! `persist._persist`: the Python interface to a store.
//!
//! Built on `persist_core::store` alone. Lock order: this code holds no mutex of its own while it calls the store or
//! Python (see `engine::identity`).
//!
//! A folder imports only folders before it:
//!
//! - `python`: the interface to the interpreter: exceptions, scalars, and the only unsafe code.
//! - `engine`: one store as seen by this process: sections and waiting, identity, tasks.
//! - `proxies`: the types `Dict`, `List` and `Object`, and the construction of a proxy for a container.
//! - `values`: reading values from the store. `graphs`: copying whole graphs, in and out.
//! - `locks`: the application's locks. `watch`: reported changes, and waiting for them.
//! - `dict`, `list`, `object`: the methods of the three types.
//! - `store`: `Store`, transactions, snapshots, and the open files. `wrapped`: the base of sets and deques.

#![deny(unsafe_code)]

mod dict;
mod engine;
mod graphs;
mod list;
mod locks;
mod object;
mod proxies;
mod python;
mod store;
mod values;
mod watch;
mod wrapped;

use pyo3::prelude::*;

/// The extension module; import `persist` instead. A free-threaded interpreter holds its global lock while this module
/// is loaded: no test has run with one.
#[pymodule(gil_used = true)]
fn _persist(m: &Bound<'_, PyModule>) -> PyResult<()> {
    python::ffi::main_interpreter_only()?;
    python::logs::install();
    python::error::register(m)?;
    m.add_class::<store::handle::Handle>()?;
    m.add_class::<store::transaction::Transaction>()?;
    m.add_class::<store::snapshot::Snapshot>()?;
    m.add_class::<proxies::dict::Dict>()?;
    m.add_class::<proxies::list::List>()?;
    python::ffi::install_sequence_items(&m.py().get_type::<proxies::list::List>());
    m.add_class::<proxies::object::Object>()?;
    m.add_class::<proxies::wrapped::Wrapped>()?;
    for class in ["Dict", "List", "Object", "_Wrapped"] {
        let class = m.getattr(class)?;
        for (name, original) in [("lock_exclusive", "lockExcl"), ("lock_shared", "lockShared")] {
            class.setattr(name, class.getattr(original)?)?;
        }
    }
    m.add_class::<watch::change::Change>()?;
    m.add_class::<watch::watching::Watch>()?;
    m.add_class::<engine::bells::Bell>()?;
    m.add_class::<locks::held::Held>()?;
    m.add_class::<locks::request::LockRequest>()?;
    m.add_class::<dict::views::KeysView>()?;
    m.add_class::<dict::views::ValuesView>()?;
    m.add_class::<dict::views::ItemsView>()?;
    m.add_function(wrap_pyfunction!(store::handle::open, m)?)?;
    m.add_function(wrap_pyfunction!(store::handle::_close_all, m)?)?;
    m.add_function(wrap_pyfunction!(store::reopen::_reopen, m)?)?;
    m.add_function(wrap_pyfunction!(store::transaction::_transaction_of, m)?)?;
    m.add_function(wrap_pyfunction!(graphs::copy_out::copy_out, m)?)?;
    m.add_function(wrap_pyfunction!(object::methods::class_name, m)?)?;
    m.add_function(wrap_pyfunction!(proxies::classes::allow_import, m)?)?;
    m.add_function(wrap_pyfunction!(proxies::classes::_find_class, m)?)?;
    m.add_function(wrap_pyfunction!(proxies::classes::_is_found, m)?)?;
    m.add_function(wrap_pyfunction!(object::methods::alias, m)?)?;
    m.add_function(wrap_pyfunction!(proxies::registered::_register, m)?)?;
    m.add_function(wrap_pyfunction!(wrapped::methods::_run, m)?)?;
    m.add_function(wrap_pyfunction!(wrapped::methods::_set_class, m)?)?;
    m.add_function(wrap_pyfunction!(wrapped::methods::_sorted_position, m)?)?;
    m.add_function(wrap_pyfunction!(wrapped::methods::_sorted_keys, m)?)?;
    m.add_function(wrap_pyfunction!(wrapped::methods::_find_container_class, m)?)?;
    m.add_function(wrap_pyfunction!(object::typed::_typed_root, m)?)?;
    m.add_function(wrap_pyfunction!(object::typed::_name_of, m)?)?;
    m.add_function(wrap_pyfunction!(object::typed::_class_named, m)?)?;
    m.add_function(wrap_pyfunction!(object::typed::_attributes_to_store, m)?)?;
    m.add("__version__", env!("CARGO_PKG_VERSION"))
}
