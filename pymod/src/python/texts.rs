//! Strs between Python and their generalized UTF-8.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::borrow::Cow;

use super::{error, ffi};

/// The UTF-8 of a str: the object's own bytes unless it contains lone surrogates.
#[inline]
pub(crate) fn utf8<'a>(s: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, [u8]>> {
    if let Some(text) = ffi::ascii(s) {
        return Ok(Cow::Borrowed(text));
    }
    match s.to_str() {
        Ok(s) => Ok(Cow::Borrowed(s.as_bytes())),
        Err(e) => utf8_with_surrogates(s, e).map(Cow::Owned),
    }
}

#[cold]
fn utf8_with_surrogates(s: &Bound<'_, PyString>, e: PyErr) -> PyResult<Vec<u8>> {
    let py = s.py();
    if !e.is_instance_of::<pyo3::exceptions::PyUnicodeEncodeError>(py) {
        return Err(e);
    }
    // Call `str.encode` of the base type: a subclass may override it.
    let encoded = py
        .get_type::<PyString>()
        .call_method1(intern!(py, "encode"), (s, "utf-8", "surrogatepass"))?;
    Ok(encoded.cast::<PyBytes>()?.as_bytes().to_vec())
}

/// The str with these encoded bytes.
#[inline]
pub(crate) fn str_of<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match PyString::from_bytes(py, bytes) {
        Ok(s) => Ok(s.into_any()),
        Err(e) => str_with_surrogates(py, bytes, e),
    }
}

#[cold]
fn str_with_surrogates<'py>(py: Python<'py>, bytes: &[u8], e: PyErr) -> PyResult<Bound<'py, PyAny>> {
    if !e.is_instance_of::<pyo3::exceptions::PyUnicodeDecodeError>(py) {
        return Err(e);
    }
    let made = PyBytes::new(py, bytes).call_method1(intern!(py, "decode"), ("utf-8", "surrogatepass"));
    made.map_err(
        |e| match e.is_instance_of::<pyo3::exceptions::PyUnicodeDecodeError>(py) {
            true => error::corrupt(py, format!("the store is damaged: a str that is not UTF-8 ({e}); restore a backup or run `persist check`")),
            false => e,
        },
    )
}
