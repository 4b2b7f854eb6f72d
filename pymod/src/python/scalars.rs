//! Scalars between Python and the store: str, int, float, bool, None, bytes and `persist.Link`.
//!
//! 1. Input borrows the Python object's own memory for a short time: no copy, no allocation.
//! 2. No method of a user's class is called: for a subclass of a scalar type, the base value is used. `Link` is the one
//!    subclass that the store knows; as a key, it is the str.

use persist_core::store::door::Word;
use persist_core::store::{In, Key, Value};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};
use std::borrow::Cow;

use super::{error, ffi, links};

/// The store's word for an int, bool, None, float or ASCII str that fits one; otherwise an empty word.
#[inline(always)]
pub(crate) fn small_word(value: &Bound<'_, PyAny>) -> Word {
    if let Ok(n) = value.cast_exact::<PyInt>() {
        ffi::int_value(n).map_or(Word::EMPTY, |n| Word::small(&In::Int(n)))
    } else if let Ok(f) = value.cast_exact::<PyFloat>() {
        Word::small(&In::Float(f.value()))
    } else if let Some(text) = ffi::ascii(value).filter(|_| value.is_exact_instance_of::<PyString>()) {
        Word::small(&In::Str {
            bytes: text,
            no_newline: false,
        })
    } else if let Ok(b) = value.cast_exact::<PyBool>() {
        Word::small(&In::Bool(b.is_true()))
    } else if value.is_none() {
        Word::small(&In::None)
    } else {
        Word::EMPTY
    }
}

/// An input scalar, borrowed from the Python object where possible.
#[derive(Clone, Debug)]
pub(crate) enum Scalar<'a> {
    /// None.
    None,
    /// A bool.
    Bool(bool),
    /// An int that fits 64 bits.
    Int(i64),
    /// A larger int: sign and little-endian magnitude without trailing zeros.
    Big(bool, Vec<u8>),
    /// A float.
    Float(f64),
    /// A str as UTF-8, lone surrogates as their three bytes.
    Str(Cow<'a, [u8]>),
    /// Bytes.
    Bytes(&'a [u8]),
    /// The target of a link, and the text of the `Link`.
    Link(Vec<u8>, Cow<'a, [u8]>),
}

impl<'a> Scalar<'a> {
    /// The scalar in a Python object; None if it is something else.
    #[inline]
    pub(crate) fn of(value: &'a Bound<'_, PyAny>) -> PyResult<Option<Scalar<'a>>> {
        if let Ok(s) = value.cast::<PyString>() {
            if !s.is_exact_instance_of::<PyString>() && links::is_link(s)? {
                return Ok(Some(Scalar::Link(links::target(s)?, utf8(s)?)));
            }
            return Ok(Some(Scalar::Str(utf8(s)?)));
        }
        if let Ok(n) = value.cast::<PyInt>() {
            if let Ok(b) = value.cast_exact::<PyBool>() {
                return Ok(Some(Scalar::Bool(b.is_true())));
            }
            return match ffi::int_value(n) {
                Some(n) => Ok(Some(Scalar::Int(n))),
                None => big(n).map(Some),
            };
        }
        Ok(Scalar::of_rare(value))
    }

    fn of_rare(value: &'a Bound<'_, PyAny>) -> Option<Scalar<'a>> {
        if let Ok(f) = value.cast::<PyFloat>() {
            Some(Scalar::Float(f.value()))
        } else if value.is_none() {
            Some(Scalar::None)
        } else if let Ok(b) = value.cast::<PyBytes>() {
            Some(Scalar::Bytes(b.as_bytes()))
        } else {
            None
        }
    }

    /// The scalar in a dict key. Raises dict's own error for an unhashable value.
    #[inline]
    pub(crate) fn key_of(key: &'a Bound<'_, PyAny>) -> PyResult<Scalar<'a>> {
        match Scalar::of(key)? {
            Some(s) => Ok(s),
            None => Err(bad_key(key)),
        }
    }

    /// The scalar as a key.
    #[inline]
    pub(crate) fn key(&self) -> Key<'_> {
        match self {
            Scalar::None => Key::None,
            Scalar::Bool(b) => Key::Bool(*b),
            Scalar::Int(n) => Key::Int(*n),
            Scalar::Big(negative, magnitude) => Key::BigInt {
                negative: *negative,
                magnitude,
            },
            Scalar::Float(f) => Key::Float(*f),
            Scalar::Str(s) => Key::Str(s),
            Scalar::Bytes(b) => Key::Bytes(b),
            Scalar::Link(_, text) => Key::Str(text),
        }
    }

    /// The scalar as a value.
    #[inline]
    pub(crate) fn input(&self) -> In<'_> {
        match self {
            Scalar::None => In::None,
            Scalar::Bool(b) => In::Bool(*b),
            Scalar::Int(n) => In::Int(*n),
            Scalar::Big(negative, magnitude) => In::BigInt {
                negative: *negative,
                magnitude,
            },
            Scalar::Float(f) => In::Float(*f),
            Scalar::Str(s) => In::Str {
                bytes: s,
                no_newline: false,
            },
            Scalar::Bytes(b) => In::Bytes(b),
            Scalar::Link(target, _) => In::Link(target),
        }
    }
}

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

#[cold]
fn big<'a>(n: &Bound<'_, PyInt>) -> PyResult<Scalar<'a>> {
    let py = n.py();
    let int = py.get_type::<PyInt>();
    let exact = int.call_method1(intern!(py, "__add__"), (n, 0))?;
    let negative = exact.lt(0)?;
    let magnitude = exact.abs()?;
    let bits: usize = magnitude.call_method0(intern!(py, "bit_length"))?.extract()?;
    let bytes = magnitude.call_method1(intern!(py, "to_bytes"), (bits.div_ceil(8), intern!(py, "little")))?;
    Ok(Scalar::Big(
        negative,
        bytes.cast::<PyBytes>()?.as_bytes().to_vec(),
    ))
}

/// The error for an invalid key: dict's error for the unhashable, otherwise the store's.
#[cold]
pub(crate) fn bad_key(key: &Bound<'_, PyAny>) -> PyErr {
    if let Err(e) = key.hash() {
        return e;
    }
    let name = key
        .get_type()
        .name()
        .map_or_else(|_| "object".into(), |n| n.to_string());
    PyTypeError::new_err(format!(
        "keys in a store must be str, bytes, int, float, bool or None, not '{name}'"
    ))
}

/// The error for a value that cannot be stored. `place` is its place in the value to store, as a Python expression
/// (`value['a'][1]`); empty for the whole value.
#[cold]
pub(crate) fn bad_value(value: &Bound<'_, PyAny>, place: &str) -> PyErr {
    let name = value
        .get_type()
        .name()
        .map_or_else(|_| "object".into(), |n| n.to_string());
    let hint = match name.as_str() {
        "tuple" | "set" | "frozenset" | "deque" | "range" | "dict_keys" | "dict_values" => {
            "store a list instead"
        }
        "bytearray" | "memoryview" => "store bytes instead",
        _ => "derive its class from persist.Object, or store a dict",
    };
    let at = if place.is_empty() { "" } else { " at " };
    PyTypeError::new_err(format!("cannot store '{name}'{at}{place}; {hint}"))
}

/// The Python object of a scalar that was copied out. Not for `Obj` and `Large`.
#[inline]
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Int(n) => Ok(n.into_pyobject(py)?.into_any()),
        Value::Str { bytes, .. } => str_of(py, bytes),
        Value::Float(f) => Ok(PyFloat::new(py, *f).into_any()),
        Value::Bool(b) => Ok(PyBool::new(py, *b).to_owned().into_any()),
        Value::None => Ok(py.None().into_bound(py)),
        Value::Bytes(b) => Ok(PyBytes::new(py, b).into_any()),
        Value::BigInt { negative, magnitude } => int_of(py, *negative, magnitude),
        Value::Link(target) => links::link_of(py, target),
        Value::Large(_) | Value::Obj(_) => Err(error::general(py, "internal error: not a scalar")),
    }
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

#[cold]
fn int_of<'py>(py: Python<'py>, negative: bool, magnitude: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let bytes = PyBytes::new(py, magnitude);
    let n = py
        .get_type::<PyInt>()
        .call_method1(intern!(py, "from_bytes"), (bytes, intern!(py, "little")))?;
    if negative { n.neg() } else { Ok(n) }
}

/// True if a stored value is exactly this scalar (floats are compared by their bits).
pub(crate) fn same(value: &Value, scalar: &Scalar<'_>) -> bool {
    match (value, scalar) {
        (Value::None, Scalar::None) => true,
        (Value::Bool(a), Scalar::Bool(b)) => a == b,
        (Value::Int(a), Scalar::Int(b)) => a == b,
        (Value::BigInt { negative, magnitude }, Scalar::Big(n, m)) => negative == n && magnitude[..] == m[..],
        (Value::Float(a), Scalar::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Str { bytes, .. }, Scalar::Str(b)) => bytes[..] == b[..],
        (Value::Bytes(a), Scalar::Bytes(b)) => &a[..] == *b,
        (Value::Link(a), Scalar::Link(b, _)) => a[..] == b[..],
        _ => false,
    }
}
