//! `persist.Link`, the str of a symbolic link's target: between the Python class (`persist/_link.py`) and its bytes.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyType};

static LINK: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    LINK.import(py, "persist._link", "Link")
}

/// True for a `Link` itself, not for an instance of a class that derives from it.
#[cold]
pub(super) fn is_exactly_link(text: &Bound<'_, PyString>) -> PyResult<bool> {
    Ok(text.get_type().is(class(text.py())?))
}

/// True for a `Link`. Only for subclasses of str.
#[cold]
pub(super) fn is_link(text: &Bound<'_, PyString>) -> PyResult<bool> {
    // The type itself is asked: `__class__` may be a program's own.
    text.get_type().is_subclass(class(text.py())?)
}

/// The target of a `Link`: its text as a file name, as `os.fsencode` makes it where names are UTF-8.
#[cold]
pub(super) fn target(text: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
    let py = text.py();
    let encoded = py
        .get_type::<PyString>()
        .call_method1(intern!(py, "encode"), (text, "utf-8", "surrogateescape"))?;
    Ok(encoded.cast::<PyBytes>()?.as_bytes().to_vec())
}

/// The `Link` with this target.
#[cold]
pub(super) fn link_of<'py>(py: Python<'py>, target: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let text = PyBytes::new(py, target).call_method1(intern!(py, "decode"), ("utf-8", "surrogateescape"))?;
    class(py)?.call1((text,))
}
