//! Arguments of functions that Python calls.

use pyo3::basic::CompareOp;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use std::time::Duration;

/// A timeout in seconds; None and infinity mean no limit.
pub(crate) fn duration(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    match timeout {
        None => Ok(None),
        Some(f64::INFINITY) => Ok(None),
        Some(s) if s >= 0.0 => Ok(Some(Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX))),
        Some(_) => Err(PyValueError::new_err(
            "timeout must be a number of seconds, 0 or more",
        )),
    }
}

/// An optional argument that may be any object, also None.
pub(crate) struct Given<'py>(pub(crate) Option<Bound<'py, PyAny>>);

impl Given<'_> {
    /// The default.
    pub(crate) fn nothing() -> Self {
        Given(None)
    }
}

impl<'py> FromPyObject<'_, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Given(Some(value.to_owned())))
    }
}

/// The result of comparing what is equal.
pub(crate) fn equal(py: Python<'_>, op: CompareOp) -> PyResult<Py<PyAny>> {
    let holds = matches!(op, CompareOp::Eq | CompareOp::Le | CompareOp::Ge);
    Ok(PyBool::new(py, holds).to_owned().into_any().unbind())
}

/// The function `iter`.
pub(crate) fn iter_function(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "builtins"))?.getattr(intern!(py, "iter"))
}
