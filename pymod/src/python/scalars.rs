//! Scalars between Python and the store: str, int, float, bool, None, bytes and `persist.Link`.
//!
//! 1. Input borrows the Python object's own memory for a short time: no copy, no allocation.
//! 2. What is stored has exactly one of these types (`of`, `key_of`): a subclass would come back as something else.
//!    `Link` is the one subclass that the store knows; as a key, it is the str.
//! 3. What is only looked up (`sought`) may be of a subclass: the base value is used, without a call of any method of
//!    the class. It may have `__index__`, as the integers of numpy.

use persist_core::store::door::Word;
use persist_core::store::{In, Key, Typed, Value};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};
use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use super::typed::{self, Encoded};
use super::{error, ffi, links, refused};

pub(crate) use super::texts::{str_of, utf8};

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

/// An exact ASCII str, an exact int of 64 bits or an exact float, as the store takes it; None for other values.
#[inline]
pub(crate) fn simple<'a>(value: &'a Bound<'_, PyAny>) -> Option<In<'a>> {
    if let Some(bytes) = ffi::ascii(value) {
        let exact = value.is_exact_instance_of::<PyString>();
        exact.then_some(In::Str {
            bytes,
            no_newline: false,
        })
    } else if let Ok(n) = value.cast_exact::<PyInt>() {
        ffi::int_value(n).map(In::Int)
    } else {
        value.cast_exact::<PyFloat>().ok().map(|f| In::Float(f.value()))
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
    /// A value of another type.
    Typed(Typed),
    /// The same, borrowed.
    Encoded(&'a Typed),
    /// Bytes that were copied out of another object.
    Copied(Vec<u8>),
}

impl<'a> Scalar<'a> {
    /// The scalar to store for a Python object; None if its type is another.
    #[inline]
    pub(crate) fn of(value: &'a Bound<'_, PyAny>) -> PyResult<Option<Scalar<'a>>> {
        if let Ok(s) = value.cast_exact::<PyString>() {
            return Ok(Some(Scalar::Str(utf8(s)?)));
        }
        if let Ok(n) = value.cast_exact::<PyInt>() {
            return Scalar::of_int(n).map(Some);
        }
        Scalar::of_rare(value)
    }

    fn of_rare(value: &'a Bound<'_, PyAny>) -> PyResult<Option<Scalar<'a>>> {
        Ok(if let Ok(f) = value.cast_exact::<PyFloat>() {
            Some(Scalar::Float(f.value()))
        } else if let Ok(b) = value.cast_exact::<PyBool>() {
            Some(Scalar::Bool(b.is_true()))
        } else if value.is_none() {
            Some(Scalar::None)
        } else if let Ok(b) = value.cast_exact::<PyBytes>() {
            Some(Scalar::Bytes(b.as_bytes()))
        } else if let Ok(s) = value.cast::<PyString>()
            && links::is_exactly_link(s)?
        {
            Some(Scalar::Link(links::target(s)?, utf8(s)?))
        } else {
            None
        })
    }

    /// The scalar to store for an object of another type; None if it cannot be stored. Not for containers.
    #[cold]
    pub(crate) fn typed(value: &Bound<'_, PyAny>) -> PyResult<Option<Scalar<'a>>> {
        typed::encode(value)?.map(Scalar::of_encoded).transpose()
    }

    fn of_encoded(encoded: Encoded<'_>) -> PyResult<Scalar<'a>> {
        Ok(match encoded {
            Encoded::Typed(typed) => Scalar::Typed(typed),
            Encoded::Bytes(bytes) => Scalar::Copied(bytes),
            Encoded::Number(n) => match n.cast::<PyInt>() {
                Ok(n) => Scalar::of_int(n)?,
                Err(_) => Scalar::Float(n.extract()?),
            },
        })
    }

    fn of_int<'b>(n: &Bound<'_, PyInt>) -> PyResult<Scalar<'b>> {
        match ffi::int_value(n) {
            Some(n) => Ok(Scalar::Int(n)),
            None => big(n),
        }
    }

    /// The scalar to store for a dict key. Raises dict's own error for an unhashable value.
    #[inline]
    pub(crate) fn key_of(key: &'a Bound<'_, PyAny>) -> PyResult<Scalar<'a>> {
        match Scalar::of(key)? {
            Some(s) => Ok(s),
            None => Scalar::key_of_rare(key)?.ok_or_else(|| refused::key(key)),
        }
    }

    /// True if `key_of` finds a scalar.
    pub(crate) fn is_key(key: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(Scalar::of(key)?.is_some() || Scalar::key_of_rare(key)?.is_some())
    }

    #[cold]
    fn key_of_rare(key: &Bound<'_, PyAny>) -> PyResult<Option<Scalar<'a>>> {
        let is_of_subclass = key.is_instance_of::<PyString>()
            || key.is_instance_of::<PyInt>()
            || key.is_instance_of::<PyFloat>()
            || key.is_instance_of::<PyBytes>();
        if is_of_subclass {
            return Ok(None);
        }
        match index_of(key)? {
            Some(int) => Ok(Some(int)),
            None => typed::key(key, true)?.map(Scalar::of_encoded).transpose(),
        }
    }

    /// The scalar that an entry would have as its key if there is one with an equal key: None means that no entry has.
    /// Raises dict's own error for an unhashable value.
    #[inline]
    pub(crate) fn sought(key: &'a Bound<'_, PyAny>) -> PyResult<Option<Scalar<'a>>> {
        match Scalar::of(key)? {
            Some(s) => Ok(Some(s)),
            None => Scalar::sought_rare(key),
        }
    }

    #[cold]
    fn sought_rare(key: &'a Bound<'_, PyAny>) -> PyResult<Option<Scalar<'a>>> {
        if let Ok(s) = key.cast::<PyString>() {
            Ok(Some(Scalar::Str(utf8(s)?)))
        } else if let Ok(n) = key.cast::<PyInt>() {
            Scalar::of_int(n).map(Some)
        } else if let Ok(f) = key.cast::<PyFloat>() {
            Ok(Some(Scalar::Float(f.value())))
        } else if let Ok(b) = key.cast::<PyBytes>() {
            Ok(Some(Scalar::Bytes(b.as_bytes())))
        } else if let Some(s) = index_of(key)? {
            Ok(Some(s))
        } else {
            typed::key(key, false)?.map(Scalar::of_encoded).transpose()
        }
    }

    /// Like `sought`, for what has to be a key that can be in a store: the key of a lock, the name of an attribute.
    pub(crate) fn named(key: &'a Bound<'_, PyAny>) -> PyResult<Scalar<'a>> {
        Scalar::sought(key)?.ok_or_else(|| refused::key(key))
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
            Scalar::Typed(typed) => Key::Typed(typed),
            Scalar::Encoded(typed) => Key::Typed(typed),
            Scalar::Copied(bytes) => Key::Bytes(bytes),
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
            Scalar::Typed(typed) => In::Typed(typed),
            Scalar::Encoded(typed) => In::Typed(typed),
            Scalar::Copied(bytes) => In::Bytes(bytes),
        }
    }
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

/// The int that an object with `__index__` stands for.
#[cold]
fn index_of<'a>(key: &Bound<'_, PyAny>) -> PyResult<Option<Scalar<'a>>> {
    key.hash()?;
    match ffi::index(key) {
        Ok(n) => n.as_ref().map(Scalar::of_int).transpose(),
        // It has the method, and is not an integer (a bool or an array of numpy).
        Err(e) if e.is_instance_of::<PyTypeError>(key.py()) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The Python object of a scalar that was copied out. Not for `Obj` and `Large`.
#[inline]
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Int(n) => Ok(n.into_pyobject(py)?.into_any()),
        Value::Str { bytes, .. } => str_of(py, bytes),
        Value::Float(f) => Ok(float_of(py, *f)),
        Value::Bool(b) => Ok(PyBool::new(py, *b).to_owned().into_any()),
        Value::None => Ok(py.None().into_bound(py)),
        Value::Bytes(b) => Ok(PyBytes::new(py, b).into_any()),
        Value::BigInt { negative, magnitude } => int_of(py, *negative, magnitude),
        Value::Link(target) => links::link_of(py, target),
        Value::Typed(value) => typed::decode(py, value),
        Value::Large(_) | Value::Obj(_) => Err(error::general(py, "internal error: not a scalar")),
    }
}

/// The float. Every NaN that is read with the same bits is one object, as if the stored one were it: containers compare
/// and find their items by identity first.
#[inline]
pub(crate) fn float_of(py: Python<'_>, f: f64) -> Bound<'_, PyAny> {
    if f.is_nan() {
        return nan_of(py, f);
    }
    PyFloat::new(py, f).into_any()
}

#[cold]
fn nan_of(py: Python<'_>, f: f64) -> Bound<'_, PyAny> {
    /// The most kinds of NaN that are kept; programs use one or two.
    const MOST: usize = 64;
    static KEPT: Mutex<Vec<(u64, Py<PyFloat>)>> = Mutex::new(Vec::new());
    let made = PyFloat::new(py, f);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    match kept.iter().find(|(bits, _)| *bits == f.to_bits()) {
        Some((_, there)) => return there.bind(py).clone().into_any(),
        None if kept.len() < MOST => kept.push((f.to_bits(), made.clone().unbind())),
        None => {}
    }
    made.into_any()
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
        (Value::Typed(a), Scalar::Typed(b)) => **a == *b,
        (Value::Bytes(a), Scalar::Copied(b)) => a[..] == b[..],
        _ => false,
    }
}
