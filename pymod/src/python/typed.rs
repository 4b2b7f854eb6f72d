//! Values of other types: between Python (`persist/_typed.py`) and the name of a type with its content.

use persist_core::store::Typed;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::texts::{str_of, utf8};

/// A value as its encoder made it.
pub(super) enum Encoded<'py> {
    /// A bool, int or float, which a key equals.
    Number(Bound<'py, PyAny>),
    /// A name and a content.
    Typed(Typed),
    /// Plain bytes, of another object.
    Bytes(Vec<u8>),
}

fn encoded<'py>(found: &Bound<'py, PyAny>) -> PyResult<Option<Encoded<'py>>> {
    if found.is_none() {
        return Ok(None);
    }
    if !found.is_instance_of::<PyTuple>() {
        return Ok(Some(Encoded::Number(found.clone())));
    }
    let (name, content): (Bound<'_, PyAny>, Bound<'_, PyAny>) = found.extract()?;
    let (payload, text) = if let Ok(content) = content.cast::<PyString>() {
        (utf8(content)?.into_owned(), true)
    } else if let Ok(content) = content.cast::<PyBytes>() {
        (content.as_bytes().to_vec(), false)
    } else {
        return Err(PyTypeError::new_err(
            "the content of a value must be a str or bytes",
        ));
    };
    if name.is_none() {
        return Ok(Some(Encoded::Bytes(payload)));
    }
    let name = name.cast::<PyString>()?.to_str()?.into();
    Ok(Some(Encoded::Typed(Typed { name, payload, text })))
}

/// The name and content of a value; None if it cannot be stored.
#[cold]
pub(super) fn encode<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Encoded<'py>>> {
    static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    encoded(
        &ENCODE
            .import(value.py(), "persist._typed", "encode")?
            .call1((value,))?,
    )
}

/// The name and content of a key, which is stored or looked up, or the number that it equals; None if it cannot be in a
/// store. Raises dict's own error for an unhashable value.
#[cold]
pub(super) fn key<'py>(key: &Bound<'py, PyAny>, stored: bool) -> PyResult<Option<Encoded<'py>>> {
    static KEY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    encoded(
        &KEY.import(key.py(), "persist._typed", "key")?
            .call1((key, stored))?,
    )
}

/// What in a tuple or frozenset cannot be stored, and the steps to it.
#[cold]
pub(super) fn refusal<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<(Bound<'py, PyAny>, String)>> {
    static REFUSAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    REFUSAL
        .import(value.py(), "persist._typed", "refusal")?
        .call1((value,))?
        .extract()
}

/// The Python object of a value.
#[cold]
pub(super) fn decode<'py>(py: Python<'py>, value: &Typed) -> PyResult<Bound<'py, PyAny>> {
    let content = match value.text {
        true => str_of(py, &value.payload)?,
        false => PyBytes::new(py, &value.payload).into_any(),
    };
    decode_content(py, &value.name, content)
}

/// The Python object of a value of a type of this name. `content` is a str, bytes, or a memoryview of bytes, over which
/// an array is made without a copy.
#[cold]
pub(crate) fn decode_content<'py>(
    py: Python<'py>,
    name: &str,
    content: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static DECODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    DECODE
        .import(py, "persist._typed", "decode")?
        .call1((name, content))
}
