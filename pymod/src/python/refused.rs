//! The errors for what cannot be stored: what it is, where it is, and what can be stored instead.
//!
//! 1. Advice is an expression that makes of this very value something that can be stored. This is the slow path of an
//!    error, so Python code of the value's class may run.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PyMemoryView, PyModule,
    PySet, PyString, PyTuple, PyType,
};

use super::{ffi, links, typed};

/// The name of a value's class.
fn class_name(value: &Bound<'_, PyAny>) -> String {
    let name = value.get_type().name();
    name.map_or_else(|_| "object".into(), |n| n.to_string())
}

/// The error for an invalid key: dict's error for the unhashable, otherwise the store's.
#[cold]
pub(crate) fn key(key: &Bound<'_, PyAny>) -> PyErr {
    key_at(key, "")
}

/// Like `key`. `place` is the place of the dict, as for `value`.
#[cold]
pub(crate) fn key_at(key: &Bound<'_, PyAny>, place: &str) -> PyErr {
    if let Err(e) = key.hash() {
        return e;
    }
    let at = if place.is_empty() { "" } else { " at " };
    let name = class_name(key);
    let advice = key_instead(key).map_or_else(String::new, |code| format!("; use {code}"));
    PyTypeError::new_err(format!(
        "keys in a store must be str, bytes, None, numbers, dates, times, UUIDs, paths, members of an Enum, or tuples or frozensets of these, not '{name}'{at}{place}{advice}"
    ))
}

/// The error for a value that cannot be stored. `place` is its place in the value to store, as a Python expression
/// (`value['a'][1]`); empty for the whole value.
#[cold]
pub(crate) fn value(value: &Bound<'_, PyAny>, place: &str) -> PyErr {
    let is_items = value.is_instance_of::<PyTuple>() || value.is_exact_instance_of::<PyFrozenSet>();
    match is_items.then(|| typed::refusal(value)) {
        None => because(value, place, &advice(value)),
        Some(Ok(None)) if value.is_instance_of::<PyTuple>() => because(value, place, &advice(value)),
        Some(Ok(None)) => because(value, place, "store a list instead, list(value)"),
        Some(Ok(Some((item, steps)))) => {
            let place = if place.is_empty() { "value" } else { place };
            let reason = if is_container(&item) {
                "a tuple in a store holds no containers: store a list in place of the tuple".to_owned()
            } else {
                advice(&item)
            };
            because(&item, &format!("{place}{steps}"), &reason)
        }
        Some(Err(e)) => e,
    }
}

/// True for what a store has as a container, and no value can hold.
fn is_container(value: &Bound<'_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyDict>()
        || value.is_exact_instance_of::<PyList>()
        || ["Dict", "List", "Object"]
            .iter()
            .any(|class| is_a(value, "persist", class))
}

/// The error for a value that cannot be stored for this reason.
#[cold]
pub(crate) fn because(value: &Bound<'_, PyAny>, place: &str, reason: &str) -> PyErr {
    let at = if place.is_empty() { "" } else { " at " };
    PyTypeError::new_err(format!(
        "cannot store '{}'{at}{place}; {reason}",
        class_name(value)
    ))
}

/// True for an instance of a class of a module that is imported already.
fn is_a(value: &Bound<'_, PyAny>, module: &str, class: &str) -> bool {
    let found = || -> PyResult<bool> {
        match ffi::imported_modules(value.py())?.get_item(module)? {
            Some(module) => value.is_instance(&module.getattr(class)?),
            None => Ok(false),
        }
    };
    found().unwrap_or(false)
}

fn has(value: &Bound<'_, PyAny>, name: &str) -> bool {
    value.get_type().hasattr(name).unwrap_or(false)
}

/// The code that makes a scalar of exactly one type of a value whose class derives from one, or of a number of numpy.
fn scalar_instead(value: &Bound<'_, PyAny>, called: &str) -> Option<String> {
    let of = |call: &str| Some(format!("{call}({called})"));
    if is_a(value, "enum", "Enum") {
        Some(format!("{called}.value"))
    } else if let Ok(s) = value.cast::<PyString>() {
        match links::is_link(s) {
            Ok(true) => of("persist.Link"),
            _ => of("str"),
        }
    } else if value.is_instance_of::<PyInt>() || is_a(value, "numpy", "integer") {
        of("int")
    } else if value.is_instance_of::<PyFloat>() || is_a(value, "numpy", "floating") {
        of("float")
    } else if value.is_instance_of::<PyBytes>() {
        of("bytes")
    } else if is_a(value, "numpy", "bool_") {
        of("bool")
    } else {
        None
    }
}

/// The code that makes a key of a value that cannot be one.
fn key_instead(key: &Bound<'_, PyAny>) -> Option<String> {
    // A zone with a name has rules that change, and with them what the key is equal to.
    if is_a(key, "datetime", "datetime") {
        return Some("key.astimezone(datetime.timezone.utc)".into());
    }
    if is_a(key, "pathlib", "PurePath") {
        return Some("str(key)".into());
    }
    let is_named = key.is_instance_of::<PyTuple>() && !key.is_exact_instance_of::<PyTuple>();
    if is_named || is_a(key, "builtins", "range") {
        return Some("tuple(key)".into());
    }
    scalar_instead(key, "key")
}

/// What to store instead of a value, with the code that makes it.
fn advice(value: &Bound<'_, PyAny>) -> String {
    if let Some(code) = scalar_instead(value, "value") {
        return format!("store {code} instead");
    }
    let text = [
        "decimal.Decimal",
        "fractions.Fraction",
        "uuid.UUID",
        "pathlib.PurePath",
        "numpy.datetime64",
    ];
    let is_any = |classes: &[&str]| {
        classes.iter().any(|c| {
            let (module, class) = c.split_once('.').unwrap_or((c, ""));
            is_a(value, module, class)
        })
    };
    if value.is_instance_of::<PyDict>() {
        "store a plain dict instead, dict(value)".into()
    } else if value.is_exact_instance_of::<PySet>() {
        "store a frozenset instead, frozenset(value)".into()
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        "store a list instead, list(value)".into()
    } else if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
        "store bytes instead, bytes(value)".into()
    } else if value.is_instance_of::<PyType>() || value.is_instance_of::<PyModule>() || has(value, "__get__")
    {
        "a store keeps no code: store its name".into()
    } else if is_any(&text) {
        "store its text instead, str(value)".into()
    } else if is_any(&["datetime.date", "datetime.time"]) {
        "store its text instead, value.isoformat()".into()
    } else if is_any(&["datetime.timedelta"]) {
        "store its seconds instead, value.total_seconds()".into()
    } else if is_any(&["numpy.complexfloating"]) {
        "store its parts instead, [float(value.real), float(value.imag)]".into()
    } else if value.is_instance_of::<PyComplex>() {
        "store its parts instead, [value.real, value.imag]".into()
    } else if is_any(&["re.Pattern"]) {
        "store its text instead, value.pattern".into()
    } else if has(value, "tolist") {
        "store a list instead, value.tolist()".into()
    } else if has(value, "to_dict") {
        "store a dict instead, value.to_dict()".into()
    } else if has(value, "read") {
        "store its content or its name".into()
    } else if is_any(&["_collections_abc.Mapping"]) {
        "store a plain dict instead, dict(value)".into()
    } else if is_any(&["_collections_abc.Collection", "_collections_abc.Iterator"]) {
        "store a list instead, list(value)".into()
    } else if value.is_instance_of::<pyo3::exceptions::PyBaseException>() {
        "store its text instead, str(value)".into()
    } else if value.hasattr("__dict__").unwrap_or(false) {
        "derive its class from persist.Object, or store a dict, vars(value)".into()
    } else {
        "store a dict or a list of what it is made of".into()
    }
}
