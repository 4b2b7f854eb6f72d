//! Notes of exceptions that code of a program has raised while a value was read or stored: what it was, and where.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// True if the exception is of a decoder or encoder, and its note says no place yet.
#[cold]
pub(crate) fn is_noted(py: Python<'_>, e: &PyErr) -> bool {
    static NOTED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let ask = || {
        NOTED
            .import(py, "persist._typed", "is_noted")?
            .call1((e.value(py),))?
            .is_truthy()
    };
    ask().unwrap_or(false)
}

/// Complete the note with a place, ` at root['a'][2]`.
#[cold]
pub(crate) fn place(py: Python<'_>, e: &PyErr, place: &str) {
    let add = || {
        py.import("persist._typed")?
            .call_method1("place", (e.value(py), place))
    };
    // What was raised matters more.
    drop(add());
}

/// Add a note to an exception.
#[cold]
pub(crate) fn add(py: Python<'_>, e: &PyErr, note: &str) {
    if e.is_instance_of::<pyo3::exceptions::PyException>(py) {
        let add = || {
            py.import("persist._typed")?
                .call_method1("note", (e.value(py), note))
        };
        drop(add());
    }
}
