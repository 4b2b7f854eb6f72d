//! Arguments of functions that Python calls.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
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
